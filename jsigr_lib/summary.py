"""A published run on one sheet of paper: its scorecard and its headline figure."""

import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from jsigr_lib.claim_figures import VERDICTS
from jsigr_lib.config import PROFILE_NAMES, load_profile

SCORECARD = "scorecard.csv"
FIGURES = ("accuracy_vs_eps.png", "teaser.png")
"""Those that stand for a run; the first is on the sheet."""
A4 = (8.27, 11.69)  # inches
MARGIN = 0.7
TITLE = "J-SIGR companion: which claims hold"
INTRODUCTION = (
    'An independent reconstruction of "Jacobian Norm with Selective Input Gradient Regularization for Improved and '
    'Interpretable Adversarial Defense" (arXiv 2207.13036). Of the paper we have the abstract only: no number here is '
    "the paper's. A verdict follows from paired differences, with 95 % intervals and margins fixed before the results."
)


def scorecard(folder: Path) -> pd.DataFrame:
    """The scorecard of a run as it was published, all of it text. Rows on other data are those of the replications that
    are published beside it: a replication may have been run later."""
    card = _text(folder / SCORECARD)
    replications = load_profile(folder.name).replications if folder.name in PROFILE_NAMES else []
    for path in (folder.parent / name / SCORECARD for name in replications):
        if path.is_file():
            other = _text(path)
            card = _updated(card, other[other["data"] == other["data"].iloc[0]])
    return card


def _text(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _updated(card: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The card with these rows in the place of those of the same claim and data."""
    key = ["claim", "data"]
    updated = card.set_index(key)
    updated.update(rows.set_index(key))
    return updated.reset_index()[list(card)]


def headline(card: pd.DataFrame) -> str:
    """How many claims have which verdict, in a sentence per data set."""
    said = []
    for data, rows in card.groupby("data", sort=False):
        counts = ", ".join(f"{n} {verdict}" for verdict, n in rows.verdict.value_counts().items())
        said.append(f"{data}: of {len(rows)} claims {counts}.")
    return " ".join(said)


def write(folder: Path, path: Path) -> None:
    """The sheet as PDF, the same bytes for the same results; `folder` is that of a run's figures and tables."""
    with mpl.rc_context({"pdf.fonttype": 42}):
        about = {"Title": TITLE, "Creator": "jsigr site", "CreationDate": None, "Producer": None}
        filled(folder).figure.savefig(path, format="pdf", metadata=about)


def filled(folder: Path) -> "Sheet":
    """Every claim with its verdicts and, of the run's own data, what they rest on; the figure in what is left."""
    sheet = Sheet()
    card = scorecard(folder)
    sheet.say(TITLE, 17, weight="bold")
    sheet.say(INTRODUCTION, 8.5, color="#555555")
    sheet.say(headline(card), 10, weight="bold")
    widest = [len(f"{data}: {max(VERDICTS, key=len)}") for data in card["data"].unique()]
    for _, rows in card.groupby("claim", sort=False):
        sheet.say(rows.statement.iloc[0], 9.5, weight="bold", above=0.09)
        sheet.beside({f"{row.data}: {row.verdict}": VERDICTS[row.verdict] for row in rows.itertuples()}, 8.5, widest)
        own = rows.iloc[0]
        for test in own.evidence.split("; "):
            sheet.say(test, 7, above=0)
        sheet.say(f"n: {own.n}", 7, above=0)
    sheet.draw(folder / FIGURES[0])
    return sheet


class Sheet:
    """An A4 page that is filled from the top."""

    def __init__(self) -> None:
        self.figure, self.left = Figure(figsize=A4), A4[1] - MARGIN

    def say(self, text: str, size: float, *, above: float = 0.03, **style) -> None:
        """A paragraph of `size` points, `above` inches below the last one."""
        per_line = int((A4[0] - 2 * MARGIN) * 72 / (size * 0.56))
        lines = textwrap.wrap(text, per_line)
        self.left -= above
        place, style = (MARGIN / A4[0], self.left / A4[1]), {"va": "top", "linespacing": 1.25, **style}
        self.figure.text(*place, "\n".join(lines), size=size, parse_math=False, **style)
        self.left -= len(lines) * size * 1.45 / 72

    def beside(self, texts: dict[str, str], size: float, widths: list[int]) -> None:
        """Texts, each in its colour, on one line, in columns as wide as `widths` relate."""
        starts = MARGIN + (A4[0] - 2 * MARGIN) * np.cumsum([0, *widths[:-1]]) / sum(widths)
        for start, (text, color) in zip(starts, texts.items(), strict=True):
            place = start / A4[0], (self.left - 0.03) / A4[1]
            self.figure.text(*place, text, size=size, color=color, weight="bold", va="top", parse_math=False)
        self.left -= 0.03 + size * 1.45 / 72

    def draw(self, path: Path) -> None:
        """A picture, as large as what is left of the page allows."""
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        room = A4[0] - 2 * MARGIN, self.left - MARGIN
        scale = min(room[0] / pixels.shape[1], room[1] / pixels.shape[0])
        width, height = pixels.shape[1] * scale, pixels.shape[0] * scale
        place = ((A4[0] - width) / 2 / A4[0], (self.left - 0.1 - height) / A4[1], width / A4[0], height / A4[1])
        axes = self.figure.add_axes(place)
        axes.imshow(pixels, interpolation="none")
        axes.set_axis_off()
