"""The figures of the saliency notebook: what the maps measure, and what is left of them."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from jsigr_lib.figures import plotting
from jsigr_lib.measure.attributions import CONTROLS, MAPS
from jsigr_lib.study.map_tables import MEASURES
from jsigr_lib.study.maps import REFERENCE
from jsigr_lib.study.study import Study

FAITHFULNESS = [
    (m, given) for given in ("clean", "attacked") for m in ("deletion gain", "insertion gain", "infidelity")
]
ROBUSTNESS = [
    *(("agreement", "clean"), ("agreement", "attacked"), ("agreement given the energy map", "clean")),
    *(("stability", "both"), ("SSIM", "both"), ("max-sensitivity", "clean")),
]
CASCADE_DEFENCES = ("standard", "jsigr", "pgd")


def agreement_bars(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Per defence: agreement of the two maps, clean and attacked, and stability of the gradient map under attack."""
    table = plotting.of_architecture(study, table[table["map"] == "gradient"])
    agreement = table[table.measure == "agreement"]
    shown = {f"Agreement, {given}": agreement[agreement.input == given] for given in ("clean", "attacked")}
    shown["Stability of the gradient map"] = table[table.measure == "stability"]
    fig, grid = plotting.row(9, 0.3 * len(study.labels) + 1.3, len(shown), sharey=True, sharex=True)
    for axes, (title, rows) in zip(grid, shown.items(), strict=True):
        plotting.bars(axes, study, rows)
        axes.set(title=title, xlabel="rank correlation")
    plotting.name_bars(grid[0], study)
    return fig, (
        "Rank correlation of gradient and perturbation map on clean and attacked images, and stability of the gradient "
        "map under attack, for each defence with 95 percent intervals. Agreement on clean images: "
        f"{plotting.listed(study, shown['Agreement, clean'], '{mean:.2f}', ', ')}."
    )


def probability_curves(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Deletion and insertion curves of the gradient map, clean and attacked; dashed: the perturbation map."""
    fig = plotting.figure(9, 5.6)
    grid, looks = plotting.panels(fig, 2, 2, sharex=True, sharey="row"), plotting.looks(study)
    for i, kind in enumerate(("deletion", "insertion")):
        for j, given in enumerate(("clean", "attacked")):
            for name in study.featured:
                rows = table[(table.curve == kind) & (table.input == given) & (table.defence == name)]
                for map_name, style in (("gradient", "-"), ("perturbation", (0, (2, 1.5)))):
                    line = rows[rows["map"] == map_name]
                    look = {"color": looks[name]["color"], "linestyle": style, "linewidth": 1.4}
                    label = looks[name]["label"] if map_name == "gradient" else None
                    grid[i, j].plot(line.share, line.probability, label=label, **look)
            grid[i, j].set_title(f"{kind.capitalize()}, {given} images")
        grid[i, 0].set_ylabel("probability of the true class")
    for axes in grid[1]:
        axes.set_xlabel("share of the pixels changed, most salient first")
    plotting.legend(fig, grid[0, 0], title="solid: gradient map\ndashed: perturbation map")
    return fig, (
        "Probability of the true class against the share of pixels deleted (top) or inserted (bottom), clean (left) "
        "and attacked (right) images; solid lines for the gradient map, dashed for the perturbation map."
    )


def map_measures(study: Study, table: pd.DataFrame, shown: list[tuple[str, str]]) -> plotting.Described:
    """Means of the shown pairs (measure, input), map by defence, then the controls, which know no network; a frame
    marks the best map of each defence."""
    maps = [*study.profile.saliency_maps, *CONTROLS]
    table = plotting.of_architecture(study, table[table["map"].isin(maps) & table.defence.isin(study.featured)])
    fig = plotting.figure(11.4, 0.62 * len(maps) + 2.2)
    grid = plotting.panels(fig, 2, -(-len(shown) // 2), sharex=True, sharey=True)
    for axes, (measure, given) in zip(grid.flat, shown, strict=True):
        rows = table[(table.measure == measure) & (table.input == given)]
        means = rows.pivot(index="map", columns="defence", values="mean").reindex(maps)[study.featured]
        values, better = means.to_numpy(), MEASURES[measure].better
        title = textwrap.fill(f"{measure}, {given}" if given != "both" else f"{measure} under attack", 30)
        named = means.rename(index={name: map_.label for name, map_ in MAPS.items()}, columns=study.labels)
        plotting.heat_map(axes, named, title=f"{title}\n", whole=False, fontsize=7.5)
        sign = {1: "higher is better", -1: "lower is better", 0: ""}[better]
        axes.text(0, 1.02, sign, transform=axes.transAxes, fontsize=8, color="#555555")
        competes = np.isin(means.index, _competitors(study, measure))[:, None]
        for j, best in enumerate(np.where(competes, better * values, -np.inf).argmax(0) if better else ()):
            axes.add_patch(Rectangle((j - 0.47, best - 0.46), 0.94, 0.92, fill=False, color="#d55e00", linewidth=1.6))
    said = "; ".join(_best(study, table, measure, given) for measure, given in shown if MEASURES[measure].better)
    return fig, f"Means over the test images, a row per map and a column per defence. Best of all: {said}."


def _competitors(study: Study, measure: str) -> list[str]:
    """The maps among which the best is named: the reference agrees with itself."""
    return [name for name in study.profile.saliency_maps if name != REFERENCE or not measure.startswith("agreement")]


def _best(study: Study, table: pd.DataFrame, measure: str, given: str) -> str:
    rows = table[(table.measure == measure) & (table.input == given)]
    rows = rows[rows["map"].isin(_competitors(study, measure))]
    row = rows.loc[(rows["mean"] * MEASURES[measure].better).idxmax()]
    what = f"{measure}, {given}" if given != "both" else measure
    return f"{what}: {MAPS[row['map']].label} of {study.labels[row.defence]}, {row['mean']:.2f}"


def cascade(study: Study, table: pd.DataFrame) -> plotting.Described:
    """What is left of each map as ever more layers get new random weights. A map that stays as it was does not show
    what the network has learnt."""
    defences = [name for name in CASCADE_DEFENCES if name in study.featured] or study.featured[:3]
    fig, grid = plotting.row(9.6, 3.8, len(defences), sharey=True)
    for axes, defence in zip(grid, defences, strict=True):
        for i, name in enumerate(study.profile.saliency_maps):
            rows = table[(table.defence == defence) & (table["map"] == name)]
            axes.plot([0, *rows.layers], [1, *rows.correlation], **plotting.nth_look(i, MAPS[name].label))
        axes.axhline(0, color="#999999", linewidth=0.8)
        axes.set(title=plotting.plain(study.labels[defence]), xlabel="last layers, drawn anew")
        axes.xaxis.get_major_locator().set_params(integer=True)
    grid[0].set_ylabel("rank correlation with\nthe trained network's map")
    plotting.legend(fig, grid[0])
    shown = table[table["map"].isin(study.profile.saliency_maps) & table.defence.isin(defences)]
    last = shown[shown.layers == shown.layers.max()]
    most = last.loc[last.correlation.idxmax()]
    return fig, (
        "Rank correlation of each map with that of the same network after its last layers were drawn anew, one panel "
        f"per defence. With all drawn anew it lies between {last.correlation.min():.2f} and {most.correlation:.2f} "
        f"({MAPS[most['map']].label} of {study.labels[most.defence]})."
    )
