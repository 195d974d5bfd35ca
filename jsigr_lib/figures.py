"""The figures of the study. Each reads a table or arrays of a run, computes nothing, and returns (figure, alternative
text), the text with the figure's main numbers in it."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jsigr_lib import search
from jsigr_lib.errors import InputError
from jsigr_lib.plotting import figure, heat_map, looks, panels
from jsigr_lib.study import Study

Described = tuple[Figure, str]


def bars(axes: Axes, study: Study, rows: pd.DataFrame) -> None:
    """One bar per defence, from the columns mean, low and high."""
    for i, (name, look) in enumerate(looks(study).items()):
        row = rows[rows.defence == name].iloc[0]
        axes.barh(i, row["mean"], color=look["color"], height=0.65)
        axes.plot([row.low, row.high], [i, i], color="black", linewidth=1.2)


def name_bars(axes: Axes, study: Study) -> None:
    """The defences down the side, the first on top."""
    axes.set_yticks(range(len(study.labels)), study.labels.values())
    axes.invert_yaxis()


def training_curves(study: Study, history: pd.DataFrame) -> Described:
    """Validation accuracy and Jacobian norm against the epoch, one line per featured defence."""
    fig = figure(9, 3.4)
    left, right = panels(fig, 1, 2)[0]
    for name in study.featured:
        rows = history[history.defence == name]
        for axes, column in ((left, "validation_accuracy"), (right, "jacobian_norm")):
            axes.plot(rows.epoch, rows[column], **looks(study)[name])
    left.set(title="Accuracy", xlabel="epoch", ylabel="validation accuracy")
    right.set(title="Jacobian norm", xlabel="epoch", ylabel=r"mean $\|J\|_F^2$", yscale="log")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    fig.legend(*left.get_legend_handles_labels(), loc="outside right center")
    last = history[history.defence.isin(study.featured)].groupby("defence", sort=False).last().reset_index()
    ends = "; ".join(
        f"{study.labels[row.defence]} ends at accuracy {row.validation_accuracy:.2f}, norm {row.jacobian_norm:.1f}"
        for row in last.itertuples()
    )
    return fig, f"Validation accuracy and mean squared Jacobian norm after each epoch, one line per defence: {ends}."


def lambda_grid(study: Study, table: pd.DataFrame) -> Described:
    """J-SIGR's validation accuracy over lambda_J x lambda_S: clean, and under transferred attack."""
    weights = pd.DataFrame([{"weights": search.said(one), **one} for one in search.candidates(study, "jsigr")])
    if weights.empty:
        raise InputError("tried of defence 'jsigr' = {}; accepted: values of lambda_j and lambda_s, for a grid of them")
    table = table[(table.defence == "jsigr") & (table.split == "validation")].merge(weights, on="weights")
    fig = figure(8.6, 0.5 * table.lambda_j.nunique() + 1.9)
    for axes, (threat, title) in zip(
        panels(fig, 1, 2)[0], {"clean": "Clean", "transfer": "Transferred attack"}.items(), strict=True
    ):
        pivot = table[table.threat == threat].pivot(index="lambda_j", columns="lambda_s", values="accuracy")
        pivot.index, pivot.columns = (
            [f"{value:g}" for value in pivot.index],
            [f"{value:g}" for value in pivot.columns],
        )
        low, high = pivot.to_numpy().min(), pivot.to_numpy().max()
        heat_map(axes, pivot, title=f"{title}, validation", low=low, high=high)
        axes.set(xlabel=r"$\lambda_S$", ylabel=r"$\lambda_J$")
        axes.tick_params(axis="x", rotation=0)
    best = table[table.threat == "transfer"].sort_values("accuracy").iloc[-1]
    return fig, (
        "Two heat maps of validation accuracy over the Jacobian weight and the selective weight: clean, and under "
        f"transferred attack, best at lambda_J {best.lambda_j:g}, lambda_S {best.lambda_s:g}: {best.accuracy:.2f}."
    )


