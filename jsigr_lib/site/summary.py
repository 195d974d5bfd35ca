"""A published run on one sheet of paper: its scorecard and its headline figure."""

import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from jsigr_lib.figures.claims import VERDICTS
from jsigr_lib.findings import claims, titles
from jsigr_lib.study.config import PROFILE_NAMES, load_profile

SCORECARD = "scorecard.csv"
FIGURES = ("accuracy_vs_eps.png", "teaser.png")
"""The figures that stand for a run; the first is on the sheet."""
A4 = (8.27, 11.69)  # inches
MARGIN = 0.7
WIDTH = A4[0] - 2 * MARGIN
TITLE = "J-SIGR companion: which claims hold"
INTRODUCTION = (
    'An independent reconstruction of "Jacobian Norm with Selective Input Gradient Regularization for Improved and '
    'Interpretable Adversarial Defense" (arXiv 2207.13036). Of the paper we have the abstract only: no number here is '
    "the paper's. A verdict follows from paired differences, with 95 % intervals and margins fixed before the results."
)


def scorecard(folder: Path) -> pd.DataFrame:
    """The scorecard of a published run, all of it text, claim by claim. A replication may have been run later, perhaps
    with more claims: what its own scorecard, published beside this one, says of its own data replaces the rows here."""
    parts = [_text(folder / SCORECARD)]
    replications = load_profile(folder.name).replications if folder.name in PROFILE_NAMES else []
    for path in (folder.parent / name / SCORECARD for name in replications):
        if path.is_file():
            other = _text(path)
            own = other[other["data"] == other["data"].iloc[0]]
            parts = [one[one["data"] != own["data"].iloc[0]] for one in parts] + [own]
    return pd.concat(parts).sort_values(["claim", "data"], key=_appearance, kind="stable", ignore_index=True)


def _appearance(column: pd.Series) -> pd.Series:
    """Each value by the place at which it first appears."""
    return column.map({value: i for i, value in enumerate(dict.fromkeys(column))})


def _text(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def price(folder: Path) -> dict[str, str]:
    """What J-SIGR gains and costs: in a line, and beside the other defences."""
    path, name = folder / "trade_offs.csv", folder.name
    paid = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    defences = load_profile(name).defences if name in PROFILE_NAMES else {}
    labels = {defence: about.label for defence, about in defences.items()}
    gain = titles.trade_offs(paid)
    return {"gain": f"**{gain}.**" if gain else "", "paid": claims.trade_offs(paid, labels).partition("** ")[2]}


def headline(card: pd.DataFrame) -> str:
    """A sentence per data set: how many claims have which verdict."""
    said = []
    for data, rows in card.groupby("data", sort=False):
        counts = ", ".join(f"{n} {verdict}" for verdict, n in rows.verdict.value_counts().items())
        said.append(f"{data}: of {len(rows)} claims {counts}.")
    return " ".join(said)


def write(folder: Path, path: Path) -> None:
    """Write the sheet as PDF, with the same bytes for the same results. `folder` holds a run's figures and tables."""
    with mpl.rc_context({"pdf.fonttype": 42}):
        about = {"Title": TITLE, "Creator": "jsigr site", "CreationDate": None, "Producer": None}
        filled(folder).figure.savefig(path, format="pdf", metadata=about)


def filled(folder: Path) -> "Sheet":
    """The sheet: every claim with its verdicts and, for the run's own data, what they rest on; below them the figure,
    as large as the page allows."""
    sheet = Sheet()
    card = scorecard(folder)
    sheet.say(TITLE, 17, weight="bold")
    sheet.say(INTRODUCTION, 8.5, color="#555555")
    sheet.say(headline(card), 10, weight="bold")
    names = list(card["data"].unique())
    widest = [len(f"{data}: {max(VERDICTS, key=len)}") for data in names]
    for _, rows in card.groupby("claim", sort=False):
        sheet.say(rows.statement.iloc[0], 9.5, weight="bold", above=0.09)
        said = {row.data: (f"{row.data}: {row.verdict}", VERDICTS[row.verdict]) for row in rows.itertuples()}
        sheet.beside([said.get(data, ("", "black")) for data in names], 8.5, widest)
        for own in rows[rows["data"] == names[0]].itertuples():
            for test in own.evidence.split("; "):
                sheet.say(test, 7, above=0)
            sheet.say(f"n: {own.n}", 7, above=0)
    sheet.draw(folder / FIGURES[0])
    return sheet


class Sheet:
    """An A4 page that is filled from the top; `left` is what is left of its height, in inches."""

    def __init__(self) -> None:
        self.figure, self.left = Figure(figsize=A4), A4[1] - MARGIN

    def say(self, text: str, size: float, *, above: float = 0.03, **style) -> None:
        """A paragraph of `size` points, `above` inches below the last one."""
        lines = textwrap.wrap(text, int(WIDTH * 72 / (size * 0.56)))
        self.left -= above
        self._put(MARGIN, "\n".join(lines), size, **style)
        self.left -= len(lines) * size * 1.45 / 72

    def beside(self, texts: list[tuple[str, str]], size: float, widths: list[int]) -> None:
        """Texts, each with its colour, on one line, in columns as wide as `widths` relate."""
        self.left -= 0.03
        starts = MARGIN + WIDTH * np.cumsum([0, *widths[:-1]]) / sum(widths)
        for start, (text, color) in zip(starts, texts, strict=True):
            self._put(start, text, size, color=color, weight="bold")
        self.left -= size * 1.45 / 72

    def _put(self, x: float, text: str, size: float, **style) -> None:
        place = x / A4[0], self.left / A4[1]
        self.figure.text(*place, text, size=size, va="top", linespacing=1.25, parse_math=False, **style)

    def draw(self, path: Path) -> None:
        """A picture, as large as what is left of the page allows."""
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        room = MARGIN / A4[0], (MARGIN - 0.1) / A4[1], WIDTH / A4[0], (self.left - MARGIN) / A4[1]
        axes = self.figure.add_axes(room, anchor="N")  # an image keeps its proportions
        axes.imshow(pixels, interpolation="none")
        axes.set_axis_off()
