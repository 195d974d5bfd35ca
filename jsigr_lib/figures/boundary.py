"""The figures of where theory meets practice; see `plotting` for how all of them are made."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from jsigr_lib.figures import plotting
from jsigr_lib.figures.plotting import Described, figure, looks, name_bars, panels
from jsigr_lib.findings import titles
from jsigr_lib.study.study import Study

MEASURES = {
    "reach_random": ("linear region ends, random direction", "#9ecae1", "v"),
    "reach_towards": ("linear region ends, towards the error", "#0072b2", "^"),
    "distance": ("nearest error found", "black", "o"),
    "robustness": ("tangent's boundary", "#d55e00", "D"),
}


def boundary_distance(study: Study, values: dict[str, dict[str, np.ndarray]], table: pd.DataFrame) -> Described:
    """The tangent's distance against the measured one, image by image, and their ratio for every defence."""
    fig, (left, right) = plotting.row(9.6, 4.6, 2)
    for name in plotting.main(study):
        look = {**looks(study)[name], "linestyle": "none", "markersize": 4, "alpha": 0.75, "markeredgewidth": 0}
        left.plot(values[name]["distance"].ravel(), values[name]["robustness"].ravel(), **look)
    left.set(title="Per image", xscale="log", yscale="log")
    left.set(xlabel="nearest error found (L2, pixel units)", ylabel="linearised robustness")
    left.axline((1, 1), (2, 2), color="black", linewidth=0.8)
    left.legend(fontsize=8, handletextpad=0.2)
    shown = _rows(study, table)
    for i, row in enumerate(shown.itertuples()):
        ratio = np.sort((values[row.defence]["robustness"] / values[row.defence]["distance"]).ravel())
        colour = looks(study)[row.defence]["color"]
        right.plot(ratio, np.full(len(ratio), i), "|", color=colour, alpha=0.55, markersize=9, markeredgewidth=1)
        right.plot([row.ratio_low, row.ratio_high], [i, i], color="black", linewidth=1.6)
        right.plot(row.ratio, i, "o", color=colour, markeredgecolor="black", markersize=6)
    right.axvline(1, color="black", linewidth=0.8)
    name_bars(right, study)
    right.set(title="Their ratio (above 1: promised too much)", xscale="log")
    right.set(xlabel="linearised robustness / nearest error found")
    plotting.headline(fig, titles.boundary(table, study.labels))
    low, high = right.get_xlim()
    _plain(right, [0.5, 0.7, 1, 1.5, 2, 3, 5, 8] if high > 2 * low else [0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5])
    ratios = plotting.listed(study, shown, "{ratio:.2f} [{ratio_low:.2f}, {ratio_high:.2f}]")
    return fig, (
        "Left: linearised robustness against the distance to the nearest error found, one dot per image, of the "
        "main defences, and the diagonal. Right: their ratio, a stroke per image, its geometric mean with a 95 "
        "percent interval: "
        f"{ratios}; {shown.images.min()} to {shown.images.max()} images each."
    )


def linear_region(study: Study, table: pd.DataFrame) -> Described:
    """How far the linear region reaches beside what the tangent says of the boundary, and the ReLUs that flip."""
    fig, (left, right) = plotting.row(9.6, 4.7, 2, sharey=True, width_ratios=(1.5, 1))
    shown = _rows(study, table)
    for column, (label, colour, marker) in MEASURES.items():
        left.plot(shown[column], range(len(shown)), marker, color=colour, label=label, markersize=5.5)
    left.axvline(shown.attack.max(), color="#767676", linestyle=":", label="size of the headline attack")
    left.set(title="Distance, median over images", xscale="log", xlabel="L2, pixel units")
    _plain(left, [0.001, 0.01, 0.1, 1])
    for offset, column, colour, marker, label in (
        (-0.16, "flipped", "black", "o", "at the nearest error found"),
        (0.16, "flipped_random", "#9ecae1", "v", "as far, random direction"),
    ):
        places = np.arange(len(shown)) + offset
        ends = [100 * shown[f"{column}_low"], 100 * shown[f"{column}_high"]]
        right.plot(ends, [places, places], color=colour, linewidth=1.2)
        right.plot(100 * shown[column], places, marker, color=colour, label=label)
    right.set(title="ReLUs that differ there", xlabel="percent of all ReLUs", xlim=(0, None))
    name_bars(left, study)
    fig.legend(loc="outside lower center", ncols=4, fontsize=8)
    plotting.headline(fig, titles.region(table))
    template = "{reach_random:.4f}, {reach_towards:.4f}, {robustness:.2f}, {distance:.2f}, {percent:.1f} percent"
    medians = plotting.listed(study, shown.assign(percent=100 * shown.flipped), template)
    return fig, (
        "Per defence, medians over images of how far the linear region reaches in a random direction and towards the "
        "nearest error found, of linearised robustness and of the distance to that error, and the share of ReLUs that "
        f"differ there: {medians}. The headline attack has size {shown.attack.max():.2f}."
    )


def training_theory(study: Study, history: pd.DataFrame) -> Described:
    """Jacobian norm, margin, their quotient and robust accuracy after each epoch, one line per featured defence."""
    fig = figure(9.6, 5.6)
    grid = panels(fig, 2, 2, sharex=True)
    history = history.assign(bound=history.margin / (2 * history.jacobian_norm) ** 0.5)
    columns = {
        "jacobian_norm": ("Jacobian norm", r"mean $\|J\|_F^2$"),
        "margin": ("Margin", r"mean $z_y - \max_{j \neq y} z_j$"),
        "bound": ("Their quotient", r"margin / ($\sqrt{2}\,\|J\|_F$)"),
        "robust_accuracy": ("Robust accuracy", "of validation images, white-box"),
    }
    for axes, (column, (title, label)) in zip(grid.flat, columns.items(), strict=True):
        plotting.over_epochs(axes, study, history, column)
        axes.set(title=title, ylabel=label)
    grid[0, 0].set_yscale("log")
    grid[1, 1].set_ylim(0, None)
    for axes in grid[1]:
        axes.set_xlabel("epoch")
    plotting.legend(fig, grid[0, 0])
    plotting.headline(fig, titles.in_training(history))
    ends = "{jacobian_norm:.1f}, {margin:.2f}, {bound:.2f}, {robust_accuracy:.2f}"
    return fig, (
        "After each epoch, on validation images, one line per defence: mean squared Jacobian norm, mean margin, margin "
        "over root two times the norm's root, and accuracy under a short white-box attack, at the end: "
        f"{plotting.listed(study, plotting.last_epoch(study, history), ends)}."
    )


def _rows(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the architecture that figures show, in the profile's order."""
    return plotting.of_architecture(study, table).set_index("defence").loc[list(study.labels)].reset_index()


def _plain(axes: Axes, ticks: list[float]) -> None:
    """Round numbers along a logarithmic axis, those within its limits."""
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
