"""How good the maps are, as tables: every measure of every map and defence, the questions that they answer, the curves
of deletion and insertion, and the cascade of weight randomisation."""

from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from jsigr_lib.measure import statistics
from jsigr_lib.measure.attributions import CONTROLS
from jsigr_lib.networks.zoo import Training
from jsigr_lib.records.tolerances import RETOLD, Tolerance, declare
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.linearised_tables import linearised_spec, linearised_values
from jsigr_lib.study.maps import ENERGY, REFERENCE, Explained, Sanity
from jsigr_lib.study.sources import headline_attack
from jsigr_lib.study.study import Study

PAIR = ("gradient", REFERENCE)  # the two maps that every network has
INPUTS = ("clean", "attacked")


class Measure(NamedTuple):
    """`better` is +1 if a larger value is better, -1 if a smaller one is, 0 if neither."""

    better: int
    meaning: str


MEASURES = {
    "deletion gain": Measure(+1, "area under the deletion curve of a random order minus that of the map"),
    "insertion gain": Measure(+1, "area under the insertion curve of the map minus that of a random order"),
    "infidelity": Measure(-1, "share of what removing squares does that the map does not foretell (Yeh et al. 2019)"),
    "agreement": Measure(+1, "rank correlation with the exact perturbation map of the same network"),
    "agreement given the energy map": Measure(+1, "the same of what is left once the energy map has told all it can"),
    "top overlap": Measure(+1, "intersection over union with it of the top tenth of the pixels"),
    "stability": Measure(+1, "rank correlation of the maps of the clean and the attacked image"),
    "SSIM": Measure(+1, "structural similarity of the two"),
    "max-sensitivity": Measure(-1, "largest relative change of the map under small random changes (Yeh et al. 2019)"),
    "sparseness": Measure(0, "Gini coefficient of the map: 0 even, 1 a single pixel"),
    "alignment": Measure(0, "|<x, grad>| / ||grad||, grad of the margin (Etmann et al. 2019), pixels"),
    "deletion AUC": Measure(-1, "area under the curve of the class's probability as pixels are deleted (RISE)"),
    "insertion AUC": Measure(+1, "the same as pixels are inserted"),
}


class Question(NamedTuple):
    """Is map `a` (defence, map) better than map `b`?"""

    text: str
    a: tuple[str, str]
    b: tuple[str, str]


OURS = ("jsigr", "gradient")
TRAINED = (("pgd", "gradient"), ("fast", "gradient"))
QUESTIONS = (
    Question("J-SIGR's cheap map for the standard network's costly one?", OURS, ("standard", REFERENCE)),
    Question("J-SIGR's cheap map for its own costly one?", OURS, ("jsigr", REFERENCE)),
    *(Question("J-SIGR's cheap map or one that knows no network?", OURS, ("jsigr", name)) for name in CONTROLS),
    *(Question("Adversarial training or standard?", one, ("standard", "gradient")) for one in TRAINED),
    *(Question("J-SIGR or adversarial training?", OURS, one) for one in TRAINED),
)


def explained(study: Study, target: Training, maps: tuple[str, ...], *, attacked: bool = True) -> Explained:
    """The maps of one network on clean images and, if `attacked`, on those attacked through the first surrogate, which
    are the same for every defence."""
    attack = headline_attack(study, target.architecture) if attacked else None
    images, settings = study.profile.saliency_images, study.profile.penalty.selection.perturbation
    return Explained(target=target, maps=maps, images=images, attacked=attack, **settings)


def _in_full(study: Study, defence: str, target: Training) -> bool:
    """A featured defence on the figures' architecture has all maps, and `sanity`; the others have the pair."""
    return defence in study.featured and target.architecture == study.architecture


def explained_in(study: Study, defence: str, target: Training) -> Explained:
    return explained(study, target, tuple(study.profile.saliency_maps) if _in_full(study, defence, target) else PAIR)


def sanity(study: Study, target: Training) -> Sanity:
    p = study.profile
    maps, settings = tuple(p.saliency_maps), p.penalty.selection.perturbation
    return Sanity(target=target, maps=maps, images=min(p.sanity_images, p.saliency_images), **settings)


def specs(study: Study) -> list[Spec]:
    """Everything that the tables read."""
    found: list[Spec] = []
    for (_, defence), networks in study.targets().items():
        for one in networks:
            found += [explained_in(study, defence, one)]
            found += [linearised_spec(study, one, attacked=attacked) for attacked in (False, True)]
            found += [sanity(study, one)] if _in_full(study, defence, one) else []
    return found


