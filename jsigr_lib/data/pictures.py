"""A folder of pictures as a data set: train/<class>/ and test/<class>/, whoever made them.

No file is believed: only the decoders of a few common formats are asked, none decodes more pixels than it may, and no
link leads out of the folder.
"""

import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jsigr_lib.method.errors import InputError, shown

FORMATS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "PPM": (".ppm", ".pgm"), "BMP": (".bmp",), "WEBP": (".webp",)}
FORMATS |= {"TIFF": (".tif", ".tiff")}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)  # files of other names are left alone
MOST_PIXELS = 50_000_000  # of a picture, which is decoded in memory before it is made smaller
ACCEPTED = "accepted: a folder with train/<class>/ and test/<class>/"


@dataclass(frozen=True)
class Pictures:
    """The pictures of one part, class by class, in the order of their paths."""

    paths: list[str]  # strings, as there may be very many
    labels: list[int]
    classes: tuple[str, ...]


def find(root: str) -> dict[str, Pictures]:
    """The pictures below train/ and test/. Raises InputError if there are none, or if a link leads elsewhere."""
    parts = {}
    for part in ("train", "test"):
        try:
            there = bool(root) and (Path(root) / part).is_dir()
        except OSError:  # no path at all, such as one that is too long
            there = False
        if not there:
            raise InputError(f"data_root = {shown(root)} has no {part}/; {ACCEPTED}")
        parts[part] = _classes(Path(root) / part, Path(root).resolve())
    if parts["train"].classes != parts["test"].classes:
        raise InputError(f"classes of {root}/train and {root}/test differ; accepted: the same folders in both")
    return parts


def _classes(folder: Path, root: Path) -> Pictures:
    _check_link(folder, root)
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise InputError(
            f"{folder} has {len(names)} folders; accepted: folders of pictures, one per class, two at least"
        )
    paths, labels = [], []
    for label, name in enumerate(names):
        found = _walk(folder / name, root)
        if not found:
            raise InputError(f"{folder / name} has no picture; accepted: files that end with {', '.join(SUFFIXES)}")
        paths += found
        labels += [label] * len(found)
    return Pictures(paths, labels, tuple(names))


def _walk(folder: Path, root: Path) -> list[str]:
    """The pictures in a folder and in the folders below it, by path."""
    found, left = [], [folder]
    while left:
        _check_link(left[-1], root)
        for entry in list(os.scandir(left.pop())):
            if entry.is_dir():
                left.append(Path(entry))
            elif entry.name.lower().endswith(SUFFIXES):
                if entry.is_symlink():
                    _check_link(Path(entry), root)
                if entry.is_file():  # and no pipe, which would block us
                    found.append(entry.path)
    return sorted(found)


def _check_link(path: Path, root: Path) -> None:
    """Raise InputError for a link to a folder, which could lead around in a circle, and for one that leads out."""
    if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(root)):
        raise InputError(f"{path} is a link; accepted: folders, files, and links to files inside {root}")


def content(parts: dict[str, Pictures], root: str) -> str:
    """SHA-256 of the paths and the bytes of all files."""
    total, above = hashlib.sha256(), str(Path(root))
    for path in (path for part in parts.values() for path in part.paths):
        try:
            with open(path, "rb") as file:
                own = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); accepted: a readable picture") from None
        total.update(os.fsencode(path.removeprefix(above).lstrip(os.sep)) + b"\0" + own)
    return total.hexdigest()


def decode(path: str, size: int) -> Tensor:
    """A picture as uint8 [3, size, size]. Raises InputError, with the file's name, if it is none or has too many
    pixels, which is known before they are decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open(path, "rb") as file, Image.open(file, formats=tuple(FORMATS)) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels")
                square = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        accepted = f"{', '.join(FORMATS)}, up to {MOST_PIXELS:,} pixels"
        raise InputError(f"{path} is no readable image ({error}); accepted: {accepted}") from None
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)
