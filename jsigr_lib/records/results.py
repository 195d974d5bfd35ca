"""Result folders: figures/<profile> of a run, wherever it lies, and of the run that is published."""

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
            header, *lines = list(csv.reader(file, strict=True)) or [[]]
        if len(set(header)) < len(header) or not header:
            raise ValueError("no header, or one with two equal names")
        for i, line in enumerate(lines, 1):
            if len(line) != len(header):
                raise ValueError(f"row {i} has {len(line)} values, not {len(header)}")
    except (OSError, ValueError, csv.Error) as error:
        accepted = f"CSV in UTF-8, rows as long as the header, at most {LARGEST_TABLE:,} bytes"
        raise InputError(f"{path} is no table ({error}); accepted: {accepted}") from None
    return TextTable(tuple(header), tuple(dict(zip(header, line, strict=True)) for line in lines))


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
    """A copy of a profile's published results, and their name: those of the last commit, as `jsigr run` replaces the
    ones of the working copy. Raises InputError where there are none, or no git."""
    folder = f"figures/{profile}"
    commit = _git(root, "log", "-1", "--format=%h", "HEAD", "--", folder).decode().strip()
    if not commit:
        raise InputError(f"no run of profile {shown(profile)} is published; accepted: a folder to compare with")
    content = _git(root, "archive", "--format=zip", "HEAD", folder)
    with tempfile.TemporaryDirectory() as copy:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            archive.extractall(copy)
        yield Path(copy) / folder, f"the published {profile} run (commit {commit})"


def _git(root: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "--literal-pathspecs", "-C", root, *arguments], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = " ".join((getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").split())
        raise InputError(f"no published run is known here ({said}); accepted: a folder to compare with") from None
    return done.stdout


def made_of(folder: Path) -> dict[str, object]:
    """The profile that a folder, staged or not, is named after, and what manifest.json says of code, packages and
    machine; None for what is unknown."""
    manifest, place = load_manifest(folder), folder.resolve()
    profile = re.sub(r"^\.(.+)\.\d+\.staged$", r"\1", place.name) if place.parent.name == "figures" else None
    return {
        "profile": profile,
        "code": manifest.code and manifest.code.sources,
        "packages": manifest.environment and manifest.environment.packages,
        "machine": manifest.run.get("machine"),
    }


def look_the_same(a: Path, b: Path) -> bool:
    """Whether two PNG files show the same, whatever they say of their origin."""
    pictures = a.read_bytes(), b.read_bytes()
    try:
        return pictures[0] == pictures[1] or len({embedding.extract(picture).content for picture in pictures}) == 1
    except InputError:  # not whole
        return False
