"""The figures of the theory notebook; see `plotting` for how all of them are made."""

import matplotlib as mpl
import numpy as np
import pandas as pd

from jsigr_lib.figures.plotting import (
    Described,
    bars,
    figure,
    headline,
    legend,
    listed,
    looks,
    main,
    name_bars,
    panels,
    row,
)
from jsigr_lib.findings import titles
from jsigr_lib.measure.estimators import best_coin, predicted_spread
from jsigr_lib.study.study import Study

Pair = tuple[np.ndarray, np.ndarray]  # the two sides of a statement
Curves = dict[str, np.ndarray]


def _line(study: Study, name: str) -> dict[str, str]:
    """Colour and label of a network."""
    return {key: looks(study)[name][key] for key in ("color", "label")}


def projection_estimator(study: Study, samples: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> Described:
    """One-projection estimates over the exact norm [draws, images], and their predicted relative spread [images]."""
    fig, (left, right) = row(9, 3.5, 2)
    for name, estimates in samples.items():
        style = _line(study, name)
        left.hist(estimates[:, 0], bins=60, density=True, histtype="step", linewidth=1.8, **style)
        right.scatter(predicted[name], estimates.std(0), s=18, **style)
    left.axvline(1, color="black", linewidth=0.8)
    left.set(title="One image, many projections", xlabel="estimate / exact Jacobian norm", ylabel="density")
    middle = float(np.mean([value.mean() for value in predicted.values()]))
    right.axline((middle, middle), slope=1, color="black", linewidth=0.8)
    right.set(title="Relative spread, per image", xlabel="predicted by the formula", ylabel="observed")
    legend(fig, left)
    headline(fig, titles.projection(samples))
    return fig, (
        "Left: the one-projection estimates of one image spread around its exact Jacobian norm, two networks. Right: "
        f"observed against predicted relative spread per image, on the diagonal, around {middle:.2f}."
    )


def estimator_spread(study: Study, table: pd.DataFrame, moments: dict[str, dict[str, float]]) -> Described:
    """Spread of the single pass's gradient against its coin: measured, and as the formula predicts it."""
    fig, (axes,) = row(8.4, 3.7)
    coins = np.linspace(0.02, 0.9, 120)
    for name, sums in moments.items():
        style = _line(study, name)
        rows = table[(table.defence == name) & table.predicted.notna()]
        axes.plot(coins, [predicted_spread(sums, coin) for coin in coins], **style)
        axes.plot(rows.coin, rows.spread, color=style["color"], marker="o", linestyle="none")
    axes.axvline(study.profile.penalty.coin, color="#767676", linestyle=":", label="this profile's coin")
    axes.set(yscale="log", xlabel="chance of heads π, which serve the Jacobian term")
    axes.set(ylabel="spread of the gradient, exact = 1", title="Line: predicted, dots: measured")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    legend(fig, axes)
    least, own = {name: best_coin(sums) for name, sums in moments.items()}, moments["jsigr"]
    here, fair = (predicted_spread(own, coin) for coin in (study.profile.penalty.coin, 0.5))
    headline(fig, titles.coin(least, here, fair))
    best = ", ".join(f"{study.labels[name]} {coin:.2f}" for name, coin in least.items())
    return fig, (
        "Spread of the single-pass gradient around the exact one against the chance of heads, measured dots on the "
        f"predicted curves of two networks, which are least at: {best}."
    )


def linearised_robustness(study: Study, values: dict[str, dict[str, np.ndarray]], table: pd.DataFrame) -> Described:
    """Linearised robustness per image against its lower bound, and its mean per defence."""
    fig, (left, right) = row(9, 3.8, 2)
    means = table[(table.architecture == study.architecture) & (table.quantity == "robustness")]
    for name in main(study):
        shown = values[name]["robustness"] > 0
        bound, robustness = values[name]["bound"][shown], values[name]["robustness"][shown]
        left.scatter(bound, robustness, s=7, alpha=0.6, linewidths=0, **_line(study, name))
    bars(right, study, means)
    left.legend(markerscale=2.5)
    left.set(title="Per image", xscale="log", yscale="log")
    left.set(xlabel="margin / (√2 Jacobian norm)", ylabel="linearised robustness")
    left.axline((1, 1), (2, 2), color="black", linewidth=0.8)
    name_bars(right, study)
    headline(fig, titles.linearised(table))
    right.set(title="Mean", xlabel="linearised robustness (L2 distance, pixel units)")
    return fig, (
        "Left: linearised robustness against its lower bound, one dot per image, of the main defences. Right: "
        f"mean linearised robustness with its 95 percent interval: {listed(study, means, '{mean:.2f}', ', ')}."
    )


def linearisation_error(study: Study, radii: list[float], errors: dict, attack_size: float) -> Described:
    """Error of the tangent against the distance, relative to the change and to the margin: median and quartiles."""
    fig, grid = row(9, 3.8, 2)
    for name, both in errors.items():
        for axes, error in zip(grid, both, strict=True):
            low, middle, high = np.quantile(error, [0.25, 0.5, 0.75], axis=1)
            style = _line(study, name)
            axes.fill_between(radii, low, high, color=style["color"], alpha=0.2, linewidth=0)
            axes.plot(radii, middle, **style)
    for axes in grid:
        axes.axvline(attack_size, color="#767676", linestyle=":", label="size of the headline attack")
        axes.set(xscale="log", xlabel="distance from the image (L2, pixel units)")
    grid[0].set(title="Relative to the change", ylim=(0, None), ylabel="error of the tangent / change")
    grid[1].set(title="Relative to the margin", yscale="log", ylabel="error of the tangent / margin")
    fig.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    headline(fig, titles.tangent_error(radii, errors, attack_size, study.labels))
    return fig, (
        "Error of the first-order prediction of the logits against the distance from the image in random directions, "
        "for a standard and a J-SIGR network: relative to the change itself, and to the margin; a dotted line marks "
        "the size of the headline attack."
    )


def penalty_identities(
    study: Study, gradients: dict[str, Pair], coins: np.ndarray, outcomes: Curves, halves: tuple[np.ndarray, float]
) -> Described:
    """S3: loss gradients against the Jacobian's products; S4: heads, tails and mean; S5: every half of a batch."""
    fig, (left, middle, right) = row(10.4, 3.9, 3)
    for name, (g, product) in gradients.items():
        left.scatter(product, g, s=7, linewidths=0, alpha=0.6, **_line(study, name))
    left.axline((0, 0), slope=1, color="black", linewidth=0.8)
    left.set(
        title="The loss gradient is the\nJacobian's product (S3)",
        xlabel="Jᵀ(p − onehot)",
        ylabel="gradient of the loss, autograd",
    )
    left.ticklabel_format(style="sci", scilimits=(-2, 2))
    left.legend(markerscale=2.5)
    for name, line in {"heads": "--", "tails": ":", "mean": "-"}.items():
        middle.plot(coins, outcomes[name], color="black", linestyle=line, label=name)
    middle.set(
        title="Heads and tails average\nto both terms (S4)", yscale="log", xlabel="chance of heads π", ylabel="penalty"
    )
    middle.legend()
    counted, chance = halves
    weights = np.full(len(counted), 100 * chance / len(counted))
    right.hist(counted, bins=24, weights=weights, color="#767676", label="a half of the batch")
    right.bar([0], [100 * (1 - chance)], width=0.25, color="#c9c9c9", label="a step without")
    mean = float(chance * counted.mean())
    right.axvline(mean, color="black", label=f"mean: {mean:.2f}")
    right.axvline(chance * mean, color="#d55e00", linestyle="--", label=f"mean without 1 / chance: {chance * mean:.2f}")
    right.set(title="Parts of a batch average\nto the whole (S5)", yscale="log", ylabel="share of steps, %")
    right.set(xlabel="what it counts / whole batch", ylim=(0.1, 3000))
    right.legend(fontsize=8)
    headline(fig, titles.penalty(gradients.values(), outcomes["mean"], mean))
    return fig, (
        "Left: the loss gradient of every pixel against the Jacobian's product with p minus onehot, two networks, on "
        "the diagonal. Middle: what heads and tails count against the coin's chance, and their mean, a level line at "
        f"{outcomes['mean'].mean():.2g}. Right: what each half of a batch counts relative to the whole batch, around "
        f"{counted.mean():.1f}, with steps without a penalty at 0 and the mean over both, {mean:.2f}; without the "
        f"weight 1 over chance it would be {chance * mean:.2f}."
    )


def tangent_limits(
    study: Study,
    shares: np.ndarray,
    ways: dict[str, Curves],
    radii: np.ndarray,
    errors: Curves,
    alignments: dict[float, Pair],
) -> Described:
    """S7, one image and many; S9 for one network; S8 at its images and away from them."""
    fig = figure(9.6, 7.2)
    (one, many), (error, aligned) = panels(fig, 2, 2)
    for name, way in ways.items():
        one.plot(shares, way["gap"][:, 0], **_line(study, name))
        many.plot(shares, 100 * (1 - way["same"].mean(1)), **_line(study, name))
    one.plot(shares, 1 - shares, color="black", linestyle="--", linewidth=1.2, label="tangent")
    one.axhline(0, color="black", linewidth=0.8)
    one.set(title="Straight at the tangent's boundary, one image (S7)")
    one.set(xlabel="distance / ρ̃", ylabel="gap of two logits, x = 1")
    many.step([0, 1, shares[-1]], [0, 0, 100], color="black", linestyle="--", linewidth=1.2, label="tangent")
    images = way["gap"].shape[1]
    many.set(
        title=f"Decisions of {images} images on that way (S7)", xlabel="distance / ρ̃", ylabel="decisions changed, %"
    )
    many.legend()
    error.plot(radii, np.median(errors["network"], 1), color="black", label="ReLU network")
    error.plot(radii, np.median(errors["softened"], 1), color="#0072b2", label="softened network")
    error.plot(radii, np.median(errors["bound"], 1), ":", color="#56b4e9", linewidth=3, label="its bound M‖d‖²/2")
    error.set(title="The tangent's error and its bound (S9)", xscale="log", yscale="log")
    error.set(xlabel="distance (L2, pixel units)", ylabel="error / length of the logits")
    error.legend()
    over = {}
    for (away, (left, most)), colour in zip(alignments.items(), ("#0072b2", "#d55e00"), strict=False):
        over[away] = 100 * float(np.mean(left > most * (1 + 1e-9)))
        label = f"{'at the image' if away == 0 else f'{away:g} away from it'}: {over[away]:.0f} % above"
        aligned.scatter(most, left, s=12, color=colour, linewidths=0, alpha=0.7, label=label)
    aligned.axline((1, 1), (2, 2), color="black", linewidth=0.8)
    aligned.set(
        title="Alignment beside robustness (S8)", xscale="log", yscale="log", xlabel="|β| / ‖∇‖", ylabel="|ρ̃ − α|"
    )
    aligned.legend()
    headline(fig, titles.tangent_limits(shares, ways, study.labels))
    at_boundary = {name: way["same"][int(np.abs(shares - 1).argmin())].mean() for name, way in ways.items()}
    changed = ", ".join(f"{study.labels[name]} {100 * (1 - same):.0f}" for name, same in at_boundary.items())
    broken = ", ".join(f"{share:.0f} percent at distance {away:g}" for away, share in over.items())
    return fig, (
        "Top: the gap of the two nearest classes on the way to the tangent's boundary, for one image, and the "
        "percentage of decisions that have changed along it; at the distance where the tangent changes all: "
        f"{changed}. Below: the tangent's error against the distance, at rounding level inside the linear region and "
        "then growing, with a softened network under its quadratic bound; and the alignment's distance from robustness "
        f"against its bound, broken by {broken}."
    )
