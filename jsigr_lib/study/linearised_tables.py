"""Linearised robustness of a study's networks: the artefacts and their table."""

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from jsigr_lib.data.data import load
from jsigr_lib.measure import statistics
from jsigr_lib.measure.linearised import linearised_robustness
from jsigr_lib.networks.zoo import OfNetwork, Training, trained
from jsigr_lib.records.tolerances import Tolerance, declare
from jsigr_lib.store.artefacts import Store
from jsigr_lib.study.attacked import Attacked, attacked_split
from jsigr_lib.study.sources import headline_attack
from jsigr_lib.study.study import Study

QUANTITIES = ("margin", "jacobian", "robustness", "bound", "alignment")
ZERO_IF_WRONG = ("margin", "robustness", "bound")


class Linearised(OfNetwork):
    """`linearised_robustness` of the first test images for one network, clean or attacked."""

    kind: ClassVar[str] = "linearised"
    images: int
    attacked: Attacked | None = None

    def work(self) -> float:
        return self.images * 10 * self.target.pass_flops

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model = trained(self.target, store)
        split = attacked_split(load(self.target.data, store).test, self.attacked, store).first(self.images)
        parts = []
        for index in torch.arange(len(split)).split(100):
            x, y = split.batch(index, device)
            with torch.no_grad():
                correct = model(x).argmax(1) == y
            parts.append({**linearised_robustness(model, x), "correct": correct})
        return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}, {}


def linearised_spec(study: Study, target: Training, *, attacked: bool = False) -> Linearised:
    """Of one network, on clean images or under the headline attack."""
    attack = headline_attack(study, target.architecture) if attacked else None
    return Linearised(target=target, images=study.profile.saliency_images, attacked=attack)


def linearised_specs(study: Study) -> list[Linearised]:
    """Of every network that is attacked, on clean images."""
    return [linearised_spec(study, network) for network in study.networks]


def linearised_values(study: Study, target: Training, *, attacked: bool = False) -> dict[str, np.ndarray]:
    """Each quantity per test image; a misclassified image has robustness, bound and margin 0."""
    t = study.get(linearised_spec(study, target, attacked=attacked)).tensors
    correct = t["correct"].numpy()
    return {name: np.where(correct | (name not in ZERO_IF_WRONG), t[name].double().numpy(), 0) for name in QUANTITIES}


def linearised_table(study: Study) -> pd.DataFrame:
    """Mean of each quantity per defence, with its interval."""
    study.make(linearised_specs(study))
    keys, values = ("architecture", "defence", "quantity"), {}
    for target, networks in study.targets().items():
        seeds = [linearised_values(study, network) for network in networks]
        values |= {(*target, name): np.stack([one[name] for one in seeds]) for name in QUANTITIES}
    return declare(statistics.table(keys, "mean", values), *keys)


def error_table(radii: list[float], errors: dict[str, list[np.ndarray]]) -> pd.DataFrame:
    """The median over images of both errors of `linearisation_error`, per radius and network."""
    medians = {
        f"{name}, relative to the {what}": np.median(error, axis=1)
        for name, both in errors.items()
        for what, error in zip(("change", "margin"), both, strict=True)
    }
    wide = dict.fromkeys(medians, Tolerance(absolute=0.05, relative=0.25))
    return declare(pd.DataFrame({"radius": radii, **medians}), "radius", **wide)
