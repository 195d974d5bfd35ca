"""The figures of the saliency notebook: what the maps measure, and what is left of them."""

import pandas as pd

from jsigr_lib.figures import plotting
from jsigr_lib.findings import titles
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
BETTER = {1: "higher is better", -1: "lower is better", 0: "neither is better"}
CASCADED = {"gradient": "#0072b2", "perturbation": "#d55e00", "grad-cam": "#009e73"}
"""Map -> its colour in the cascade; the others are grey lines beside them."""


def agreement_bars(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Per defence: agreement of the two maps, clean and attacked, and stability of the gradient map under attack."""
    table = plotting.of_architecture(study, table[table["map"] == "gradient"])
    agreement = table[table.measure == "agreement"]
    shown = {f"Agreement, {given}": agreement[agreement.input == given] for given in ("clean", "attacked")}
    shown["Stability of the gradient map"] = table[table.measure == "stability"]
    fig, grid = plotting.row(9, 0.3 * len(study.labels) + 1.6, len(shown), sharey=True, sharex=True)
    for axes, (title, rows) in zip(grid, shown.items(), strict=True):
        plotting.bars(axes, study, rows)
        axes.set(title=title, xlabel="rank correlation")
    plotting.name_bars(grid[0], study)
    plotting.headline(fig, titles.agreement(table, study.labels))
    return fig, (
        "Rank correlation of gradient and perturbation map on clean and attacked images, and stability of the gradient "
        "map under attack, for each defence with 95 percent intervals. Agreement on clean images: "
        f"{plotting.listed(study, shown['Agreement, clean'], '{mean:.2f}', ', ')}."
    )


def probability_curves(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Deletion and insertion curves of the main defences: gradient map solid, perturbation map dashed."""
    fig = plotting.figure(9, 6)
    grid, looks = plotting.panels(fig, 2, 2, sharex=True, sharey="row"), plotting.looks(study)
    for i, kind in enumerate(("deletion", "insertion")):
        for j, given in enumerate(("clean", "attacked")):
            for name in plotting.main(study):
                rows = table[(table.curve == kind) & (table.input == given) & (table.defence == name)]
                for map_name, style in (("gradient", "-"), ("perturbation", (0, (2, 1.5)))):
                    line = rows[rows["map"] == map_name]
                    look = {"color": looks[name]["color"], "linestyle": style}
                    label = looks[name]["label"] if map_name == "gradient" else None
                    grid[i, j].plot(line.share, line.probability, label=label, **look)
            better = {"deletion": "lower", "insertion": "higher"}[kind]
            grid[i, j].set_title(f"{kind.capitalize()}, {given} images: {better} is better")
        grid[i, 0].set_ylabel("probability of the true class")
    for axes in grid[1]:
        axes.set_xlabel("share of the pixels changed, most salient first")
    plotting.legend(fig, grid[0, 0], title="solid: gradient map\ndashed: perturbation map")
    plotting.headline(fig, titles.deletion(table, study.labels))
    return fig, (
        "Probability of the true class against the share of pixels deleted (top) or inserted (bottom), clean (left) "
        "and attacked (right) images; solid lines for the gradient map, dashed for the perturbation map."
    )


def map_measures(study: Study, table: pd.DataFrame, shown: list[tuple[str, str]]) -> plotting.Described:
    """The shown pairs (measure, input): a panel each, a row per map with a dot for each of the main defences; below a
    line the controls, which know no network."""
    maps, defences = [*study.profile.saliency_maps, *CONTROLS], plotting.main(study)
    table = plotting.of_architecture(study, table[table["map"].isin(maps) & table.defence.isin(study.featured)])
    fig = plotting.figure(10.4, 0.44 * len(maps) + 2.6)
    grid, looks = plotting.panels(fig, 2, -(-len(shown) // 2), sharey=True), plotting.looks(study)
    for axes, (measure, given) in zip(grid.flat, shown, strict=True):
        rows = table[(table.measure == measure) & (table.input == given)]
        means = rows.pivot(index="map", columns="defence", values="mean").reindex(maps)
        for name in defences:
            axes.plot(means[name], range(len(maps)), linestyle="none", markersize=6, **looks[name])
        axes.set_title(f"{measure}, {given}" if given != "both" else f"{measure} under attack", fontsize=9)
        axes.set_xlabel(
            {1: "higher is better", -1: "lower is better", 0: "neither is better"}[MEASURES[measure].better]
        )
        axes.axhline(len(maps) - len(CONTROLS) - 0.5, color="#999999", linewidth=0.8)
    grid[0, 0].set_yticks(range(len(maps)), [MAPS[name].label for name in maps])
    grid[0, 0].set_ylim(len(maps) - 0.4, -0.6)
    plotting.legend(fig, grid[0, 0])
    plotting.headline(fig, titles.measures(_perturbation_wins(table, shown, defences)))
    said = "; ".join(_best(study, table, measure, given) for measure, given in shown if MEASURES[measure].better)
    return fig, (
        "Means over the test images, a row per map and a dot per defence; the last rows are maps that know no network. "
        f"Best of all featured defences: {said}."
    )


def _perturbation_wins(table: pd.DataFrame, shown: list[tuple[str, str]], defences: list[str]) -> list[bool]:
    """For each measure and defence, whether the perturbation map's mean beats the gradient map's."""
    wins = []
    for measure, given in shown:
        sign = MEASURES[measure].better
        if sign and not measure.startswith("agreement"):  # in which the reference is itself
            rows = table[(table.measure == measure) & (table.input == given)]
            means = rows.pivot(index="defence", columns="map", values="mean").loc[defences]
            wins += (sign * (means[REFERENCE] - means["gradient"]) > 0).tolist()
    return wins


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
    defences = [name for name in plotting.main(study) if name in set(table.defence)]
    fig, grid = plotting.row(9.6, 4, len(defences), sharey=True)
    for axes, defence in zip(grid, defences, strict=True):
        for name in study.profile.saliency_maps:
            rows = table[(table.defence == defence) & (table["map"] == name)]
            look = {"color": CASCADED.get(name, "#cccccc"), "label": MAPS[name].label if name in CASCADED else None}
            axes.plot([0, *rows.layers], [1, *rows.correlation], zorder=2 + (name in CASCADED), **look)
        axes.axhline(0, color="#999999", linewidth=0.8)
        axes.set(title=plotting.plain(study.labels[defence]), xlabel="last layers, drawn anew")
        axes.xaxis.get_major_locator().set_params(integer=True)
    grid[0].set_ylabel("rank correlation with\nthe trained network's map")
    others = set(study.profile.saliency_maps) - CASCADED.keys()
    plotting.legend(fig, grid[0], title="grey: the other maps" if others else "")
    shown = table[table["map"].isin(study.profile.saliency_maps) & table.defence.isin(defences)]
    last = shown[shown.layers == shown.layers.max()]
    ends = last.groupby("map", sort=False).correlation.mean().rename(index=lambda name: MAPS[name].label)
    plotting.headline(fig, titles.cascade(ends))
    most = last.loc[last.correlation.idxmax()]
    return fig, (
        "Rank correlation of each map with that of the same network after its last layers were drawn anew, one panel "
        f"per defence. With all drawn anew it lies between {last.correlation.min():.2f} and {most.correlation:.2f} "
        f"({MAPS[most['map']].label} of {study.labels[most.defence]})."
    )
