"""Figures: they read tables and arrays of a run and compute nothing. `save` writes each as PNG and SVG with its
alternative text beside it, and shows it in the notebook."""

import hashlib
import io
import json

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jsigr_lib
from jsigr_lib.study import Study

PALETTE = ("#4d4d4d", "#e69f00", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#a6761d")
"""Okabe & Ito's colours, distinguishable by the colour-blind; one per defence, in the profile's order."""
MARKERS = "osD^v*PX"
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


def figure(width: float, height: float) -> Figure:
    """An empty figure in our style, outside pyplot's global state; sizes in inches."""
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def panels(fig: Figure, rows: int = 1, columns: int = 1, **options) -> np.ndarray:
    """A rows x columns array of axes in our style."""
    with mpl.rc_context(STYLE):
        return fig.subplots(rows, columns, squeeze=False, **options)


def colours(study: Study) -> dict[str, str]:
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(study.profile.defences)}


def save(study: Study, fig: Figure, name: str, *, alt: str) -> None:
    """Write <name>.png, <name>.svg and <name>.json (alternative text, origin, hashes) and show the figure."""
    if not alt.strip():
        raise ValueError(f"figure {name!r} has an empty alt text; accepted: a sentence that says what it shows")
    with mpl.rc_context(STYLE):
        fig.get_layout_engine().set(rect=(0, 0.035, 1, 0.965))
        fig.text(0.005, 0.004, study.footer, fontsize=7, color="#767676")
        if study.profile.name == "smoke":
            fig.text(
                0.5,
                0.5,
                "SMOKE",
                fontsize=60,
                color="#d55e00",
                alpha=0.16,
                ha="center",
                va="center",
                rotation=20,
            )
        files = {}
        for kind, metadata in {
            "png": {"Description": alt},
            "svg": {"Date": None, "Description": alt},
        }.items():
            buffer = io.BytesIO()
            fig.savefig(buffer, format=kind, metadata=metadata)
            files[kind] = buffer.getvalue()
    study.out.mkdir(parents=True, exist_ok=True)
    for kind, content in files.items():
        (study.out / f"{name}.{kind}").write_bytes(content)
    sidecar = {
        "alt": alt,
        "profile": study.profile.model_dump(mode="json", exclude={"data_root"}),
        "data": study.data.content,
        "jsigr": jsigr_lib.__version__,
        "sha256": {kind: hashlib.sha256(content).hexdigest() for kind, content in files.items()},
    }
    (study.out / f"{name}.json").write_text(json.dumps(sidecar, indent=1) + "\n")
    display({"image/png": files["png"]}, raw=True, metadata={"image/png": {"alt": alt, "width": _width(fig)}})


def _width(fig: Figure) -> int:
    """Width on screen, CSS pixels."""
    return round(fig.get_figwidth() * 100)


def training_curves(study: Study, history: pd.DataFrame) -> Figure:
    """Validation accuracy and Jacobian norm against the epoch, one line per defence."""
    fig = figure(9, 3.4)
    left, right = panels(fig, 1, 2)[0]
    for i, (name, colour) in enumerate(colours(study).items()):
        rows = history[history.defence == name]
        for axes, column in ((left, "validation_accuracy"), (right, "jacobian_norm")):
            axes.plot(
                rows.epoch,
                rows[column],
                color=colour,
                marker=MARKERS[i % len(MARKERS)],
                label=study.labels[name],
            )
    left.set(title="Accuracy", xlabel="epoch", ylabel="validation accuracy")
    right.set(title="Jacobian norm", xlabel="epoch", ylabel=r"mean $\|J\|_F^2$", yscale="log")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    fig.legend(*left.get_legend_handles_labels(), loc="outside right center")
    return fig


