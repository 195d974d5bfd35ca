"""How often the right class survives: clean, under white-box and black-box attack, and under attacks transferred from
other networks; each number with its n, its interval and its trust flags."""

import numpy as np
import pandas as pd

from jsigr_lib.measure import flags, statistics
from jsigr_lib.networks.zoo import Training
from jsigr_lib.records.tolerances import COUNT, EXACT, RETOLD, SHARE, TRAINED, Tolerance, declare
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.attacked import Outcomes, Probe, correct_of
from jsigr_lib.study.cells import Cell, headline_cells
from jsigr_lib.study.sources import attack_sources, sources_of
from jsigr_lib.study.study import DIGITS, Study

FEWEST_IMAGES = 50  # that say anything: of fewer, chance alone moves a share by more than 14 points either way


def specs(study: Study, cells: list[Cell]) -> list[Spec]:
    """What a table of these cells reads: outcomes, the evidence about every network, and which clean images all of
    them get right."""
    outcomes = [outcome for cell in cells for outcome in cell.outcomes]
    return [*outcomes, *_probes(study, cells).values(), *_clean(cells)]


def _networks(cells: list[Cell]) -> list[Training]:
    """All targets and sources."""
    outcomes = [outcome for cell in cells for outcome in cell.outcomes]
    attacked_from = [source for one in outcomes if one.attacked for source in one.attacked.sources]
    return list(dict.fromkeys([*(one.target for one in outcomes), *attacked_from]))


def _probes(study: Study, cells: list[Cell]) -> dict[Training, Probe]:
    images = min(study.profile.strong_images, study.profile.test_images)
    return {network: Probe(target=network, images=images) for network in _networks(cells)}


def _clean(cells: list[Cell]) -> list[Outcomes]:
    """The clean images of every target and source."""
    return [Outcomes(target=network, split=cells[0].outcomes[0].split) for network in _networks(cells)]


def accuracy_table(study: Study, cells: list[Cell]) -> pd.DataFrame:
    """One row per cell: what it is; n images, seeds, accuracy and its 95 % interval; accuracy on the images rounded to
    8 bits; the same on those images that every network here classifies correctly when clean; trust flags."""
    study.make(specs(study, cells))
    common = correct_of(study, _clean(cells)).all(0)
    correct = [correct_of(study, cell.outcomes) for cell in cells]
    named = [_by_network(cell, right) for cell, right in zip(cells, correct, strict=True)]
    raised = flags.of_comparison([cell.row for cell in cells], named)
    evidence = {network: study.get(probe).facts["evidence"] for network, probe in _probes(study, cells).items()}
    rows = []
    for cell, right, compared in zip(cells, correct, raised, strict=True):
        row = {**cell.row, "origins": cell.origins}
        row |= statistics.columns("accuracy", cell.of(right), statistics.proportion)
        row["eight_bit"] = correct_of(study, cell.outcomes, "correct_8bit").mean()
        where = common[: right.shape[1]]
        row["common_images"] = int(where.sum())
        among = statistics.proportion(cell.of(right[:, where])) if where.any() else (float("nan"),) * 3
        row["common_accuracy"], row["common_low"], row["common_high"] = among
        attacked = [one for one in cell.outcomes if one.attacked]
        excess = max((study.get(one).facts["farthest"] - one.attacked.eps for one in attacked), default=0.0)
        targets = (flags.of_network(evidence[one.target], "network") for one in cell.outcomes)
        sources = (flags.of_network(evidence[source], "source") for one in attacked for source in one.attacked.sources)
        own = flags.of_number(row["low"], row["high"], excess)
        row["flags"] = flags.shown(own.union(compared, *targets, *sources))
        rows.append(row)
    return declare(pd.DataFrame(rows), *cells[0].row, origins=EXACT, eight_bit=SHARE, common_images=COUNT)


def _by_network(cell: Cell, right: np.ndarray) -> dict[Training, np.ndarray]:
    """What is right of each network that a cell judges; of several origins, in the mean."""
    each = cell.of(right).mean(0)
    return {one.target: own for one, own in zip(cell.outcomes, each, strict=False)}


def has_budget(table: pd.DataFrame, eps: float) -> pd.Series:
    """Which rows are of one attack budget, in a saved table as well, where 8/255 has become 0.0314."""
    return table.eps.round(DIGITS) == np.round(eps, DIGITS)


def headline_table(study: Study, table: pd.DataFrame, *, common: bool = False) -> pd.DataFrame:
    """`table` at the headline budget as text, for reading: a row per defence of the figures' architecture, a column per
    threat with its n, cells with accuracy, interval and the numbers of the flags (see `flags_table`) behind a ⚑, in
    parentheses if they are of too few images to say anything.
    `common`: on the images that every network gets right."""
    p, start = study.profile, "common_" if common else ""
    shown = has_budget(table, 0) | has_budget(table, p.eps)
    rows = table[(table.architecture == study.architecture) & (table.norm == "linf") & shown]
    made = (rows.attack == p.transfer_attacks[0]) & (rows.source_defence == "standard")
    rows = rows[(rows.threat != "transfer") | made]
    names = (rows.attack + " from " + rows.source).where(rows.threat == "transfer", rows.attack).replace("", "clean")
    columns = [f"{name} (n {n:,})" for name, n in zip(names, rows[f"{start}images"], strict=True)]
    accuracy, low, high = (rows[f"{start}{name}"] for name in ("accuracy", "low", "high"))
    cells = [
        f"{a:.3f} [{b:.3f}, {c:.3f}]" + ("" if flag == "none" else f" ⚑ {flags.numbered(flag)}")
        for a, b, c, flag in zip(accuracy, low, high, rows["flags"], strict=True)
    ]
    few = rows[f"{start}images"] < FEWEST_IMAGES
    cells = [f"({cell})" if too_few else cell for cell, too_few in zip(cells, few, strict=True)]
    text = rows.assign(column=columns, cell=cells).pivot(index="defence", columns="column", values="cell")
    text = text.loc[list(study.labels), list(dict.fromkeys(columns))]
    return text.rename(index=study.labels).rename_axis(columns=None)


