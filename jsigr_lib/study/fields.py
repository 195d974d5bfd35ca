"""Checks of fields that people type, each refused in one line that names the value and what is accepted."""

from collections.abc import Callable, Container
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from jsigr_lib.method.errors import InputError, one_of, shown


def require(fits: object, what: str, value: object, accepted: str) -> None:
    """Raise InputError unless the value fits."""
    if not fits:
        raise InputError(f"{what} = {shown(value)}; accepted: {accepted}")


def among(what: str, accepted: Container) -> AfterValidator:
    """The check that a value is one of `accepted`, as that is when a profile is loaded: a registry may grow."""
    return AfterValidator(lambda value: one_of(what, value, accepted) or value)


def only(fits: Callable[[Any], bool], accepted: str) -> AfterValidator:
    """The check that a field's value fits."""

    def check(value: Any, info: ValidationInfo) -> Any:
        require(fits(value), info.field_name, value, accepted)
        return value

    return AfterValidator(check)


Item = TypeVar("Item")
Different = only(lambda values: len(set(values)) == len(values), "different values")
Several = Annotated[list[Item], Different]
OneOrMore = Annotated[list[Item], Field(min_length=1), Different]
Fraction = Annotated[float, Field(ge=0, le=1)]
MOST = 10_000_000
Seed = Annotated[int, Field(ge=0, le=2**62)]
Count = Annotated[int, Field(ge=1, le=MOST)]


class Table(BaseModel):
    """A part of a file that people type. Numbers are finite, and no type is converted into another."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
