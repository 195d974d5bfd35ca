"""The one exception a user can cause, the checks that raise it, and what other errors say."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 100  # characters of a value in a message
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class InputError(ValueError):
    """Bad input: one line that names the value and what is accepted. The command line exits with code 2."""

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(message: str, longest: int = 1000) -> str:
    """Printable and no longer than that, whatever a file or a user has put into it; cut in the middle, as what is wrong
    stands at the beginning and what is accepted at the end."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message.strip("\n"))
    return line if len(line) <= longest else f"{line[: longest // 2 - 5]} ... {line[-longest // 2 :]}"


def shown(value: object) -> str:
    """`value` as Python writes it, shortened to fit into a line.

    >>> shown("mnist")
    "'mnist'"
    """
    try:
        written = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or nested too deeply
        return f"<a {type(value).__name__} too large to show>"
    cut = f" ... ({len(written):,} characters)"
    return written if len(written) <= LONGEST else written[: LONGEST - len(cut)] + cut


def one_of(what: str, value: object, accepted) -> None:
    """Raise InputError unless `value` is among `accepted`.

    >>> one_of("device", "tpu", ["auto", "cpu", "cuda"])
    Traceback (most recent call last):
    jsigr_lib.method.errors.InputError: unknown device 'tpu'; accepted: auto, cpu, cuda
    """
    if value not in accepted:
        raise InputError(f"unknown {what} {shown(value)}; accepted: {', '.join(map(str, accepted))}")


def between(what: str, value: float, low: float, high: float) -> None:
    """Raise InputError unless low <= value <= high (NaN never is, nor what is no number)."""
    try:
        fits = bool(low <= value <= high)
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise InputError(f"{what} = {shown(value)} is out of range; accepted: {low:g} to {high:g}")


def file_name(what: str, value: object) -> str:
    """`value`, if it can name a file or a folder and can lead to no other: everything that is joined to a path and
    comes from outside passes here. Raises InputError if it cannot."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise InputError(
            f"{what} = {shown(value)}; accepted: up to 64 letters, digits, '.', '_', '-', the first a letter or digit"
        )
    return value


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """For imports that an extra of the package provides: InputError says what needs which missing package.

    with needs_extra("AutoAttack", "measure"):
        from pyautoattack import AutoAttack
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "jsigr_lib"):  # a fault of our own
            raise
        raise InputError(f"{what} needs the package {missing}; pip install 'jsigr[{extra}]'") from None


@contextmanager
def within(place: str) -> Iterator[None]:
    """An InputError raised inside also says where it happened, such as in which entry of which file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def one_line(error: BaseException) -> str:
    """What an error says, for people: one line, and of the system's errors what and where."""
    if isinstance(error, shutil.Error):  # a list, for each file that could not be copied, of its names and why
        return str(error.args[0][0][-1])
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return " ".join(str(error).split()) or type(error).__name__
