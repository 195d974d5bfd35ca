"""The lower bounds of Finlay & Oberman for a study's networks, beside the distance to the boundary and the accuracy
under attack that were measured: the artefacts and their tables. Distances are L2, in pixel units."""

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from jsigr_lib.data.data import load
from jsigr_lib.measure import statistics
from jsigr_lib.measure.boundary import correlation
from jsigr_lib.measure.bounds import confidence_gap, distance_bounds
from jsigr_lib.networks.zoo import OfNetwork, Training, trained
from jsigr_lib.records.tolerances import COUNT, EXACT, MEAN, SHARE, TRAINED, declare
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec
from jsigr_lib.study import robustness
from jsigr_lib.study.attacked import Outcomes, correct_of, white_box
from jsigr_lib.study.boundary import boundary_specs, distance_spec
from jsigr_lib.study.cells import Cell
from jsigr_lib.study.linearised_tables import linearised_specs, linearised_values
from jsigr_lib.study.study import Study

BOUNDS = ("gradient", "curvature")  # those of L2 distances
COUNTS = (50, 200, 1000)
INTERVAL = ("correlation", "correlation_low", "correlation_high")


class Gap(OfNetwork):
    """`confidence_gap` of all test images for one network."""

    kind: ClassVar[str] = "gap"

    def work(self) -> float:
        return self.target.data.test_images * 15 * self.target.pass_flops

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model, split = trained(self.target, store).double(), load(self.target.data, store).test
        parts = [split.batch(index, device) for index in torch.arange(len(split)).split(100)]
        parts = [confidence_gap(model, x.double(), y) for x, y in parts]
        return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}, {}


def specs(study: Study) -> list[Spec]:
    """Everything that the tables read."""
    own = [*(Gap(target=network) for network in study.networks), *boundary_specs(study), *linearised_specs(study)]
    return [*own, *robustness.specs(study, _cells(study))]


def _cells(study: Study) -> list[Cell]:
    """Clean, and under PGD at the headline budget: a pair for each defence of the figures' architecture."""
    found = []
    for defence in study.labels:
        networks = study.targets()[study.architecture, defence]
        asked = {("clean", "", 0.0): [Outcomes(target=one) for one in networks]}
        asked["white-box", "itself", study.profile.eps] = [white_box(study, one, study.profile.eps) for one in networks]
        what = ("defence", "threat", "source", "eps")
        found += [Cell(dict(zip(what, (defence, *row), strict=True)), outcomes) for row, outcomes in asked.items()]
    return found


def accuracy_table(study: Study) -> pd.DataFrame:
    """What each defence gets right, clean and under PGD, and what a step of it costs in counted operations, standard
    = 1; see `robustness.accuracy_table`."""
    table = robustness.accuracy_table(study, _cells(study))
    table = table.assign(cost=table.defence.map(robustness.relative_costs(study)))
    keys, counts = ("defence", "threat", "source", "eps"), {"cost": EXACT, "origins": EXACT, "common_images": COUNT}
    return declare(table, *keys, eight_bit=SHARE, **counts)


def gains_table(study: Study) -> pd.DataFrame:
    """Every defence minus no defence, and J-SIGR minus every other one, in accuracy under PGD, with paired 95 %
    intervals."""
    cells = [cell for cell in _cells(study) if cell.row["threat"] == "white-box"]
    study.make(robustness.specs(study, cells))
    right, keys = {cell.row["defence"]: correct_of(study, cell.outcomes) for cell in cells}, ("a", "b")
    pairs = [(one, "standard") for one in right if one != "standard"]
    pairs += [("jsigr", one) for one in right if one not in ("jsigr", "standard") and "jsigr" in right]
    values = {(a, b): statistics.differences(right[a], right[b]) for a, b in pairs}
    return declare(statistics.table(keys, "difference", values), *keys)


def promised_table(study: Study) -> pd.DataFrame:
    """The share of images that a network gets right under PGD at the headline budget, and those of them for which the
    L-infinity bound says so, with 95 % intervals; `broken` counts images that the bound promises and PGD takes, over
    all seeds."""
    study.make(specs(study))
    rows = []
    for cell in _cells(study)[1::2]:
        right = correct_of(study, cell.outcomes)
        bounds = [distance_bounds(study.get(Gap(target=one.target)).tensors)["gradient_linf"] for one in cell.outcomes]
        promised = np.stack([bound[: right.shape[1]].numpy() >= study.profile.eps for bound in bounds])
        row = {"defence": cell.row["defence"], "largest_bound": max(bound.max().item() for bound in bounds)}
        row |= statistics.columns("promised", promised, statistics.proportion)
        rows.append({**row, "survives_pgd": right.mean(), "broken": int((promised & ~right).sum())})
    return declare(pd.DataFrame(rows), "defence", largest_bound=TRAINED, survives_pgd=SHARE, broken=COUNT)


