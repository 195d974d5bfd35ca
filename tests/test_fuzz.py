"""Whatever is read from outside is either a value or an InputError of one line, whatever the bytes: never another
exception, never a hang, never memory by the gigabyte. The examples are the same in every run."""

import base64
import gzip
import io
import json
import resource
import sys
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from jsigr_lib.data import pictures, sources
from jsigr_lib.explorer import pretrained
from jsigr_lib.explorer.controls import Settings
from jsigr_lib.explorer.explorer import Explorer
from jsigr_lib.explorer.widgets import SaliencyExplorer
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.saliency import Selection
from jsigr_lib.networks import models
from jsigr_lib.options import parse_settings
from jsigr_lib.records.deviations import load_deviations
from jsigr_lib.store.files import sha256
from jsigr_lib.store.paths import CLAIMS, DEVIATIONS, EQUATIONS, PRETRAINED, PROFILES, ROOT
from jsigr_lib.store.tensor_files import read, write
from jsigr_lib.study.claims import load_claims, load_paper_values
from jsigr_lib.study.config import Profile, load_profile

sys.path.insert(0, str(ROOT / "tools"))
from equations import load_equations

EXAMPLES = 60
MOST_MEMORY = 300_000_000  # bytes more than before

fuzz = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def value_or_one_line(function: Callable, *arguments) -> object:
    """What it gives, or None; anything but an InputError of one printable line fails the test."""
    try:
        return function(*arguments)
    except InputError as error:
        said = str(error)
        assert said.isprintable() and 0 < len(said) <= 1000, said
        return None


@pytest.fixture(autouse=True)
def bounded():
    """The peak of the memory may hardly rise."""
    scale = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale < before + MOST_MEMORY


@st.composite
def damaged(draw, content: bytes, pieces: tuple[bytes, ...] = ()) -> bytes:
    """A few cuts, insertions and overwritten bytes; `pieces` are what the format has a meaning for."""
    new = st.binary(max_size=12) | st.sampled_from([b"\0", b"\xff" * 8, b"9" * 30, b"\n", b'"', *pieces])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 4, 40, 400]))
        piece = draw(new) * draw(st.sampled_from([1, 1, 1, 50]))
        content = content[:start] + piece + content[start + length :]
    return content[: draw(st.none() | st.integers(0, len(content)))]


