"""How far two values of one row and column may lie apart if two machines made them.

Most numbers stand beside their interval. For the others, whoever makes a table declares a tolerance, column by column,
and which columns name its rows. The declaration goes into the table's record, where `comparison` finds it.
"""

import math

import pandas as pd
from pydantic import BaseModel

from jsigr_lib.method.errors import InputError

Row = dict[str, str]

BORDERLINE = frozenset({"not monotone", "beaten without gradients", "more effort helps", "few images"})
"""Flags that a point of accuracy more or less raises or clears: one that a single run has is no disagreement."""


class Tolerance(BaseModel, frozen=True, strict=True):
    """How far two numbers may lie apart: `absolute`, or `relative` times the larger one, whichever is more. If it is
    `per_image`, times sqrt(1/n + 1/m) for n and m images."""

    absolute: float = 0.0
    relative: float = 0.0
    per_image: bool = False


class Columns(BaseModel, frozen=True, strict=True):
    """What a table says of its columns: `keys`, whose values name a row, and tolerances. A column of tolerance None is
    not compared, as it retells or counts what other columns or tables hold."""

    keys: list[str] = []
    tolerances: dict[str, Tolerance | None] = {}


EXACT = Tolerance()
COUNT = Tolerance(absolute=2, relative=0.1)
TRAINED = Tolerance(absolute=0.02, relative=0.25)
"""Of what the training itself measures."""
SHARE, MEAN = Tolerance(absolute=1, per_image=True), Tolerance(relative=1, per_image=True)
"""Shares and means over n images that stand without their interval. Half of it is at most 1 / sqrt(n) for a share, and
about as much of the mean itself where the images spread by half of it, as they do here."""
RETOLD = None

COMMON = {"images": COUNT, "seeds": EXACT}  # in every table; how many images networks get right varies
DEFAULT = Tolerance(relative=0.1)  # of a table without a record, and of a broken interval
ROUNDING = 1.5e-4  # tables are rounded to four digits, and the last may fall either way


def declare(table: pd.DataFrame, *keys: str, **tolerances: Tolerance | None) -> pd.DataFrame:
    """The same table, which now says what its rows are about, and how far its numbers may lie apart."""
    table.attrs["columns"] = Columns(keys=list(keys), tolerances=tolerances)
    return table


def declared(table: pd.DataFrame) -> Columns:
    """What a table says of its columns. Raises InputError if one holds numbers and has no interval and no tolerance."""
    columns = table.attrs.get("columns", Columns())
    known = {*columns.keys, *columns.tolerances, *COMMON, *intervals(list(table))}
    for column in table:
        if column not in known and not table[column].map(str).map(number).isna().all():
            accepted = "one declared by tolerances.declare(table, *keys, column=Tolerance(...)) or followed by bounds"
            raise InputError(f"column {column!r} has numbers without interval or tolerance; accepted: {accepted}")
    return columns


def judged(
    column: str, pair: tuple[Row, Row], bounds: dict[str, tuple[str, str]], tolerance: Tolerance = DEFAULT
) -> tuple[float | None, bool]:
    """How far two values that are not the same may lie apart, None for what is no number, and whether they agree."""
    one, other = (row[column] for row in pair)
    apart = abs(number(one) - number(other))
    if math.isfinite(apart):
        allowed = max(ROUNDING, _allowance(column, pair, bounds, tolerance))
        return allowed, apart <= allowed
    raised = set(one.split("; ")) ^ set(other.split("; "))
    return None, column == "flags" and raised - {"none"} <= BORDERLINE


def _allowance(column: str, pair: tuple[Row, Row], bounds: dict[str, tuple[str, str]], tolerance: Tolerance) -> float:
    """How far the two numbers of a column may lie apart.

    With half-widths h of their intervals, estimates differ by up to sqrt(h1^2 + h2^2) in 95 of 100 pairs of runs on
    images of their own. Here the images are the same, and only what training makes of rounding is left: at smoke scale
    with AVX2 in the place of AVX-512, at most 0.82 of it over 2,948 estimates. A bound also moves with the width: by
    h1 + h2.
    """
    if column in bounds:
        low, high = bounds[column]
        halves = [(number(row[high]) - number(row[low])) / 2 for row in pair]
        if all(map(math.isfinite, halves)):
            return sum(halves) if column in (low, high) else math.hypot(*halves)
    allowed = max(tolerance.absolute, tolerance.relative * max(abs(number(row[column])) for row in pair))
    if tolerance.per_image:
        allowed *= math.hypot(*(1 / math.sqrt(max(1, number(row.get("images", "1")))) for row in pair))
    return allowed


def intervals(columns: list[str]) -> dict[str, tuple[str, str]]:
    """Estimates and their bounds -> the columns of these, `..._low` and `..._high`, which follow the estimate."""
    found = {}
    for estimate, low, high in zip(columns, columns[1:], columns[2:], strict=False):
        if low.endswith("low") and high == f"{low.removesuffix('low')}high":
            found |= dict.fromkeys((estimate, low, high), (low, high))
    return found


def number(text: str) -> float:
    """NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def same(a: str, b: str) -> bool:
    """Equal as text or as numbers; what a table leaves empty is NaN."""
    missing = {"", "nan"}
    return a == b or number(a) == number(b) or {a.lower(), b.lower()} <= missing
