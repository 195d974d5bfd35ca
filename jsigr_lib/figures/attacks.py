"""The figures of the transfer notebook: what attacks leave of each defence, and what the defences cost."""

import pandas as pd

from jsigr_lib.figures import plotting
from jsigr_lib.study.robustness import has_budget
from jsigr_lib.study.sources import ensembles, sources_of
from jsigr_lib.study.study import Study

JUDGES = {  # colour and marker of each
    "clean": ("#b3b3b3", "P"),
    "transferred": ("#0072b2", "o"),
    "Square": ("#009e73", "s"),
    "PGD": ("#e69f00", "^"),
    "PGD, restarts": ("#d55e00", "v"),
    "AutoAttack": ("#4d4d4d", "D"),
}


def _linf(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """The rows about attacks in L-infinity on the architecture that figures show."""
    return plotting.of_architecture(study, table[table.norm == "linf"])


def accuracy_curves(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Accuracy against eps with its interval: white-box, and by the headline attack from the first undefended source,
    from another network of the target's architecture, and from all sources together. Each family of defences has a row
    of panels; the standard and the J-SIGR network are in both."""
    table, p = _linf(study, table), study.profile
    clean, attack = table[table.threat == "clean"], p.transfer_attacks[0]
    headline = table[(table.threat == "transfer") & (table.attack == attack)]
    shown = {"white-box PGD": table[(table.threat == "white-box") & (table.attack == "pgd")]}
    together = ensembles(study, study.architecture)[-1]
    first, everyone = sources_of(study, study.architecture)[0], f"{len(together.origins[0])} networks together"
    asked = {first: (first, "standard"), study.architecture: (study.architecture, "standard")}
    for name, (source, of) in (asked | {everyone: (together.architecture, together.defence)}).items():
        own = headline[(headline.source == source) & (headline.source_defence == of)]
        shown[f"{attack.upper()} from {name}"] = own
    families, looks = study.families, plotting.looks(study)
    fig = plotting.figure(2.7 * len(shown) + 1.8, 2.9 * len(families) + 0.3)
    grid = plotting.panels(fig, len(families), len(shown), sharey=True, sharex=True)
    for axes, title in zip(grid[0], shown, strict=True):
        axes.set_title(title)
    for row, (family, names) in zip(grid, families.items(), strict=True):
        for axes, rows in zip(row, shown.values(), strict=True):
            for name in names:
                line = pd.concat([clean[clean.defence == name], rows[rows.defence == name]]).sort_values("eps")
                axes.fill_between(line.eps, line.low, line.high, color=looks[name]["color"], alpha=0.12, lw=0)
                axes.plot(line.eps, line.accuracy, **looks[name])
            axes.axvline(p.eps, color="#999999", linestyle=":", linewidth=1)
            axes.set_ylim(-0.02, 1)
        row[0].set_ylabel(f"{family}\naccuracy")
        row[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    for axes in grid[-1]:
        axes.set_xlabel(r"$\epsilon$ (share of the pixel range)")
    first = list(shown)[1]
    at_headline = shown[first][has_budget(shown[first], p.eps)]
    values = plotting.listed(study, at_headline, "{accuracy:.2f}", ", ")
    return fig, (
        "Accuracy of each defence against the attack budget eps, with 95 percent intervals: white-box PGD, and "
        f"transferred from undefended networks and from an ensemble. {first}, {study.budget}: {values}."
    )


def strength(study: Study, table: pd.DataFrame) -> plotting.Described:
    """What is left of the undefended network against the number of steps: a panel per source, a line per attack."""
    sources = list(table.source.unique())
    fig, grid = plotting.row(1.6 + 2.6 * len(sources), 3.4, len(sources), sharey=True)
    for axes, source in zip(grid, sources, strict=True):
        for i, (attack, line) in enumerate(table[table.source == source].groupby("attack", sort=False)):
            axes.fill_between(
                line.steps, line.low, line.high, color=plotting.nth_look(i, "")["color"], alpha=0.12, lw=0
            )
            axes.plot(line.steps, line.accuracy, **plotting.nth_look(i, attack.upper()))
        axes.set(title=f"from {source}", xlabel="steps", ylim=(0, None))
        plotting.by_doubling(axes)
    grid[0].set_ylabel(f"validation accuracy, {study.budget}")
    plotting.legend(fig, grid[0])
    means = table.groupby(["attack", "steps"], sort=False).accuracy.mean()
    attack, steps = means.idxmin()
    return fig, (
        "Accuracy of the undefended network on attacked validation images against the number of steps, by source and "
        f"attack. In the mean over sources {attack.upper()} with {steps} steps leaves the least: {means.min():.3f}."
    )


def transfer_matrix(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Accuracy of each target (column) on images attacked through each source (row), headline attack and budget."""
    p, table = study.profile, _linf(study, table)
    rows = table[(table.threat == "transfer") & (table.attack == p.transfer_attacks[0]) & has_budget(table, p.eps)]
    labels = rows.source_defence.map(lambda names: " + ".join(study.labels[name] for name in names.split("+")))
    names = rows.source + ", " + labels
    pivot = rows.assign(name=names).pivot(index="name", columns="defence", values="accuracy")
    own = names.str.startswith(f"{study.architecture}, ")
    order = [*names[~own].unique(), *(f"{study.architecture}, {label}" for label in study.labels.values())]
    pivot = pivot.loc[[name for name in order if name in pivot.index], list(study.labels)].rename(columns=study.labels)
    fig, (axes,) = plotting.row(10.6, 0.33 * len(pivot) + 2.2)
    title = f"Target accuracy, {p.transfer_attacks[0].upper()}, {study.budget}"
    plotting.heat_map(axes, pivot, title=title, fontsize=8)
    axes.set(xlabel="target", ylabel="source")
    return fig, (
        "Heat map of target accuracy: rows are the networks that attacks were made on, columns the defended networks. "
        f"Cells range from {rows.accuracy.min():.2f} to {rows.accuracy.max():.2f}; a network is never its own source."
    )


def attack_ranking(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Which transfer attack hurts most. Left: each attack on each target through the headline source, the strongest
    attack on top. Right: the mean over the defended targets."""
    table = _linf(study, table)
    rows = table[(table.threat == "transfer") & has_budget(table, study.profile.eps)]
    first = rows.iloc[0]
    rows = rows[(rows.source == first.source) & (rows.source_defence == first.source_defence)]
    means = rows[rows.defence != "standard"].groupby("attack").accuracy.mean().sort_values(kind="stable")
    order = list(means.index)
    pivot = rows.pivot(index="attack", columns="defence", values="accuracy").loc[order, list(study.labels)]
    pivot = pivot.rename(index=str.upper, columns=study.labels)
    fig, (left, right) = plotting.row(11.4, 0.36 * len(order) + 1.9, 2, width_ratios=(2.8, 1))
    title = f"Accuracy under attacks from {first.source}, {study.budget}"
    plotting.heat_map(left, pivot, title=title, fontsize=8)
    left.set_xlabel("target")
    right.plot(means, range(len(order)), marker="o", linestyle="none", color="#0072b2")
    right.set_yticks(range(len(order)), [""] * len(order))
    right.set(ylim=(len(order) - 0.5, -0.5), title="Mean over defended targets", xlabel="accuracy left")
    listed = ", ".join(f"{attack.upper()} {mean:.3f}" for attack, mean in means.items())
    return fig, (
        "Left: heat map of accuracy by transfer attack and target, strongest attack on top. Right: mean accuracy over "
        f"the defended targets. Through {first.source}: {listed}."
    )


def judges(study: Study, table: pd.DataFrame) -> plotting.Described:
    """What ever stronger attacks leave of the same images: a row of dots per defence."""
    fig, (axes,) = plotting.row(9, 0.34 * len(study.labels) + 1.7)
    order = {name: i for i, name in enumerate(study.labels)}
    for judge, (colour, marker) in JUDGES.items():
        rows = table[table.judge == judge]
        if len(rows):
            bars = [rows.accuracy - rows.low, rows.high - rows.accuracy]
            look = {"color": colour, "marker": marker, "label": judge, "linestyle": "none", "elinewidth": 1}
            axes.errorbar(rows.accuracy, rows.defence.map(order), xerr=bars, **look)
    plotting.name_bars(axes, study)
    images = f"the first {table.images.max():,} images"
    axes.set(xlim=(-0.02, 1), xlabel="accuracy left, with 95 % interval", title=f"{study.budget}, {images}")
    plotting.legend(fig, axes)
    left = plotting.listed(study, table[table.judge == "AutoAttack"], "{accuracy:.2f}", ", ")
    return fig, (
        "Accuracy of each defence at the headline budget on the same images: clean, under a transferred attack, "
        f"Square, PGD, PGD with restarts and AutoAttack, with 95 percent intervals. AutoAttack leaves: {left}."
    )


def cost_scatter(study: Study, table: pd.DataFrame, seconds: dict[str, float]) -> plotting.Described:
    """Robustness against the cost of training: counted in operations, and measured in time on this machine."""
    fig, (left, right) = plotting.row(9.6, 4.1, 2, sharey=True)
    table = table.rename(columns={"low": "accuracy_low", "high": "accuracy_high"})
    table = table.assign(time=table.defence.map(seconds) / seconds["standard"])
    for axes, column in ((left, "cost"), (right, "time")):
        plotting.dots(axes, study, table, column, "accuracy")
        plotting.by_doubling(axes)
    left.set(title="Counted operations", xlabel="cost of a training step, standard = 1")
    left.set_ylabel(f"transferred accuracy, {study.budget}")
    right.set(title="Measured time, this machine", xlabel="time to train, standard = 1")
    plotting.legend(fig, left)
    return fig, (
        "Accuracy under the headline transferred attack against the cost of training relative to standard training, "
        "counted in operations and measured in time: "
        f"{plotting.listed(study, table, '{cost:.2f} times, {accuracy:.2f}', ', ')}."
    )
