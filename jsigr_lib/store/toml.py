"""TOML from outside: a value, or one line that says what is wrong with it."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jsigr_lib.method.errors import InputError, shown

Model = TypeVar("Model", bound=BaseModel)

LARGEST = 250_000  # bytes of a file
LONGEST = 2_000  # characters of a line: the parser takes a time that is quadratic in the parts of a dotted key


def parse(text: str) -> dict[str, Any]:
    """The content of a TOML text. Raises ValueError if it is no TOML, or has too long a line."""
    if any(len(line) > LONGEST for line in text.splitlines()):
        raise ValueError(f"more than {LONGEST:,} characters in a line")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def load(path: Path, what: str, accepted: str = "a TOML file") -> dict[str, Any]:
    """The content of a file. Raises InputError, which says that it is no `what`, if it is missing or no TOML."""
    try:
        if not path.is_file():  # nor does a pipe ever block us
            raise ValueError("there is no such file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        return parse(content.decode())
    except OSError as error:
        reason = error.strerror
    except ValueError as error:  # such as a syntax error or a bad character
        reason = str(error)
    raise InputError(f"{path} is no {what}: {reason}; accepted: {accepted}")


def entries(path: Path, key: str, what: str, *, least: int = 1) -> list[Any]:
    """What stands in a file's [[key]] blocks, unchecked; it may hold nothing else, and has so many at least."""
    content = load(path, what)
    found = content.get(key, [])
    if set(content) - {key} or not isinstance(found, list) or len(found) < least:
        raise InputError(
            f"{path} is no {what}: it has {shown([*content])}; accepted: [[{key}]] blocks and nothing else"
        )
    return found


def checked(kind: type[Model], fields: object) -> Model:
    """A `kind` with these fields. Raises InputError with pydantic's first complaint: which field, what it was given,
    what is accepted."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    field, said = ".".join(map(str, first["loc"])), f"{first['msg'][0].lower()}{first['msg'][1:]}"
    if first["type"] == "extra_forbidden":
        said = f"unknown field {shown(field)}; accepted: {', '.join(kind.model_fields)}"
    elif first["type"] == "value_error":
        said = str(first["ctx"]["error"])
    elif first["type"] == "missing":
        said = f"{field} is missing; accepted: a value"
    else:
        said = f"{field} = {shown(first['input'])}: {said}".removeprefix(" = ")
    raise InputError(said)
