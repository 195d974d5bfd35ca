"""Photographs with known distortions, for a task that is no classification: how good does a picture look?

Each source is blurred, made noisy, compressed and made paler, as a whole, at five strengths. What is learnt from are
crops of 64 x 64 pixels. The label of a crop is its HaarPSI (Reisenhofer et al. 2018, by the package piq) against the
same crop of the source: 1 where nothing is seen of the distortion, towards 0 where everything is."""

import importlib
import io
import re
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from jsigr_lib.data.data import SPLIT_SEED
from jsigr_lib.method.errors import InputError, between, needs_extra
from jsigr_lib.method.saliency import blur
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.files import contents, sha256
from jsigr_lib.store.paths import DATA
from jsigr_lib.store.specs import Spec

PHOTOGRAPHS = DATA / "photographs"
DISTORTIONS = {
    "blur": (0.6, 1.0, 1.5, 2.2, 3.2),  # sigma of a Gaussian, pixels
    "noise": (5, 10, 18, 28, 42),  # standard deviation, of 255 levels
    "JPEG": (50, 30, 18, 10, 5),  # quality
    "contrast": (0.8, 0.6, 0.45, 0.3, 0.18),  # factor, around the picture's mean
}
"""Distortion -> its parameter at five strengths, the weakest first."""
STRENGTHS = 5
VARIANTS = ("none", *(name for name in DISTORTIONS for _ in range(STRENGTHS)))
"""The pictures made of a source, in order: itself, then each distortion at each strength."""
CROP, GRID = 64, 8  # sides, pixels; crops begin on the grid of JPEG's blocks, counted from the picture's corner
CANDIDATES = 8  # places of which the one with the finest structure is a crop
SPLITS = ("train", "validation", "test")


def haarpsi(references: Tensor, images: Tensor) -> Tensor:
    """How much of each reference is still seen in the image beside it, HaarPSI in [0, 1], [n], of RGB images in [0, 1]
    [n, 3, H, W]."""
    with needs_extra("HaarPSI", "neighbours"):
        measure = importlib.import_module("piq").haarpsi
    pairs = zip(references.split(512), images.split(512), strict=True)
    return torch.cat([measure(y, x, data_range=1.0, reduction="none") for x, y in pairs])


def distorted(source: Tensor, name: str, strength: int, generator: torch.Generator) -> Tensor:
    """A source, RGB uint8 [3, H, W], with a distortion at strength 0 (the weakest) to 4, as uint8. Only noise draws."""
    amount, x = DISTORTIONS[name][strength], source.float()
    if name == "blur":
        x = blur(x[None], amount)[0]
    elif name == "noise":
        x = x + amount * torch.randn(x.shape, generator=generator)
    elif name == "contrast":
        x = x.mean() + amount * (x - x.mean())
    else:
        buffer = io.BytesIO()
        Image.fromarray(source.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=amount)
        return _pixels(buffer.getvalue())
    return x.round().clamp(0, 255).to(torch.uint8)


def variants(source: Tensor, generator: torch.Generator) -> Tensor:
    """The source and all that is made of it, uint8 [21, 3, H, W], in the order of VARIANTS."""
    made = [distorted(source, name, i, generator) for name in DISTORTIONS for i in range(STRENGTHS)]
    return torch.stack([source, *made])


