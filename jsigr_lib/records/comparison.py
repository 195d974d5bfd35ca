"""Two runs, table by table: which values are the same, which differ no more than chance explains, and which differ.

On one machine a run repeats itself to the byte. On another one, two numbers agree if they differ by no more than
`tolerances` allows, and text if it is the same. What a table's columns mean stands in its record.
"""

import csv
import math
import re
import subprocess
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path

from jsigr_lib.method.errors import InputError, printable, shown
from jsigr_lib.records import embedding
from jsigr_lib.records.record import git, load_manifest, parts
from jsigr_lib.records.tolerances import COMMON, DEFAULT, RETOLD, Columns, Row, intervals, judged, number, same
from jsigr_lib.store.paths import ROOT

LARGEST_TABLE = 50_000_000  # bytes
DECISIONS = ("verdict", "holds", "outcome", "better")  # columns of what a reader looks for first
WIDTHS = (22, 60, 28, 20, 20, 10, 10)  # of the columns that `lines` shows


@dataclass(frozen=True)
class TextTable:
    """A CSV file as text: whether two values are the same is not left to how a number is read."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


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
    """The differences of two tables, what only one has, and how many values both have. Rows are paired by their keys;
    those of equal keys, or of none, in the order they stand in."""
    extra, shared = _paired(f"{name}: column", a.columns, b.columns)
    columns = columns or Columns()
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


def lines(found: Comparison, a: str, b: str, *, limit: int = 20) -> list[str]:
    """The counts, what only one run has, the worst differences and, in the last line, whether the runs agree."""
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
        first = _foremost(beyond, limit)
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
    other = len(found.beyond) - len(reasons)
    if other and reasons:
        reasons.append(f"{other:,} other values of {found.values:,} beyond tolerance")
    elif other:
        reasons.append(f"{other:,} of {found.values:,} values beyond tolerance, none of them a claim's verdict")
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


def _foremost(differences: list[Difference], limit: int) -> list[Difference]:
    """The first ones, at most three of a table's column: one change may move all of it, and there are others to see."""
    seen: dict[tuple[str, str], count] = defaultdict(count)
    return [one for one in differences if next(seen[one.table, one.column]) < 3][:limit]


def _cells(one: Difference) -> tuple[str, ...]:
    """A difference as the cells of a table for people."""
    apart, allowed = "", "equal"
    if one.allowed is not None:
        apart, allowed = f"{abs(number(one.a) - number(one.b)):.4g}", f"{one.allowed:.2g}"
    return tuple(map(_shortened, (one.table, one.row, one.column, one.a, one.b, apart, allowed), WIDTHS))


def _by(keys: list[str], table: TextTable) -> dict[tuple, Row]:
    """Rows by their keys and, as these may be equal, a count."""
    seen: dict[tuple, count] = defaultdict(count)
    named = ((tuple(row[column] for column in keys), row) for row in table.rows)
    return {(*key, next(seen[key])): row for key, row in named}


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


# result folders: figures/<profile> of a run, wherever it lies


def read_table(path: Path) -> TextTable:
    """Raises InputError unless the file is a whole table: each row as long as the header."""
    try:
        if (size := path.stat().st_size) > LARGEST_TABLE:
            raise ValueError(f"{size:,} bytes")
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file, strict=True)) or [[]]
        if len(set(header)) < len(header) or not header:
            raise ValueError("no header, or one with two equal names")
        for i, row in enumerate(rows, 1):
            if len(row) != len(header):
                raise ValueError(f"row {i} has {len(row)} values, not {len(header)}")
    except (OSError, ValueError, csv.Error) as error:
        accepted = f"CSV in UTF-8, rows as long as the header, at most {LARGEST_TABLE:,} bytes"
        raise InputError(f"{path} is no table ({error}); accepted: {accepted}") from None
    return TextTable(tuple(header), tuple(dict(zip(header, row, strict=True)) for row in rows))


def files(folder: Path, suffix: str) -> dict[str, Path]:
    """Name -> path of the files of one kind, in order."""
    return {path.stem: path for path in sorted(folder.glob(f"*.{suffix}")) if path.is_file()}


def find_results(path: Path, profile: str | None = None) -> Path:
    """The folder of tables that `path` is or, as figures/<profile>, holds. Raises InputError unless there is one."""
    if files(path, "csv"):
        return path
    holding = {folder.name: folder for folder in sorted((path / "figures").glob("*")) if files(folder, "csv")}
    if profile in holding or (not profile and len(holding) == 1):
        return holding[profile or next(iter(holding))]
    if holding:
        raise InputError(f"{path} and profile = {shown(profile)}; accepted: one of {', '.join(holding)} as its profile")
    what = "is no folder" if not path.is_dir() else "holds no tables"
    raise InputError(f"{path} {what}; accepted: a folder with CSV files, or with some in figures/<profile>")


@contextmanager
def published_run(profile: str, root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """A copy of a profile's published results, those of the last commit, and their name. Raises InputError where there
    are none, or no git."""
    folder = f"figures/{profile}"
    try:
        commit = git(root, "--literal-pathspecs", "log", "-1", "--format=%h", "HEAD", "--", folder).decode().strip()
        content = git(root, "archive", "--format=zip", "HEAD", folder) if commit else b""
    except (OSError, subprocess.SubprocessError) as error:
        said = " ".join((getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").split())
        raise InputError(f"no published run is known here ({said}); accepted: a folder to compare with") from None
    if not commit:
        raise InputError(f"no run of profile {shown(profile)} is published; accepted: a folder to compare with")
    with tempfile.TemporaryDirectory() as copy:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            archive.extractall(copy)
        yield Path(copy) / folder, f"the published {profile} run (commit {commit})"


def made_of(folder: Path) -> dict[str, object]:
    """The profile that a folder, staged or not, is named after, and what manifest.json says of code, packages and
    machine; None for what is unknown."""
    manifest, place = load_manifest(folder), folder.resolve()
    named = place.parent.name == "figures"
    return {
        "profile": re.sub(r"^\.(.+)\.\d+\.staged$", r"\1", place.name) if named else None,
        "code": manifest.code and (manifest.code.sources, manifest.code.own),
        "packages": manifest.environment and manifest.environment.packages,
        "machine": manifest.environment and manifest.environment.machine,
    }


def look_the_same(a: Path, b: Path) -> bool:
    """Whether two PNG files show the same, whatever they say of their origin."""
    try:
        return embedding.extract(a.read_bytes()).content == embedding.extract(b.read_bytes()).content
    except InputError:  # not whole
        return a.read_bytes() == b.read_bytes()
