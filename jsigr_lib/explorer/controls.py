"""The explorer's controls as data, from which the front end builds its sliders, menus and boxes; and `Settings`, which
checks what the reader has chosen with them."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

from torch import Tensor

from jsigr_lib.measure.attributions import MAPS
from jsigr_lib.method.errors import InputError, between, one_of
from jsigr_lib.method.saliency import check_grid

ATTACKS = {"transferred": "MI-FGSM, transferred", "white-box": "PGD, white-box"}
STEPS = 10  # of an attack, until the reader chooses otherwise
LABELS = {"eps": "budget ε", "blur_sigma": "blur σ", "share": "selection share"}


@dataclass(frozen=True)
class Settings:
    """What the reader has chosen. Raises InputError, naming value and accepted ones, for anything out of range."""

    defences: tuple[str, ...]
    image: int = 0
    map: str = "gradient"
    attack: str = "transferred"
    eps: float = 0.1
    steps: int = STEPS
    grid: int = 7
    blur_sigma: float = 3.0
    upload: str | None = None  # a picture in place of the image: height x width x channels bytes, base64

    def __post_init__(self):
        one_of("map", self.map, tuple(MAPS))  # a tuple, as the value may have no hash
        one_of("attack", self.attack, tuple(ATTACKS))
        _whole("image", self.image)
        _number("eps", self.eps, 0, 1)
        _whole("steps", self.steps)
        between("steps", self.steps, 1, 100)
        _number("blur_sigma", self.blur_sigma, 0.1, 100)
        check_grid(self.grid, 1, self.blur_sigma)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Self:
        names = [one.name for one in fields(cls)]
        if not isinstance(given, dict):
            raise InputError(f"settings = {given!r}; accepted: some of {', '.join(names)}, by name")
        for name in given:
            one_of("setting", name, names)
        defences = given.get("defences")
        if not isinstance(defences, list | tuple):
            raise InputError(f"defences = {defences!r}; accepted: a list of names")
        return cls(**{**given, "defences": tuple(defences)})


def control(name: str, kind: str, values: dict[str, str], value: Any, help: str) -> dict[str, Any]:
    """A control as the front end builds it: of the names, each with its label, a "choice" takes one, "several" any."""
    about = {"name": name, "label": LABELS.get(name, name), "kind": kind, "help": help}
    return {**about, "values": [list(pair) for pair in values.items()], "value": value}


def thumbnails(images: Tensor, offered: str) -> dict[str, Any]:
    """The choice among images, uint8 [n, channels, height, width], by their pictures; `offered` says what they are."""
    pictures = base64.b64encode(images.permute(0, 2, 3, 1).contiguous().cpu().numpy().tobytes()).decode()
    help = f"{offered}; a red corner: the attack turns a right answer into a wrong one"
    about = control("image", "pictures", {}, 0, help)
    return {**about, "values": list(range(len(images))), "pictures": pictures}


def slider(name: str, values: Iterable[float], value: float, digits: int, help: str, **more: Any) -> dict[str, Any]:
    """A slider that stops at each of the values and at `value`, where it begins; a number has so many digits. With
    `local` the front end draws what changes, and asks for no scene; with `maps` it is shown for these maps alone, for
    the others it would do nothing."""
    about = control(name, "range", {}, value, help)
    return {**about, "values": sorted({*values, value}), "digits": digits, **more}


def steps(low: float, high: float, step: float) -> list[float]:
    return [round(low + i * step, 6) for i in range(round((high - low) / step) + 1)]


def _whole(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{what} = {value!r}; accepted: a whole number")


def _number(what: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{what} = {value!r}; accepted: a number from {low:g} to {high:g}")
    between(what, value, low, high)