def one_by_one(study: Study, defences: list[str], images: int) -> dict[str, dict[str, np.ndarray]]:
    """Defence -> the "gradient" and "curvature" bounds, the "tangent"'s distance and the "measured" one [images] of the
    first test images, first seed; 0 where the network is wrong."""
    found = {}
    for name in defences:
        network = study.targets()[study.architecture, name][0]
        bounds = distance_bounds(study.get(Gap(target=network)).tensors)
        values = {bound: bounds[bound].numpy() for bound in BOUNDS}
        values["tangent"] = linearised_values(study, network)["robustness"]
        values["measured"] = study.get(distance_spec(study, network)).tensors["distance"].numpy()
        found[name] = {what: value[:images] for what, value in values.items()}
    return found


def ratios(study: Study, networks: list[Training]) -> dict[str, np.ndarray]:
    """Each bound over the measured distance, and the "distance" [seeds, images], of the images that have one:
    those that every seed gets right."""
    distances = np.stack([study.get(distance_spec(study, one)).tensors["distance"].double() for one in networks])
    bounds = [distance_bounds(study.get(Gap(target=one)).tensors) for one in networks]
    usable, first = (distances > 0).all(0), distances.shape[1]
    found = {name: np.stack([one[name][:first].numpy() for one in bounds]) for name in BOUNDS}
    shares = {name: bound[:, usable] / distances[:, usable] for name, bound in found.items()}
    return {"distance": distances[:, usable], **shares}


def bounds_table(study: Study) -> pd.DataFrame:
    """One row per network and bound: the median share of the measured distance that it promises, how many images' bound
    exceeds that distance, and Spearman's correlation of the two over images."""
    study.make(specs(study))
    rows = []
    for (architecture, defence), networks in study.targets().items():
        found = ratios(study, networks)
        distance = found.pop("distance")
        for bound, share in found.items() if distance.size else ():
            row = {"architecture": architecture, "defence": defence, "bound": bound}
            row |= {"images": share.shape[1], "seeds": len(share), "median_share": np.median(share)}
            row |= {"distance_median": np.median(distance), "exceeds": (share > 1).mean()}
            row |= dict(zip(INTERVAL, correlation(share * distance, distance), strict=True))
            rows.append(row)
    what = ("architecture", "defence", "bound")
    return declare(pd.DataFrame(rows), *what, median_share=MEAN, distance_median=MEAN, exceeds=SHARE)


def tightness_table(study: Study) -> pd.DataFrame:
    """J-SIGR minus each other defence in how much of the measured distance a bound promises: the paired difference, on
    the images that both get right in every seed, with its 95 % interval."""
    study.make(specs(study))
    own = study.targets()[study.architecture, "jsigr"]
    keys, values = ("a", "b", "bound"), {}
    for name in (one for one in study.labels if one != "jsigr"):
        theirs = study.targets()[study.architecture, name]
        together = ratios(study, [*own, *theirs])
        for bound in BOUNDS if together["distance"].size else ():
            split = together[bound][: len(own)], together[bound][len(own) :]
            values["jsigr", name, bound] = statistics.differences(*split)
    return declare(statistics.table(keys, "difference", values), *keys)


def constants_table(study: Study) -> pd.DataFrame:
    """The constants of the bounds against how many images they are the maxima of, per defence, in the mean over seeds:
    what is still rising is no bound."""
    study.make(specs(study))
    rows, counts = [], sorted({n for n in COUNTS if n < study.profile.test_images} | {study.profile.test_images})
    for defence in study.labels:
        gaps = [study.get(Gap(target=one)).tensors for one in study.targets()[study.architecture, defence]]
        for n in counts:
            row = {name: np.mean([one[name][:n].max().item() for one in gaps]) for name in ("slope", "curvature")}
            rows.append({"defence": defence, "images": n, "seeds": len(gaps), **row})
    return declare(pd.DataFrame(rows), "defence", "images", slope=TRAINED, curvature=TRAINED)
