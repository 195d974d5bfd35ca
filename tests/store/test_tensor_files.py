"""Files that are complete or not there, and damage that is noticed."""

import json
import math
import os
import shutil

import pytest
import torch
from safetensors.torch import save_file

from jsigr_lib.method.errors import InputError
from jsigr_lib.store import tensor_files
from jsigr_lib.store.tensor_files import read, read_facts, read_sum, write
from tests.strangers import each_stranger, promptly

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([True, False]), "c": torch.tensor(7)}
FACTS = {"seconds": 0.5, "list": [1, "two", None], "spec": {"n": 1}}


def test_file_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "x.safetensors"
    write(path, TENSORS, FACTS)
    artefact = read(path)
    assert artefact.facts == FACTS
    assert artefact.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert artefact.tensors[name].dtype == tensor.dtype
        assert torch.equal(artefact.tensors[name], tensor)
    assert os.listdir(path.parent) == ["x.safetensors"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_write_is_atomic(monkeypatch, tmp_path, step, failure):
    """Whenever it fails, what was at the path stays, and nothing else is there."""

    def fail(*args):
        raise failure

    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    write(old, {"x": torch.zeros(3)}, {"version": 1})
    content = old.read_bytes()
    monkeypatch.setattr(os, step, fail)
    for path in (old, new):
        with pytest.raises(type(failure)) as error:
            write(path, {"x": torch.ones(3)}, {"version": 2})
        assert str(path) in str(error.value) or not str(failure)
    monkeypatch.undo()
    assert old.read_bytes() == content
    assert os.listdir(tmp_path) == ["old.safetensors"]


def test_equal_artefacts_are_equal_files(tmp_path):
    """safetensors alone writes its metadata in any order."""
    paths = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for path in paths:
        write(path, {"b": torch.arange(3), "a": torch.ones(2, 5, dtype=torch.half)}, {"z": 1, "seconds": 2.5})
    assert len({path.read_bytes() for path in paths}) == 1
    assert read(paths[0]).tensors["b"].tolist() == [0, 1, 2]


def test_write_replaces(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, {"x": torch.zeros(3)}, {"version": 1})
    write(path, {"y": torch.ones(5)}, {"version": 2})
    assert read(path).facts == {"version": 2}
    assert list(read(path).tensors) == ["y"]


BAD = {
    "empty": lambda raw: b"",
    "first byte": lambda raw: raw[:1],
    "header only": lambda raw: raw[:40],
    "one byte short": lambda raw: raw[:-1],
    "one byte more": lambda raw: raw + b"\0",
    "garbage": lambda raw: b"not what it says it is, but long enough to be a header" * 3,
    "header length": lambda raw: bytes([raw[0] ^ 255]) + raw[1:],
    "no seal": lambda raw: raw.replace(b'"seal"', b'"seam"'),
    "other seal": lambda raw: raw.replace(b'"seal": "', b'"seal": "0', 1)[:-1],
    "no facts": lambda raw: raw.replace(b'"facts"', b'"fakts"'),
    "facts that are no JSON": lambda raw: raw.replace(b'{\\"seconds', b'(\\"seconds'),
    "pickle": lambda raw: b"\x80\x04\x95" + bytes(60),
}


@pytest.mark.parametrize("bad", BAD)
def test_damaged_file_is_named(tmp_path, bad):
    path = tmp_path / "x.safetensors"
    write(path, TENSORS, FACTS)
    good = path.read_bytes()
    path.write_bytes(BAD[bad](good))
    assert path.read_bytes() != good
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value).startswith(f"{path} is no complete artefact (")
    assert str(error.value).endswith("; accepted: an undamaged copy of it")
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_flipped_bit_in_a_tensor_is_found(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, TENSORS, FACTS)
    raw = path.read_bytes()
    path.write_bytes(raw[:-9] + bytes([raw[-9] ^ 64]) + raw[-8:])
    with pytest.raises(InputError):
        read(path)


@pytest.mark.parametrize("stored", [True, pytest.param(False, marks=pytest.mark.torture)])
def test_any_flipped_bit_in_a_header_is_found(tmp_path, stored):
    """Of its length, of what is said of tensors, of the facts, of the sums."""
    path = tmp_path / f"{'0123456789abcdef' if stored else 'x'}.safetensors"
    write(path, TENSORS, FACTS)
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    assert end > 400
    for at in range(end):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << at % 7]) + raw[at + 1 :])
        for reader in (read_facts, read):
            with pytest.raises(InputError, match="no complete artefact"):
                reader(path)
        if stored:
            path.with_suffix(".damaged").rename(path)
    assert read_sum(path) is None
    path.write_bytes(raw)
    assert read_facts(path) == read(path).facts == FACTS


def test_a_stored_file_is_held_to_its_name(tmp_path):
    one, other = (tmp_path / "model" / f"{digit * 16}.safetensors" for digit in "0a")
    write(one, TENSORS, FACTS)
    for path in (other, tmp_path / "checkpoints" / one.name):
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(one, path)
        with pytest.raises(InputError, match=r"is that of another one\); set aside as"):
            read(path)
    assert read(one).facts == FACTS
    (tmp_path / "moved").mkdir()
    moved = (tmp_path / "model").rename(tmp_path / "moved" / "model") / one.name
    assert read(moved).facts == FACTS


def test_other_files_may_be_renamed(tmp_path):
    write(tmp_path / "mine.safetensors", TENSORS, FACTS)
    assert read((tmp_path / "mine.safetensors").rename(tmp_path / "yours.safetensors")).facts == FACTS


def test_files_without_a_seal_are_read_as_ever(tmp_path):
    """Of an earlier version; the sum of their tensors counts."""
    path = tmp_path / f"{'0' * 16}.safetensors"
    metadata = {"facts": json.dumps(FACTS), "sha256": tensor_files._checksum(TENSORS)}
    save_file(TENSORS, path, metadata=metadata)
    assert read(path).facts == read_facts(path) == FACTS
    assert read_sum(path) == metadata["sha256"]
    save_file({**TENSORS, "a": TENSORS["a"] + 1}, path, metadata=metadata)
    with pytest.raises(InputError, match="do not match"):
        read(path)


def test_missing_file(tmp_path):
    path = tmp_path / "nothing.safetensors"
    with pytest.raises(InputError, match=rf"^cannot read {path} \(No such file.*; accepted"):
        read(path)
    assert read_sum(path) is None


@each_stranger
def test_what_is_no_file_is_refused_at_once(tmp_path, stranger):
    path = tmp_path / f"{'0' * 16}.safetensors"
    stranger(path)
    with promptly():
        assert read_sum(path) is None
        for reader in (read_facts, read):
            with pytest.raises(InputError, match=rf"^(cannot read )?{path} "):
                reader(path)
    assert not path.exists()  # what is there is set aside


def test_facts_are_read_without_tensors(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, TENSORS, FACTS)
    assert read_facts(path) == FACTS
    raw = path.read_bytes()
    for bad in (b"", raw[:5], raw[:40], raw[:-1], raw + b"\0", b"\xff" * 64, raw.replace(b"spec", b"spek")):
        path.write_bytes(bad)
        with pytest.raises(InputError, match=str(path)):
            read_facts(path)
    for name, wrong in (("spec", None), ("code", 1), ("seconds", "1"), ("seconds", math.nan), ("work", -1)):
        write(path, TENSORS, {**FACTS, name: wrong})
        with pytest.raises(InputError, match="no complete artefact"):
            read_facts(path)
    write(path, TENSORS, {"spec": {}})
    with pytest.raises(InputError, match="seconds"):
        read_facts(path)