def searched(study: Study, table: pd.DataFrame) -> Described:
    """Every candidate of the search: transferred against clean accuracy, on the validation images, which choose, and on
    the test images, which report. A ring marks the best of a defence."""
    fig = figure(9.6, 4.1)
    for axes, split in zip(panels(fig, 1, 2, sharex=True, sharey=True)[0], ("validation", "test"), strict=True):
        for name, look in looks(study).items():
            rows = table[(table.defence == name) & (table.split == split)]
            if len(rows):
                points = rows.pivot(index=["weights", "chosen"], columns="threat", values="accuracy").reset_index()
                points = points.sort_values("clean")
                axes.plot(points.clean, points.transfer, linestyle="none", **look)
                best = points[points.chosen.str.contains("best")]
                axes.plot(best.clean, best.transfer, "o", markersize=11, fillstyle="none", color=look["color"])
        axes.set(title=f"{split.capitalize()} images", xlabel="clean accuracy")
    fig.axes[0].set_ylabel(f"transferred accuracy, eps {study.profile.eps:g}")
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside right center")
    best = table[table.chosen.str.contains("best") & (table.split == "test")]
    best = best.pivot(index=["defence", "weights"], columns="threat", values="accuracy").reset_index()
    values = "; ".join(
        f"{study.labels[row.defence]} ({row.weights or 'no weight'}) {row.clean:.2f} and {row.transfer:.2f}"
        for row in best.itertuples()
    )
    return fig, (
        "Transferred against clean accuracy of every weight that was tried, on validation and on test images. Clean "
        f"and transferred accuracy on the test images of those chosen: {values}."
    )


def cost_scatter(study: Study, table: pd.DataFrame, seconds: dict[str, float]) -> Described:
    """Robustness against the cost of training, counted (operations) and measured (time on this machine)."""
    fig = figure(9.6, 4.1)
    left, right = panels(fig, 1, 2, sharey=True)[0]
    for name, look in looks(study).items():
        row = table[table.defence == name].iloc[0]
        bar = [[row.accuracy - row.low], [row.high - row.accuracy]]
        for axes, cost in ((left, row.cost), (right, seconds[name] / seconds["standard"])):
            axes.errorbar(cost, row.accuracy, bar, markersize=8, linestyle="none", **look)
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
    values = ", ".join(
        f"{study.labels[row.defence]} {row.cost:.2f} times, {row.accuracy:.2f}" for row in table.itertuples()
    )
    return fig, (
        "Accuracy under the headline transferred attack against the cost of training relative to standard training, "
        f"counted in operations and measured in time: {values}."
    )


def forest(study: Study, table: pd.DataFrame) -> Described:
    """Every test behind the scorecard: the difference with its interval, and the margin it has to clear."""
    fig = figure(9.5, 0.31 * len(table) + 1.3)
    (axes,) = panels(fig)[0]
    tint = {"holds": "#009e73", "fails": "#d55e00", "undecided": "#767676"}
    for y, row in enumerate(table.itertuples()):
        colour = tint[row.outcome]
        axes.plot([row.low, row.high], [y, y], color=colour)
        axes.plot(row.difference, y, marker="o", color=colour)
        axes.plot([row.margin] * 2, [y - 0.32, y + 0.32], color="black", linewidth=1.2)
    axes.axvline(0, color="#999999", linewidth=0.8)
    axes.set_yticks(range(len(table)), [f"{row.claim}: {row.test}" for row in table.itertuples()], fontsize=8.5)
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set(xlabel="difference with its 95 % interval; black bar: margin", title="What the verdicts rest on")
    handles = [mpl.lines.Line2D([], [], color=colour, marker="o", label=name) for name, colour in tint.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    counts = ", ".join(f"{n} {outcome}" for outcome, n in table.outcome.value_counts().items())
    return fig, (
        f"The {len(table)} differences behind the scorecard with their 95 percent intervals and the margins to clear: "
        f"{counts}."
    )
