"""Files that are complete or not there, and damage that is noticed."""

import os

import pytest
import torch

from jsigr_lib.method.errors import InputError
from jsigr_lib.store import tensor_files
from jsigr_lib.store.tensor_files import read, read_facts, write

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
@pytest.mark.parametrize("step", ["_sorted_header", "fsync", "replace"])
def test_write_is_atomic(monkeypatch, tmp_path, step, failure):
    """Whenever it fails, what was at the path stays, and nothing else is there."""

    def fail(*args):
        raise failure

    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    write(old, {"x": torch.zeros(3)}, {"version": 1})
    content = old.read_bytes()
    monkeypatch.setattr(tensor_files if step == "_sorted_header" else tensor_files.os, step, fail)
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


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "nothing.safetensors", tmp_path):
        with pytest.raises(InputError, match=rf"^cannot read {path} \((No such file|Is a directory).*; accepted"):
            read(path)


def test_facts_are_read_without_tensors(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, TENSORS, FACTS)
    assert read_facts(path) == FACTS
    raw = path.read_bytes()
    for bad in (b"", raw[:5], raw[:40], raw[:-1], raw + b"\0", b"\xff" * 64, raw.replace(b"spec", b"spek")):
        path.write_bytes(bad)
        with pytest.raises(InputError, match=str(path)):
            read_facts(path)
    write(path, TENSORS, {"spec": None})
    with pytest.raises(InputError, match="names no spec"):
        read_facts(path)
