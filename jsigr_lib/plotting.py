"""How figures look and are kept: one style, one palette, and `save`, which writes each figure as PNG and SVG with its
alternative text beside it, and shows it in the notebook."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jsigr_lib import deviations
from jsigr_lib.study import Study

PALETTE = (
    *("#4d4d4d", "#e69f00", "#a6761d", "#6b4a12", "#0072b2", "#6a51a3", "#009e73"),
    *("#d55e00", "#f0a58b", "#cc79a7", "#56b4e9", "#1b3a6b", "#8cbf3f", "#8b1a1a"),
)
"""Okabe & Ito's colours, distinguishable by the colour-blind, and darker or lighter relatives; one per defence, in the
profile's order, each with a marker of its own."""
MARKERS = "os<>D^vP*Xphd8"
MAP_COLOURS = "magma"
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
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


mpl.rcParams.update(STYLE)  # matplotlib reads its style piece by piece, whenever something is drawn


def figure(width: float, height: float) -> Figure:
    """An empty figure, outside pyplot's global state; sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def panels(fig: Figure, rows: int = 1, columns: int = 1, **options) -> np.ndarray:
    """A rows x columns array of axes."""
    return fig.subplots(rows, columns, squeeze=False, **options)


def looks(study: Study) -> dict[str, dict[str, str]]:
    """Defence -> colour, marker and label of its line or dot."""
    return {
        name: {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "label": label}
        for i, (name, label) in enumerate(study.labels.items())
    }


def save(study: Study, name: str, fig: Figure, alt: str) -> None:
    """`write` the figure, and show it in the notebook, the choices of DEVIATIONS.md that shape it beneath it."""
    png = write(study, name, fig, alt)
    display({"image/png": png}, raw=True, metadata={"image/png": {"alt": alt, "width": _width(fig)}})
    if choices := deviations.behind(name):
        line = deviations.line(choices)
        display({"text/markdown": line, "text/plain": line}, raw=True)


def write(study: Study, name: str, fig: Figure, alt: str) -> bytes:
    """Write <name>.png, <name>.svg and <name>.json (words, choices, all that made it); the picture as PNG."""
    if not alt.strip():
        raise ValueError(f"figure {name!r} has an empty alt text; accepted: a sentence that says what it shows")
    fig.get_layout_engine().set(rect=(0, 0.035, 1, 0.965))
    fig.text(0.005, 0.004, study.footer, fontsize=7, color="#767676")
    if study.profile.name == "smoke":
        fig.text(0.5, 0.5, "SMOKE", fontsize=60, color="#d55e00", alpha=0.16, ha="center", va="center", rotation=20)
    files = {}
    for kind, metadata in {"png": {"Description": alt}, "svg": {"Date": None, "Description": alt}}.items():
        buffer = io.BytesIO()
        fig.savefig(buffer, format=kind, metadata=metadata)
        files[kind] = buffer.getvalue()
    return study.save_files(name, files, kind="figure", alt=alt)["png"]


def _width(fig: Figure) -> int:
    """Width on screen, CSS pixels."""
    return round(fig.get_figwidth() * 100)


def heat_map(
    axes: Axes, table: pd.DataFrame, *, title: str, low: float = 0, high: float = 1, fontsize: float = 9
) -> None:
    """A pivot table as coloured cells with their numbers; missing cells stay white."""
    values = table.to_numpy(float)
    axes.imshow(values, cmap="viridis", vmin=low, vmax=high, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(table.index)), table.index)
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = (value - low) / max(high - low, 1e-9) < 0.55
            axes.text(
                j, i, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black", fontsize=fontsize
            )


def show_image(axes: Axes, image: np.ndarray, *, title: str = "", colour: str = "black") -> None:
    """An image [C, H, W] in [0, 1], grey or colour."""
    image = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _frame(axes, title, colour)


def show_map(axes: Axes, saliency: np.ndarray, *, title: str = "", colour: str = "black") -> None:
    """A map [H, W], scaled from 0 to its own 99.5th percentile."""
    peak = np.quantile(saliency, 0.995)
    axes.imshow(saliency, cmap=MAP_COLOURS, vmin=0, vmax=peak if peak > 0 else 1, interpolation="nearest")
    _frame(axes, title, colour)


def _frame(axes: Axes, title: str, colour: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9, fontweight="normal", loc="center", color=colour)


def map_grid(rows: list[list[tuple[np.ndarray, str, bool | None]]], *, columns: list[str], names: list[str]) -> Figure:
    """Images [C, H, W] and maps [H, W] in a grid. Each cell: (array, caption, right?): the caption is green where the
    prediction is right, red where it is wrong, black where there is none."""
    fig = figure(1.12 * len(columns) + 1.0, 1.3 * len(rows) + 0.5)
    grid = panels(fig, len(rows), len(columns))
    tint = {True: "#007a4d", False: "#c03000", None: "black"}
    for i, row in enumerate(rows):
        for axes, (array, caption, right) in zip(grid[i], row, strict=True):
            (show_image if array.ndim == 3 else show_map)(axes, array, colour=tint[right])
            axes.set_xlabel(caption, fontsize=8, color=tint[right], labelpad=2)
        grid[i, 0].set_ylabel(names[i], fontsize=9, rotation=0, ha="right", va="center", labelpad=6)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(column, fontsize=9, fontweight="bold", loc="center", color="black")
    return fig
