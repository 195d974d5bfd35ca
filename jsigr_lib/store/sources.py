"""The files of the code that this process runs, of the library and of a user's own modules, as they were when it read
them. An edit since then is noticed, also one that was undone: what was computed meanwhile may be of other code."""

import hashlib
import importlib
import importlib.util
from pathlib import Path

from jsigr_lib.method.errors import InputError, one_line, shown
from jsigr_lib.store.paths import PACKAGE

EDITED = "was edited while its code was running; accepted: a new start (what is complete is kept)"


def files() -> list[Path]:
    """Every file of the library, without caches and what editors hide."""
    found = (path for path in PACKAGE.rglob("*") if path.is_file())
    hidden = (".", "__pycache__")
    return sorted(one for one in found if not any(part.startswith(hidden) for part in one.relative_to(PACKAGE).parts))


def _state(path: Path) -> tuple[int, ...]:
    """What no writing leaves as it was."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


READ = {path: _state(path) for path in files()}
OWN: dict[str, Path] = {}  # the user's modules that a profile names


def take_in(module: str) -> None:
    """Import a module of the user's. Raises InputError if that fails, whatever its reason."""
    try:
        found = importlib.util.find_spec(module)
        path = Path(found.origin) if found and found.has_location else None
        before = path and _state(path)
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # of the module's own
        reason = f"{type(error).__name__}: {one_line(error)}"
        accepted = "modules that can be imported, beside the profile or on Python's path"
        raise InputError(f"imports = {shown(module)} fails ({reason}); accepted: {accepted}") from error
    if path:
        OWN[module] = path
        READ.setdefault(path, before)


def unedited() -> None:
    """Raise InputError if a file was written since this process read it."""
    for path, state in READ.items():
        if _state(path) != state:
            raise InputError(f"{path} {EDITED}")


def library_sha256() -> str:
    """One hash over every file of the library."""
    hashes = ((path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files())
    lines = (f"{path.relative_to(PACKAGE).as_posix()} {sha}\n" for path, sha in hashes)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
