"""What robustness costs: accuracy under attack against the measured time of a training step, for J-SIGR on a share q of
each batch, for its other variants (`variants.toml`) and for every other defence."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import tables
from benchmarks.steps import BASELINE, training_step
from jsigr_lib.figures.plotting import LOOKS, figure, panels
from jsigr_lib.measure import statistics
from jsigr_lib.method.saliency import selection_mask
from jsigr_lib.networks.zoo import Training
from jsigr_lib.store.specs import Spec
from jsigr_lib.study import map_tables
from jsigr_lib.study.attacked import Outcomes, correct_of, transferred, white_box
from jsigr_lib.study.sources import sources_of
from jsigr_lib.study.study import Study

PROFILE = Path(__file__).parent / "variants.toml"
CURVE = ("jsigr-q1", "jsigr-q50", "jsigr-q25", "jsigr", "jsigr-q05", "jsigr-q02")
NORMS = {"L2": ("l2-weak", "jsigr", "l2-strong", "l2-strongest"), "L1": ("l1-weak", "l1", "l1-strong", "l1-strongest")}
FIELD = ("standard", "input-gradient", "jacobian", "sigr", "fast", "pgd")
MEASURES = {
    "clean": "clean accuracy",
    "transfer": "transferred accuracy",
    "white_box": "white-box accuracy",
    "agreement": "agreement of the maps",
}


def outcomes(study: Study, networks: list[Training]) -> dict[str, list[Outcomes]]:
    """The outcomes behind each accuracy, one per seed; what starts with "validation" is what choices are made on."""
    eps = study.profile.eps
    first, *others = (study.surrogate(name) for name in sources_of(study, study.architecture)[:-1])
    found = {
        "clean": [Outcomes(target=network) for network in networks],
        "transfer": [transferred(study, network, first, eps) for network in networks],
        "white_box": [white_box(study, network, eps) for network in networks],
        "validation_clean": [Outcomes(target=network, split="validation") for network in networks],
        "validation_transfer": [transferred(study, network, first, eps, split="validation") for network in networks],
    }
    for other in others:
        found[f"transfer_{other.architecture}"] = [transferred(study, network, other, eps) for network in networks]
    for budget in study.profile.budgets:
        if budget != eps:
            found[f"transfer_at_{budget:g}"] = [transferred(study, network, first, budget) for network in networks]
    return found


def maps(study: Study, network: Training) -> Spec:
    return map_tables.explained(study, network, map_tables.PAIR, attacked=False)


def specs(study: Study) -> list[Spec]:
    """Everything that the table needs and that can be made in parallel."""
    found: list[Spec] = []
    for networks in study.targets().values():
        found += [one for many in outcomes(study, networks).values() for one in many]
        found += [maps(study, network) for network in networks]
    return found


def table(study: Study, rounds: int) -> pd.DataFrame:
    """One row per defence: the time of its training step, standard = 1, and each measure with its 95 % interval over
    images and seeds. Accuracies under attack are at the profile's eps unless the column says another."""
    study.make(specs(study))
    costs = step_costs(study, rounds)
    rows = []
    for (_, defence), networks in study.targets().items():
        row = {"defence": defence, "label": study.labels[defence], "cost": costs[defence]}
        for name, ones in outcomes(study, networks).items():
            row |= interval(name, statistics.proportion(correct_of(study, ones)))
        agreement = [
            study.get(maps(study, network)).tensors["agreement|gradient|clean"].numpy() for network in networks
        ]
        row |= interval("agreement", statistics.mean(np.stack(agreement)))
        rows.append({**row, "images": study.profile.test_images, "seeds": len(networks)})
    return pd.DataFrame(rows)


