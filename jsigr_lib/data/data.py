"""Data sets as uint8 tensors in memory, with one fixed train / validation / test split.

The validation images are carved from the training set and choose the hyper-parameters; the test images only report.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from jsigr_lib.data import sources
from jsigr_lib.data.pictures import with_every_class
from jsigr_lib.data.sources import DATASETS
from jsigr_lib.method.errors import InputError, between, one_of
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tensor_files import read

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
        index = index.to(self.images.device) if torch.is_tensor(index) else index
        images = self.images[index].to(device, non_blocking=True)
        x = images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images
        return x.contiguous(memory_format=torch.channels_last), self.labels[index].to(device, non_blocking=True)

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def first(self, n: int) -> "Split":
        return Split(self.images[:n], self.labels[:n])


@dataclass(frozen=True)
class Dataset:
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]

    @cached_property
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
    """A fixed choice of images of a data set; `content` is the hash that `sources.content` gives."""

    kind: ClassVar[str] = "data"
    here: ClassVar[bool] = True
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
        content = sources.content(dataset, root, download=download, image_size=image_size)
        sizes["image_size"] = image_size if dataset == "folder" else cls.model_fields["image_size"].default
        return cls(dataset=dataset, content=content, root=root, **sizes)

    def work(self) -> float:
        return 1e10

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        train, test = sources.train_and_test(self.dataset, self.root, self.image_size)
        if self.dataset != "folder" and sources.digest((train, test)) != self.content:  # hashed is what is decoded
            raise InputError(
                f"the files of {self.dataset} changed during the run; accepted: files that stay as they are"
            )
        training, kept = len(train.labels), self.validation_images
        between(f"validation_images of {self.dataset}", kept, 1, training - 1)
        between(f"train_images of {self.dataset}", self.train_images, 1, training - kept)
        between(f"test_images of {self.dataset}", self.test_images, 1, len(test.labels))
        generator = torch.Generator().manual_seed(SPLIT_SEED)
        order = torch.randperm(training, generator=generator)
        if self.dataset == "folder":  # whose classes may be rare
            order = with_every_class(train.labels, order, self.validation_images, self.train_images)
        parts = {
            "train": (train, order[kept:][: self.train_images]),
            "validation": (train, order[:kept]),
            "test": (test, torch.randperm(len(test.labels), generator=generator)[: self.test_images]),
        }
        tensors = {}
        for name, (source, index) in parts.items():
            tensors |= {f"{name}_images": source.pixels(index), f"{name}_labels": source.labels[index]}
        return tensors, {"classes": train.classes}

    def confirm(self) -> None:
        """Of the other data sets, `compute` hashes what it decodes."""
        root, size = self.root, self.image_size
        if self.dataset == "folder" and sources.content_of_folder(root, size, warn=False) != self.content:
            raise InputError("the pictures changed during the run; accepted: files that stay as they are")


def load(spec: DataSpec, store: Store) -> Dataset:
    """The images of `spec`. They are decoded from their files once and then read from the store."""
    if spec not in store:
        store.get(spec)
    return _read(store.path(spec))


@lru_cache(maxsize=2)
def _read(path: Path) -> Dataset:
    artefact = read(path)
    t = artefact.tensors
    splits = {name: Split(t[f"{name}_images"], t[f"{name}_labels"]) for name in ("train", "validation", "test")}
    return Dataset(**splits, classes=tuple(artefact.facts["classes"]))
