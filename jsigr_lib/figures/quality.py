"""The figures of image quality; see `plotting` for how all of them are made."""

import numpy as np
import pandas as pd

from jsigr_lib.data.photographs import DISTORTIONS, STRENGTHS, VARIANTS
from jsigr_lib.figures import plotting
from jsigr_lib.figures.plotting import LOOKS, Described
from jsigr_lib.findings import quality as findings
from jsigr_lib.study.quality import LABELS
from jsigr_lib.study.study import Study

LIKE = {"plain": "standard", "nt": "scaleable-l1", "attacked": "pgd"}
"""Objective -> the defence whose look it takes, where it is not its own name's."""
Values = dict[str, dict[str, np.ndarray]]
"""See `study.quality.moves`."""
DOTTED = ("plain", "nt", "jsigr")  # shown dot by dot, where more would hide the answer


def _looks() -> dict[str, dict[str, str]]:
    """What a row of the tables is called -> the look of its line or dot."""
    looks = {label: LOOKS[LIKE.get(name, name)] for name, label in LABELS.items()}
    return {label: {"color": colour, "marker": marker, "label": label} for label, (colour, marker) in looks.items()}


def examples(images: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> Described:
    """A crop in every distortion and strength, each with its label and the undefended model's score."""
    rows, said = [], []
    for name in DISTORTIONS:
        first = VARIANTS.index(name)
        shown = [0, *range(first, first + STRENGTHS)]
        rows.append([(images[i], f"{labels[i]:.2f}, {scores[i]:.2f}", None) for i in shown])
        said.append(f"{name} {', '.join(f'{labels[i]:.2f}' for i in shown[1:])}")
    columns = ["source", *(f"strength {i + 1}" for i in range(STRENGTHS))]
    fig = plotting.map_grid(rows, columns=columns, names=list(DISTORTIONS))
    return fig, (
        "A crop of a test photograph, then blurred, made noisy, compressed and made paler at five strengths; beneath "
        f"each its label and the undefended model's score. Labels: {'; '.join(said)}."
    )


def attacks(study: Study, table: pd.DataFrame) -> Described:
    """Rank correlation and how far scores moved, against the level of FGSM, and under PGD at the largest."""
    fig, both = plotting.row(9.6, 4.2, 2)
    levels = study.profile.quality.levels
    beside = [
        levels[-1] * (1.12 + 0.05 * i) for i in range(len(LABELS))
    ]  # side by side, or intervals would hide others
    for place, (label, look) in zip(beside, _looks().items(), strict=True):
        own = table[table.training == label]
        line, pgd = own[own.attack != "PGD"].sort_values("level"), own[own.attack == "PGD"]
        for axes, column in zip(both, ("srcc", "moved"), strict=True):
            axes.plot(line.level, line[column], **look)
            ends = [pgd[column] - pgd[f"{column}_low"], pgd[f"{column}_high"] - pgd[column]]
            axes.errorbar([place] * len(pgd), pgd[column], ends, color=look["color"], marker=look["marker"])
    for axes, what in zip(both, ("rank correlation with the labels", "mean |q(x') − q(x)|"), strict=True):
        axes.set(xlabel="budget, levels of 255", title=what)
        axes.set_xticks([0, *levels, np.mean(beside)], ["0", *(f"{one:g}" for one in levels), "PGD"])
    plotting.legend(fig, both[0])
    plotting.headline(fig, findings.attacks_title(table))
    strongest = table[table.attack == "PGD"]
    said = "; ".join(f"{row.training} {row.srcc:.2f} and {row.moved:.3f}" for row in strongest.itertuples())
    return fig, (
        "Rank correlation with the labels, and how far scores move, per training, clean, under FGSM at growing budgets "
        f"and under PGD at the largest, there with 95 percent intervals. Under PGD: {said}."
    )


def slopes(study: Study, values: Values, table: pd.DataFrame, clean: pd.DataFrame) -> Described:
    """How far FGSM moves each picture's score against the prediction; and clean correlation against what PGD moves."""
    fig, (left, right) = plotting.row(9.6, 4.2, 2)
    looks, eps = _looks(), study.profile.quality.levels[-1] / 255
    for name in DOTTED:
        predicted = eps * values["slope"][name].ravel()
        moved = np.abs(values["fgsm"][name] - values["clean"][name]).ravel()
        style = {**looks[LABELS[name]], "linestyle": "none", "markersize": 3, "alpha": 0.5, "markeredgewidth": 0}
        left.plot(predicted, moved, **style)
    left.axline((0, 0), slope=1, color="black", linewidth=0.8)
    left.set(title="Per picture", xlabel="predicted, ε‖g‖₁", ylabel="moved by one FGSM step")
    left.set(xlim=(0, None), ylim=(0, None))
    correlations = clean[clean.attack == ""].set_index("training")
    for row in table.itertuples():
        own = correlations.loc[row.training]
        across = [[row.pgd - row.pgd_low], [row.pgd_high - row.pgd]]
        up = [[own.srcc - own.srcc_low], [own.srcc_high - own.srcc]]
        right.errorbar(row.pgd, own.srcc, up, across, linestyle="none", markersize=8, **looks[row.training])
    right.set(title="What it costs", xlabel="moved by PGD", ylabel="clean rank correlation", xlim=(0, None))
    plotting.legend(fig, right)
    plotting.headline(fig, findings.slopes_title(table))
    said = "; ".join(f"{row.training} {row.predicted:.3f}, {row.fgsm:.3f}, {row.pgd:.3f}" for row in table.itertuples())
    return fig, (
        "Left: how far one FGSM step moves each test picture's score against epsilon times the gradient's L1 norm, and "
        f"the diagonal. Right: clean rank correlation against how far PGD moves scores. Predicted, FGSM, PGD: {said}."
    )
