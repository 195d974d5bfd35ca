"""The figures of OTJR taken apart; see `plotting` for how all of them are made."""

import pandas as pd
from matplotlib.axes import Axes

from jsigr_lib.figures import plotting
from jsigr_lib.figures.plotting import Described
from jsigr_lib.findings import transport as findings
from jsigr_lib.study.study import Study
from jsigr_lib.study.transport import DIRECTIONS

ATTACKS = {"": ("clean", "#767676", "o"), "pgd": ("PGD", "#0072b2", "D"), "autoattack": ("AutoAttack", "#d55e00", "s")}
LABELS = {"transport": "of the transport", "pairs": "of the pair", "random": "random", "best": "the best there is"}


def trainings(study: Study, table: pd.DataFrame) -> Described:
    """Accuracy of every training, clean and attacked, a row each."""
    fig, (axes,) = plotting.row(8.0, 5.2)
    names = list(dict.fromkeys(table.training))
    for attack, (label, colour, marker) in ATTACKS.items():
        _dots(axes, table[table.attack == attack], names, "accuracy", label, colour, marker)
    axes.set(xlabel=f"accuracy; attacks at {study.budget}", xlim=(0, 1))
    plotting.legend(fig, axes)
    plotting.headline(fig, findings.trainings_title(table, study.labels))
    both = table.pivot(index="training", columns="attack", values="accuracy").loc[names]
    said = "; ".join(f"{name} {row['']:.2f} and {row['pgd']:.2f}" for name, row in both.iterrows())
    return fig, f"Accuracy on clean images and under PGD, with 95 percent intervals, per training: {said}."


def directions(study: Study, table: pd.DataFrame) -> Described:
    """How much of the Jacobian each direction sees, per training."""
    fig, (axes,) = plotting.row(8.0, 5.2)
    names = list(dict.fromkeys(table.training))
    for i, direction in enumerate(DIRECTIONS):
        look = plotting.nth_look(i, LABELS[direction])
        _dots(axes, table[table.quantity == direction], names, "mean", look["label"], look["color"], look["marker"])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xlabel=r"$K \|J^T v\|^2 / \|J\|_F^2$ (1 is a random direction's mean)", xlim=(0, None))
    plotting.legend(fig, axes)
    plotting.headline(fig, findings.directions_title(table))
    shown = table[table.quantity.isin(DIRECTIONS)].pivot(index="training", columns="quantity", values="mean").loc[names]
    said = "; ".join(f"{name} {', '.join(f'{row[one]:.2f}' for one in DIRECTIONS)}" for name, row in shown.iterrows())
    return fig, f"Per training, how much of the Jacobian is seen by the direction {', '.join(LABELS.values())}: {said}."


def _dots(axes: Axes, rows: pd.DataFrame, names: list[str], column: str, label: str, colour: str, marker: str) -> None:
    """A dot with its interval for each row of the figure."""
    rows = rows.set_index("training")
    places = [i for i, name in enumerate(names) if name in rows.index]
    rows = rows.loc[[names[i] for i in places]]
    axes.hlines(places, rows.low, rows.high, color=colour, linewidth=1.2)
    axes.plot(rows[column], places, marker, color=colour, label=label)
    axes.set_yticks(range(len(names)), map(plotting.plain, names))
    axes.set_ylim(len(names) - 0.5, -0.5)