TOML = (b"[", b"]", b"[[", b"{", b"}", b"=", b".", b"a.", b"'", b'"""', b"\\u", b"nan", b"inf", b"true", b"-", b"1e400")
OBJECTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([2**70, -1, 0, 1e308, "jsigr", "\x1b[31m", "9" * 5000, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


# text


@fuzz
@given(st.lists(st.text(max_size=60) | st.builds("{}={}".format, st.text(max_size=5), st.text(max_size=60))))
def test_settings_of_the_command_line(pairs):
    parsed = value_or_one_line(parse_settings, pairs)
    assert parsed is None or all(isinstance(key, str) and key for key in parsed)


@fuzz
@given(damaged((PROFILES / "smoke.toml").read_bytes(), TOML))
def test_profile_file(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    profile = value_or_one_line(load_profile, path)
    assert profile is None or Profile.model_validate(profile.model_dump()) == profile


@fuzz
@given(st.sampled_from([*Profile.model_fields]), OBJECTS)
def test_profile_fields(field, value):
    profile = value_or_one_line(lambda: load_profile("smoke", **{field: value}))
    assert profile is None or value is None or getattr(profile, field) == value or isinstance(value, dict)


LOADERS = {
    "claims": (load_claims, CLAIMS),
    "equations": (load_equations, EQUATIONS),
    "paper values": (
        lambda path: load_paper_values(load_claims(), path),
        b'[[value]]\nclaim = "transfer"\nmeasure = "transfer accuracy"\ndefence = "jsigr"\ndataset = "cifar10"\n'
        b'value = 0.5\nwhere = "table 1"\n',
    ),
    "deviations": (load_deviations, DEVIATIONS),
}


@pytest.mark.parametrize("name", LOADERS)
def test_ledgers(tmp_path, name):
    loader, original = LOADERS[name]
    content = original if isinstance(original, bytes) else original.read_bytes()
    path = tmp_path / "ledger"
    path.write_bytes(content)
    assert loader(path)

    @fuzz
    @given(damaged(content, (*TOML, b"|", b"| D1 |", b"E1", b"jsigr_lib." + b"a" * 300)))
    def run(content):
        path.write_bytes(content)
        value_or_one_line(loader, path)

    run()


# tensors


def header_of(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


@st.composite
def damaged_header(draw, content: bytes) -> bytes:
    """Its length, or some of its JSON, is other than it should be."""
    end = header_of(content)
    length, header, rest = content[:8], content[8:end], content[end:]
    if draw(st.booleans()):
        length = draw(st.binary(min_size=8, max_size=8) | st.sampled_from([(2**60).to_bytes(8, "little"), bytes(8)]))
    else:
        header = draw(damaged(header, (b"[0,1152921504606846976]", b'"F64"', b'"BOOL"', b"[" * 50, b"{}", b"null")))
        length = len(header).to_bytes(8, "little")
    return length + header + rest


@pytest.fixture(scope="module")
def artefact(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "one.safetensors"
    write(path, {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(True)}, {"classes": ["x", "y"], "n": 3})
    return path.read_bytes()


def test_artefacts(tmp_path, artefact):
    path = tmp_path / "one.safetensors"
    for huge in (b"[" * 100_000, b'{"facts": ' * 50_000, (2**60).to_bytes(8, "little") + b"{}", b""):
        for content in (huge, len(huge).to_bytes(8, "little") + huge):
            path.write_bytes(content)
            assert value_or_one_line(read, path) is None

    @fuzz
    @given(damaged(artefact) | damaged_header(artefact))
    def run(content):
        path.write_bytes(content)
        found = value_or_one_line(read, path)
        assert found is None or found.tensors.keys() == {"a", "b"}  # as the sum covers them

    run()


def test_facts_nested_deeply_are_refused(tmp_path):
    path = tmp_path / "deep.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"facts": "[" * 100_000, "sha256": ""})
    assert value_or_one_line(read, path) is None


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> tuple[bytes, dict, dict]:
    """A small network like the pretrained ones: its file, tensors and facts."""
    facts = {**read(PRETRAINED / "fashion-mnist" / "source-mlp.safetensors").facts, "width": 2}
    tensors = models.build("mlp", width=2, seed=0, **facts["shape"]).state_dict()
    path = tmp_path_factory.mktemp("fuzz") / "jsigr.safetensors"
    write(path, tensors, facts)
    return path.read_bytes(), tensors, facts


def sign(folder: Path, content: bytes) -> None:
    """The set of one network, with the sum that its file has."""
    folder = folder / "fashion-mnist"
    folder.mkdir(exist_ok=True)
    (folder / "jsigr.safetensors").write_bytes(content)
    (folder / "SHA256SUMS").write_text(f"{sha256(content)}  jsigr.safetensors\n")


def test_pretrained_files(tmp_path, network):
    content, *_ = network
    sign(tmp_path, content)
    assert pretrained.load("jsigr", tmp_path).model

    @fuzz
    @given(damaged(content) | damaged_header(content), st.booleans())
    def run(changed, signed):
        sign(tmp_path, changed if signed else content)
        (tmp_path / "fashion-mnist" / "jsigr.safetensors").write_bytes(changed)
        found = value_or_one_line(pretrained.load, "jsigr", tmp_path)
        assert found is None or signed or changed == content

    run()


FACTS = ("architecture", "width", "seed", "shape", "label", "classes", "name", "accuracy", "nothing")
SIZES = ("channels", "size", "classes", "mean", "std")


def test_pretrained_facts(tmp_path, network):
    """Of a set made to do harm, its sums right: what it says of itself is no reason to take memory."""
    _, tensors, facts = network

    @fuzz
    @given(st.sampled_from(FACTS), st.sampled_from(SIZES), OBJECTS | st.integers(0, 10**12))
    def run(fact, size, value):
        changed = {**facts, fact: value}
        if fact == "shape":
            changed["shape"] = {**facts["shape"], size: value}
        write(tmp_path / "made.safetensors", tensors, changed)
        sign(tmp_path, (tmp_path / "made.safetensors").read_bytes())
        value_or_one_line(pretrained.load, "jsigr", tmp_path)

    run()


@fuzz
@given(damaged((PRETRAINED / "fashion-mnist" / "SHA256SUMS").read_bytes(), (b"  ", b"../", b".safetensors", b"0" * 64)))
def test_sums(tmp_path, content):
    (tmp_path / "fashion-mnist").mkdir(exist_ok=True)
    (tmp_path / "fashion-mnist" / "SHA256SUMS").write_bytes(content)
    for name in value_or_one_line(pretrained.names, "fashion-mnist", tmp_path):
        assert "/" not in name
        value_or_one_line(pretrained.load, name, tmp_path)


# data sets


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def mnist(folder: Path) -> dict[str, bytes]:
    files = {}
    for part in ("train", "t10k"):
        files[f"{part}-images-idx3-ubyte"] = idx(np.zeros((3, 28, 28), np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(3, dtype=np.uint8))
    for name, content in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return files


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_idx(tmp_path, name):
    original = mnist(tmp_path)[name]
    assert sources.train_and_test("mnist", str(tmp_path))

    @fuzz
    @given(damaged(original).map(gzip.compress) | damaged(gzip.compress(original)))
    def run(content):
        (tmp_path / f"{name}.gz").write_bytes(content)
        found = value_or_one_line(sources.train_and_test, "mnist", str(tmp_path))
        assert found is None or all(len(part.labels) == len(part.pixels(slice(None))) for part in found)

    run()


def test_idx_bomb(tmp_path):
    """Half a gigabyte of zeros in two megabytes, and a header that asks for all of them."""
    mnist(tmp_path)
    packer = zlib.compressobj(level=1, wbits=31)
    start = bytes([0, 0, 8, 3]) + np.array([684_784, 28, 28], ">u4").tobytes()
    parts = [packer.compress(start), *(packer.compress(bytes(2**24)) for _ in range(32)), packer.flush()]
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"".join(parts))
    assert value_or_one_line(sources.train_and_test, "mnist", str(tmp_path)) is None


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> dict[str, bytes]:
    """CIFAR-10 with two records in a file, and its files."""
    about = sources.CIFAR["cifar10"]
    few = replace(about, train=dict.fromkeys(about.train, 2), test=dict.fromkeys(about.test, 2))
    monkeypatch.setitem(sources.CIFAR, "cifar10", few)
    names = "\n".join(f"kind{i}" for i in range(10)).encode()
    return {**{name: bytes(2 * 3073) for name in (*about.train, *about.test)}, about.names: names}


def test_cifar_files(tmp_path, cifar):
    folder = tmp_path / sources.CIFAR["cifar10"].folder
    folder.mkdir()
    for name, content in cifar.items():
        (folder / name).write_bytes(content)
    assert sources.train_and_test("cifar10", str(tmp_path))

    @fuzz
    @given(st.sampled_from([*cifar]).flatmap(lambda name: st.tuples(st.just(name), damaged(cifar[name]))))
    def run(case):
        name, content = case
        (folder / name).write_bytes(content)
        found = value_or_one_line(sources.train_and_test, "cifar10", str(tmp_path))
        assert found is None or [len(part.labels) for part in found] == [10, 2]
        (folder / name).write_bytes(cifar[name])

    run()


def test_cifar_archives(tmp_path, cifar, monkeypatch):
    """Even of one with the right sum."""
    about = sources.CIFAR["cifar10"]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in cifar.items():
            member = tarfile.TarInfo(f"{about.folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

    @fuzz
    @given(damaged(packed.getvalue(), (b"../../", b"77777777777", b"ustar", b"2")).map(gzip.compress))
    def run(content):
        (tmp_path / about.archive).write_bytes(content)
        sum_ = sources.hashlib.md5(content).hexdigest()
        sources.CIFAR["cifar10"] = replace(sources.CIFAR["cifar10"], md5=sum_)
        value_or_one_line(sources.train_and_test, "cifar10", str(tmp_path))
        left = {path.name for path in tmp_path.iterdir()} - {about.archive, about.folder}
        assert left == set()
        if (tmp_path / about.folder).exists():
            assert {path.name for path in (tmp_path / about.folder).iterdir()} == set(cifar)
            sources.shutil.rmtree(tmp_path / about.folder)

    run()


def encoded(kind: str) -> bytes:
    held = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(held, format=kind)
    return held.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of metadata that are damaged
@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_pictures(tmp_path, kind):
    path = tmp_path / "one.png"

    @fuzz
    @given(damaged(encoded(kind)))
    def run(content):
        path.write_bytes(content)
        found = value_or_one_line(pictures.decode, path, 8)
        assert found is None or (found.shape, found.dtype) == ((3, 8, 8), torch.uint8)

    run()


# the explorer


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval().requires_grad_(False)
    return Explorer(
        models={"standard": model, "jsigr": model},
        labels={"standard": "standard", "jsigr": "J-SIGR"},
        source=("other", model),
        images=torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        truths=[0, 1],
        classes=("a", "b", "c"),
        selection=Selection(grid=2),
        eps=0.1,
        note="",
    )


UPLOADS = OBJECTS | st.binary(max_size=200).map(base64.b64encode) | st.just(base64.b64encode(bytes(192)).decode())
GIVEN = st.fixed_dictionaries(
    {"defences": st.just(["standard"]) | OBJECTS | st.lists(st.sampled_from(["standard", "jsigr"]), max_size=3)},
    optional={
        **{name: OBJECTS for name in Settings.__dataclass_fields__ if name not in ("defences", "upload")},
        "upload": UPLOADS,
        "other": OBJECTS,
    },
)


def test_settings_of_the_explorer(explorer):
    @fuzz
    @given(GIVEN | OBJECTS)
    def run(given):
        scene = value_or_one_line(explorer.scene, given)
        assert scene is None or json.dumps(scene[0], allow_nan=False)

    run()


def test_messages_to_the_widget(explorer, monkeypatch, caplog):
    """None is left without an answer, and none is answered by what an unexpected exception says."""
    answers = []
    widget = SaliencyExplorer(study=lambda: explorer)
    monkeypatch.setattr(widget, "send", lambda answer, buffers: answers.append(answer))

    @fuzz
    @given(OBJECTS | st.fixed_dictionaries({"id": OBJECTS, "settings": GIVEN | OBJECTS}))
    def run(message):
        answers.clear()
        widget._answer(widget, message, [])
        assert len(answers) == 1

    run()
    assert not caplog.records
