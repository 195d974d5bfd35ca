"""The figures of the training notebook: training curves and the search for weights."""

import pandas as pd

from jsigr_lib.figures import plotting
from jsigr_lib.findings import titles
from jsigr_lib.method.errors import InputError
from jsigr_lib.study.study import Study

GRID = ("lambda_j", "lambda_s")
"""The weights of J-SIGR, down and across its heat maps."""


def training_curves(study: Study, history: pd.DataFrame) -> plotting.Described:
    """Validation accuracy and Jacobian norm against the epoch, one line per featured defence."""
    fig, (left, right) = plotting.row(9, 3.7, 2)
    plotting.over_epochs(left, study, history, "validation_accuracy")
    plotting.over_epochs(right, study, history, "jacobian_norm")
    left.set(title="Accuracy", xlabel="epoch", ylabel="validation accuracy")
    right.set(title="Jacobian norm", xlabel="epoch", ylabel=r"mean $\|J\|_F^2$", yscale="log")
    plotting.legend(fig, left)
    plotting.headline(fig, titles.curves(history))
    ends = "ends at accuracy {validation_accuracy:.2f}, norm {jacobian_norm:.1f}"
    return fig, (
        "Validation accuracy and mean squared Jacobian norm after each epoch, one line per defence: "
        f"{plotting.listed(study, plotting.last_epoch(study, history), ends)}."
    )


def lambda_grid(study: Study, table: pd.DataFrame, counting: list[str]) -> plotting.Described:
    """J-SIGR's validation accuracy over lambda_J x lambda_S: clean, and under the headline attack from
    the sources that count, in the mean."""
    tried = study.profile.defences["jsigr"].tried
    if not set(GRID) <= set(tried):
        raise InputError(
            f"tried of defence 'jsigr' = {tried}; accepted: values of {' and '.join(GRID)}, for a grid of them"
        )
    title = titles.grid(table, counting)
    table = table[(table.defence == "jsigr") & (table.split == "validation") & table.source.isin(["", *counting])]
    table = table.groupby(["weights", "threat"], sort=False).accuracy.mean().reset_index()
    for name in GRID:
        table[name] = table.weights.str.extract(rf"{name} ([^,]+)", expand=False).astype(float)
    fig, grid = plotting.row(8.6, 0.5 * table.lambda_j.nunique() + 2.2, 2)
    panels = {"clean": "Clean", "transfer": "Transferred attack"}
    for axes, (threat, panel) in zip(grid, panels.items(), strict=True):
        pivot = table[table.threat == threat].pivot(index="lambda_j", columns="lambda_s", values="accuracy")
        pivot = pivot.rename(index="{:g}".format, columns="{:g}".format)
        plotting.heat_map(axes, pivot, title=f"{panel}, validation", whole=False)
        axes.set(xlabel=r"$\lambda_S$", ylabel=r"$\lambda_J$")
        axes.tick_params(axis="x", rotation=0)
    plotting.headline(fig, title)
    best = table[table.threat == "transfer"].sort_values("accuracy").iloc[-1]
    return fig, (
        "Two heat maps of validation accuracy over the Jacobian weight and the selective weight: clean, and under "
        f"transferred attack, best at lambda_J {best.lambda_j:g}, lambda_S {best.lambda_s:g}: {best.accuracy:.2f}."
    )


def frontier(study: Study, table: pd.DataFrame, counting: list[str]) -> plotting.Described:
    """Every candidate of the search at its final length: accuracy under attack against clean accuracy. Validation
    images, which choose; test images, which report; and AutoAttack, where it was asked. A ring marks the chosen one.
    Transferred accuracy is the mean over the sources that count."""
    keys, attacked = ["defence", "weights", "chosen", "split"], table[table.threat == "transfer"]
    wide = table[table.threat != "transfer"].pivot(index=keys, columns="threat", values="accuracy")
    wide["transfer"] = attacked[attacked.source.isin(counting)].groupby(keys).accuracy.mean()
    wide = wide.reset_index().sort_values("clean", kind="stable")
    panels = {"Validation images, transferred": ("validation", "transfer")}
    panels |= {"Test images, transferred": ("test", "transfer")}
    if "AutoAttack" in wide:
        panels["Test images, AutoAttack"] = ("test", "AutoAttack")
    fig, grid = plotting.row(1.8 + 2.8 * len(panels), 4.2, len(panels), sharex=True)
    for axes, (title, (split, threat)) in zip(grid, panels.items(), strict=True):
        for name, look in plotting.looks(study).items():
            points = wide[(wide.defence == name) & (wide.split == split)].dropna(subset=threat)
            if len(points):
                axes.plot(points.clean, points[threat], **{**look, "linestyle": ":"})
                best = points[points.chosen]
                axes.plot(best.clean, best[threat], "o", markersize=11, fillstyle="none", color=look["color"])
        axes.set(title=title, xlabel="clean accuracy", ylim=(0, None))
    grid[0].set_ylabel(f"accuracy under attack, {study.budget}")
    plotting.legend(fig, grid[0])
    plotting.headline(fig, titles.frontier(table, counting, study.labels))
    best = wide[wide.chosen & (wide.split == "test")].sort_values(["defence", "weights"])
    best = best.assign(weights=best.weights.replace("", "no weight"))
    return fig, (
        "Accuracy under attack against clean accuracy of every weight that was tried; attacks transferred from "
        f"{', '.join(counting)}. "
        "Clean and transferred accuracy on the test images of those chosen: "
        f"{plotting.listed(study, best, '({weights}) {clean:.2f} and {transfer:.2f}')}."
    )
