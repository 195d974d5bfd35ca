"""How figures look and how they are kept: one style, one palette, the pieces that several figures draw with, and
`save`. It writes a figure as PNG and SVG with its alternative text beside it, and shows it in the notebook.

The modules beside this one hold the figures themselves. Each of their functions reads a table or arrays of a run,
computes nothing, and returns the figure and its alternative text, which holds the figure's main numbers."""

import io
import re
import textwrap
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jsigr_lib.records import deviations
from jsigr_lib.study.study import Study

Described = tuple[Figure, str]
"""A figure and its alternative text."""

LOOKS = {
    "standard": ("#4d4d4d", "o"),
    "input-gradient": ("#e69f00", "s"),
    "scaleable-l2": ("#a6761d", "<"),
    "scaleable-l1": ("#6b4a12", ">"),
    "jacobian": ("#56b4e9", "D"),
    "interpretation": ("#6a51a3", "^"),
    "sigr": ("#009e73", "v"),
    "jsigr": ("#0072b2", "P"),
    "jsigr-l1": ("#8a9cc2", "*"),
    "pgd": ("#cc79a7", "X"),
    "fast": ("#d55e00", "p"),
    "trades": ("#8b1a1a", "h"),
    "otjr": ("#8cbf3f", "d"),
    "fast-jsigr": ("#1b3a6b", "8"),
}
"""Defence -> its colour and marker, in every profile and figure: Okabe & Ito's colours, which the colour-blind can tell
apart, and darker or lighter relatives of them. Other defences take what is left."""
PALETTE, MARKERS = (tuple(of) for of in zip(*LOOKS.values(), strict=True))
MAIN = ("standard", "jsigr", "pgd")
"""The defences that are shown where more would hide the answer."""
MAP_COLOURS = "magma"
FOOTER_LETTERS, HEADLINE_LETTERS = 18, 10  # per inch
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "figure.facecolor": "white",
    "savefig.dpi": 150,
    "svg.fonttype": "path",
    "svg.hashsalt": "jsigr",
}


mpl.rcdefaults()  # whatever a user's matplotlibrc says
mpl.rcParams.update(STYLE)  # matplotlib reads its style piece by piece, whenever something is drawn


def plain(text: object) -> str:
    """Text as matplotlib shows it literally: no mathematics between dollars, and no underscore in front, which would
    leave a line out of the legend."""
    return re.sub("^_", " _", str(text)).replace("$", r"\$")


def figure(width: float, height: float) -> Figure:
    """An empty figure, outside pyplot's global state; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def panels(fig: Figure, rows: int = 1, columns: int = 1, **options) -> np.ndarray:
    """A rows x columns array of axes."""
    return fig.subplots(rows, columns, squeeze=False, **options)


def row(width: float, height: float, columns: int = 1, **options) -> tuple[Figure, np.ndarray]:
    """A figure of one row of axes, and the axes."""
    fig = figure(width, height)
    return fig, panels(fig, 1, columns, **options)[0]


def nth_look(i: int, label: str) -> dict[str, str]:
    """Colour, marker and label of the i-th line or dot of what is no defence."""
    return {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "label": plain(label)}


def looks(study: Study) -> dict[str, dict[str, str]]:
    """Defence -> the look of its line or dot."""
    free = cycle([look for name, look in LOOKS.items() if name not in study.labels] or LOOKS.values())
    own = {name: LOOKS[name] if name in LOOKS else next(free) for name in study.labels}
    return {
        name: {"color": own[name][0], "marker": own[name][1], "label": plain(label)}
        for name, label in study.labels.items()
    }


def save(study: Study, name: str, fig: Figure, alt: str, *, footer: str = "") -> None:
    """`write` the figure and show it in the notebook. The line beneath it names the choices of DEVIATIONS.md that
    shape it."""
    png = write(study, name, fig, alt, footer=footer)
    about = {"alt": alt, "width": round(fig.get_figwidth() * 100)}  # CSS pixels
    display({"image/png": png}, raw=True, metadata={"image/png": about})
    if choices := deviations.behind(name):
        line = deviations.line(choices)
        display({"text/markdown": line, "text/plain": line}, raw=True)


def write(study: Study, name: str, fig: Figure, alt: str, *, footer: str = "") -> bytes:
    """Write <name>.png, <name>.svg and <name>.json (the alternative text, the choices, and all that made the figure).
    A figure of other data than the study's has a footer of its own. Returns the bytes of the PNG."""
    if not alt.strip():
        raise ValueError(f"figure {name!r} has an empty alt text; accepted: a sentence that says what it shows")
    _add_footer(fig, footer or study.footer)
    if study.profile.name == "smoke":
        fig.text(0.5, 0.5, "SMOKE", fontsize=60, color="#d55e00", alpha=0.16, ha="center", va="center", rotation=20)
    files = {}
    for kind, metadata in {"png": {"Description": alt}, "svg": {"Date": None, "Description": alt}}.items():
        buffer = io.BytesIO()
        fig.savefig(buffer, format=kind, metadata=metadata)
        files[kind] = buffer.getvalue()
    return study.save_files(name, files, kind="figure", alt=alt)["png"]


def _add_footer(fig: Figure, text: str) -> None:
    """Grey lines below everything else, as many as the width asks for."""
    width, height = fig.get_size_inches()
    lines = textwrap.wrap(text, int(FOOTER_LETTERS * width))
    room = (0.13 * len(lines) + 0.03) / height
    fig.get_layout_engine().set(rect=(0, room, 1, 1 - room))
    fig.set_dpi(mpl.rcParams["savefig.dpi"])  # at another one, letters are a little wider
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # all has its place, but for legends at the bottom: they know nothing of this room
    for one in fig.legends:
        if one.get_window_extent().y0 < room * fig.bbox.height:
            one.set_bbox_to_anchor((0, room, 1, 1 - room), fig.transFigure)
    fig.text(0.005, 0.02 / height, plain("\n".join(lines)), va="bottom", fontsize=7, color="#767676")