def judges_table(study: Study, cells: list[Cell], table: pd.DataFrame) -> pd.DataFrame:
    """Who is asked to judge, at the headline budget, all on the same first images and the first seed of the figures'
    architecture: one row per defence and judge, with n, accuracy, its interval and flags. `table` is the accuracy table
    of the cells."""
    p, first = study.profile, attack_sources(study, study.architecture)[0]
    headline = {"attack": p.transfer_attacks[0], "source": first.architecture, "source_defence": first.defence}
    asked = {
        "clean": {"threat": "clean"},
        "transferred": {"threat": "transfer", **headline},
        "Square": {"attack": "square"},
        "PGD": {"threat": "white-box", "attack": "pgd"},
        "PGD, restarts": {"attack": "pgd-restarts"},
        "AutoAttack": {"attack": "autoattack"},
    }
    rows = []
    for cell, raised in zip(cells, table["flags"], strict=True):
        what = cell.row
        if what["architecture"] != study.architecture or what["norm"] != "linf" or what["eps"] not in (0.0, p.eps):
            continue
        for judge, asks in asked.items():
            if asks.items() <= what.items():
                correct = cell.of(correct_of(study, cell.outcomes))[:1, 0, : p.autoattack_images]
                numbers = statistics.columns("accuracy", correct, statistics.proportion)
                own = set(raised.split("; ")) | flags.of_number(numbers["low"], numbers["high"], 0.0)
                rows.append({"defence": what["defence"], "judge": judge, **numbers, "flags": flags.shown(own)})
    return declare(pd.DataFrame(rows), "defence", "judge")


def flags_table(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Every flag: when it is raised, what it means, how many numbers raise it, and of which defences."""
    rows = []
    for number, (name, flag) in enumerate(flags.FLAGS.items(), 1):
        raising = table[[name in cell.split("; ") for cell in table["flags"]]]
        defences = [study.labels[one] for one in study.labels if one in set(raising.defence)]
        where = "all defences" if len(defences) == len(study.labels) else ", ".join(defences) or "none"
        threats = ", ".join(dict.fromkeys(raising.threat)) or "none"
        row = {"number": number, "flag": name, "raised if": flag.raised_if, "means": flag.means}
        rows.append(row | {"raised by": len(raising), "of": len(table), "threats": threats, "defences": where})
    counts = {"raised by": RETOLD, "threats": RETOLD, "defences": RETOLD}
    return declare(pd.DataFrame(rows), "number", "flag", of=EXACT, **counts)


def history_table(study: Study) -> pd.DataFrame:
    """One row per defence and epoch: the objective's terms, validation accuracy, Jacobian norm (first seed)."""
    networks = {name: study.training(name) for name in study.profile.defences}
    study.make(list(networks.values()))
    histories = {name: study.get(spec).facts["history"] for name, spec in networks.items()}
    table = pd.DataFrame([{"defence": name, **row} for name, rows in histories.items() for row in rows])
    accuracies = dict.fromkeys(("validation_accuracy", "robust_accuracy"), Tolerance(absolute=0.1))
    return declare(table, "defence", "epoch", **{**dict.fromkeys(table.columns[2:], TRAINED), **accuracies})


def relative_costs(study: Study) -> dict[str, float]:
    """What a training step of each defence costs in counted operations, standard = 1, on the first architecture."""
    base = study.training("standard").step_flops
    return {name: study.training(name).step_flops / base for name in study.profile.defences}


def cost_table(study: Study) -> pd.DataFrame:
    """What a training step of each defence costs in counted operations, standard = 1, beside what it buys: clean
    accuracy, and accuracy under the headline attack from the headline source with its interval and flags."""
    table = accuracy_table(study, headline_cells(study))
    table = table[table.architecture == study.architecture]
    clean = table[table.threat == "clean"].set_index("defence").accuracy
    rows = table[table.source == sources_of(study, study.architecture)[0]].set_index("defence")
    numbers = rows[["accuracy", "low", "high", "images", "seeds", "flags"]]
    table = pd.DataFrame({"cost": relative_costs(study), "clean": clean}).join(numbers)
    return declare(table.loc[list(rows.index)].reset_index(names="defence"), "defence", cost=EXACT, clean=SHARE)


def training_seconds(study: Study) -> dict[str, float]:
    """Measured time to train each defence (first seed), on the machine that trained it: the processor's where the clock
    counted more, so that whatever else kept the machine busy does not count."""
    facts = {name: study.get(study.training(name)).facts for name in study.profile.defences}
    return {name: min(one["seconds"], one.get("cpu_seconds", one["seconds"])) for name, one in facts.items()}
