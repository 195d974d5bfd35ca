"""A page of the site: an executed notebook, what it says in its first words, and the files of its run."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import nbformat
import pandas as pd

from jsigr_lib.site import summary
from jsigr_lib.store.files import sha256

SENTENCE = r"(.+?(?<!\bgrad)(?<!\badv)[.?!])(?=\s|\Z)"  # the first; labels of defences have short forms
RESULT = r"^\*\*What it shows[^*]*\*\*\s+" + SENTENCE
FILES = "files"  # the folder of the site that holds them
SUFFIXES = ("svg", "csv", "json")


@dataclass(frozen=True)
class Files:
    """What a run published beside its notebooks: the files of each figure or table; `place` is where the site has
    them."""

    folder: Path
    place: str = FILES

    @property
    def whole(self) -> bool:
        """Whether there are a scorecard and the headline figures. A run of single notebooks leaves none."""
        return all((self.folder / name).is_file() for name in (summary.SCORECARD, *summary.FIGURES))

    @cached_property
    def pictures(self) -> dict[str, str]:
        """Hash of a PNG -> the name of its figure."""
        return {sha256(path.read_bytes()): path.stem for path in sorted(self.folder.glob("*.png"))}

    def line(self, name: str, suffixes: Iterable[str] = SUFFIXES) -> str:
        """Links to the files of a figure or table; "" if it has none."""
        names = [f"{name}.{suffix}" for suffix in suffixes if (self.folder / f"{name}.{suffix}").is_file()]
        return " · ".join(f'<a href="{self.place}/{escape(file)}">{escape(file)}</a>' for file in names)

    def table(self, name: str) -> pd.DataFrame:
        """Empty if there is none."""
        path = self.folder / f"{name}.csv"
        return pd.read_csv(path, keep_default_na=False) if path.is_file() else pd.DataFrame()


@dataclass(frozen=True)
class Page:
    """A notebook with its first heading and the first sentence of its question, and the files of its run."""

    name: str
    notebook: nbformat.NotebookNode
    files: Files

    @property
    def title(self) -> str:
        return self._said(r"^# +([^\n]+)") or self.name

    @property
    def short(self) -> str:
        """What its file is called: "03_transfer_attacks" -> "3. Transfer attacks"."""
        number, _, words = self.name.partition("_")
        return f"{int(number)}. {words.replace('_', ' ').capitalize()}" if number.isdecimal() and words else self.name

    @property
    def finding(self) -> str:
        """The question, and what the first result that answers it says."""
        shown = [output.get("data", {}) for cell in self.notebook.cells for output in cell.get("outputs", ())]
        results = "\n\n".join(data.get("text/markdown", "") for data in shown)
        question = self._said(r"\*\*Question\.\*\*\s+" + SENTENCE)
        return f"{question} {_first(RESULT, results)}".strip()

    def _said(self, pattern: str) -> str:
        return _first(pattern, "\n\n".join(cell.source for cell in self.notebook.cells if cell.cell_type == "markdown"))


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""