def interval(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def step_costs(study: Study, rounds: int) -> dict[str, float]:
    """Time of a training step of each defence over a standard step, interleaved; a teacher's masks are given."""
    x, y = study.batch("train", study.profile.batch_size)
    mask = selection_mask(torch.rand_like(x[:, :1]))
    cases = {}
    for name, defence in study.profile.defences.items():
        spec, given = study.training(name), mask if defence.teacher else None
        model = spec.untrained(study.dataset.shape).to(x.device)
        cases[name] = training_step(model, spec.build_objective(), x, y, given)
    measured = tables.compare(cases, baseline=BASELINE, rounds=rounds, device=study.store.device)
    return dict(zip(measured.case, measured.ratio, strict=True))


def draw(study: Study, rows: pd.DataFrame) -> tuple[Figure, str]:
    """Clean, transferred and white-box accuracy against cost: J-SIGR's curve over q, and every other defence."""
    rows = rows.set_index("defence")
    fig = figure(10, 4.2)
    grid = panels(fig, 1, 3, sharex=True)[0]
    for axes, measure in zip(grid, ("clean", "transfer", "white_box"), strict=True):
        _line(axes, rows.loc[list(CURVE)], measure, LOOKS["jsigr"][0], "J-SIGR")
        for name in FIELD:
            _point(axes, rows.loc[name], measure, *LOOKS[name])
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set(title=MEASURES[measure].capitalize(), xlabel="time of a step, standard = 1")
    for name in (CURVE[0], CURVE[-1]):
        row, beside = rows.loc[name], {"xytext": (8, -4), "textcoords": "offset points", "color": LOOKS["jsigr"][0]}
        grid[0].annotate(row.label.split(", ")[1], (row.cost, row.clean), **beside)
    grid[0].set_ylabel(f"accuracy, attacks at eps {study.profile.eps:g}")
    fig.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=7)
    shown = rows.loc[[*FIELD, *CURVE]]
    values = "; ".join(f"{row.label} {row.cost:.2f} times, {row.transfer:.2f}" for row in shown.itertuples())
    return fig, (
        "Clean accuracy and accuracy under transferred and white-box attack against the time of a training step, "
        "standard = 1, for J-SIGR on shares q of the batch and for the other defences, with 95 percent intervals. Cost "
        f"and transferred accuracy: {values}."
    )


def draw_norms(study: Study, rows: pd.DataFrame) -> tuple[Figure, str]:
    """Robustness and agreement against clean accuracy for the L2 and the L1 form over weights, and the rivals."""
    rows = rows.set_index("defence")
    fig = figure(9.6, 4.0)
    grid = panels(fig, 1, 3, sharex=True)[0]
    for axes, measure in zip(grid, ("transfer", "white_box", "agreement"), strict=True):
        for (norm, names), colour in zip(NORMS.items(), (LOOKS["jsigr"][0], LOOKS["jsigr-l1"][0]), strict=True):
            _line(axes, rows.loc[list(names)], measure, colour, f"J-SIGR, {norm}", across="clean")
        for name in ("fast", "pgd"):
            _point(axes, rows.loc[name], measure, *LOOKS[name], across="clean")
        axes.set(title=MEASURES[measure].capitalize(), xlabel="clean accuracy")
    fig.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    values = "; ".join(
        f"{row.label}: clean {row.clean:.2f}, transferred {row.transfer:.2f}, agreement {row.agreement:.2f}"
        for names in NORMS.values()
        for row in rows.loc[list(names)].itertuples()
    )
    return fig, (
        "Transferred accuracy, white-box accuracy and agreement of the maps against clean accuracy, for four weights "
        f"of the L2 and of the L1 form of J-SIGR, beside adversarial training. {values}."
    )


def _line(axes: Axes, rows: pd.DataFrame, measure: str, colour: str, label: str, across: str = "cost") -> None:
    axes.fill_between(
        rows[across], rows[f"{measure}_low"], rows[f"{measure}_high"], color=colour, alpha=0.15, linewidth=0
    )
    axes.plot(rows[across], rows[measure], color=colour, marker="o", label=label)


def _point(axes: Axes, row: pd.Series, measure: str, colour: str, marker: str, across: str = "cost") -> None:
    bar = [[row[measure] - row[f"{measure}_low"]], [row[f"{measure}_high"] - row[measure]]]
    look = {"color": colour, "marker": marker, "markersize": 8, "linestyle": "none", "label": row.label}
    axes.errorbar(row[across], row[measure], bar, **look)
