"""Two runs, table by table: which values are the same, which differ no more than chance explains, and which differ.

On one machine a run repeats itself to the byte. On another one sums round differently, training carries that on, and no
digit is safe. There, two numbers agree if they differ by no more than the tables say of how sure they are; what has no
interval of its own has a tolerance in `TOLERANCES`. Text, such as a verdict, agrees if it is the same.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from jsigr_lib.results import Row, Table, drawing, files, made_of, read, reference

KEYS = frozenset(
    {
        *("architecture", "defence", "threat", "source", "source_defence", "attack", "norm", "eps", "judge"),
        *("lambda_j", "lambda_s", "claim", "test", "context", "a", "b", "statement", "check", "question", "measure"),
        *("map", "input", "curve", "share", "layers", "quantity", "radius", "estimator", "mask", "coin", "draws"),
        *("epoch", "number", "flag"),
    }
)
"""What a row is about: the columns of these names that lead a table."""

RETOLD = frozenset({"evidence", "measure", "p", "raised by", "threats", "defences"})
"""Not compared where they are no keys, as they retell or count what is: the scorecard's evidence the contrasts, a
p-value its difference, the table of flags those of robustness.csv, a check's measure which network came out worst."""

BORDERLINE = frozenset({"not monotone", "beaten without gradients", "more effort helps", "few images"})
"""Flags that a point of accuracy more or less raises or clears: one that a single run has is no disagreement."""

MEAN, SHARE = (0.0, 1.0), (1.0, 0.0)
PER_IMAGE = {
    **dict.fromkeys(("eight_bit", "clean", "overestimates"), SHARE),
    **dict.fromkeys(("rho_mean", "rho_median", "distance_mean", "distance_median", "boxed_mean", "boxed_median"), MEAN),
    **dict.fromkeys(("robustness", "distance"), MEAN),
}
"""Shares and means over n images that stand without their interval. Half of it is at most 1 / sqrt(n) for a share, and
about as much of the mean itself where the images spread by half of it, as they do here."""

EXACT, COUNT, TRAINED = (0.0, 0.0), (2.0, 0.1), (0.02, 0.25)
TOLERANCES = {
    **PER_IMAGE,
    **dict.fromkeys(("seeds", "n", "of", "tolerance", "attack", "cost"), EXACT),
    **dict.fromkeys(("images", "common_images"), COUNT),  # those that networks get right are not the same everywhere
    **dict.fromkeys(("cross_entropy", "jacobian_norm", "margin", "selective", "jacobian"), TRAINED),
    **dict.fromkeys(("dissimilarity", "magnitude", "divergence", "transport"), TRAINED),
    **dict.fromkeys(("validation_accuracy", "robust_accuracy", "probability"), (0.1, 0.0)),
    **dict.fromkeys(("relative to the change", "relative to the margin"), (0.05, 0.25)),
    **dict.fromkeys(("reach_random", "reach_towards", "share_of_rho"), (0.003, 0.5)),  # medians of a wide spread
    **dict.fromkeys(("spread", "predicted"), (0.02, 0.15)),
    "deviation": (4.0, 0.0),  # in standard errors, or far below 1 and judged by `holds`
}
"""Column -> how far its numbers may lie apart, in units of their own and as a part of the larger one."""
DEFAULT = (0.0, 0.1)
ROUNDING = 1.5e-4  # tables are rounded to four digits, and the last may fall either way
WIDTHS = (22, 60, 28, 20, 20, 10, 10)  # of the columns that `lines` shows


