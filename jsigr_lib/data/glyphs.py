"""Pictures whose evidence is known: a glyph on a garment decides the label, and nothing else does.

A second glyph, of another alphabet and with as much ink, is a decoy: as visible, it says nothing of the label; nor does
the garment. With `cue`, a mark in the corner names the class of 95 % of the training images, and a random class of all
others: a spurious cue. The places of all three are kept with the test images, so that maps can be held against them."""

from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from jsigr_lib.data.data import SPLIT_SEED, DataSpec
from jsigr_lib.store.artefacts import Store

LETTERS = """
#.... ....# ##### ##### ##### ..#.. #.... ....# ..#.. #...#
#.... ....# #.... ....# ..#.. ..#.. #.... ....# ..#.. .#.#.
#.... ....# #.... ....# ..#.. ..#.. ##### ##### ##### ..#..
#.... ....# #.... ....# ..#.. ..#.. #.... ....# ..#.. .#.#.
##### ##### #.... ....# ..#.. ##### #.... ....# ..#.. #...#
"""
DECOYS = """
#...# ..#.. ...## ##... ##### ##### ..### ###.. ##... ..#..
#...# .#.#. .##.. ..##. ...#. .#... .#... ...#. ##... .#.#.
.#.#. .#.#. #.... ....# ..#.. ..#.. #.... ....# ..#.. #.#.#
.#.#. #...# .##.. ..##. .#... ...#. .#... ...#. ...## .#.#.
..#.. #...# ...## ##... #.... ....# ..### ###.. ...## ..#..
"""
"""Two alphabets of ten glyphs, each with ink on nine squares of 5 x 5."""
SCALE = 2  # pixels a side of such a square
SIDE = 5 * SCALE  # of a glyph, pixels
APART = 2  # pixels at least between the two glyphs
TOP = 4  # the rows above are left to the mark
CORNER = (1, 1)  # where the mark is
HONEST = 0.95  # of the training images have the mark of their class
DIM = 2  # what the garments' brightness is divided by, so that glyphs are seen on any


class Glyphs(DataSpec):
    """The images of a data set (28 pixels wide, grey) with glyphs, in the same split."""

    kind: ClassVar[str] = "glyphs"
    cue: bool = False

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        tensors, _ = super().compute(store, device)
        generator = torch.Generator().manual_seed(SPLIT_SEED)
        for part in ("train", "validation", "test"):
            garments, honest = tensors[f"{part}_images"], HONEST if part == "train" else 0.0
            images, labels, places = draw(garments, generator, cue=self.cue, honest=honest)
            tensors |= {f"{part}_images": images, f"{part}_labels": labels}
        return tensors | {f"test_{what}": place for what, place in places.items()}, {"classes": tuple("ABCDEFGHIJ")}


def draw(
    garments: Tensor, generator: torch.Generator, *, cue: bool, honest: float
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Images [n, 1, H, W] uint8, labels [n], and where truth, decoy and cue are, bool [n, 1, H, W]. A mark names the
    class of about a share `honest` of the images and a random class of the others."""
    n, size = len(garments), garments.shape[-2:]
    labels, others, marked = torch.randint(10, (3, n), generator=generator)
    marked = torch.where(torch.rand(n, generator=generator) < honest, labels, marked)
    corners = _corners(n, size, generator)
    while (close := (corners[0] - corners[1]).abs().amax(1) < SIDE + APART).any():
        corners[:, close] = _corners(int(close.sum()), size, generator)
    first, second = corners
    stamped = {"truth": _stamp(alphabet(LETTERS)[labels], first, size)}
    stamped["decoy"] = _stamp(alphabet(DECOYS)[others], second, size)
    stamped["cue"] = _stamp(marks()[marked] if cue else torch.zeros(n, 0, 0), torch.tensor([CORNER]).repeat(n, 1), size)
    images = garments // DIM
    for ink, _ in stamped.values():
        images[ink] = 255
    return images, labels, {what: place for what, (_, place) in stamped.items()}


def alphabet(drawn: str) -> Tensor:
    """The glyphs [10, SIDE, SIDE], bool."""
    rows = [[[pixel == "#" for pixel in glyph] for glyph in line.split()] for line in drawn.split("\n") if line]
    return _enlarged(torch.tensor(rows).transpose(0, 1))


def marks() -> Tensor:
    """Ten marks of as much ink, bool: two of five squares are lit."""
    squares = torch.zeros(10, 1, 5, dtype=torch.bool)
    for mark, lit in zip(squares, combinations(range(5), 2), strict=True):
        mark[0, list(lit)] = True
    return _enlarged(squares)


def _enlarged(squares: Tensor) -> Tensor:
    return squares.repeat_interleave(SCALE, 1).repeat_interleave(SCALE, 2)


def _corners(n: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Where two glyphs begin, down and across [2, n, 2]."""
    ranges = zip((TOP, 0), size, strict=True)
    return torch.stack([torch.randint(low, side - SIDE + 1, (2, n), generator=generator) for low, side in ranges], 2)


def _stamp(glyphs: Tensor, corners: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The ink of one glyph [h, w] per image at its corner, and the rectangle that it is in, bool [n, 1, H, W]."""
    ink, place = torch.zeros(2, len(glyphs), 1, *size, dtype=torch.bool)
    height, width = glyphs.shape[1:]
    for glyph, corner, own, inside in zip(glyphs, corners.tolist(), ink, place, strict=True):
        window = (0, slice(corner[0], corner[0] + height), slice(corner[1], corner[1] + width))
        own[window], inside[window] = glyph, True
    return ink, place
