"""What may lie where a file is expected, and would keep its reader waiting, or fill the memory."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        before = os.getcwd()
        os.chdir(path.parent)  # as the path may be too long
        made.bind(path.name)
        os.chdir(before)


def _sparse(path: Path) -> None:
    path.write_bytes((2**31).to_bytes(8, "little"))
    os.truncate(path, 2**32)


STRANGERS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "socket": _socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link in a circle": lambda path: path.symlink_to(path.name),
    "folder": Path.mkdir,
    "sparse": _sparse,
}

each_stranger = pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)


@contextmanager
def promptly(seconds: int = 20) -> Iterator[None]:
    """What waits is interrupted, and fails the test."""

    def late(*_):
        raise AssertionError(f"not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