def places(source: Tensor, n: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """The top left corners of n crops of a source [3, H, W], all different: each has the finest structure, the largest
    mean |x - its neighbourhood's mean|, of a few places drawn at random."""
    grey = source.float().mean(0)[None, None]
    fine = (grey - F.avg_pool2d(grey, 3, 1, 1, count_include_pad=False)).abs()
    structure = F.avg_pool2d(fine, CROP, GRID)[0, 0]
    left, chosen = torch.arange(structure.numel()), []
    while len(chosen) < n and len(left):
        drawn = left[torch.randperm(len(left), generator=generator)[:CANDIDATES]]
        best = drawn[structure.flatten()[drawn].argmax()]
        left = left[left != best]
        chosen.append(divmod(best.item(), structure.shape[1]))
    return [(GRID * row, GRID * column) for row, column in chosen]


SHOWN = {"chelsea.png": "cat", "friends.png": "dog", "moose.png": "deer"}
"""The photographs of a thing that is a class of CIFAR-10."""


def squares(side: int) -> tuple[Tensor, list[str]]:
    """The centred square of every photograph, shrunk, RGB uint8 [n, 3, side, side], and the class of CIFAR-10 that it
    shows, or "". Those that show one come first. Raises InputError if a file is missing or altered."""
    names = [*SHOWN, *(name for name in _checked() if name not in SHOWN)]
    pictures = []
    for name in names:
        with Image.open(io.BytesIO(_content(name))) as picture:
            square = ImageOps.fit(picture.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
        pictures.append(torch.from_numpy(np.array(square)).permute(2, 0, 1))
    return torch.stack(pictures), [SHOWN.get(name, "") for name in names]


@dataclass(frozen=True)
class Crops:
    """The crops of one split: images uint8 [sources, 21 variants, crops, 3, 64, 64], and their labels [sources, 21,
    crops]. A picture is one source in one variant."""

    images: Tensor
    labels: Tensor

    def pixels(self, device: torch.device | str = "cpu") -> Tensor:
        """All crops as float in [0, 1], [pictures, crops, 3, 64, 64]."""
        return self.images.flatten(0, 1).to(device).float() / 255

    def references(self, device: torch.device | str = "cpu") -> Tensor:
        """For each crop of `pixels` the same place of its undistorted source."""
        return self.images[:, :1].expand_as(self.images).flatten(0, 1).to(device).float() / 255


class Photographs(Spec):
    """Crops and labels of three splits *by source*, so that no held-out picture was seen in another variant. `content`
    is the hash of the bundled files, `measure` the release that made the labels."""

    kind: ClassVar[str] = "photographs"
    content: str
    measure: str
    train: int
    validation: int
    test: int
    crops: int

    @classmethod
    def locate(cls, **sizes: int) -> Self:
        """Find and check the files. Raises InputError if one is missing or altered, if there are too few of them, or
        if the package that makes the labels is not installed."""
        listed = _checked()
        between("photographs in all", sum(sizes[part] for part in SPLITS), 3, len(listed))
        with needs_extra("HaarPSI", "neighbours"):
            release = f"piq {importlib.import_module('piq').__version__}"
        return cls(content=sha256(str(sorted(listed.items())).encode())[:16], measure=release, **sizes)

    def pictures(self, part: str) -> int:
        """How many pictures a split has: its sources in every variant."""
        return getattr(self, part) * len(VARIANTS)

    def work(self) -> float:
        return 1e10

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        names = sorted(_listed())
        generator = torch.Generator().manual_seed(SPLIT_SEED)
        order = [names[i] for i in torch.randperm(len(names), generator=generator)]
        tensors, facts = {}, {}
        for part in reversed(SPLITS):  # the test pictures stay the same, whatever the other sizes are
            facts[part], order = order[: getattr(self, part)], order[getattr(self, part) :]
            made = [self._crops(name) for name in facts[part]]
            images = torch.stack(made)
            crops = Crops(images, torch.zeros(images.shape[:3]))
            labels = haarpsi(crops.references().flatten(0, 1), crops.pixels().flatten(0, 1))
            tensors |= {f"{part}_images": images, f"{part}_labels": labels.view(images.shape[:3])}
        return tensors, {"sources": facts}

    def _crops(self, name: str) -> Tensor:
        """uint8 [21, crops, 3, 64, 64]. Each source has random numbers of its own."""
        source = _pixels(_content(name))
        generator = torch.Generator().manual_seed(int(sha256(name.encode())[:12], 16))
        corners = places(source, self.crops, generator)
        if len(corners) < self.crops:
            raise InputError(f"crops = {self.crops}; accepted: at most {len(corners)}, as {name} has no more places")
        pictures = variants(source, generator)
        return torch.stack([pictures[..., y : y + CROP, x : x + CROP] for y, x in corners], 1)

    def confirm(self) -> None:
        if type(self).locate(**{name: getattr(self, name) for name in (*SPLITS, "crops")}) != self:
            raise InputError("the photographs changed during the run; accepted: files that stay as they are")


def load(spec: Photographs, store: Store, part: str) -> Crops:
    """One of the splits "train", "validation" and "test"."""
    tensors = store.get(spec).tensors
    return Crops(tensors[f"{part}_images"], tensors[f"{part}_labels"])


def _listed() -> dict[str, str]:
    """File -> SHA-256."""
    text = _content("SHA256SUMS").decode(errors="replace")
    return {name: sha for sha, name in re.findall(r"^([0-9a-f]{64})  ([\w-]+\.png)$", text, re.M)}


def _checked() -> dict[str, str]:
    """The same, after a look at every file."""
    listed = _listed()
    for name, sha in listed.items():
        if sha256(_content(name)) != sha:
            raise InputError(
                f"{PHOTOGRAPHS / name} is truncated or altered (its SHA-256 differs); restore it (git checkout -- data)"
            )
    return listed


def _content(name: str) -> bytes:
    try:
        return contents(PHOTOGRAPHS / name)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{PHOTOGRAPHS / name} cannot be read ({error}); accepted: the files of the repository"
        ) from None


def _pixels(content: bytes) -> Tensor:
    """An encoded picture as RGB uint8 [3, H, W]."""
    with Image.open(io.BytesIO(content)) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous()
