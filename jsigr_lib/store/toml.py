"""TOML from outside: a value, or one line that says what is wrong with it."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from jsigr_lib.method.errors import InputError, shown
from jsigr_lib.store.files import contents

Model = TypeVar("Model", bound=BaseModel)


def load(path: Path, what: str, accepted: str = "a TOML file") -> dict[str, Any]:
    """The content of a file. Raises InputError, which says that it is no `what`, if it is missing or no TOML."""
    try:
        return tomllib.loads(contents(path).decode())
    except FileNotFoundError:
        reason = "there is no such file"
    except OSError as error:
        reason = error.strerror
    except RecursionError:
        reason = "it is nested too deeply"
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
    said = {
        "extra_forbidden": f"unknown field {shown(field)}; accepted: {', '.join(_at(kind, first['loc']).model_fields)}",
        "value_error": str(first.get("ctx", {}).get("error")),
        "missing": f"{field} is missing; accepted: a value",
    }.get(first["type"], f"{field} = {shown(first['input'])}: {said}".removeprefix(" = "))
    raise InputError(said)


def _at(kind: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that holds the field at this place below `kind`."""
    for part in place[:-1]:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        models = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
        kind = next((one for one in models if issubclass(one, BaseModel)), kind)
    return kind
