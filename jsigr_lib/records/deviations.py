"""DEVIATIONS.md as data: every choice that the abstract leaves open, so that a figure can name the ones behind it."""

import re
from dataclasses import dataclass
from pathlib import Path

from jsigr_lib.method.errors import InputError
from jsigr_lib.store.paths import DEVIATIONS

COLUMNS = ("", "name", "our choice", "why", "alternative", "effect measured", "figures")


@dataclass(frozen=True)
class Deviation:
    """A row of the table; `number` is D1, D2, ... and `figures` are those that the choice shapes."""

    number: str
    name: str
    choice: str
    why: str
    alternative: str
    effect: str
    figures: tuple[str, ...]


def load_deviations(path: Path = DEVIATIONS) -> list[Deviation]:
    """The rows of the table. Raises InputError unless they are whole, named and numbered D1, D2, ... in order."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no list of deviations: {type(error).__name__}: {error}") from None
    header = "| " + " | ".join(COLUMNS).strip() + " |"
    if header not in lines:
        raise InputError(f"{path} is no list of deviations: it has no line {header}")
    found: list[Deviation] = []
    for line in lines[lines.index(header) + 2 :]:
        if not line.startswith("|"):
            break
        number, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
        if number != f"D{len(found) + 1}":
            raise InputError(f"{path} has {number!r} in row {len(found) + 1}; accepted: D{len(found) + 1}")
        if len(cells) != len(COLUMNS) - 1 or not all(cells[:-1]):
            raise InputError(f"{path} has {len(cells)} cells after {number}, or an empty one; accepted: {COLUMNS[1:]}")
        found.append(Deviation(number, *cells[:-1], figures=tuple(re.findall(r"\w+", cells[-1]))))
    return found


def behind(figure: str, path: Path = DEVIATIONS) -> list[Deviation]:
    """The choices that shape a figure; none where the package is installed without the repository."""
    return [one for one in load_deviations(path) if figure in one.figures] if path.exists() else []


def line(choices: list[Deviation]) -> str:
    """What stands under a figure, as Markdown."""
    return f"Choices behind this figure: {'; '.join(f'{one.number} {one.name}' for one in choices)} (`DEVIATIONS.md`)."
