"""Folders that are replaced together or not at all, by one process at a time.

They are filled beside their places. Then one empty file appears, the journal: that is the moment of publication. The
two renames for each folder that follow are finished by whoever comes next if this process is killed.
"""

import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from jsigr_lib.method.errors import NAME, InputError
from jsigr_lib.store.files import alone, sync

LEFT = re.compile(rf"\.(?P<name>{NAME.pattern})\.(?P<process>\d+)\.(staged|old|journal)")
"""Names of what a publication leaves beside its targets while it lasts."""


def places(out: Path, profile: str) -> tuple[Path, Path]:
    """Where a run puts its figures and tables, and its notebooks."""
    return out / "figures" / profile, out / "notebooks" / "executed" / profile


def writable(folder: Path) -> None:
    """Raise InputError unless files can be put into `folder`, which is made if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}); accepted: a writable folder") from None


@contextmanager
def sole_run(out: Path) -> Iterator[None]:
    """No other run publishes below `out` meanwhile, and what a killed run had begun to publish there is finished.
    Raises InputError at once if another run holds the lock."""
    path, holder = out / "figures" / ".lock", ""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        with suppress(OSError):
            holder = path.read_text(errors="replace")
        used = f"out = {out} is in use by {holder or 'another run'}"
        raise InputError(f"{used}; accepted: another --out, or this one after that run") from None
    try:
        with suppress(OSError):  # Windows locks a file against its own process, too
            path.write_text(f"process {os.getpid()} on {platform.node()} since {time.strftime('%H:%M:%S')}")
        for journal in journals(out):
            recover(*places(out, LEFT.fullmatch(journal.name)["name"]))
        yield
    finally:
        lock.release()


def settle(out: Path) -> None:
    """Finish what killed runs had begun to publish below `out`, for those who read it."""
    if journals(out):
        with sole_run(out):
            pass


def journals(out: Path) -> list[Path]:
    return sorted(path for path in (out / "figures").glob(".*.journal") if LEFT.fullmatch(path.name))


@contextmanager
def replacing(*targets: Path, keep: bool = False) -> Iterator[list[Path]]:
    """Folders to fill, empty or copies of `targets`, that take the places of `targets` when the block ends. If it ends
    with an error they are removed, and `targets` stay what they were."""
    recover(*targets)
    process = os.getpid()
    journal = _beside(targets[0], process, "journal")
    staged = [_beside(target, process, "staged") for target in targets]
    try:
        for place, target in zip(staged, targets, strict=True):
            if keep and target.exists():
                shutil.copytree(target, place)
            else:
                place.mkdir(parents=True)
        yield staged
        for place in staged:  # after a power cut, what a journal announces is there
            for path in (*place.rglob("*"), place, place.parent):
                sync(path)
        journal.touch()
        sync(journal.parent)
    except BaseException:
        for place in () if journal.exists() else staged:
            shutil.rmtree(place, ignore_errors=True)
        raise
    recover(*targets)


def recover(*targets: Path) -> None:
    """Finish what a killed process had begun to publish, or else remove what it had staged."""
    finish(*targets)
    for target in targets:
        for staged, _ in _left(target, "staged"):
            shutil.rmtree(staged, ignore_errors=True)


def finish(*targets: Path) -> None:
    """Take what was published to its place. Every step may have been taken already, by a process that was killed or,
    before we hold the journal, by another one."""
    for journal, process in _left(targets[0], "journal"):
        with open(journal, "ab") as file:
            alone(file, wait=True)
            old = [_beside(target, process, "old") for target in targets]
            for target, before in zip(targets, old, strict=True):
                if (staged := _beside(target, process, "staged")).exists():
                    if target.exists():
                        shutil.rmtree(before, ignore_errors=True)
                        os.rename(target, before)
                    os.rename(staged, target)
            for before in old:
                shutil.rmtree(before, ignore_errors=True)
        journal.unlink(missing_ok=True)


def _beside(target: Path, process: int | str, kind: str) -> Path:
    return target.with_name(f".{target.name}.{process}.{kind}")


def _left(target: Path, kind: str) -> list[tuple[Path, str]]:
    """What processes left beside `target`, and the number of each."""
    found = [(path, LEFT.fullmatch(path.name)) for path in target.parent.glob(f".*.{kind}")]
    return [(path, match["process"]) for path, match in found if match and match["name"] == target.name]
