"""Two runs, table by table: which values are the same, which differ no more than chance explains, and which differ.

On one machine a run repeats itself to the byte. On another one, two numbers agree if they differ by no more than
`tolerances` allows, and text if it is the same. What a table's columns mean stands in its record.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from jsigr_lib.method.errors import InputError, printable
from jsigr_lib.records.record import parts
from jsigr_lib.records.results import TextTable, files, look_the_same, made_of, published_run, read_table
from jsigr_lib.records.tolerances import COMMON, DEFAULT, RETOLD, Columns, intervals, judged, number, same

DECISIONS = {"verdict": 0, "holds": 1, "outcome": 2, "better": 3}  # columns of what a reader looks for, in that order
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
    def apart(self) -> float:
        return abs(number(self.a) - number(self.b))

    @property
    def ratio(self) -> float:
        """The difference in units of the allowed one; infinite for what is no number."""
        return math.inf if self.allowed is None else self.apart / self.allowed


@dataclass(frozen=True)
class Comparison:
    """`unpaired` names what only one run has, `changed` the tables of different bytes; `figures` counts those in both
    and, of them, those that look the same; `made` says what was the same of profile, code, packages and machine, None
    if it is not known."""

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
        found = [one for one in self.differences if not one.within]
        return sorted(found, key=lambda one: (DECISIONS.get(one.column, len(DECISIONS)), -one.ratio))

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
        paths = [side[name] for side in sides]
        records = (parts(path.with_suffix(".json")).get("table") for path in paths)
        columns = next((record.columns for record in records if record and record.columns), None)
        found, lacking, compared = compare_tables(name, *map(read_table, paths), columns=columns)
        differences, unpaired, values = differences + found, unpaired + lacking, values + compared
    one, other = made_of(a), made_of(b)
    return Comparison(
        tables=len(both),
        values=values,
        differences=differences,
        unpaired=unpaired + missing,
        changed=[name for name in both if len({side[name].read_bytes() for side in sides}) > 1],
        figures=(len(drawn), sum(look_the_same(*(side[name] for side in pictures)) for name in drawn)),
        made={key: None if None in (one[key], other[key]) else one[key] == other[key] for key in one},
    )


def compare_tables(
    name: str, a: TextTable, b: TextTable, *, columns: Columns | None = None
) -> tuple[list[Difference], list[str], int]:
    """The differences of two tables, what only one has, and how many values both have. Rows are paired by their keys;
    those of equal keys, or of none, in the order they stand in."""
    extra, shared = _paired(f"{name}: column", a.columns, b.columns)
    columns = columns or Columns()
    keys, tolerances = [key for key in columns.keys if key in shared], {**COMMON, **columns.tolerances}
    values = [column for column in shared if column not in keys and tolerances.get(column, DEFAULT) is not RETOLD]
    # by their keys and, as these may be equal, a count
    named = [[tuple(row[key] for key in keys) for row in table.rows] for table in (a, b)]
    rows = [dict(zip(_numbered(names), table.rows, strict=True)) for names, table in zip(named, (a, b), strict=True)]
    labels = _labels(rows[0] | rows[1], len(keys))
    unpaired, both = _paired(f"{name}: row", *rows, labels=labels)
    bounds, found = intervals(shared), []
    for key in both:
        pair = rows[0][key], rows[1][key]
        for column in values:
            texts = pair[0][column], pair[1][column]
            if not same(*texts):
                verdict = judged(column, pair, bounds, tolerances.get(column, DEFAULT))
                found.append(Difference(name, labels[key], column, *texts, *verdict))
    return found, extra + unpaired, len(both) * len(values)


def lines(found: Comparison, a: str, b: str, *, limit: int = 20) -> list[str]:
    """The counts, what only one run has, the worst differences and, in the last line, whether the runs agree."""
    beyond, differ, said = found.beyond, len(found.differences), [f"A  {a}", f"B  {b}"]
    for word, state in (("different", False), ("the same", True), ("unknown whether the same", None)):
        if names := [name for name, value in found.made.items() if value is state]:
            said.append(f"{word}: {', '.join(names)}")
    said.append(
        f"tables: {found.tables}; values: {found.values:,}, of which {found.values - differ:,} the same, "
        f"{differ - len(beyond):,} within tolerance, {len(beyond):,} beyond it"
    )
    if found.figures[0]:
        said.append(f"figures: {found.figures[0]}, of which {found.figures[1]} look the same")
    said += found.unpaired
    if beyond:
        # at most three of a table's column: one change may move all of it, and there are others to see
        places = _numbered((one.table, one.column) for one in beyond)
        first = [one for one, (*_, before) in zip(beyond, places, strict=True) if before < 3][:limit]
        cells = [("table", "row", "column", "A", "B", "apart", "allowed"), *map(_cells, first)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        said += ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)]
        said += [f"and {len(beyond) - len(first):,} more"] * (len(beyond) > len(first)) + [""]
    if all(found.made.values()) and found.changed:
        said.append(f"other bytes in {', '.join(found.changed)}: on one machine that should not happen")
    return list(map(printable, (*said, conclusion(found, a, b))))


def conclusion(found: Comparison, a: str, b: str) -> str:
    """Whether the runs agree, in one line; a verdict that is not the same comes first."""
    if found.exact:
        return f"{a} and {b} are the same: equal bytes in every table"
    if found.agrees:
        return f"{a} agrees with {b}: {len(found.differences):,} values of {found.values:,} differ, within tolerance"
    reasons = [f"verdict of {one.row}: {one.a} in A, {one.b} in B" for one in found.beyond if one.column == "verdict"]
    if other := len(found.beyond) - len(reasons):
        alone = f"of {found.values:,} values beyond tolerance, none of them a claim's verdict"
        reasons.append(f"{other:,} {f'other values of {found.values:,} beyond tolerance' if reasons else alone}")
    reasons += ["results that only one has"] * bool(found.unpaired)
    return f"{a} does not agree with {b}: {'; '.join(reasons)}"


def against_published(figures: Path, profile: str, *, replaced: Path, only: Iterable[str] | None = None) -> list[str]:
    """What a run says at its end: whether it agrees with the published one or, where none is known, with the one that
    it replaces. Whatever these hold, the run stands: nothing is raised."""
    try:
        with ExitStack() as stack:
            try:
                folder, name = stack.enter_context(published_run(profile))
            except InputError:
                if not files(replaced, "csv"):
                    raise
                folder, name = replaced, f"the {profile} run before it"
            return lines(compare(figures, folder, only=only), "this run", name)
    except Exception as error:
        return [printable(f"not compared with another run: {error}")]


def _cells(one: Difference) -> tuple[str, ...]:
    """A difference as the cells of a table for people."""
    numbers = ("", "equal") if one.allowed is None else (f"{one.apart:.4g}", f"{one.allowed:.2g}")
    return tuple(map(_shortened, (one.table, one.row, one.column, one.a, one.b, *numbers), WIDTHS))


def _numbered(keys: Iterable[tuple]) -> list[tuple]:
    """Each key with how many equal ones stand before it."""
    seen: dict[tuple, count] = defaultdict(count)
    return [(*key, next(seen[key])) for key in keys]


def _labels(rows: Iterable[tuple], keys: int) -> dict[tuple, str]:
    """How people tell rows apart: by the first of those keys that vary, as many as it takes."""
    rows = list(rows)
    varying = [i for i in range(keys) if len({row[i] for row in rows}) > 1]
    while varying and len({(*(row[i] for i in varying[:-1]), row[-1]) for row in rows}) == len(rows):
        varying.pop()
    return {row: ", ".join(row[i] for i in varying if row[i]) or f"row {row[-1] + 1}" for row in rows}


def _paired(what: str, a: Iterable, b: Iterable, labels: dict | None = None) -> tuple[list[str], list]:
    """What only one of them has, in a line for each, and what both have, in the order of the first."""
    sides, said = (dict.fromkeys(a), dict.fromkeys(b)), []
    for side, one, other in (("A", *sides), ("B", *sides[::-1])):
        lone = [labels[name] if labels else name for name in one if name not in other]
        if lone:
            more = f" and {len(lone) - 3} more" if len(lone) > 3 else ""
            said.append(f"{what} only in {side}: {'; '.join(_shortened(name, 60) for name in lone[:3])}{more}")
    return said, [name for name in sides[0] if name in sides[1]]


def _shortened(text: str, width: int) -> str:
    """Both ends, as rows often differ in the last of their keys."""
    return text if len(text) <= width else f"{text[: width // 2]}…{text[width // 2 + 1 - width :]}"