def headline(fig: Figure, finding: str) -> None:
    """What the figure found, as its title; nothing if that is nothing."""
    if finding:
        size = 11.5 if fig.get_figwidth() > 6 else 9
        text = textwrap.fill(plain(finding), int(HEADLINE_LETTERS * 11.5 / size * fig.get_figwidth()))
        fig.suptitle(text, x=0.005, ha="left", fontsize=size, fontweight="bold")


def main(study: Study) -> list[str]:
    """The few defences that are shown where more would hide the answer."""
    return [name for name in MAIN if name in study.labels] or study.featured[:3]


def legend(fig: Figure, axes: Axes, **options) -> None:
    """The legend of one of the axes, to the right of them all."""
    fig.legend(*axes.get_legend_handles_labels(), loc="outside right center", **options)


def listed(study: Study, rows: pd.DataFrame, template: str, separator: str = "; ") -> str:
    """For an alternative text: of each row the defence's label and the template, filled with the row's columns."""
    return separator.join(f"{study.labels[row['defence']]} {template.format(**row)}" for row in rows.to_dict("records"))


def of_architecture(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """The rows about the architecture that figures show."""
    return table[table.architecture == study.architecture]


def bars(axes: Axes, study: Study, rows: pd.DataFrame) -> None:
    """One bar per defence, from the columns mean, low and high."""
    for i, (name, look) in enumerate(looks(study).items()):
        row = rows[rows.defence == name].iloc[0]
        axes.barh(i, row["mean"], color=look["color"], height=0.65)
        axes.plot([row.low, row.high], [i, i], color="black", linewidth=1.2)


def name_bars(axes: Axes, study: Study) -> None:
    """The names of the defences down the side, the first on top."""
    axes.set_yticks(range(len(study.labels)), map(plain, study.labels.values()))
    axes.invert_yaxis()


def dots(axes: Axes, study: Study, table: pd.DataFrame, x: str, y: str) -> None:
    """One dot per defence, column y against column x. A column has an interval if the table has <column>_low and
    <column>_high."""
    for name, look in looks(study).items():
        row = table[table.defence == name].iloc[0]
        axes.errorbar(row[x], row[y], _interval(row, y), _interval(row, x), markersize=8, linestyle="none", **look)


def _interval(row: pd.Series, column: str) -> list[list[float]] | None:
    """How far the interval of a column reaches below and above its estimate."""
    if f"{column}_low" not in row:
        return None
    return [[row[column] - row[f"{column}_low"]], [row[f"{column}_high"] - row[column]]]


def by_doubling(axes: Axes) -> None:
    """A logarithmic axis of costs along the bottom, with plain numbers: 1, 2, 4."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")


def over_epochs(axes: Axes, study: Study, history: pd.DataFrame, column: str) -> None:
    """A column of the training history against the epoch, one line per featured defence."""
    for name in study.featured:
        rows = history[history.defence == name]
        axes.plot(rows.epoch, rows[column], **looks(study)[name])
    axes.xaxis.get_major_locator().set_params(integer=True)


def last_epoch(study: Study, history: pd.DataFrame) -> pd.DataFrame:
    """The history's last row of each featured defence."""
    return history[history.defence.isin(study.featured)].groupby("defence", sort=False).last().reset_index()


def heat_map(axes: Axes, table: pd.DataFrame, *, title: str, whole: bool = True, fontsize: float = 9) -> None:
    """A pivot table as coloured cells with their numbers; missing cells stay white. The colours span 0 to 1 if
    `whole`, else the table's own range."""
    values = table.to_numpy(float)
    low, high = (0, 1) if whole else (values.min(), values.max())
    axes.imshow(values, cmap="viridis", vmin=low, vmax=high, aspect="auto")
    axes.grid(False)
    columns, index = ([*map(plain, names)] for names in (table.columns, table.index))
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(index)), index)
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = (value - low) / max(high - low, 1e-9) < 0.55
            style = {"color": "white" if dark else "black", "fontsize": fontsize}
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", **style)


def show(axes: Axes, array: np.ndarray) -> None:
    """An image [C, H, W] in [0, 1], grey or colour; or a map [H, W], scaled from 0 to its own 99.5th percentile."""
    if array.ndim == 3:
        image = array[0] if len(array) == 1 else array.transpose(1, 2, 0)
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        peak = np.quantile(array, 0.995)
        axes.imshow(array, cmap=MAP_COLOURS, vmin=0, vmax=peak if peak > 0 else 1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def map_grid(rows: list[list[tuple[np.ndarray, str, bool | None]]], *, columns: list[str], names: list[str]) -> Figure:
    """Images [C, H, W] and maps [H, W] in a grid. Each cell is (array, caption, right?): the caption is green where
    the prediction is right, red where it is wrong, black where there is none."""
    fig = figure(1.12 * len(columns) + 1.0, 1.3 * len(rows) + 0.5)
    grid = panels(fig, len(rows), len(columns))
    tint = {True: "#007a4d", False: "#c03000", None: "black"}
    for i, row in enumerate(rows):
        for axes, (array, caption, right) in zip(grid[i], row, strict=True):
            show(axes, array)
            axes.set_xlabel(plain(caption), fontsize=8, color=tint[right], labelpad=2)
        grid[i, 0].set_ylabel(names[i], fontsize=9, rotation=0, ha="right", va="center", labelpad=6)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(plain(column), fontsize=9, fontweight="bold", loc="center", color="black")
    return fig
