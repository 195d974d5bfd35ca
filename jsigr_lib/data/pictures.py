"""A folder of pictures as a data set: train/<class>/ and test/<class>/, whoever made them. Hidden files are left alone.

A picture is read as people see it: upright as its EXIF orientation says, what is transparent on white, 16-bit grey
scaled to 8 bits. Float and 32-bit pixels are refused, as nothing says which of their values is white.

No file is believed: only the decoders of a few common formats are asked, none decodes more pixels than it may, and no
link leads out of the folder.
"""

import hashlib
import io
import logging
import os
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jsigr_lib.method.errors import InputError, shown
from jsigr_lib.store.files import contents

log = logging.getLogger(__name__)
FORMATS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "PPM": (".ppm", ".pgm"), "BMP": (".bmp",), "WEBP": (".webp",)}
FORMATS |= {"TIFF": (".tif", ".tiff")}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)  # files of other names are left alone
MOST_PIXELS = 50_000_000  # of a picture, which is decoded in memory before it is made smaller
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> how the picture is turned to stand upright."""
ORIENTATION, BITS, PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
ACCEPTED = "accepted: a folder with train/<class>/ and test/<class>/"


@dataclass(frozen=True)
class Pictures:
    """The pictures of one part, class by class, in the order of their paths, and how many hidden ones were skipped."""

    paths: list[str]  # strings, as there may be very many
    labels: list[int]
    classes: tuple[str, ...]
    hidden: int = 0


def find(root: str) -> dict[str, Pictures]:
    """The pictures below train/ and test/. Raises InputError if there are none, or if a link leads elsewhere."""
    parts, given, root = {}, root, os.path.expanduser(root)
    for part in ("train", "test"):
        try:
            there = bool(root) and (Path(root) / part).is_dir()
        except OSError:  # no path at all, such as one that is too long
            there = False
        if not there:
            raise InputError(f"data_root = {shown(given)} has no {part}/; {ACCEPTED}")
        parts[part] = _classes(Path(root) / part, Path(root).resolve())
    if parts["train"].classes != parts["test"].classes:
        raise InputError(f"classes of {root}/train and {root}/test differ; accepted: the same folders in both")
    return parts


def _classes(folder: Path, root: Path) -> Pictures:
    _check_link(folder, root)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        raise InputError(
            f"{folder} has {len(names)} folders; accepted: folders of pictures, one per class, two at least"
        )
    paths, labels, hidden = [], [], 0
    for label, name in enumerate(names):
        found, skipped = _walk(folder / name, root)
        if not found:
            but = f" but {skipped} hidden" if skipped else ""
            raise InputError(
                f"{folder / name} has no picture{but}; accepted: files that end with {', '.join(SUFFIXES)}"
            )
        hidden += skipped
        paths += found
        labels += [label] * len(found)
    return Pictures(paths, labels, tuple(names), hidden)


def _walk(folder: Path, root: Path) -> tuple[list[str], int]:
    """The pictures in a folder and in the folders below it, by path, and the number of those that are hidden, such as
    ._1.jpg and what is in .ipynb_checkpoints."""
    found, hidden, left = [], 0, [folder]
    while left:
        here = left.pop()
        _check_link(here, root)
        concealed = any(part.startswith(".") for part in here.relative_to(folder).parts)
        for entry in list(os.scandir(here)):
            if concealed or entry.name.startswith("."):
                if entry.is_dir(follow_symlinks=False):
                    left.append(Path(entry))
                hidden += entry.name.lower().endswith(SUFFIXES)
            elif os.path.isdir(entry):  # unlike entry.is_dir(), also of a link in a circle
                left.append(Path(entry))
            elif entry.name.lower().endswith(SUFFIXES):
                if entry.is_symlink():
                    _check_link(Path(entry), root)
                if entry.is_file():  # and no pipe, which would block us
                    found.append(entry.path)
    return sorted(found), hidden


def _check_link(path: Path, root: Path) -> None:
    """Raise InputError for a link to a folder, which could lead around in a circle, to nothing, or out of the root."""
    if path.is_symlink() and (not path.is_file() or not path.resolve().is_relative_to(root)):
        raise InputError(f"{path} is a link; accepted: folders, files, and links to files inside {root}")


def content(parts: dict[str, Pictures], root: str, *, warn: bool = True) -> str:
    """SHA-256 of the paths and the bytes of all files. Warns of files that are in it twice, logs hidden ones."""
    total, above, own = hashlib.sha256(), str(Path(os.path.expanduser(root))), {}
    for path in (path for part in parts.values() for path in part.paths):
        try:
            own[path] = hashlib.sha256(contents(path)).digest()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path} cannot be read ({reason}); accepted: a readable picture") from None
        total.update(os.fsencode(path.removeprefix(above).lstrip(os.sep)) + b"\0" + own[path])
    if warn:
        _warn(parts, root, own)
    return total.hexdigest()


def _warn(parts: dict[str, Pictures], root: str, own: dict[str, bytes]) -> None:
    """One warning of the files, whose SHA-256 are `own`, that are in both parts or in two classes."""
    if hidden := sum(part.hidden for part in parts.values()):
        log.warning("data_root = %s: hidden pictures were skipped (%d)", shown(root), hidden)
    classes = defaultdict(set)
    for part in parts.values():
        for path, label in zip(part.paths, part.labels, strict=True):
            classes[own[path]].add(label)
    train = {own[path] for path in parts["train"].paths}
    leaked = sum(own[path] in train for path in parts["test"].paths)
    doubtful = sum(len(labels) > 1 for labels in classes.values())
    said = [f"{leaked:,} files of test/ are in train/ as well"] * bool(leaked)
    said += [f"{doubtful:,} files are in two classes"] * bool(doubtful)
    if said:
        warnings.warn(
            f"data_root = {shown(root)}: {', and '.join(said)}; results say less than they seem", stacklevel=3
        )


def decode(path: str, size: int) -> Tensor:
    """A picture as uint8 [3, size, size]. Raises InputError, with the file's name, if it is none or has too many
    pixels, which is known before they are decoded."""
    try:
        with warnings.catch_warnings(action="ignore"):  # such as of damaged EXIF beside a sound picture
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(contents(path)), formats=tuple(FORMATS)) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels")
                square = _seen(image).resize((size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        accepted = f"{', '.join(FORMATS)}, up to {MOST_PIXELS:,} pixels"
        raise InputError(f"{path} is no readable image ({error}); accepted: {accepted}") from None
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def _seen(image: Image.Image) -> Image.Image:
    """A picture in RGB as people see it. Raises ValueError if nothing says which of its values is white."""
    image.load()  # which may turn it, and forget that it had to be turned
    turn = TURNS.get(_orientation(image))
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise ValueError(f"{'float' if image.mode == 'F' else '32-bit'} pixels have no known white")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return image.transpose(turn) if turn is not None else image


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged: the picture itself may be all right
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, its white at 255. A TIFF may have fewer bits, or its black and white exchanged."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    white = 2 ** tags.get(BITS, (16,))[0] - 1
    values = np.asarray(image).astype(np.int64)
    grey = ((255 * values + white // 2) // white).astype(np.uint8)
    clear = image.info.get("transparency")
    if tags.get(PHOTOMETRIC) == 0:
        grey = 255 - grey
    if clear is not None:
        grey[values == clear] = 255
    return Image.fromarray(grey)


def with_every_class(labels: Tensor, order: Tensor, validation: int, train: int) -> Tensor:
    """`order`, of which the first are for validation and the next for training, if every class is in both. If not, an
    order in which they are as far as possible: a class with a single picture is for training alone."""
    counts = labels.bincount()
    held, used = (labels[part].unique() for part in (order[:validation], order[validation:][:train]))
    if len(used) == len(counts) and len(held) >= (counts > 1).sum():
        return order
    order = _in_turn(labels, order, last=True)
    return torch.cat([order[:validation], _in_turn(labels, order[validation:], last=False)])


def _in_turn(labels: Tensor, order: Tensor, *, last: bool) -> Tensor:
    """First one picture of each class, then all classes in proportion; if `last`, the last one of each at the end."""
    counts, seen, places = labels[order].bincount().tolist(), Counter(), []
    for label in labels[order].tolist():
        rank, count = seen[label], counts[label]
        seen[label] += 1
        at_end = last and rank == count - 1
        places.append(2.0 if at_end else -1.0 if rank == 0 else (rank + 0.5) / count)
    return order[torch.tensor(places).argsort(stable=True)]
