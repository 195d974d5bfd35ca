"""Two runs, table by table: which values are the same, which differ no more than chance explains, and which differ.

On one machine a run repeats itself to the byte. On another one sums round differently, training carries that on, and no
digit is safe: there, two numbers agree if they differ by no more than `tolerances` allows. Text, such as a verdict,
agrees if it is the same. What a table's columns mean stands in its record. If neither run has one, as the tables of
older runs, the columns of text that lead a table are its keys, and numbers without interval may differ by a tenth.
"""

import math
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from jsigr_lib.method.errors import InputError, printable
from jsigr_lib.records.record import parts
from jsigr_lib.records.results import TextTable, files, look_the_same, made_of, published_run, read_table
from jsigr_lib.records.tolerances import COMMON, DEFAULT, RETOLD, Columns, Row, intervals, judged, number, same

DECISIONS = ("verdict", "holds", "outcome", "better")  # columns of what a reader looks for first
UNDECLARED = dict.fromkeys(("evidence", "measure", "p", "raised by", "threats", "defences"), RETOLD)
"""What is not compared in the tables of older runs, unless it leads them."""
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
        order = {column: place for place, column in enumerate(DECISIONS)}
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
        paths = [side[name] for side in sides]
        found, lacking, compared = compare_tables(name, *map(read_table, paths), columns=_declared(*paths))
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
    """The differences of two tables, what only one has, and how many values both have.

    Rows are paired by their keys, in any order; those of equal keys, or of none, in the order they stand in.
    """
    extra, shared = _paired(f"{name}: column", a.columns, b.columns)
    columns = columns or _guessed(a, b)
    keys, tolerances = [key for key in columns.keys if key in shared], {**COMMON, **columns.tolerances}
    values = [column for column in shared if column not in keys and tolerances.get(column, DEFAULT) is not RETOLD]
    rows = _by(keys, a), _by(keys, b)
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


def _declared(*paths: Path) -> Columns | None:
    """What the record of the first of these tables that has one says of its columns."""
    records = (parts(path.with_suffix(".json")).get("table") for path in paths)
    return next((record.columns for record in records if record and record.columns), None)


def _guessed(a: TextTable, b: TextTable) -> Columns:
    """What tables are taken to say if they declare nothing."""
    numbers = {column for row in (*a.rows, *b.rows) for column in row if not math.isnan(number(row[column]))}
    one, other = (takewhile(lambda column: column not in {*numbers, *DECISIONS}, table.columns) for table in (a, b))
    return Columns(keys=sorted({*one} & {*other}, key=a.columns.index), tolerances=UNDECLARED)


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
        f"tables: {found.tables}; values: {found.values:,}, of which {equal:,} the same, {within:,} within tolerance, "
        f"{len(beyond):,} beyond it"
    )
    if found.figures[0]:
        said.append(f"figures: {found.figures[0]}, of which {found.figures[1]} look the same")
    said += found.unpaired
    if beyond:
        shown = _foremost(beyond, limit)
        cells = [("table", "row", "column", "A", "B", "apart", "allowed"), *map(_cells, shown)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        said += ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)]
        said += [f"and {len(beyond) - len(shown):,} more"] * (len(beyond) > len(shown)) + [""]
    if all(found.made.values()) and found.changed:
        said.append(f"other bytes in {', '.join(found.changed)}: on one machine that should not happen")
    return list(map(printable, (*said, conclusion(found, a, b))))


def conclusion(found: Comparison, a: str, b: str) -> str:
    """Whether the runs agree, in one line; a verdict that is not the same comes first."""
    if found.exact:
        return f"{a} and {b} are the same: equal bytes in every table"
    if found.agrees:
        return f"{a} agrees with {b}: {len(found.differences):,} values of {found.values:,} differ, within tolerance"
    verdicts = [one for one in found.beyond if one.column == "verdict"]
    reasons = [f"verdict of {one.row}: {one.a} in A, {one.b} in B" for one in verdicts]
    other = len(found.beyond) - len(verdicts)
    if other and verdicts:
        reasons.append(f"{other:,} other values of {found.values:,} beyond tolerance")
    elif other:
        reasons.append(f"{other:,} of {found.values:,} values beyond tolerance, none of them a claim's verdict")
    if found.unpaired:
        reasons.append("results that only one has")
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


def _foremost(differences: list[Difference], limit: int) -> list[Difference]:
    """The first ones, at most three of a table's column: one change may move all of it, and there are others to see."""
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for one in differences:
        seen[one.table, one.column] += 1
        kept += [one] * (seen[one.table, one.column] <= 3)
    return kept[:limit]


def _cells(one: Difference) -> tuple[str, ...]:
    """A difference as the cells of a table for people."""
    numbers = one.allowed is not None
    apart = f"{abs(number(one.a) - number(one.b)):.4g}" if numbers else ""
    cells = (one.table, one.row, one.column, one.a, one.b, apart, f"{one.allowed:.2g}" if numbers else "equal")
    return tuple(map(_shortened, cells, WIDTHS))


def _by(keys: list[str], table: TextTable) -> dict[tuple, Row]:
    """Rows by their keys and, as these may be equal, a count."""
    seen: Counter[tuple] = Counter()
    found = {}
    for row in table.rows:
        key = tuple(row[column] for column in keys)
        found[*key, seen[key]] = row
        seen[key] += 1
    return found


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
