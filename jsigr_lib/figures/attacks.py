"""The figures of the transfer notebook: what attacks leave of each defence, and what the defences cost."""

import pandas as pd
from matplotlib.axes import Axes

from jsigr_lib.figures import plotting
from jsigr_lib.findings import titles
from jsigr_lib.study.robustness import has_budget
from jsigr_lib.study.sources import ensembles, sources_of
from jsigr_lib.study.study import Study

JUDGES = {  # colour and marker of each, of one start of PGD none: the restarts include it
    "clean": ("#b3b3b3", "P"),
    "transferred": ("#0072b2", "o"),
    "Square": ("#009e73", "s"),
    "PGD, restarts": ("#d55e00", "v"),
    "AutoAttack": ("#4d4d4d", "D"),
}


def _linf(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """The rows about attacks in L-infinity on the architecture that figures show."""
    return plotting.of_architecture(study, table[table.norm == "linf"])


def accuracy_curves(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Accuracy of the featured defences against eps with its interval: by the headline attack from the first undefended
    source and from all sources together, and white-box."""
    headline, p = study.profile.transfer_attacks[0], study.profile
    title, linf = titles.accuracy(table, headline, p.eps, study.labels), _linf(study, table)
    clean, transfer = linf[linf.threat == "clean"], linf[(linf.threat == "transfer") & (linf.attack == headline)]
    first, together = sources_of(study, study.architecture)[0], ensembles(study, study.architecture)[-1]
    everyone = f"from {len(together.origins[0])} networks together"
    shown = {}
    for name, (source, of) in {
        f"from the {first}": (first, "standard"),
        everyone: (together.architecture, together.defence),
    }.items():
        shown[f"{headline.upper()} {name}"] = transfer[(transfer.source == source) & (transfer.source_defence == of)]
    shown["PGD, white-box"] = linf[(linf.threat == "white-box") & (linf.attack == "pgd")]
    fig, grid = plotting.row(3 * len(shown) + 1.6, 3.6, len(shown), sharey=True)
    looks = plotting.looks(study)
    for axes, (what, rows) in zip(grid, shown.items(), strict=True):
        for name in study.featured:
            line = pd.concat([clean[clean.defence == name], rows[rows.defence == name]]).sort_values("eps")
            axes.fill_between(line.eps, line.low, line.high, color=looks[name]["color"], alpha=0.12, lw=0)
            axes.plot(line.eps, line.accuracy, **looks[name])
        axes.axvline(p.eps, color="#999999", linestyle=":", linewidth=1)
        axes.set(title=what, xlabel=r"$\epsilon$ (share of the pixel range)", ylim=(-0.02, 1))
    grid[0].set_ylabel("accuracy")
    plotting.legend(fig, grid[0])
    plotting.headline(fig, title)
    own = next(iter(shown.values()))
    own = own[has_budget(own, p.eps) & own.defence.isin(study.featured)]
    return fig, (
        "Accuracy of each defence against the attack budget eps, with 95 percent intervals: transferred from the "
        f"undefended {first} and {everyone}, and white-box PGD. From the {first}, {study.budget}: "
        f"{plotting.listed(study, own, '{accuracy:.2f}', ', ')}."
    )


def strength(study: Study, table: pd.DataFrame) -> plotting.Described:
    """What is left of the undefended network against the number of steps: a panel per source, a line per attack."""
    sources = list(table.source.unique())
    fig, grid = plotting.row(1.6 + 2.6 * len(sources), 3.6, len(sources), sharey=True)
    for axes, source in zip(grid, sources, strict=True):
        for i, (attack, line) in enumerate(table[table.source == source].groupby("attack", sort=False)):
            look = plotting.nth_look(i, attack.upper())
            axes.fill_between(line.steps, line.low, line.high, color=look["color"], alpha=0.12, lw=0)
            axes.plot(line.steps, line.accuracy, **look)
        axes.set(title=f"from the {source}", xlabel="steps", ylim=(0, None))
        plotting.by_doubling(axes)
        axes.set_xticks(table.steps.unique())
        axes.minorticks_off()
    grid[0].set_ylabel(f"validation accuracy, {study.budget}")
    plotting.legend(fig, grid[0])
    plotting.headline(fig, titles.strength(table))
    means = table.groupby(["attack", "steps"], sort=False).accuracy.mean()
    attack, steps = means.idxmin()
    return fig, (
        "Accuracy of the undefended network on attacked validation images against the number of steps, by source and "
        f"attack. In the mean over sources {attack.upper()} with {steps} steps leaves the least: {means.min():.3f}."
    )


def transfer_matrix(study: Study, table: pd.DataFrame) -> plotting.Described:
    """What the headline attack leaves of the main defences, a row per source, that which hurts J-SIGR most on top. A
    network is never its own source."""
    p, table = study.profile, _linf(study, table)
    rows = table[(table.threat == "transfer") & (table.attack == p.transfer_attacks[0]) & has_budget(table, p.eps)]
    defended = rows.source_defence.map(lambda names: " + ".join(study.labels[name] for name in names.split("+")))
    names = rows.source + ", " + defended
    left = rows.assign(name=names).pivot(index="name", columns="defence", values="accuracy")[plotting.main(study)]
    left = left.sort_values("jsigr" if "jsigr" in left else left.columns[0], kind="stable")
    fig, (axes,) = plotting.row(9, 0.27 * len(left) + 1.9)
    _dots(axes, study, left)
    axes.set_xlabel(f"accuracy left by {p.transfer_attacks[0].upper()}, {study.budget}")
    axes.set_ylabel("made on")
    plotting.legend(fig, axes, title="what is attacked")
    plotting.headline(fig, titles.matrix(left, study.labels))
    return fig, (
        "Accuracy of the main defences on images that were attacked through each source, the one that hurts J-SIGR "
        f"most on top. Over all defences it ranges from {rows.accuracy.min():.2f} to {rows.accuracy.max():.2f}; a "
        "network is never its own source."
    )


def _dots(axes: Axes, study: Study, left: pd.DataFrame) -> None:
    """A row for each of the table's, the first on top; a dot for each of its columns, which are defences."""
    looks = plotting.looks(study)
    for defence in left:
        axes.plot(left[defence], range(len(left)), linestyle="none", markersize=7, **looks[defence])
    axes.set_yticks(range(len(left)), map(plotting.plain, left.index))
    axes.set(xlim=(-0.02, 1), ylim=(len(left) - 0.5, -0.5))


def attack_ranking(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Which transfer attack hurts most: what each leaves of the main defences through the headline source, the
    strongest on defended targets on top."""
    table = _linf(study, table)
    rows = table[(table.threat == "transfer") & has_budget(table, study.profile.eps)]
    first = rows.iloc[0]
    rows = rows[(rows.source == first.source) & (rows.source_defence == first.source_defence)]
    means = rows[rows.defence != "standard"].groupby("attack").accuracy.mean().sort_values(kind="stable")
    left = rows.pivot(index="attack", columns="defence", values="accuracy").loc[means.index, plotting.main(study)]
    fig, (axes,) = plotting.row(9, 0.27 * len(left) + 1.9)
    _dots(axes, study, left.rename(index=str.upper))
    axes.set_xlabel(f"accuracy left, attacks from the {first.source}, {study.budget}")
    plotting.legend(fig, axes, title="what is attacked")
    plotting.headline(fig, titles.ranking(left, study.labels))
    listed = ", ".join(f"{attack.upper()} {mean:.3f}" for attack, mean in means.items())
    return fig, (
        "Accuracy of the main defences by transfer attack, the one that is strongest on defended targets on top. Mean "
        f"accuracy over all defended targets, through {first.source}: {listed}."
    )


def judges(study: Study, table: pd.DataFrame) -> plotting.Described:
    """What ever stronger attacks leave of the same images: a row of dots per defence."""
    fig, (axes,) = plotting.row(9, 0.34 * len(study.labels) + 1.9)
    order = {name: i for i, name in enumerate(study.labels)}
    for judge, (colour, marker) in JUDGES.items():
        rows = table[table.judge == judge]
        if len(rows):
            bars = [rows.accuracy - rows.low, rows.high - rows.accuracy]
            look = {"color": colour, "marker": marker, "label": judge, "linestyle": "none", "elinewidth": 1}
            axes.errorbar(rows.accuracy, rows.defence.map(order), xerr=bars, markersize=6, **look)
    plotting.name_bars(axes, study)
    images = f"the first {table.images.max():,} images"
    axes.set(xlim=(-0.02, 1), xlabel=f"accuracy left, with 95 % interval; {study.budget}, {images}")
    plotting.legend(fig, axes, title="judge")
    plotting.headline(fig, titles.judges(table, study.labels))
    left = plotting.listed(study, table[table.judge == "AutoAttack"], "{accuracy:.2f}", ", ")
    return fig, (
        "Accuracy of each defence at the headline budget on the same images: clean, under a transferred attack, "
        f"Square, PGD with restarts and AutoAttack, with 95 percent intervals. AutoAttack leaves: {left}."
    )


def cost_scatter(study: Study, table: pd.DataFrame, seconds: dict[str, float]) -> plotting.Described:
    """Robustness against the cost of training: counted in operations, and measured in time on this machine."""
    fig, (left, right) = plotting.row(9.6, 4.3, 2, sharey=True)
    title = titles.cost(table, study.labels)
    table = table.rename(columns={"low": "accuracy_low", "high": "accuracy_high"})
    table = table.assign(time=table.defence.map(seconds) / seconds["standard"])
    for axes, column in ((left, "cost"), (right, "time")):
        plotting.dots(axes, study, table, column, "accuracy")
        plotting.by_doubling(axes)
    left.set(title="Counted operations", xlabel="cost of a training step, standard = 1")
    left.set_ylabel(f"transferred accuracy, {study.budget}")
    right.set(title="Measured time, this machine", xlabel="time to train, standard = 1")
    plotting.legend(fig, left)
    plotting.headline(fig, title)
    return fig, (
        "Accuracy under the headline transferred attack against the cost of training relative to standard training, "
        "counted in operations and measured in time: "
        f"{plotting.listed(study, table, '{cost:.2f} times, {accuracy:.2f}', ', ')}."
    )
