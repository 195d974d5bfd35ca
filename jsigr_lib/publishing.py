"""Folders that are replaced together or not at all, by one process at a time.

They are filled beside their places. Then one small file, the journal, appears by a rename: that is the moment of
publication. What follows, a rename for each folder, is finished by whoever comes next if this process is killed.
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

from jsigr_lib.errors import InputError


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
    """No other run publishes below `out` meanwhile, and what a killed one left there is settled. The system gives the
    lock back when its holder ends, however it ends. Raises InputError at once if another run holds it."""
    path, holder = out / "figures" / ".lock", ""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        with suppress(OSError):
            holder = path.read_text()
        raise InputError(
            f"out = {out} is in use by {holder or 'another run'}; accepted: another --out, or this one after that run"
        ) from None
    try:
        with suppress(OSError):  # Windows locks a file against its own process, too
            path.write_text(f"process {os.getpid()} on {platform.node()} since {time.strftime('%H:%M:%S')}")
        for journal in journals(out):
            recover(*places(out, journal.name[1 : -len(".journal")]))
        yield
    finally:
        lock.release()


def settle(out: Path) -> None:
    """Finish what killed runs had begun to publish below `out`, for those who read it."""
    if journals(out):
        with sole_run(out):
            pass


def journals(out: Path) -> list[Path]:
    return sorted((out / "figures").glob(".*.journal"))


@contextmanager
def replacing(*targets: Path, keep: bool = False) -> Iterator[list[Path]]:
    """Folders to fill, empty or copies of `targets`, that take the places of `targets` when the block ends. If it ends
    with an error they are removed, and `targets` stay what they were."""
    recover(*targets)
    journal, mark = _journal(targets), str(os.getpid())
    staged = [_staged(target, mark) for target in targets]
    try:
        for place, target in zip(staged, targets, strict=True):
            if keep and target.exists():
                shutil.copytree(target, place)
            else:
                place.mkdir(parents=True)
        yield staged
        _draft(journal).write_text(mark)
        os.replace(_draft(journal), journal)
    except BaseException:
        _draft(journal).unlink(missing_ok=True)
        for place in () if journal.exists() else staged:
            shutil.rmtree(place, ignore_errors=True)
        raise
    _finish(targets)


def recover(*targets: Path) -> None:
    """Finish what a killed process had begun to publish, or else remove what it had staged."""
    journal = _journal(targets)
    if journal.exists():
        _finish(targets)
    _draft(journal).unlink(missing_ok=True)
    for target in targets:
        for left in target.parent.glob(".*.staged"):
            if re.fullmatch(rf"\.{re.escape(target.name)}\.\d+\.staged", left.name):
                shutil.rmtree(left, ignore_errors=True)


def _finish(targets: tuple[Path, ...]) -> None:
    """Every step may have been taken already."""
    mark = _journal(targets).read_text()
    old = [target.with_name(f".{target.name}.old") for target in targets]
    for target, before in zip(targets, old, strict=True):
        if _staged(target, mark).exists():
            if target.exists():
                shutil.rmtree(before, ignore_errors=True)
                os.rename(target, before)
            os.rename(_staged(target, mark), target)
    for before in old:
        shutil.rmtree(before, ignore_errors=True)
    _journal(targets).unlink()


def _journal(targets: tuple[Path, ...]) -> Path:
    return targets[0].with_name(f".{targets[0].name}.journal")


def _draft(journal: Path) -> Path:
    return journal.with_suffix(".draft")


def _staged(target: Path, mark: str) -> Path:
    return target.with_name(f".{target.name}.{mark}.staged")
