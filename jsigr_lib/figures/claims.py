"""The figures of the claims notebook: the verdicts, the tests behind them, and what robustness is traded for."""

import textwrap

import matplotlib as mpl
import numpy as np
import pandas as pd

from jsigr_lib.figures import plotting
from jsigr_lib.findings import titles
from jsigr_lib.study.sources import LEFT
from jsigr_lib.study.study import Study
from jsigr_lib.study.verdicts import TOO_FEW

OUTCOMES = {"holds": "#007a5a", "fails": "#c2410c", "undecided": "#6b6b6b", TOO_FEW: "#b5b5b5"}
VERDICTS = {"supported": "#007a5a", "inconclusive": "#8a6500", "refuted": "#c2410c", "not tested": "#6b6b6b"}
VERDICTS |= {"partly supported": "#8a6500", "not supported": "#c2410c"}  # of the first protocol, in tables of its runs


def trade_offs(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Robustness against what is paid for it, and against what comes with it."""
    against = {
        "clean": ("What it gives up", "clean accuracy"),
        "cost": ("What it costs", "cost of a training step, standard = 1"),
        "agreement": ("What its maps gain", "agreement of gradient and\nperturbation map, attacked images"),
    }
    fig, grid = plotting.row(10.4, 4.2, 3, sharey=True)
    for axes, (column, (title, what)) in zip(grid, against.items(), strict=True):
        plotting.dots(axes, study, table, column, "transferred")
        axes.set(title=title, xlabel=what)
    plotting.by_doubling(grid[1])
    grid[0].set_ylabel(f"transferred accuracy, {study.budget}")
    plotting.legend(fig, grid[0])
    plotting.headline(fig, titles.trade_offs(table))
    template = "{transferred:.2f}, clean {clean:.2f}, {cost:.2f} times, agreement {agreement:.2f}"
    return fig, (
        "Accuracy under the headline transferred attack against clean accuracy, the cost of training in counted "
        "operations, and the agreement of the gradient map on attacked images: "
        f"{plotting.listed(study, table, template)}."
    )


def verdicts(card: pd.DataFrame) -> plotting.Described:
    """The scorecard as a picture: a row per claim, a column per data set, the verdict in words and colour; grey where
    there were too few images for one, and nothing where an earlier protocol did not ask."""
    few = card.evidence.str.contains(TOO_FEW, regex=False)
    card = card.assign(said=card.verdict.where(~few, card.verdict + "\n" + TOO_FEW))
    table = card.pivot(index="claim", columns="data", values="said")
    table = table.loc[card.claim.unique(), card.data.unique()]
    statements = card.drop_duplicates("claim").statement.map(lambda text: textwrap.fill(plotting.plain(text), 52))
    fig, (axes,) = plotting.row(5 + 1.75 * len(table.columns), 0.55 * len(table) + 1.05)
    for (i, j), verdict in np.ndenumerate(table.fillna("").to_numpy()):
        if not verdict:
            axes.text(j, i, "not asked", ha="center", va="center", color="#767676", fontsize=9.5)
            continue
        colour = VERDICTS["not tested" if TOO_FEW in verdict else verdict]
        axes.add_patch(mpl.patches.Rectangle((j - 0.46, i - 0.42), 0.92, 0.84, color=colour))
        axes.text(j, i, verdict, ha="center", va="center", color="white", fontsize=9.5, fontweight="bold")
    axes.set_yticks(range(len(table)), statements)
    axes.set_xticks(range(len(table.columns)), map(plotting.plain, table.columns), fontweight="bold")
    axes.set(xlim=(-0.5, len(table.columns) - 0.5), ylim=(len(table) - 0.5, -0.5), xlabel="data")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    plotting.headline(fig, titles.verdicts(card))
    said = "; ".join(f"{row.statement} {row.data}: {row.said}" for row in card.itertuples()).replace("\n", ", ")
    return fig, f"The verdict on each claim, by data set. {said}."


def forest(study: Study, table: pd.DataFrame) -> plotting.Described:
    """Every test that decides: a row per test, a column per data set. A cell shows the difference with its interval, on
    each architecture that the claim is about, and the margin that each has to clear."""
    table = table[table.role == "decides"]
    key = ["claim", "measure", "a", "b"]
    tests, data = list(table[key].drop_duplicates().itertuples(index=False, name=None)), table.data.unique()
    most = int(table.groupby(["data", *key]).size().max())
    height = (0.3 + 0.07 * most) * len(tests) + 1.3
    fig, grid = plotting.row(4.6 + 2.9 * len(data), height, len(data), sharey=True)
    for name, axes in zip(data, grid, strict=True):
        for y, test in enumerate(tests):
            rows = table[(table.data == name) & (table[key] == pd.Series(test, key)).all(axis=1)]
            for offset, row in zip(_spread(len(rows)), rows.itertuples(), strict=True):
                axes.plot([row.low, row.high], [y + offset] * 2, color=OUTCOMES[row.outcome], linewidth=1.4)
                axes.plot(row.difference, y + offset, marker="o", color=OUTCOMES[row.outcome], markersize=3.5)
                axes.plot([row.margin] * 2, [y - 0.42, y + 0.42], color="black", linewidth=1.2)
        axes.axvline(0, color="#999999", linewidth=0.8)
        axes.set_ylim(len(tests) - 0.4, -0.6)
        axes.set(xlabel="difference", title=plotting.plain(name))
        names = [f"{claim}: {study.labels[a]} − {study.labels[b]},\n{measure}" for claim, measure, a, b in tests]
        axes.set_yticks(range(len(tests)), map(plotting.plain, names), fontsize=8.5)
    shown = [one for one in OUTCOMES if one != TOO_FEW or one in set(table.outcome)]
    handles = [mpl.lines.Line2D([], [], color=OUTCOMES[one], marker="o", label=one) for one in shown]
    handles += [mpl.lines.Line2D([], [], color="black", linewidth=1.2, label="margin")]
    fig.legend(handles=handles, loc="outside lower center", ncols=5)
    plotting.headline(fig, titles.clear(table))
    counts = ", ".join(f"{n} {outcome}" for outcome, n in table.outcome.value_counts().items())
    return fig, (
        f"The {len(table)} differences behind the scorecard with their 95 percent intervals and the margins to clear: "
        f"{counts}."
    )


def sources(study: Study, table: pd.DataFrame, told: pd.DataFrame) -> plotting.Described:
    """What J-SIGR gains over the undefended network against what the attack leaves of that (`told`, validation images),
    a dot per source: hollow where the attack does not bite, so that nothing could be gained."""
    own = table[(table.claim == "transfer") & (table.data == study.profile.data_title)]
    own = own.drop_duplicates("context").set_index("context")
    fig, (axes,) = plotting.row(8.4, 4.4)
    rows = told[told.architecture == study.architecture]
    said, gained = [], []
    for i, row in enumerate(rows.to_dict("records")):
        name = row["source"] if row["source_defence"] == "standard" else f"{row['source']}, {row['source_defence']}"
        if (context := f"from {name}") in own.index:
            found = own.loc[context]
            look = {**plotting.nth_look(i, name), "linestyle": "none", "fillstyle": "full" if row["bites"] else "none"}
            bars = [[found.difference - found.low], [found.high - found.difference]]
            axes.errorbar(row["share_left"], found.difference, bars, markersize=8, **look)
            gained.append((bool(row["bites"]), found.difference))
            said.append(f"{name} leaves {row['share_left']:.0%}, gain {found.difference:+.2f}")
    axes.axvspan(LEFT, 1.05, color="#eeeeee", zorder=0)
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set(xlim=(0, 1.05), xlabel="share of the undefended network's clean accuracy that the attack leaves")
    axes.set_ylabel("what J-SIGR gains in accuracy")
    axes.set_title(f"{plotting.plain(study.profile.data_title)}, {study.budget}; grey: too little is lost")
    plotting.legend(fig, axes)
    plotting.headline(fig, titles.gains(pd.DataFrame(gained, columns=["bites", "difference"])))
    return fig, (
        "What J-SIGR gains in accuracy over the undefended network, by source of the transferred attack, against what "
        f"that attack leaves of the undefended network: {'; '.join(said)}."
    )


def _spread(n: int) -> np.ndarray:
    """Where n lines stand beside each other in one row."""
    return (np.arange(n) - (n - 1) / 2) * min(0.7 / max(n, 1), 0.2)
