"""OTJR (Le, Tariq & Woo 2024) taken apart: beside the other trainings on attacked images, with each of its ideas
replaced by a plainer one, and how much of the Jacobian its direction sees. All networks learn from the same images."""

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from jsigr_lib.data.data import load
from jsigr_lib.measure import statistics
from jsigr_lib.measure.linearised import full_jacobian, predict
from jsigr_lib.method.adversarial_training import moves
from jsigr_lib.method.jacobian import sphere
from jsigr_lib.networks.zoo import OfNetwork, Training, trained
from jsigr_lib.records.tolerances import COUNT, EXACT, SHARE, declare
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec
from jsigr_lib.study import robustness
from jsigr_lib.study.attacked import Attacked, Outcomes, correct_of, white_box
from jsigr_lib.study.cells import Cell
from jsigr_lib.study.study import Study

COMPARED = ("standard", "jsigr", "pgd", "trades", "otjr")
PLAINER = {
    "OTJR, no Jacobian term": {"jacobian": 0.0},
    "OTJR, no alignment": {"transport": 0.0},
    "OTJR, random direction": {"along": "random"},
    "OTJR, direction of the pair": {"along": "pairs"},
    "OTJR, KL for transport": {"align": "kl", "transport": 3.0},  # the weight of TRADES in the profile
    "OTJR, pairs for transport": {
        "align": "pairs",
        "transport": 0.4,
    },  # the same scale: of 10 classes, a slice sees a tenth
    "OTJR, four slices": {"slices": 4},
}
"""What is changed of OTJR, and the options that do it."""
DIRECTIONS = ("transport", "pairs", "random", "best")
SLICES = 32


class Directions(OfNetwork):
    """Of the attacked test images of a network, [images] each: how much of the Jacobian a direction v sees,
    K ||J^T v||^2 / ||J||_F^2, for OTJR's "transport" direction, that of the "pairs" z - z_adv, a "random" one and the
    "best", the first left singular vector; the "jacobian" ||J||_F^2 at the clean image; and how far the logits are
    moved "apart", delta^2 in the mean over slices. The batch that is transported is all of the images."""

    kind: ClassVar[str] = "directions"
    attacked: Attacked

    def work(self) -> float:
        return self.target.data.test_images * 12 * self.target.pass_flops

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model, x_adv = trained(self.target, store), store.get(self.attacked).tensors["images"].to(device)
        x = load(self.target.data, store).test.first(len(x_adv)).batch(slice(None), device)[0]
        z, z_adv = (torch.cat([predict(model, part) for part in one.split(250)]) for one in (x, x_adv))
        jacobian = torch.cat([full_jacobian(model, part) for part in x.split(250)])
        generator = torch.Generator().manual_seed(self.target.seed)
        theta = sphere(SLICES, z.shape[1], like=z, generator=generator)
        delta = moves(z_adv @ theta.T, z @ theta.T)
        along = {
            "transport": delta @ theta,
            "pairs": z - z_adv,
            "random": sphere(*z.shape, like=z, generator=generator),
        }
        found = {name: _seen(jacobian, torch.nn.functional.normalize(v)) for name, v in along.items()}
        found["jacobian"] = jacobian.square().sum((1, 2))
        most = torch.linalg.matrix_norm(jacobian, 2).square()
        found["best"] = z.shape[1] * most / found["jacobian"].clamp_min(torch.finfo(most.dtype).tiny)
        return {**found, "apart": delta.square().mean(1)}, {}


def _seen(jacobian: Tensor, v: Tensor) -> Tensor:
    """K ||J^T v||^2 / ||J||_F^2 of Jacobians [n, K, pixels] and unit vectors [n, K]; 1 in the mean over random v."""
    norm = jacobian.square().sum((1, 2)).clamp_min(torch.finfo(jacobian.dtype).tiny)
    return jacobian.shape[1] * (v[:, None] @ jacobian)[:, 0].square().sum(1) / norm


def trainings(study: Study) -> dict[str, list[Training]]:
    """What a row of the tables is called -> its networks, one per seed: the compared defences, then OTJR with one of
    its ideas replaced."""
    found = {study.labels[name]: study.targets()[study.architecture, name] for name in COMPARED if name in study.labels}
    seeds = study.profile.seeds if "otjr" in study.labels else []
    return found | {
        what: networks
        for what, options in PLAINER.items()
        if (networks := [study.training("otjr", seed=seed, **options) for seed in seeds])
    }


def _directions(study: Study, network: Training) -> Directions:
    return Directions(target=network, attacked=white_box(study, network, study.profile.eps).attacked)


def _cells(study: Study) -> list[Cell]:
    """Clean, under PGD, and for the defences that the profile names under AutoAttack (first seed)."""
    p, found = study.profile, []
    judged = {study.labels[name] for name in p.autoattack if name in COMPARED}
    images = min(p.autoattack_images, p.test_images)
    for what, networks in trainings(study).items():
        asked = {"clean": [Outcomes(target=one) for one in networks]}
        asked["pgd"] = [white_box(study, one, p.eps) for one in networks]
        if what in judged:
            first = networks[0]
            attack = Attacked(sources=first, attack="autoattack", eps=p.eps, images=images)
            asked["autoattack"] = [Outcomes(target=first, attacked=attack)]
        for attack, outcomes in asked.items():
            clean = attack == "clean"
            row = {"training": what, "threat": "clean" if clean else "white-box", "source": "" if clean else "itself"}
            row |= {"attack": "" if clean else attack, "eps": 0.0 if clean else p.eps}
            found.append(Cell(row, outcomes))
    return found


def specs(study: Study) -> list[Spec]:
    """Everything that the tables read."""
    networks = [one for row in trainings(study).values() for one in row]
    return [*robustness.specs(study, _cells(study)), *(_directions(study, one) for one in networks)]


def accuracy_table(study: Study) -> pd.DataFrame:
    """What each training gets right, clean and attacked, and what a step of it costs in counted operations, standard
    = 1; see `robustness.accuracy_table`."""
    table = robustness.accuracy_table(study, _cells(study))
    base = study.training("standard").step_flops
    costs = {what: networks[0].step_flops / base for what, networks in trainings(study).items()}
    keys = ("training", "threat", "source", "attack", "eps")
    return declare(
        table.assign(cost=table.training.map(costs)),
        *keys,
        cost=EXACT,
        origins=EXACT,
        eight_bit=SHARE,
        common_images=COUNT,
    )


def difference_table(study: Study) -> pd.DataFrame:
    """OTJR minus each other training in accuracy under PGD, paired by image and seed, with 95 % intervals."""
    study.make(specs(study))
    correct = {
        cell.row["training"]: correct_of(study, cell.outcomes) for cell in _cells(study) if cell.row["attack"] == "pgd"
    }
    own, keys = study.labels.get("otjr"), ("a", "b")
    values = {
        (own, name): statistics.differences(correct[own], right) for name, right in correct.items() if name != own
    }
    return declare(statistics.table(keys, "difference", values), *keys)


def directions_table(study: Study) -> pd.DataFrame:
    """Per training and direction how much of the Jacobian the direction sees, in the mean over attacked images, 1 for a
    random one; and as further rows "jacobian" and "apart". With 95 % intervals."""
    study.make(specs(study))
    keys, values = ("training", "quantity"), {}
    for what, networks in trainings(study).items():
        found = [study.get(_directions(study, one)).tensors for one in networks]
        values |= {
            (what, name): np.stack([one[name].double().numpy() for one in found])
            for name in (*DIRECTIONS, "jacobian", "apart")
        }
    return declare(statistics.table(keys, "mean", values), *keys)
