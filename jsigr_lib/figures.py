"""The figures of the study. Each reads a table or arrays of a run, computes nothing, and returns (figure, alternative
text), the text with the figure's main numbers in it."""

import textwrap

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jsigr_lib.errors import InputError
from jsigr_lib.plotting import figure, heat_map, looks, panels
from jsigr_lib.study import Study
from jsigr_lib.weights import candidates, said

Described = tuple[Figure, str]
OUTCOMES = {"holds": "#007a5a", "fails": "#c2410c", "undecided": "#6b6b6b"}
VERDICTS = {"supported": "#007a5a", "partly supported": "#8a6500", "not supported": "#c2410c", "not tested": "#6b6b6b"}


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
    weights = pd.DataFrame([{"weights": said(one), **one} for one in candidates(study, "jsigr")])
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
    fig.axes[0].set_ylabel(f"transferred accuracy, {study.budget}")
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
        ylabel=f"transferred accuracy, {study.budget}",
    )
    right.set(title="Measured time, this machine", xlabel="time to train, standard = 1")
    for axes in (left, right):
        _by_doubling(axes)
    fig.legend(*left.get_legend_handles_labels(), loc="outside right center")
    values = ", ".join(
        f"{study.labels[row.defence]} {row.cost:.2f} times, {row.accuracy:.2f}" for row in table.itertuples()
    )
    return fig, (
        "Accuracy under the headline transferred attack against the cost of training relative to standard training, "
        f"counted in operations and measured in time: {values}."
    )


def trade_offs(study: Study, table: pd.DataFrame) -> Described:
    """Robustness against what is paid for it, and against what comes with it."""
    fig = figure(11.4, 4.1)
    against = {
        "clean": ("What it gives up", "clean accuracy"),
        "cost": ("What it costs", "cost of a training step, standard = 1"),
        "agreement": ("What its maps gain", "agreement of gradient and\nperturbation map, attacked images"),
    }
    for (column, (title, what)), axes in zip(against.items(), panels(fig, 1, 3, sharey=True)[0], strict=True):
        for name, look in looks(study).items():
            row = table[table.defence == name].iloc[0]
            across = None if column == "cost" else _bar(row, column)
            up = _bar(row, "transferred")
            axes.errorbar(row[column], row.transferred, up, across, markersize=8, linestyle="none", **look)
        axes.set(title=title, xlabel=what)
        if column == "cost":
            _by_doubling(axes)
        else:
            axes.set_ylabel(f"transferred accuracy, {study.budget}" if column == "clean" else "")
    fig.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    values = "; ".join(
        f"{study.labels[row.defence]} {row.transferred:.2f}, clean {row.clean:.2f}, {row.cost:.2f} times, "
        f"agreement {row.agreement:.2f}"
        for row in table.itertuples()
    )
    return fig, (
        "Accuracy under the headline transferred attack against clean accuracy, the cost of training in counted "
        f"operations, and the agreement of the gradient map on attacked images: {values}."
    )


def _by_doubling(axes: Axes) -> None:
    """Costs along the bottom: twice as much is as far everywhere."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def _bar(row: pd.Series, column: str) -> list[list[float]]:
    """How far the interval of a column reaches below and above its estimate."""
    return [[row[column] - row[f"{column}_low"]], [row[f"{column}_high"] - row[column]]]


def verdicts(study: Study, card: pd.DataFrame) -> Described:
    """The scorecard as a picture: a row per claim, a column per data set, the verdict in words and colour."""
    table = card.pivot(index="claim", columns="data", values="verdict")
    table = table.loc[card.claim.unique(), card.data.unique()]
    statements = card.drop_duplicates("claim").statement.map(lambda text: textwrap.fill(text, 52))
    fig = figure(5 + 1.75 * len(table.columns), 0.55 * len(table) + 0.75)
    (axes,) = panels(fig)[0]
    for (i, j), verdict in np.ndenumerate(table.to_numpy()):
        axes.add_patch(mpl.patches.Rectangle((j - 0.46, i - 0.42), 0.92, 0.84, color=VERDICTS[verdict]))
        axes.text(j, i, verdict, ha="center", va="center", color="white", fontsize=9.5, fontweight="bold")
    axes.set_yticks(range(len(table)), statements)
    axes.set_xticks(range(len(table.columns)), table.columns, fontweight="bold")
    axes.set(xlim=(-0.5, len(table.columns) - 0.5), ylim=(len(table) - 0.5, -0.5), xlabel="data")
    axes.set_title("What this run says of each claim")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    said = "; ".join(f"{row.statement} {row.data}: {row.verdict}" for row in card.itertuples())
    return fig, f"The verdict on each claim, by data set. {said}."


def forest(study: Study, table: pd.DataFrame) -> Described:
    """Every test behind the scorecard: a row per test, a column per data set; in it the difference with its interval
    from each source and architecture, and the margin that each has to clear."""
    tests, data = (
        list(dict.fromkeys(zip(table.claim, table.measure, table.a, table.b, strict=True))),
        table.data.unique(),
    )
    most = int(table.groupby(["data", "claim", "measure", "a", "b"]).size().max())
    fig = figure(4.6 + 2.9 * len(data), (0.3 + 0.07 * most) * len(tests) + 1.3)
    for name, axes in zip(data, panels(fig, 1, len(data), sharey=True)[0], strict=True):
        for y, (claim, measure, a, b) in enumerate(tests):
            rows = table[(table.data == name) & (table.claim == claim) & (table.measure == measure)]
            rows = rows[(rows.a == a) & (rows.b == b)]
            for offset, row in zip(_spread(len(rows)), rows.itertuples(), strict=True):
                axes.plot([row.low, row.high], [y + offset] * 2, color=OUTCOMES[row.outcome], linewidth=1.4)
                axes.plot(row.difference, y + offset, marker="o", color=OUTCOMES[row.outcome], markersize=3.5)
                axes.plot([row.margin] * 2, [y - 0.42, y + 0.42], color="black", linewidth=1.2)
        axes.axvline(0, color="#999999", linewidth=0.8)
        axes.set_ylim(len(tests) - 0.4, -0.6)
        axes.set(xlabel="difference", title=name)
        axes.set_yticks(range(len(tests)), [_said(study, *test) for test in tests], fontsize=8.5)
    handles = [mpl.lines.Line2D([], [], color=colour, marker="o", label=one) for one, colour in OUTCOMES.items()]
    handles += [mpl.lines.Line2D([], [], color="black", linewidth=1.2, label="margin")]
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    counts = ", ".join(f"{n} {outcome}" for outcome, n in table.outcome.value_counts().items())
    return fig, (
        f"The {len(table)} differences behind the scorecard with their 95 percent intervals and the margins to clear: "
        f"{counts}."
    )


def _spread(n: int) -> np.ndarray:
    """Where n lines stand beside each other in one row."""
    return (np.arange(n) - (n - 1) / 2) * min(0.7 / max(n, 1), 0.2)


def _said(study: Study, claim: str, measure: str, a: str, b: str) -> str:
    return f"{claim}: {study.labels[a]} − {study.labels[b]},\n{measure}"
