"""The one exception a user can cause, and what others say."""

import shutil


class InputError(ValueError):
    """Bad input: one line that names the value and what is accepted. The command line exits with code 2."""


def one_of(what: str, value: object, accepted) -> None:
    """Raise InputError unless `value` is among `accepted`.

    >>> one_of("device", "tpu", ["auto", "cpu", "cuda"])
    Traceback (most recent call last):
    jsigr_lib.errors.InputError: unknown device 'tpu'; accepted: auto, cpu, cuda
    """
    if value not in accepted:
        raise InputError(f"unknown {what} {value!r}; accepted: {', '.join(map(str, accepted))}")


def between(what: str, value: float, low: float, high: float) -> None:
    """Raise InputError unless low <= value <= high (NaN never is)."""
    if not low <= value <= high:
        raise InputError(f"{what} = {value!r} is out of range; accepted: {low:g} to {high:g}")


def one_line(error: BaseException) -> str:
    """What an error says, for people: one line, and of the system's errors what and where."""
    if isinstance(error, shutil.Error):  # a list, for each file that could not be copied, of its names and why
        return str(error.args[0][0][-1])
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return " ".join(str(error).split()) or type(error).__name__