def measures(study: Study, defence: str, target: Training) -> dict[tuple[str, str, str], np.ndarray]:
    """(measure, map, input) -> one value per image, for one network."""
    tensors = dict(study.get(explained_in(study, defence, target)).tensors)
    if _in_full(study, defence, target):
        tensors |= study.get(sanity(study, target)).tensors
    values = {tuple(name.split("|")): value.double().numpy() for name, value in tensors.items()}
    for given in INPUTS:
        alignment = linearised_values(study, target, attacked=given == "attacked")["alignment"]
        values["alignment", "network", given] = alignment
    return {key: value for key, value in values.items() if key[0] in MEASURES}


def stacked(study: Study, architecture: str, defence: str) -> dict[tuple[str, str, str], np.ndarray]:
    """`measures` of every seed: [seeds, images]."""
    seeds = [measures(study, defence, network) for network in study.targets()[architecture, defence]]
    return {key: np.stack([one[key] for one in seeds]) for key in seeds[0]}


def measures_table(study: Study) -> pd.DataFrame:
    """Every measure of every map and defence: n, seeds, mean and 95 % interval."""
    study.make(specs(study))
    keys, values = ("architecture", "defence", "measure", "map", "input"), {}
    for target in study.targets():
        found = stacked(study, *target)
        values |= {(*target, *key): found[key] for key in sorted(found, key=lambda key: list(MEASURES).index(key[0]))}
    return declare(statistics.table(keys, "mean", values), *keys)


def questions_table(study: Study) -> pd.DataFrame:
    """Each question by each measure that has a better end: the paired difference a - b over the same images, its
    interval, the p-value of Wilcoxon's signed-rank test after Holm's correction over the table, and which is better."""
    study.make(specs(study))
    found = {name: stacked(study, study.architecture, name) for name in study.featured}
    keys, values = ("question", "a", "b", "measure", "input"), {}
    for text, (defence_a, map_a), (defence_b, map_b) in QUESTIONS:
        a, b = found.get(defence_a, {}), found.get(defence_b, {})
        for measure, name, given in a if b else ():
            if name == map_a and _comparable(measure, map_b):
                key = (text, f"{defence_a}, {map_a}", f"{defence_b}, {map_b}", measure, given)
                values[key] = statistics.differences(a[measure, map_a, given], b[measure, map_b, given])
    table = statistics.table(keys, "difference", values)
    table["p"] = statistics.holm(np.array([statistics.signed_rank(value) for value in values.values()]))
    table["better"] = [_better(row) for row in table.itertuples()]
    return declare(table, *keys, p=RETOLD)


def _comparable(measure: str, other: str) -> bool:
    """Whether two networks can be compared by a measure. Areas also depend on how sure a network is of itself, the
    perturbation map agrees with itself by definition, and given the energy map nothing is left of that."""
    itself = other == REFERENCE and (measure.startswith("agreement") or measure == "top overlap")
    itself |= other == ENERGY and measure.endswith("given the energy map")
    return MEASURES[measure].better != 0 and "AUC" not in measure and not itself


def _better(row) -> str:
    """Which map is better, "a" or "b", if the interval and the test both say so."""
    if row.p >= 0.05 or row.low <= 0 <= row.high:
        return "no difference"
    return "a" if row.difference * MEASURES[row.measure].better > 0 else "b"


def curves_table(study: Study) -> pd.DataFrame:
    """Mean deletion and insertion curves of the pair of maps and of the controls; the figures' architecture, first
    seed."""
    study.make(specs(study))
    rows = []
    for defence in study.profile.defences:
        tensors = study.get(explained_in(study, defence, study.training(defence))).tensors
        for given, kind, name in product(INPUTS, ("deletion", "insertion"), (*PAIR, *CONTROLS)):
            curve = tensors[f"{kind} curve|{name}|{given}"].double().mean(0).tolist()
            what, last = {"defence": defence, "input": given, "curve": kind, "map": name}, len(curve) - 1
            rows += [{**what, "share": step / last, "probability": value} for step, value in enumerate(curve)]
    keys = ("defence", "input", "curve", "map", "share")
    return declare(pd.DataFrame(rows), *keys, probability=Tolerance(absolute=0.1))


def cascade_table(study: Study) -> pd.DataFrame:
    """How much of each map is left when 1, 2, ... layers are drawn anew from the last on (Adebayo et al. 2018)."""
    study.make(specs(study))
    keys, values = ("defence", "map", "layers"), {}
    for defence in study.featured:
        seeds = [study.get(sanity(study, network)).tensors for network in study.targets()[study.architecture, defence]]
        for name in (*study.profile.saliency_maps, *CONTROLS):
            found = np.stack([one[f"cascade|{name}|clean"].numpy() for one in seeds])
            values |= {(defence, name, i + 1): found[:, :, i] for i in range(found.shape[2])}
    return declare(statistics.table(keys, "correlation", values), *keys)
