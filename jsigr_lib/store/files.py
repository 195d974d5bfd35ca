"""Files of others are read without waiting and without end; our own are whole or not there, whatever ends the process,
or the machine."""

import hashlib
import os
import platform
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor


def opened(path: Path | str) -> BinaryIO:
    """A regular file. Raises ValueError for another one: a pipe or a device would keep us for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{os.path.basename(path)} is no regular file")
    return open(path, "rb")


def contents(path: Path | str, most: int = 2**28) -> bytes:
    """All bytes of a regular file. Raises ValueError if it has more, by default than any that is read like this."""
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size <= most and len(found := file.read(most + 1)) <= most:
            return found
    raise ValueError(f"{os.path.basename(path)} has more than {most:,} bytes")


def replace(path: Path, content: bytes) -> None:
    """Write a file that is either complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{platform.node()}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            alone(file)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if os.name == "nt":  # where no open file is renamed
                file.close()
            os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk does not say what was written
    finally:
        temporary.unlink(missing_ok=True)


def alone(file: BinaryIO, *, wait: bool = False) -> bool:
    """Lock an open file until it is closed; False if another process has, or if nobody can."""
    with suppress(OSError):
        return lock_descriptor(file.fileno(), blocking=wait)
    return False


def sync(path: Path) -> None:
    """Let a file, or the names in a folder, outlast a power cut."""
    if os.name == "nt":  # which opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if path.is_file():  # not every file system does it for folders
            raise
    finally:
        os.close(descriptor)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
