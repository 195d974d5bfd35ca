"""The explorer's controls as data: what the front end builds its sliders, menus and boxes from."""

from collections.abc import Iterable
from typing import Any

LABELS = {"eps": "budget ε", "blur_sigma": "blur σ", "share": "selection share"}


def slider(name: str, values: Iterable[float], value: float, digits: int, help: str, **more: Any) -> dict[str, Any]:
    """Steps through values, of which `value` becomes one; shown with so many digits."""
    values = sorted({*values, value})
    return {**_control(name, "range", help), "values": values, "value": value, "digits": digits, **more}


def share(value: float) -> dict[str, Any]:
    """Of the map's pixels that the selection keeps; local: the front end computes it."""
    return slider("share", steps(0, 1, 0.05), value, 2, "share of the pixels that a hard selection keeps", local=True)


def choice(name: str, values: dict[str, str], value: str, help: str) -> dict[str, Any]:
    """One of some names, each with a label."""
    return {**_control(name, "choice", help), "values": [list(pair) for pair in values.items()], "value": value}


def several(name: str, values: dict[str, str], chosen: Iterable[str], help: str) -> dict[str, Any]:
    """Some of them."""
    return {**choice(name, values, "", help), "kind": "several", "value": list(chosen)}


def steps(low: float, high: float, step: float) -> list[float]:
    return [round(low + i * step, 6) for i in range(round((high - low) / step) + 1)]


def _control(name: str, kind: str, help: str) -> dict[str, Any]:
    return {"name": name, "label": LABELS.get(name, name), "kind": kind, "help": help}
