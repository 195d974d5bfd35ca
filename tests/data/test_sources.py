"""Published data sets, from files made here: what is whole is read, and what is not is refused in one line."""

import gzip
import hashlib
import io
import os
import socket
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from jsigr_lib.data import sources
from jsigr_lib.data.data import DataSpec
from jsigr_lib.data.sources import CIFAR, content, train_and_test
from jsigr_lib.method.errors import InputError
from jsigr_lib.store.artefacts import Store
from tests.strangers import each_stranger, promptly

RECORDS = {"cifar10": (5, 1, 10), "cifar100": (2, 2, 100)}  # training files, label bytes, classes of the small ones


def content_of(dataset: str, root: Path) -> str:
    return content(dataset, str(root), download=False, image_size=32)


def refused(dataset: str, root: Path) -> str:
    """What is said of it, by both."""
    with pytest.raises(InputError) as first:
        content_of(dataset, root)
    with pytest.raises(InputError) as second:
        train_and_test(dataset, str(root))
    assert str(first.value) == str(second.value)
    assert str(first.value).startswith(f"dataset {dataset!r} is not in {root} or could not be read (")
    assert "--download" in str(first.value) and "\n" not in str(first.value)
    return str(first.value)


def listing(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def random(*shape: int, below: int = 256) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, below, shape, dtype=np.uint8)


# MNIST


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, packed: bool) -> dict[str, np.ndarray]:
    """30 + 20 random digits."""
    folder.mkdir(parents=True)
    written = {}
    for part, count in (("train", 30), ("t10k", 20)):
        written[part] = random(count, 28, 28)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, array in (("images-idx3", written[part]), ("labels-idx1", labels)):
            raw = gzip.compress(idx(array)) if packed else idx(array)
            (folder / f"{part}-{name}-ubyte{'.gz' * packed}").write_bytes(raw)
    return written


@pytest.fixture
def mnist(tmp_path) -> Path:
    write_mnist(tmp_path / "MNIST" / "raw", packed=False)
    return tmp_path


@pytest.mark.parametrize(("below", "packed"), [("MNIST/raw", False), ("MNIST/raw", True), ("", True)])
def test_mnist_as_torchvision_or_its_publisher_leaves_it(tmp_path, below, packed):
    written = write_mnist(tmp_path / "data" / below, packed)
    train, test = train_and_test("mnist", str(tmp_path / "data"))
    assert train.pixels(slice(None)).dtype == torch.uint8 and train.labels.dtype == torch.int64
    assert torch.equal(train.pixels(slice(None))[:, 0], torch.from_numpy(written["train"]))
    assert torch.equal(test.pixels(torch.tensor([3, 1]))[:, 0], torch.from_numpy(written["t10k"])[[3, 1]])
    assert test.labels.tolist() == [i % 10 for i in range(20)]
    assert train.classes == tuple("0123456789")


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_content_knows_images_and_labels_of_mnist(mnist, name):
    before = content_of("mnist", mnist)
    path = mnist / "MNIST" / "raw" / name
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert content_of("mnist", mnist) != before


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x00\x00\x08\x01\x00\x00\x00\x1e" + bytes(10), id="truncated"),
        pytest.param(b"\x00\x00\x08\x01\x00\x00\x00\x1e" + bytes(31), id="too long"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\x00\x00\x08", id="half a header"),
        pytest.param(b"\x00\x00\x08\x00" + bytes(30), id="no dimensions"),
        pytest.param(b"\x00\x00\x08\xff\x00\x00\x00\x1e" + bytes(30), id="255 dimensions"),
        pytest.param(b"\x00\x00\x08\x04" + struct.pack(">4I", *[2**32 - 1] * 4) + bytes(30), id="2^128 values"),
        pytest.param(b"garbage!" * 10, id="garbage"),
        pytest.param(b"\x00\x00\x07\x01\x00\x00\x00\x1e" + bytes(30), id="another type"),
        pytest.param(b"\x00\x00\x08\x01\x00\x00\x00\x1d" + bytes(29), id="one label too few"),
        pytest.param(b"\x00\x00\x08\x01\x00\x00\x00\x1e" + bytes(29) + b"\x0a", id="label 10"),
        pytest.param(b"\x00\x00\x08\x01\x00\x00\x00\x00", id="none"),
    ],
)
def test_damaged_mnist(mnist, raw):
    (mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(raw)
    refused("mnist", mnist)


@pytest.mark.parametrize(
    "raw",
    [b"no gzip", gzip.compress(bytes(2000))[:-4], gzip.compress(bytes(2000))[:20]],
    ids=["no gzip", "no end", "cut"],
)
def test_damaged_gzip(tmp_path, raw):
    write_mnist(tmp_path / "data", packed=True)
    (tmp_path / "data" / "train-images-idx3-ubyte.gz").write_bytes(raw)
    refused("mnist", tmp_path / "data")


def test_gzip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """No more than the largest file that there can be is ever read of it."""
    write_mnist(tmp_path / "data", packed=True)
    (tmp_path / "data" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(2_000_000)))
    asked = []

    class Spy(gzip.GzipFile):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    monkeypatch.setattr(sources, "LARGEST_IDX", 100_000)
    monkeypatch.setattr(sources.gzip, "GzipFile", Spy)
    assert "train-images-idx3-ubyte.gz is no IDX file" in refused("mnist", tmp_path / "data")
    assert set(asked) == {100_001}