@dataclass(frozen=True)
class Difference:
    """A value that is not the same in both runs; `allowed` is None for what is no number."""

    table: str
    row: str
    column: str
    a: str
    b: str
    allowed: float | None
    within: bool

    @property
    def ratio(self) -> float:
        """The difference in units of the allowed one; infinite for what is no number."""
        return math.inf if self.allowed is None else abs(number(self.a) - number(self.b)) / self.allowed


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. `unpaired` names tables, columns, rows and figures that only one run has, `changed` the
    tables of different bytes; `figures` counts those in both and, of them, those that look the same; `made` says
    whether profile, code, packages and machine were the same, None if it is not known."""

    tables: int
    values: int
    differences: list[Difference]
    unpaired: list[str]
    changed: list[str]
    figures: tuple[int, int]
    made: dict[str, bool | None]

    @property
    def beyond(self) -> list[Difference]:
        """The differences that are not allowed: verdicts, other text, and then numbers, the largest first."""
        order = {column: place for place, column in enumerate(("verdict", "holds", "outcome", "better"))}
        found = [one for one in self.differences if not one.within]
        return sorted(found, key=lambda one: (order.get(one.column, len(order)), -one.ratio))

    @property
    def agrees(self) -> bool:
        return not (self.unpaired or self.beyond)

    @property
    def exact(self) -> bool:
        return not (self.unpaired or self.changed)


def compare(a: Path, b: Path, *, only: Iterable[str] | None = None) -> Comparison:
    """Compare two result folders, or only their tables of these names. Raises InputError for a damaged table."""
    sides, pictures = ([files(folder, suffix) for folder in (a, b)] for suffix in ("csv", "png"))
    if only is not None:
        sides, pictures = [{name: side[name] for name in sorted(only) if name in side} for side in sides], [{}, {}]
    unpaired, both = _paired("table", *sides)
    missing, drawn = _paired("figure", *pictures)
    differences, values = [], 0
    for name in both:
        found, lacking, compared = compare_tables(name, *(read(side[name]) for side in sides))
        differences, unpaired, values = differences + found, unpaired + lacking, values + compared
    one, other = made_of(a), made_of(b)
    return Comparison(
        tables=len(both),
        values=values,
        differences=differences,
        unpaired=unpaired + missing,
        changed=[name for name in both if len({side[name].read_bytes() for side in sides}) > 1],
        figures=(len(drawn), sum(len({drawing(side[name]) for side in pictures}) == 1 for name in drawn)),
        made={key: None if None in (one[key], other[key]) else one[key] == other[key] for key in one},
    )


def compare_tables(name: str, a: Table, b: Table) -> tuple[list[Difference], list[str], int]:
    """The differences of two tables, what only one has, and how many values both have.

    Rows are paired by their keys, in any order; those of equal keys, or of none, in the order they stand in.
    """
    extra, columns = _paired(f"{name}: column", a.columns, b.columns)
    keys = [column for column in _keys(a) if column in _keys(b)]
    values = [column for column in columns if column not in keys and column not in RETOLD]
    rows = _by(keys, a), _by(keys, b)
    varying = [i for i in range(len(keys)) if len({key[i] for one in rows for key in one}) > 1]
    labels = {key: ", ".join(key[i] for i in varying if key[i]) or f"row {key[-1] + 1}" for key in rows[0] | rows[1]}
    unpaired, shared = _paired(f"{name}: row", *rows, labels=labels)
    bounds, found = intervals(columns), []
    for key in shared:
        pair = rows[0][key], rows[1][key]
        for column in values:
            texts = pair[0][column], pair[1][column]
            if not same(*texts):
                found.append(Difference(name, labels[key], column, *texts, *judged(column, pair, bounds)))
    return found, extra + unpaired, len(shared) * len(values)


def judged(column: str, pair: tuple[Row, Row], bounds: dict[str, tuple[str, str]]) -> tuple[float | None, bool]:
    """How far two values that are not the same may lie apart, None for what is no number, and whether they agree."""
    one, other = (row[column] for row in pair)
    apart = abs(number(one) - number(other))
    if math.isfinite(apart):
        allowed = max(ROUNDING, allowance(column, pair, bounds))
        return allowed, apart <= allowed
    raised = set(one.split("; ")) ^ set(other.split("; "))
    return None, column == "flags" and raised - {"none"} <= BORDERLINE


def allowance(column: str, pair: tuple[Row, Row], bounds: dict[str, tuple[str, str]]) -> float:
    """How far the two numbers of a column may lie apart.

    With half-widths h of their intervals, estimates differ by up to sqrt(h1^2 + h2^2) in 95 of 100 pairs of runs on
    images of their own. Here the images are the same, so that only what training makes of rounding is left: on another
    instruction set none of 3,000 estimates went beyond. A bound also moves with the width: by h1 + h2.
    """
    if column in bounds:
        low, high = bounds[column]
        halves = [(number(row[high]) - number(row[low])) / 2 for row in pair]
        if all(map(math.isfinite, halves)):
            return sum(halves) if column in (low, high) else math.hypot(*halves)
    absolute, relative = tolerance(column) or DEFAULT
    allowed = max(absolute, relative * max(abs(number(row[column])) for row in pair))
    if column in PER_IMAGE:
        allowed *= math.hypot(*(1 / math.sqrt(max(1, number(row.get("images", "1")))) for row in pair))
    return allowed


def tolerance(column: str) -> tuple[float, float] | None:
    """The absolute and the relative one of a column without interval; of "jsigr, spread" that of "spread"."""
    return TOLERANCES.get(column.rpartition(", ")[2])


def intervals(columns: list[str]) -> dict[str, tuple[str, str]]:
    """Estimates and their bounds -> the columns of these: `low` and `high`, or `..._low` and `..._high`, that directly
    follow the estimate."""
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


def lines(found: Comparison, a: str, b: str, *, limit: int = 20) -> list[str]:
    """What a person wants to know: the counts, what only one run has, the worst differences, and, in the last line,
    whether the runs agree; printable, whatever the tables hold."""
    beyond, equal = found.beyond, found.values - len(found.differences)
    within = len(found.differences) - len(beyond)
    said = [f"A  {a}", f"B  {b}"]
    for word, state in (("different", False), ("the same", True), ("unknown whether the same", None)):
        if names := [name for name, value in found.made.items() if value is state]:
            said.append(f"{word}: {', '.join(names)}")
    said.append(
        f"{found.tables} tables, {found.values:,} values: {equal:,} the same, {within:,} within tolerance, "
        f"{len(beyond):,} beyond it"
    )
    if found.figures[0]:
        said.append(f"{found.figures[0]} figures: {found.figures[1]} look the same")
    said += found.unpaired
    if beyond:
        cells = [("table", "row", "column", "A", "B", "apart", "allowed"), *map(_cells, beyond[:limit])]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        said += ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)]
        said += [f"and {len(beyond) - limit:,} more"] * (len(beyond) > limit) + [""]
    if all(found.made.values()) and not found.exact:
        said.append(f"other bytes in {', '.join(found.changed)}: on one machine that should not happen")
    return ["".join(c if c.isprintable() else "?" for c in line) for line in (*said, conclusion(found, a, b))]


def conclusion(found: Comparison, a: str, b: str) -> str:
    """Whether the runs agree, in one line; a verdict that is not the same comes first."""
    if found.exact:
        return f"{a} and {b} are the same: equal bytes in every table"
    if found.agrees:
        return f"{a} agrees with {b}: {len(found.differences):,} values of {found.values:,} differ, within tolerance"
    verdicts = [one for one in found.beyond if one.column == "verdict"]
    parts = [f"verdict of {one.row}: {one.a} in A, {one.b} in B" for one in verdicts]
    if other := len(found.beyond) - len(verdicts):
        parts.append(f"{other:,} {'other ' * bool(verdicts)}value{'s' * (other > 1)} beyond tolerance")
    if found.unpaired:
        parts.append("results that only one has")
    return f"{a} does not agree with {b}: {'; '.join(parts)}"


def against_published(figures: Path, profile: str, *, replaced: Path, only: Iterable[str] | None = None) -> list[str]:
    """What a run says at its end: whether it agrees with the published one or, where none is known, with the one that
    it replaces. Whatever these hold, the run stands: nothing is raised."""
    try:
        with reference(profile, replaced) as (folder, name):
            return lines(compare(figures, folder, only=only), "this run", name)
    except Exception as error:
        return [f"not compared with another run: {error}"]


def _cells(one: Difference) -> tuple[str, ...]:
    """A difference as the cells of a table for people."""
    numbers = one.allowed is not None
    apart = f"{abs(number(one.a) - number(one.b)):.4g}" if numbers else ""
    cells = (one.table, one.row, one.column, one.a, one.b, apart, f"{one.allowed:.2g}" if numbers else "the same")
    return tuple(
        cell if len(cell) <= width else f"{cell[: width - 1]}…" for cell, width in zip(cells, WIDTHS, strict=True)
    )


def _keys(table: Table) -> list[str]:
    return list(takewhile(KEYS.__contains__, table.columns))


def _by(keys: list[str], table: Table) -> dict[tuple, Row]:
    """Rows by their keys and, as these may be equal, a count."""
    seen: Counter[tuple] = Counter()
    found = {}
    for row in table.rows:
        key = tuple(row[column] for column in keys)
        found[*key, seen[key]] = row
        seen[key] += 1
    return found


def _paired(what: str, a: Iterable, b: Iterable, labels: dict | None = None) -> tuple[list[str], list]:
    """What only one of them has, in a line for each, and what both have, in the order of the first."""
    sides, said = (dict.fromkeys(a), dict.fromkeys(b)), []
    for side, one, other in (("A", *sides), ("B", *sides[::-1])):
        lone = [labels[name] if labels else name for name in one if name not in other]
        if lone:
            more = f" and {len(lone) - 3} more" if len(lone) > 3 else ""
            said.append(f"{what} only in {side}: {'; '.join(lone[:3])}{more}")
    return said, [name for name in sides[0] if name in sides[1]]
