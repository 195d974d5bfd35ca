"""Data sets as uint8 tensors in memory, with one fixed train / validation / test split.

The validation images are carved from the training set and choose the hyper-parameters; the test images only report.
"""

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from jsigr_lib.artefacts import Spec, Store, read
from jsigr_lib.errors import InputError, between, one_of
from jsigr_lib.paths import DATA

IDX = {
    "train images": ("train-images-idx3-ubyte.gz", "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
    "train labels": ("train-labels-idx1-ubyte.gz", "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
    "test images": ("t10k-images-idx3-ubyte.gz", "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
    "test labels": ("t10k-labels-idx1-ubyte.gz", "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
}
"""The bundled Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): file and SHA-256."""

FASHION_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
TORCHVISION = {"mnist": "MNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN"}
DATASETS = ("fashion-mnist", *TORCHVISION, "folder")
SPLIT_SEED = 20220713


@dataclass(frozen=True)
class Split:
    """Images [n, channels, height, width], uint8, or float in [0, 1] once attacked, and labels int64 [n]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor | slice, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Images as float in [0, 1], channels last, and labels, on `device`."""
        images = self.images[index].to(device, non_blocking=True)
        x = images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images
        return x.contiguous(memory_format=torch.channels_last), self.labels[index].to(device, non_blocking=True)

    def first(self, n: int) -> "Split":
        return Split(self.images[:n], self.labels[:n])


@dataclass(frozen=True)
class Dataset:
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]

    @property
    def shape(self) -> dict:
        """What a model has to know: channels, size, classes, and the training images' mean and std per channel."""
        pixels = self.train.images[:5000].to(torch.float64).div_(255)
        return {
            "channels": pixels.shape[1],
            "size": pixels.shape[2],
            "classes": len(self.classes),
            "mean": [round(v, 4) for v in pixels.mean((0, 2, 3)).tolist()],
            "std": [round(v, 4) for v in pixels.std((0, 2, 3)).clamp_min(1e-3).tolist()],
        }


class DataSpec(Spec):
    """A fixed choice of images of a data set; `content` is a hash of it: of the pixels and labels, or of
    the names, sizes and times of a folder's files."""

    kind: ClassVar[str] = "data"
    code: ClassVar[tuple[str, ...]] = ("data",)
    dataset: str
    content: str
    train_images: int
    validation_images: int
    test_images: int
    image_size: int = 32  # of a folder's images; the other data sets have their own
    root: str = Field("", exclude=True)  # where the files are changes no result

    @classmethod
    def locate(
        cls, dataset: str, root: str = "", *, download: bool = False, image_size: int = 32, **sizes: int
    ) -> Self:
        """Find and check the files; fetch them only if `download`. Raises InputError if they are missing or bad."""
        one_of("dataset", dataset, DATASETS)
        content = _content(dataset, root, download, image_size)
        sizes["image_size"] = image_size if dataset == "folder" else cls.model_fields["image_size"].default
        return cls(dataset=dataset, content=content, root=root, **sizes)

    def work(self) -> float:
        return 1e10

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        train, test = _sources(self.dataset, self.root, self.image_size)
        self._check_sizes(len(train.labels), len(test.labels))
        generator = torch.Generator().manual_seed(SPLIT_SEED)
        order = torch.randperm(len(train.labels), generator=generator)
        parts = {
            "train": (train, order[self.validation_images :][: self.train_images]),
            "validation": (train, order[: self.validation_images]),
            "test": (test, torch.randperm(len(test.labels), generator=generator)[: self.test_images]),
        }
        tensors = {}
        for name, (source, index) in parts.items():
            tensors |= {f"{name}_images": source.pixels(index), f"{name}_labels": source.labels[index]}
        return tensors, {"classes": train.classes}

    def _check_sizes(self, training: int, test: int) -> None:
        between(f"validation_images of {self.dataset}", self.validation_images, 1, training - 1)
        between(f"train_images of {self.dataset}", self.train_images, 1, training - self.validation_images)
        between(f"test_images of {self.dataset}", self.test_images, 1, test)


def load(spec: DataSpec, store: Store) -> Dataset:
    """The images of `spec`, from the store; decoded from their files once."""
    if spec not in store:
        store.get(spec)
    return _read(store.path(spec))


@lru_cache(maxsize=2)
def _read(path: Path) -> Dataset:
    artefact = read(path)
    t = artefact.tensors
    splits = {name: Split(t[f"{name}_images"], t[f"{name}_labels"]) for name in ("train", "validation", "test")}
    return Dataset(**splits, classes=tuple(artefact.facts["classes"]))


@dataclass(frozen=True)
class Source:
    """All images of one published split: their labels, and the pixels (uint8) of those asked for."""

    labels: Tensor
    pixels: Callable[[Tensor], Tensor]
    classes: tuple[str, ...]


def _content(dataset: str, root: str, download: bool, image_size: int) -> str:
    """A hash of the data set's files. Raises InputError if one is missing, truncated or damaged."""
    if dataset == "fashion-mnist":
        hashes = [_checked_sha256(Path(root or DATA / "fashion-mnist") / name, sha) for name, sha in IDX.values()]
        return _sha256("".join(hashes).encode())
    if dataset == "folder":
        files = [
            f"{path.relative_to(root)} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for part in _folders(root)
            for path in sorted(part.rglob("*.*"))
        ]
        return _sha256("\n".join([*files, str(image_size)]).encode())
    train, test = (_torchvision(dataset, root, part, download) for part in ("train", "test"))
    sources = [_from_torchvision(split) for split in (train, test)]
    arrays = [array for source in sources for array in (source.pixels(slice(None)), source.labels)]
    return _sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))


def _sources(dataset: str, root: str, image_size: int) -> tuple[Source, Source]:
    if dataset == "fashion-mnist":
        folder = Path(root or DATA / "fashion-mnist")
        return _idx(folder, "train"), _idx(folder, "test")
    if dataset == "folder":
        train, test = (_image_folder(part, image_size) for part in _folders(root))
        if train.classes != test.classes:
            raise InputError(f"classes of {root}/train and {root}/test differ; accepted: the same folders in both")
        return train, test
    return tuple(_from_torchvision(_torchvision(dataset, root, part, False)) for part in ("train", "test"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _checked_sha256(path: Path, expected: str) -> str:
    if not path.is_file():
        raise InputError(f"{path} is missing; restore it from the repository (git checkout -- data)")
    if _sha256(path.read_bytes()) != expected:
        raise InputError(f"{path} is truncated or damaged (its SHA-256 differs); restore it (git checkout -- data)")
    return expected


def _idx(folder: Path, part: str) -> Source:
    """IDX files, gzipped: a big-endian header of 16 (images) or 8 (labels) bytes, then uint8."""

    def content(what: str, header: int) -> Tensor:
        raw = gzip.decompress((folder / IDX[f"{part} {what}"][0]).read_bytes())
        return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=header)

    images = content("images", 16).view(-1, 1, 28, 28)
    return Source(content("labels", 8).long(), images.__getitem__, FASHION_CLASSES)


def _torchvision(dataset: str, root: str, part: str, download: bool):
    """The torchvision data set, downloaded only when told to."""
    import torchvision  # here, as it is slow to import and not always needed

    folder = Path(root or DATA / "downloads")
    arguments = {"split": part} if dataset == "svhn" else {"train": part == "train"}
    try:
        return getattr(torchvision.datasets, TORCHVISION[dataset])(folder, download=download, **arguments)
    except Exception as error:  # torchvision's readers raise whatever a damaged file leads them to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"dataset {dataset!r} is not in {folder} or could not be read ({reason}); "
            "accepted: a folder that holds it (data_root), or --download with a network"
        ) from None


def _from_torchvision(dataset) -> Source:
    images = torch.as_tensor(dataset.data)
    images = images[:, None] if images.ndim == 3 else images
    images = images.permute(0, 3, 1, 2) if images.shape[-1] == 3 else images
    labels = torch.as_tensor(dataset.labels if hasattr(dataset, "labels") else dataset.targets).long()
    names = getattr(dataset, "classes", None) or [str(k) for k in range(int(labels.max()) + 1)]
    return Source(labels, images.__getitem__, tuple(names))


def _folders(root: str) -> tuple[Path, Path]:
    """train/ and test/ below `root`, each with one folder of images per class."""
    folders = Path(root) / "train", Path(root) / "test"
    for folder in folders:
        if not root or not folder.is_dir():
            raise InputError(
                f"data_root = {root!r} has no {folder.name}/; accepted: a folder with train/<class>/ and test/<class>/"
            )
    return folders


def _image_folder(folder: Path, image_size: int) -> Source:
    """torchvision's ImageFolder layout; images become RGB squares of image_size, decoded only when asked for."""
    import torchvision

    try:
        found = torchvision.datasets.ImageFolder(folder)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: {str(error).splitlines()[0]}; accepted: folders of images, one per class"
        ) from None

    def decode(i: int) -> Tensor:
        path = found.samples[i][0]
        try:
            with Image.open(path) as image:
                square = image.convert("RGB").resize((image_size, image_size), Image.Resampling.BILINEAR)
        except OSError as error:
            raise InputError(f"{path} is no readable image ({error})") from None
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)

    def pixels(index: Tensor) -> Tensor:
        return torch.stack([decode(i) for i in index.tolist()])

    return Source(torch.tensor(found.targets), pixels, tuple(found.classes))