def test_nothing_that_torchvision_would_unpickle_is_read(mnist):
    """Its MNIST still takes processed/*.pt, if they are there."""
    before = content_of("mnist", mnist)
    (mnist / "MNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(3, 28, 28), torch.zeros(3)), mnist / "MNIST" / "processed" / name)
    assert content_of("mnist", mnist) == before


@each_stranger
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"])
def test_a_stranger_among_the_files_of_mnist_is_refused_at_once(tmp_path, stranger, name):
    write_mnist(tmp_path / "data", packed=name.endswith(".gz"))
    (tmp_path / "data" / name).unlink()
    stranger(tmp_path / "data" / name)
    with promptly():
        refused("mnist", tmp_path / "data")


@each_stranger
def test_a_stranger_among_the_bundled_files_is_refused_at_once(tmp_path, stranger):
    for name, _ in sources.IDX.values():
        os.symlink(sources.DATA / "fashion-mnist" / name, tmp_path / name)
    (tmp_path / name).unlink()
    stranger(tmp_path / name)
    with promptly(), pytest.raises(InputError, match=rf"{name} is (missing|truncated or damaged)"):
        content_of("fashion-mnist", tmp_path)


# CIFAR


def members(dataset: str) -> dict[str, bytes]:
    """The files of a small CIFAR, four records each."""
    files, label_bytes, classes = RECORDS[dataset]
    names = [f"data_batch_{i + 1}.bin" for i in range(files)] + ["test_batch.bin"]
    if dataset == "cifar100":
        names = ["train.bin", "test.bin"]
    made = {}
    for name in names:
        records = random(4, label_bytes + 3072)
        records[:, :label_bytes] = np.arange(4)[:, None] + len(made)
        made[name] = records.tobytes()
    words = "\n".join(f"kind{i}" for i in range(classes)) + "\n\n"
    return {**made, CIFAR[dataset].names: words.encode()}


@pytest.fixture(params=CIFAR)
def cifar(request, tmp_path, monkeypatch) -> tuple[str, Path, dict[str, bytes]]:
    """Name, unpacked files below a root, and what they hold."""
    about = CIFAR[request.param]
    few = {part: dict.fromkeys(getattr(about, part), 4) for part in ("train", "test")}
    monkeypatch.setitem(CIFAR, request.param, replace(about, **few))
    root = tmp_path / "data"
    (root / about.folder).mkdir(parents=True)
    files = members(request.param)
    for name, raw in files.items():
        (root / about.folder / name).write_bytes(raw)
    return request.param, root, files


def test_cifar_is_read_record_by_record(cifar):
    dataset, root, files = cifar
    label_bytes = RECORDS[dataset][1]
    for source, names in zip(
        train_and_test(dataset, str(root)), (CIFAR[dataset].train, CIFAR[dataset].test), strict=True
    ):
        raw = np.frombuffer(b"".join(files[name] for name in names), np.uint8).reshape(-1, label_bytes + 3072)
        assert source.labels.tolist() == raw[:, label_bytes - 1].tolist()
        expected = raw[:, label_bytes:].reshape(-1, 3, 32, 32)
        assert torch.equal(source.pixels(slice(None)), torch.from_numpy(expected.copy()))
        assert torch.equal(source.pixels(torch.tensor([2, 0])), torch.from_numpy(expected.copy())[[2, 0]])
        assert source.classes == tuple(f"kind{i}" for i in range(RECORDS[dataset][2]))
    before = content_of(dataset, root)
    (root / CIFAR[dataset].folder / CIFAR[dataset].names).write_text("\n".join(map(str, range(RECORDS[dataset][2]))))
    assert content_of(dataset, root) == before  # how classes are called is no content


def test_sizes_of_the_published_files():
    """As https://www.cs.toronto.edu/~kriz/cifar.html states them."""
    ten, hundred = CIFAR["cifar10"], CIFAR["cifar100"]
    assert (ten.record, hundred.record) == (3073, 3074)
    assert (sum(ten.train.values()), sum(ten.test.values()), ten.classes) == (50_000, 10_000, 10)
    assert (sum(hundred.train.values()), sum(hundred.test.values()), hundred.classes) == (50_000, 10_000, 100)
    assert (len(ten.train), set(ten.train.values())) == (5, {10_000})


@pytest.mark.parametrize(
    ("which", "damage"),
    [
        ("last", lambda raw: raw[:-1]),
        ("last", lambda raw: raw + b"\0"),
        ("last", lambda raw: b""),
        ("last", lambda raw: raw[:-3074]),
        ("last", lambda raw: b"\xff\xff" + raw[2:]),
        ("last", lambda raw: None),
        ("names", lambda raw: None),
        ("names", lambda raw: b""),
        ("names", lambda raw: b"kind0\n" * 100),
        ("names", lambda raw: b"\xff" * 100),
        ("names", lambda raw: raw.replace(b"kind1\n", b"\x1b[31m\n")),
        ("names", lambda raw: raw + bytes(2**20)),
    ],
)
def test_damaged_cifar(cifar, which, damage):
    dataset, root, files = cifar
    name = CIFAR[dataset].names if which == "names" else next(iter(CIFAR[dataset].test))
    path = root / CIFAR[dataset].folder / name
    raw = damage(files[name])
    path.unlink() if raw is None else path.write_bytes(raw)
    assert name in refused(dataset, root) or which == "last"


@each_stranger
@pytest.mark.parametrize("which", ["last", "names", "archive"])
def test_a_stranger_among_the_files_of_cifar_is_refused_at_once(cifar, monkeypatch, stranger, which):
    dataset, root, _ = cifar
    about = CIFAR[dataset]
    names = {"last": next(iter(about.test)), "names": about.names}
    path = pack(cifar, monkeypatch) if which == "archive" else root / about.folder / names[which]
    path.unlink()
    stranger(path)
    with promptly():
        refused(dataset, root)
    assert not (root / about.folder).exists() or which != "archive"


def test_the_pickled_version_is_refused_by_name(cifar):
    dataset, root, _ = cifar
    (root / CIFAR[dataset].folder).rename(root / CIFAR[dataset].pickled)
    said = refused(dataset, root)
    assert f"{CIFAR[dataset].pickled} is the version for Python, which is pickled" in said
    assert CIFAR[dataset].archive in said


def pack(cifar, monkeypatch, extra=(), change=lambda member: member) -> Path:
    """The archive in place of the folder, its sum known; `extra` members come first."""
    dataset, root, files = cifar
    about = CIFAR[dataset]
    for name in files:
        (root / about.folder / name).unlink()
    (root / about.folder).rmdir()
    with tarfile.open(root / about.archive, "w:gz") as tar:
        for member in extra:
            tar.addfile(member)
        for name, raw in files.items():
            member = tarfile.TarInfo(f"{about.folder}/{name}")
            member.size = len(raw)
            member = change(member)
            tar.addfile(member, io.BytesIO(raw) if member.isreg() else None)
    md5 = hashlib.md5((root / about.archive).read_bytes()).hexdigest()
    monkeypatch.setitem(CIFAR, dataset, replace(about, md5=md5))
    return root / about.archive


def test_archive_is_unpacked_once(cifar, monkeypatch):
    dataset, root, files = cifar
    before = content_of(dataset, root)
    archive = pack(cifar, monkeypatch)
    assert content_of(dataset, root) == before
    archive.unlink()
    assert content_of(dataset, root) == before
    assert {name: (root / CIFAR[dataset].folder / name).read_bytes() for name in files} == files
    assert listing(root) == {CIFAR[dataset].folder, *(f"{CIFAR[dataset].folder}/{name}" for name in files)}


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def test_nothing_else_of_an_archive_is_unpacked(cifar, monkeypatch, tmp_path):
    dataset, root, files = cifar
    folder = CIFAR[dataset].folder
    strange = ["../../evil", "/tmp/evil", f"{folder}/../../evil", f"{folder}/more.bin", f"{folder}/a/test.bin"]
    pack(cifar, monkeypatch, [*map(tarfile.TarInfo, strange), link("out", str(tmp_path)), link(folder, "/tmp")])
    content_of(dataset, root)
    assert listing(root / folder) == set(files)
    assert not any("evil" in name for name in listing(tmp_path))


@pytest.mark.parametrize("harm", ["link", "hard link", "device", "folder", "larger", "name"])
def test_what_is_no_file_of_its_size_is_refused(cifar, monkeypatch, harm):
    dataset, root, files = cifar
    kinds = {
        "link": tarfile.SYMTYPE,
        "hard link": tarfile.LNKTYPE,
        "device": tarfile.CHRTYPE,
        "folder": tarfile.DIRTYPE,
    }

    def change(member):
        if member.name.endswith("test_batch.bin") or member.name.endswith("test.bin"):
            if harm in kinds:
                member.type, member.linkname, member.size = kinds[harm], "/etc/passwd", 0
            elif harm == "name":
                member.name = f"./{member.name}.bak"
        return member

    if harm == "larger":
        name = next(iter(CIFAR[dataset].test))
        files[name] += b"\0"
    archive = pack(cifar, monkeypatch, change=change)
    refused(dataset, root)
    assert listing(root) == {archive.name}


def test_archive_of_another_sum_is_not_opened(cifar, monkeypatch):
    dataset, root, _ = cifar
    archive = pack(cifar, monkeypatch)
    archive.write_bytes(archive.read_bytes()[:-1])
    monkeypatch.setattr(tarfile, "open", None)
    assert "MD5" in refused(dataset, root)
    assert listing(root) == {archive.name}


# SVHN


@pytest.mark.parametrize("raw", [None, b"", b"MATLAB 5.0 MAT-file"])
def test_svhn_of_another_sum_is_not_read(tmp_path, raw):
    for part in ("train", "test"):
        if raw is not None:
            (tmp_path / f"{part}_32x32.mat").write_bytes(raw)
    assert "not found or corrupted" in refused("svhn", tmp_path)


def test_svhn_has_the_layout_of_the_others(monkeypatch, tmp_path):
    class StandIn:
        def __init__(self, root, *, split):
            assert root == tmp_path
            self.data, self.labels = random(12 if split == "train" else 6, 3, 32, 32), np.arange(6) % 10

    monkeypatch.setattr(torchvision.datasets, "SVHN", StandIn)
    train, test = train_and_test("svhn", str(tmp_path))
    assert (train.pixels(slice(None)).shape, train.labels.dtype) == ((12, 3, 32, 32), torch.int64)
    assert (test.labels.tolist(), test.classes) == ([0, 1, 2, 3, 4, 5], tuple("0123456789"))


# the network


@pytest.mark.parametrize("dataset", ["mnist", "cifar10", "cifar100", "svhn"])
def test_absent_data_set_without_download_touches_no_network(monkeypatch, tmp_path, tiny, dataset):
    def refuse(*args, **kwargs):
        pytest.fail("a network connection was attempted")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    refused(dataset, tmp_path / "none")
    with pytest.raises(InputError):
        tiny(tmp_path / "runs", dataset=dataset, data_root=str(tmp_path / "none"))
    assert not listing(tmp_path)


@pytest.mark.parametrize(
    ("dataset", "fetched"),
    [
        ("mnist", ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"] + ["t10k-images-idx3-ubyte.gz"] * 1),
        ("cifar10", ["cifar-10-binary.tar.gz"]),
        ("cifar100", ["cifar-100-binary.tar.gz"]),
        ("svhn", ["train_32x32.mat", "test_32x32.mat"]),
    ],
)
def test_download_asks_for_known_files_with_their_sums(monkeypatch, tmp_path, dataset, fetched):
    asked = []
    monkeypatch.setattr(torchvision.datasets.utils, "download_url", lambda *about: asked.append(about))
    with pytest.raises(InputError):  # as nothing has come
        content(dataset, str(tmp_path), download=True, image_size=32)
    assert [name for *_, name, _ in asked][: len(fetched)] == fetched
    for url, folder, name, md5 in asked:
        assert url.startswith("http") and url.endswith(f"/{name}")
        assert folder.is_relative_to(tmp_path) and len(md5) == 32


def test_download_that_fails_is_one_line(monkeypatch, tmp_path):
    def fail(*about):
        raise OSError("no route to host\nat all")

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", fail)
    with pytest.raises(InputError, match="no route to host"):
        content("cifar10", str(tmp_path), download=True, image_size=32)


def test_a_tampered_file_beside_the_bundled_ones_is_not_read(tmp_path):
    """The gzipped file is the one whose sum is checked."""
    for name, _ in sources.IDX.values():
        os.symlink(sources.DATA / "fashion-mnist" / name, tmp_path / name)
    before = train_and_test("fashion-mnist", str(tmp_path))[1].pixels(slice(0, 5))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((10_000, 28, 28), np.uint8)))
    assert torch.equal(train_and_test("fashion-mnist", str(tmp_path))[1].pixels(slice(0, 5)), before)


# hashed is what is decoded


def test_what_is_decoded_is_what_was_hashed(tmp_path):
    folder = tmp_path / "digits"
    write_mnist(folder, packed=False)
    spec = DataSpec.locate("mnist", str(folder), train_images=9, validation_images=2, test_images=2)
    path = folder / "t10k-labels-idx1-ubyte"
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([(raw[-1] + 1) % 10]))
    with pytest.raises(InputError, match="the files of mnist changed during the run"):
        Store(tmp_path / "runs").get(spec)
