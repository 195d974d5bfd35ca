"""A folder that is replaced as a whole: filled beside its place, then put there by a rename, so that what stands there
is always complete."""

import os
import shutil
import tempfile
from pathlib import Path

from jsigr_lib.errors import InputError


def stage(target: Path, *, keep: bool) -> Path:
    """An empty folder beside `target`, or a copy of it; leftovers of a killed run are cleared."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        os.rename(old, target)  # killed between the two renames of publish
    staged = target.with_name(f".{target.name}.staged")
    shutil.rmtree(staged, ignore_errors=True)
    if keep and target.exists():
        shutil.copytree(target, staged)
    else:
        staged.mkdir(parents=True)
    return staged


def writable(folder: Path) -> None:
    """Raise InputError unless files can be put into `folder`, which is made if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}); accepted: a writable folder") from None


def publish(staged: Path, target: Path) -> None:
    """Put `staged` in the place of `target`."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    os.rename(staged, target)
    shutil.rmtree(old, ignore_errors=True)
