"""Result folders, figures/<profile> of a run, wherever they lie: their tables as text, and what made them."""

import csv
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from jsigr_lib.method.errors import InputError, shown
from jsigr_lib.records import embedding
from jsigr_lib.records.record import load_manifest
from jsigr_lib.records.running import git
from jsigr_lib.records.tolerances import Row
from jsigr_lib.store.paths import ROOT

LARGEST_TABLE = 50_000_000  # bytes


@dataclass(frozen=True)
class TextTable:
    """A CSV file as text: whether two values are the same is not left to how a number is read."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


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
