"""The figures of the theory notebook; see `figures` for how all of them are made."""

import matplotlib as mpl
import numpy as np
import pandas as pd

from jsigr_lib.estimators import best_coin, predicted_spread
from jsigr_lib.figures import Described, bars, name_bars
from jsigr_lib.plotting import figure, looks, panels
from jsigr_lib.study import Study


def projection_estimator(study: Study, samples: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> Described:
    """One-projection estimates over the exact norm [draws, images], and their predicted relative spread [images]."""
    fig = figure(9, 3.2)
    left, right = panels(fig, 1, 2)[0]
    for name, estimates in samples.items():
        style = {"color": looks(study)[name]["color"], "label": study.labels[name]}
        left.hist(estimates[:, 0], bins=60, density=True, histtype="step", linewidth=1.8, **style)
        right.scatter(predicted[name], estimates.std(0), s=18, **style)
    left.axvline(1, color="black", linewidth=0.8)
    left.set(title="One image, many projections", xlabel="estimate / exact Jacobian norm", ylabel="density")
    middle = float(np.mean([value.mean() for value in predicted.values()]))
    right.axline((middle, middle), slope=1, color="black", linewidth=0.8)
    right.set(title="Relative spread, per image", xlabel="predicted by the formula", ylabel="observed")
    fig.legend(*left.get_legend_handles_labels(), loc="outside right center")
    return fig, (
        "Left: the one-projection estimates of one image spread around its exact Jacobian norm, two networks. Right: "
        f"observed against predicted relative spread per image, on the diagonal, around {middle:.2f}."
    )


def estimator_spread(study: Study, table: pd.DataFrame, moments: dict[str, dict[str, float]]) -> Described:
    """Spread of the single pass's gradient against its coin: measured, and as the formula predicts it."""
    fig = figure(7.6, 3.4)
    (axes,) = panels(fig)[0]
    coins = np.linspace(0.02, 0.9, 120)
    for name, sums in moments.items():
        style = {"color": looks(study)[name]["color"], "label": study.labels[name]}
        rows = table[(table.defence == name) & table.predicted.notna()]
        axes.plot(coins, [predicted_spread(sums, coin) for coin in coins], **style)
        axes.plot(rows.coin, rows.spread, color=style["color"], marker="o", linestyle="none")
    axes.axvline(study.profile.penalty.coin, color="#767676", linestyle=":", label="this profile's coin")
    axes.set(yscale="log", xlabel="chance of heads π, which serve the Jacobian term")
    axes.set(ylabel="spread of the gradient, exact = 1", title="Line: predicted, dots: measured")
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    fig.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    best = ", ".join(f"{study.labels[name]} {best_coin(sums):.2f}" for name, sums in moments.items())
    return fig, (
        "Spread of the single-pass gradient around the exact one against the chance of heads, measured dots on the "
        f"predicted curves of two networks, which are least at: {best}."
    )


def linearised_robustness(study: Study, values: dict[str, dict[str, np.ndarray]], table: pd.DataFrame) -> Described:
    """Linearised robustness per image against its lower bound, and its mean per defence."""
    fig = figure(9, 3.5)
    left, right = panels(fig, 1, 2)[0]
    means = table[(table.architecture == study.architecture) & (table.quantity == "robustness")]
    for name in study.featured:
        shown = values[name]["robustness"] > 0
        bound, robustness = values[name]["bound"][shown], values[name]["robustness"][shown]
        left.scatter(bound, robustness, s=7, alpha=0.6, color=looks(study)[name]["color"], linewidths=0)
    bars(right, study, means)
    left.set(title="Per image", xscale="log", yscale="log")
    left.set(xlabel="margin / (√2 Jacobian norm)", ylabel="linearised robustness")
    left.axline((1, 1), (2, 2), color="black", linewidth=0.8)
    name_bars(right, study)
    right.set(title="Mean", xlabel="linearised robustness (L2 distance, pixel units)")
    listed = ", ".join(
        f"{study.labels[name]} {value:.2f}" for name, value in zip(means.defence, means["mean"], strict=True)
    )
    return fig, (
        "Left: linearised robustness against its lower bound, one dot per image and defence, and the diagonal. Right: "
        f"mean linearised robustness with its 95 percent interval: {listed}."
    )


def linearisation_error(study: Study, radii: list[float], errors: dict, attack_size: float) -> Described:
    """Error of the tangent against the distance, relative to the change and to the margin: median and quartiles."""
    fig = figure(9, 3.5)
    grid = panels(fig, 1, 2)[0]
    for name, both in errors.items():
        for axes, error in zip(grid, both, strict=True):
            low, middle, high = np.quantile(error, [0.25, 0.5, 0.75], axis=1)
            colour = looks(study)[name]["color"]
            axes.fill_between(radii, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(radii, middle, color=colour, label=study.labels[name])
    for axes in grid:
        axes.axvline(attack_size, color="#767676", linestyle=":", label="size of the headline attack")
        axes.set(xscale="log", xlabel="distance from the image (L2, pixel units)")
    grid[0].set(title="Relative to the change", ylim=(0, None), ylabel="error of the tangent / change")
    grid[1].set(title="Relative to the margin", yscale="log", ylabel="error of the tangent / margin")
    fig.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig, (
        "Error of the first-order prediction of the logits against the distance from the image in random directions, "
        "for a standard and a J-SIGR network: relative to the change itself, and to the margin; a dotted line marks "
        "the size of the headline attack."
    )