def accuracy_curves(study: Study, table: pd.DataFrame, *, architecture: str | None = None) -> Figure:
    """Accuracy against eps with its interval: white-box, and transferred from each surrogate (headline attack)."""
    table = table[table.architecture == (architecture or study.architecture)]
    clean = table[table.threat == "clean"]
    attack = study.profile.transfer_attacks[0]
    shown = {"White-box PGD": table[table.threat == "white-box"]}
    for source in table[table.threat == "transfer"].source.unique():
        rows = table[(table.source == source) & (table.attack == attack)]
        shown[f"{attack.upper()} transferred from {source}"] = rows
    fig = figure(3.3 * len(shown) + 1.3, 3.5)
    grid = panels(fig, 1, len(shown), sharey=True)[0]
    for axes, (title, rows) in zip(grid, shown.items(), strict=True):
        for i, (name, colour) in enumerate(colours(study).items()):
            line = pd.concat([clean[clean.defence == name], rows[rows.defence == name]]).sort_values("eps")
            axes.fill_between(line.eps, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(
                line.eps,
                line.accuracy,
                color=colour,
                marker=MARKERS[i % len(MARKERS)],
                label=study.labels[name],
            )
        axes.axvline(study.profile.eps, color="#999999", linestyle=":", linewidth=1)
        axes.set(title=title, xlabel=r"$\epsilon$ (share of the pixel range)", ylim=(-0.02, 1))
    grid[0].set_ylabel("accuracy, with 95 % interval")
    fig.legend(*grid[0].get_legend_handles_labels(), loc="outside right center")
    return fig


def heat_map(axes: Axes, table: pd.DataFrame, *, title: str, low: float = 0, high: float = 1) -> None:
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
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black", fontsize=9)


def transfer_matrix(study: Study, table: pd.DataFrame) -> Figure:
    """Accuracy of each target (column) on images attacked through each source (row)."""
    pivot = table.pivot(index="source", columns="target", values="accuracy")
    pivot = pivot.loc[table.source.unique(), list(study.profile.defences)].rename(columns=study.labels)
    prefix = f"{study.architecture}, "
    pivot.index = [
        f"{study.architecture}, {study.labels[row.removeprefix(prefix)]}" if row.startswith(prefix) else row
        for row in pivot.index
    ]
    fig = figure(8.6, 0.42 * len(pivot) + 1.9)
    (axes,) = panels(fig)[0]
    heat_map(
        axes,
        pivot,
        title=f"Target accuracy, {study.profile.transfer_attacks[0].upper()}, eps {study.profile.eps:g}",
    )
    axes.set(xlabel="target", ylabel="source")
    return fig


def lambda_grid(table: pd.DataFrame) -> Figure:
    """Validation accuracy over lambda_J x lambda_S: clean, and under transferred attack."""
    fig = figure(8.6, 0.5 * table.lambda_j.nunique() + 1.9)
    for axes, (threat, title) in zip(
        panels(fig, 1, 2)[0], {"clean": "Clean", "transfer": "Transferred attack"}.items(), strict=True
    ):
        pivot = table[table.threat == threat].pivot(index="lambda_j", columns="lambda_s", values="accuracy")
        pivot.index, pivot.columns = (
            [f"{value:g}" for value in pivot.index],
            [f"{value:g}" for value in pivot.columns],
        )
        heat_map(axes, pivot, title=f"{title}, validation", low=0, high=1)
        axes.set(xlabel=r"$\lambda_S$", ylabel=r"$\lambda_J$")
        axes.tick_params(axis="x", rotation=0)
    return fig


def cost_scatter(study: Study, table: pd.DataFrame, seconds: dict[str, float]) -> Figure:
    """Robustness against the cost of training, counted (operations) and measured (time on this machine)."""
    fig = figure(9, 3.7)
    left, right = panels(fig, 1, 2, sharey=True)[0]
    base = seconds["standard"]
    for i, (name, colour) in enumerate(colours(study).items()):
        row = table[table.defence == name].iloc[0]
        bar = [[row.accuracy - row.low], [row.high - row.accuracy]]
        for axes, cost in ((left, row.cost), (right, seconds[name] / base)):
            axes.errorbar(
                cost,
                row.accuracy,
                bar,
                color=colour,
                marker=MARKERS[i % len(MARKERS)],
                markersize=8,
                linestyle="none",
                label=study.labels[name],
            )
    left.set(
        title="Counted operations",
        xlabel="cost of a training step, standard = 1",
        ylabel=f"transferred accuracy, eps {study.profile.eps:g}",
    )
    right.set(title="Measured time, this machine", xlabel="time to train, standard = 1")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    fig.legend(*left.get_legend_handles_labels(), loc="outside right center")
    return fig


def probability_curves(study: Study, table: pd.DataFrame) -> Figure:
    """Deletion and insertion curves of the gradient map, clean and attacked; dashed: the perturbation map."""
    fig = figure(9, 5.6)
    grid = panels(fig, 2, 2, sharex=True, sharey="row")
    for i, kind in enumerate(("deletion", "insertion")):
        for j, given in enumerate(("clean", "attacked")):
            for name, colour in colours(study).items():
                rows = table[(table.curve == kind) & (table.input == given) & (table.defence == name)]
                for map_name, style in (("gradient", "-"), ("perturbation", (0, (2, 1.5)))):
                    line = rows[rows.map == map_name]
                    axes = grid[i, j]
                    label = study.labels[name] if map_name == "gradient" else None
                    axes.plot(
                        line.share,
                        line.probability,
                        color=colour,
                        linestyle=style,
                        linewidth=1.4,
                        label=label,
                    )
            grid[i, j].set_title(f"{kind.capitalize()}, {given} images")
        grid[i, 0].set_ylabel("probability of the true class")
    for axes in grid[1]:
        axes.set_xlabel("share of the pixels changed, most salient first")
    fig.legend(
        *grid[0, 0].get_legend_handles_labels(),
        loc="outside right center",
        title="solid: gradient map\ndashed: perturbation map",
    )
    return fig


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
        axes.set_title(column, fontsize=9, fontweight="bold", loc="center")
    return fig


def forest(study: Study, table: pd.DataFrame) -> Figure:
    """Every test behind the scorecard: the difference with its interval, and the margin it has to clear."""
    fig = figure(9, 0.31 * len(table) + 1.2)
    (axes,) = panels(fig)[0]
    tint = {"holds": "#009e73", "fails": "#d55e00", "undecided": "#767676"}
    for y, row in enumerate(table.itertuples()):
        colour = tint[row.outcome]
        axes.plot([row.low, row.high], [y, y], color=colour)
        axes.plot(row.difference, y, marker="o", color=colour)
        axes.plot([row.margin] * 2, [y - 0.32, y + 0.32], color="black", linewidth=1.2)
    axes.axvline(0, color="#999999", linewidth=0.8)
    axes.set_yticks(range(len(table)), [f"{row.claim}: {row.test}" for row in table.itertuples()], fontsize=8.5)
    axes.invert_yaxis()
    axes.set(
        xlabel="difference with 95 % interval; black bar: the margin to clear",
        title="What the verdicts rest on",
    )
    handles = [mpl.lines.Line2D([], [], color=colour, marker="o", label=name) for name, colour in tint.items()]
    fig.legend(handles=handles, loc="outside right upper")
    return fig
