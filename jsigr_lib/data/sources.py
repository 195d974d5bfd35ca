"""The published data sets as numbers. Their files are checked against what is known of them and read byte by byte:
nothing is unpickled, and of an archive nothing is unpacked but the files that we know."""

import gzip
import hashlib
import io
import math
import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from jsigr_lib.data import pictures
from jsigr_lib.method.errors import InputError
from jsigr_lib.store.files import contents, opened, replace
from jsigr_lib.store.keys import code_of
from jsigr_lib.store.paths import DATA

IDX = {
    "train images": ("train-images-idx3-ubyte.gz", "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
    "train labels": ("train-labels-idx1-ubyte.gz", "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
    "test images": ("t10k-images-idx3-ubyte.gz", "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
    "test labels": ("t10k-labels-idx1-ubyte.gz", "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
}
"""The bundled Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): file and SHA-256. MNIST's files have the same names."""

FASHION_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
DIGITS = tuple("0123456789")
LARGEST_IDX = 16 + 60_000 * 28 * 28  # bytes, unpacked
LARGEST_NAMES = 4096
MALFORMED = (OSError, EOFError, ValueError, zlib.error, tarfile.TarError)  # what a damaged file can lead to


@dataclass(frozen=True)
class Cifar:
    """The binary version of CIFAR (Krizhevsky 2009): each record is its label bytes, the class last, and 3 x 32 x 32
    bytes of pixels. `train`, `test`: file -> records; `names`: the file with the names of the classes."""

    archive: str
    md5: str  # the publisher's
    folder: str
    train: dict[str, int]
    test: dict[str, int]
    names: str
    label_bytes: int
    classes: int
    pickled: str  # the folder of the version that we do not read

    @property
    def record(self) -> int:
        return self.label_bytes + 3 * 32 * 32


BATCHES = {f"data_batch_{i}.bin": 10_000 for i in range(1, 6)}
CIFAR = {
    "cifar10": Cifar(
        *("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin"),
        *(BATCHES, {"test_batch.bin": 10_000}, "batches.meta.txt", 1, 10, "cifar-10-batches-py"),
    ),
    "cifar100": Cifar(
        *("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary"),
        *({"train.bin": 50_000}, {"test.bin": 10_000}, "fine_label_names.txt", 2, 100, "cifar-100-python"),
    ),
}
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
DATASETS = ("fashion-mnist", "mnist", *CIFAR, "svhn", "folder")


@dataclass(frozen=True)
class Source:
    """All images of one published split: their labels, and the pixels (uint8) of those asked for."""

    labels: Tensor
    pixels: Callable[[Tensor | slice], Tensor]
    classes: tuple[str, ...]


def content(dataset: str, root: str, *, download: bool, image_size: int) -> str:
    """A hash of the pixels and labels; of a folder, of its files and what decodes them. Raises InputError if a file is
    missing or damaged; fetches what is missing only if `download`."""
    if dataset == "folder":
        return content_of_folder(root, image_size)
    if dataset == "fashion-mnist":
        for name, sha in IDX.values():
            _check_sha256(_folder(dataset, root) / name, sha)
        return _digest_of_known_files(dataset, root)
    if download:
        _download(dataset, _folder(dataset, root))
    return digest(train_and_test(dataset, root))


def content_of_folder(root: str, image_size: int, *, warn: bool = True) -> str:
    code = code_of(pictures.decode)
    what = (pictures.content(pictures.find(root), root, warn=warn), image_size, code.digest, code.libraries)
    return hashlib.sha256(repr(what).encode()).hexdigest()


def digest(parts: tuple["Source", "Source"]) -> str:
    """The hash of all pixels and labels."""
    total = hashlib.sha256()
    for tensor in (tensor for source in parts for tensor in (source.pixels(slice(None)), source.labels)):
        total.update(tensor.contiguous().numpy())
    return total.hexdigest()


@cache
def _digest_of_known_files(dataset: str, root: str) -> str:
    """Of files whose bytes are checked each time, so that their pixels are decoded and hashed once per process."""
    return digest(train_and_test(dataset, root))


def _folder(dataset: str, root: str) -> Path:
    return Path(root or DATA / ("fashion-mnist" if dataset == "fashion-mnist" else "downloads")).expanduser()


def train_and_test(dataset: str, root: str, image_size: int = 32) -> tuple[Source, Source]:
    """The training and the test images. Raises InputError as `content` does."""
    if dataset == "folder":
        return tuple(_pictures(part, image_size) for part in pictures.find(root).values())
    folder = _folder(dataset, root)
    reader = _cifar if dataset in CIFAR else _svhn if dataset == "svhn" else _idx_pair
    try:
        return tuple(reader(dataset, folder, part) for part in ("train", "test"))
    except MALFORMED as error:
        raise _unreadable(dataset, folder, error) from None


def _unreadable(dataset: str, folder: Path, error: Exception) -> InputError:
    return InputError(
        f"dataset {dataset!r} is not in {folder} or could not be read ({error or type(error).__name__}); "
        "accepted: a folder that holds it (data_root), or --download with a network"
    )


def _check_sha256(path: Path, expected: str) -> None:
    try:
        found = hashlib.sha256(contents(path)).hexdigest()
    except OSError:
        raise InputError(f"{path} is missing; restore it from the repository (git checkout -- data)") from None
    except ValueError:
        found = None
    if found != expected:
        raise InputError(f"{path} is truncated or damaged (its SHA-256 differs); restore it (git checkout -- data)")


# IDX: Fashion-MNIST, MNIST


def _idx_pair(dataset: str, folder: Path, part: str) -> Source:
    """MNIST may lie where torchvision keeps it, unpacked or not."""
    if dataset == "mnist" and (below := folder / "MNIST" / "raw").is_dir():
        folder = below
    images, labels = (_idx(folder / IDX[f"{part} {what}"][0]) for what in ("images", "labels"))
    if images.shape != (len(labels), 28, 28) or labels.shape != (len(labels),):
        raise ValueError(f"{part}: images {[*images.shape]}, labels {[*labels.shape]}")
    classes = FASHION_CLASSES if dataset == "fashion-mnist" else DIGITS
    return Source(_checked_labels(labels, classes, part), images[:, None].__getitem__, classes)


def _idx(path: Path) -> Tensor:
    """An IDX file of bytes: 0, 0, 8, the number of dimensions, each of them as a big-endian uint32, then the values."""
    path = path if path.exists() else path.with_suffix("")
    with opened(path) as packed:
        file = gzip.GzipFile(fileobj=packed) if path.suffix == ".gz" else packed
        raw = file.read(LARGEST_IDX + 1)  # and no more, however much it would unpack to
    header = 4 + 4 * raw[3] if len(raw) > 3 else 4
    if raw[:3] != b"\0\0\x08" or len(raw) < header or header == 4:
        raise ValueError(f"{path.name} is no IDX file of bytes")
    shape = struct.unpack(f">{raw[3]}I", raw[4:header])
    if len(raw) != header + math.prod(shape):
        raise ValueError(f"{path.name} has not the size that it says")
    return torch.frombuffer(bytearray(raw[header:]), dtype=torch.uint8).view(shape)


def _checked_labels(labels: Tensor, classes: tuple[str, ...], where: str) -> Tensor:
    if labels.max() >= len(classes):
        raise ValueError(f"{where} has a label {int(labels.max())}, but {len(classes)} classes")
    return labels.long()


# CIFAR-10, CIFAR-100


def _cifar(dataset: str, folder: Path, part: str) -> Source:
    about = CIFAR[dataset]
    files, place = getattr(about, part), folder / about.folder
    if not place.is_dir():
        if (folder / about.pickled).exists():
            raise ValueError(f"{about.pickled} is the version for Python, which is pickled; put {about.archive} there")
        _unpack(folder / about.archive, about)
    records = torch.cat([_records(place / name, count, about.record) for name, count in files.items()])
    classes = tuple(contents(place / about.names, LARGEST_NAMES).decode("ascii", "backslashreplace").split())
    if len(set(classes)) != about.classes or not all(map(str.isprintable, classes)):
        raise ValueError(f"{about.names} does not name {about.classes} classes")
    labels = _checked_labels(records[:, about.label_bytes - 1], classes, part)
    return Source(labels, records[:, about.label_bytes :].unflatten(1, (3, 32, 32)).__getitem__, classes)


def _records(path: Path, count: int, size: int) -> Tensor:
    raw = contents(path, count * size)
    if len(raw) != count * size:
        raise ValueError(f"{path.name} has not {count * size:,} bytes")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(count, size)


def _unpack(archive: Path, about: Cifar) -> None:
    """Put the files that we know beside the archive, if it has the publisher's sum; where they go is not up to it."""
    packed = contents(archive)
    if hashlib.md5(packed).hexdigest() != about.md5:
        raise ValueError(f"{archive.name} is truncated or damaged: its MD5 differs")
    sizes = {name: count * about.record for name, count in {**about.train, **about.test}.items()}
    staged = archive.with_name(f".{about.folder}.{os.getpid()}")
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
            for name, size in {**sizes, about.names: LARGEST_NAMES}.items():
                member = tar.getmember(f"{about.folder}/{name}")
                if not member.isreg() or member.size > size:
                    raise ValueError(f"{name} in {archive.name} is no file of up to {size:,} bytes")
                replace(staged / name, tar.extractfile(member).read())
        os.replace(staged, archive.with_name(about.folder))
    except KeyError as error:
        raise ValueError(f"{archive.name}: {error}") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)


# SVHN, folders


def _svhn(dataset: str, folder: Path, part: str) -> Source:
    """torchvision's reader: a MATLAB file (no pickle) with its publisher's MD5, read by scipy."""
    from torchvision.datasets import SVHN  # here, as it is slow to import and not always needed

    try:
        found = SVHN(folder, split=part)
    except Exception as error:  # whatever a damaged file leads it to
        raise ValueError(str(error).partition("\n")[0]) from None
    images, labels = torch.as_tensor(found.data), torch.as_tensor(found.labels).long()
    return Source(labels, images.__getitem__, DIGITS)


def _pictures(part: pictures.Pictures, image_size: int) -> Source:
    """RGB squares, decoded only when asked for."""

    def pixels(index: Tensor) -> Tensor:
        return torch.stack([pictures.decode(part.paths[i], image_size) for i in index.tolist()])

    return Source(torch.tensor(part.labels), pixels, part.classes)


def _download(dataset: str, folder: Path) -> None:
    """Fetch the published files that are missing, each with its publisher's MD5."""
    from torchvision.datasets import MNIST, SVHN
    from torchvision.datasets.utils import download_url

    try:
        if dataset == "mnist":
            for name, md5 in MNIST.resources:
                download_url(f"{MNIST.mirrors[0]}{name}", folder / "MNIST" / "raw", name, md5)
        elif dataset == "svhn":
            for url, name, md5 in (SVHN.split_list[part] for part in ("train", "test")):
                download_url(url, folder, name, md5)
        elif not (folder / CIFAR[dataset].folder).is_dir():
            download_url(CIFAR_URL + CIFAR[dataset].archive, folder, CIFAR[dataset].archive, CIFAR[dataset].md5)
    except Exception as error:  # of the network, in many kinds
        raise _unreadable(dataset, folder, error) from None
