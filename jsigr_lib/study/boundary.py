"""The measured distance to the boundary of a study's networks, beside what their tangents say of it: the artefacts and
their tables. Distances are L2, in pixel units."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from jsigr_lib.data.data import load
from jsigr_lib.measure import regions, statistics
from jsigr_lib.measure.boundary import DDN_STEPS, FAB_STEPS, TARGETS, correlation, measured_distance
from jsigr_lib.networks.zoo import OfNetwork, Training, trained
from jsigr_lib.records.tolerances import EXACT, MEAN, SHARE, Tolerance, declare
from jsigr_lib.store.artefacts import Store
from jsigr_lib.study.linearised_tables import linearised_specs, linearised_values
from jsigr_lib.study.study import Study

BATCH = 50
NETWORK = ("architecture", "defence")  # what a row of the tables is about


class Distance(OfNetwork):
    """`measured_distance` of the first test images for one network, without the points, and on the way there the reach
    of its linear regions, `regions.on_the_way`."""

    kind: ClassVar[str] = "distance"
    images: int

    def work(self) -> float:
        return self.images * 2 * TARGETS * (2 * FAB_STEPS + DDN_STEPS) * 1.5 * self.target.pass_flops

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model, split = trained(self.target, store), load(self.target.data, store).test.first(self.images)
        generator, parts = torch.Generator().manual_seed(self.target.seed), []
        for index in torch.arange(len(split)).split(BATCH):
            x, y = split.batch(index, device)
            values = measured_distance(model, x, y)
            points = values.pop("points")
            parts.append({**values, **regions.on_the_way(model, x, points, generator)})
        return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}, {}


def distance_spec(study: Study, target: Training) -> Distance:
    return Distance(target=target, images=min(study.profile.boundary_images, study.profile.saliency_images))


def boundary_specs(study: Study) -> list[Distance]:
    return [distance_spec(study, network) for network in study.networks]


def boundary_values(study: Study, networks: list[Training]) -> dict[str, np.ndarray]:
    """What was measured, and rho~ as "robustness" [seeds, images]: of the images that every seed classifies correctly
    and for which a boundary was found."""
    values, usable = _of_all_images(study, networks)
    return {name: value[:, usable] for name, value in values.items()}


def _of_all_images(study: Study, networks: list[Training]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The same of all images, and which of them `boundary_values` keeps."""
    rows = []
    for network in networks:
        tensors = study.get(distance_spec(study, network)).tensors
        rho = linearised_values(study, network)["robustness"][: len(tensors["distance"])]
        rows.append({**{name: value.double().numpy() for name, value in tensors.items()}, "robustness": rho})
    values = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return values, ((values["distance"] > 0) & np.isfinite(values["boxed"])).all(0)


def boundary_table(study: Study) -> pd.DataFrame:
    """The tangent's distance rho~ against the measured one, per defence: the geometric mean of rho~ / distance,
    Spearman's correlation over images, and the share of images whose rho~ exceeds the measured distance."""

    def measures(values: dict[str, np.ndarray]) -> dict[str, float]:
        rho, length, row = values["robustness"], values["distance"], {}
        for name, value in (("rho", rho), ("distance", length), ("boxed", values["boxed"])):
            row |= {f"{name}_mean": value.mean(), f"{name}_median": np.median(value)}
        row |= _interval("ratio", np.exp(statistics.mean(np.log(rho / length))))
        return {**row, **_interval("correlation", correlation(rho, length)), "overestimates": (rho > length).mean()}

    means = (f"{name}_{of}" for name in ("rho", "distance", "boxed") for of in ("mean", "median"))
    return declare(_table(study, measures), *NETWORK, **dict.fromkeys(means, MEAN), overestimates=SHARE)


def contrast_table(study: Study) -> pd.DataFrame:
    """J-SIGR minus each other defence, on the images that both have right: paired differences with 95 % intervals."""
    study.make(boundary_specs(study))
    found = {name: _of_all_images(study, study.targets()[study.architecture, name]) for name in study.labels}
    ours, usable = found.pop("jsigr")
    keys, values = ("a", "b", "measure"), {}
    for name, (theirs, also) in found.items():
        shared = usable & also
        for measure in ("robustness", "distance", "boxed") if shared.any() else ():
            values["jsigr", name, measure] = statistics.differences(ours[measure], theirs[measure])[:, shared]
    return declare(statistics.table(keys, "difference", values), *keys)


def region_table(study: Study) -> pd.DataFrame:
    """How far linear regions reach, per defence: medians over images, beside rho~ and the size eps sqrt(N) of the
    headline attack; and the mean share of ReLUs that differ at the nearest misclassified image, and as far away."""
    size = study.profile.eps * study.dataset.test.images[0].numel() ** 0.5

    def measures(values: dict[str, np.ndarray]) -> dict[str, float]:
        values["share_of_rho"] = values["reach_towards"] / values["robustness"]
        medians = ("reach_random", "reach_towards", "share_of_rho", "robustness", "distance")
        row = {**{name: np.median(values[name]) for name in medians}, "attack": size}
        for name in ("flipped", "flipped_random"):
            row |= _interval(name, statistics.mean(values[name]))
        return row

    wide = dict.fromkeys(("reach_random", "reach_towards", "share_of_rho"), Tolerance(absolute=0.003, relative=0.5))
    return declare(_table(study, measures), *NETWORK, **wide, robustness=MEAN, distance=MEAN, attack=EXACT)


def _table(study: Study, measures: Callable[[dict[str, np.ndarray]], dict[str, float]]) -> pd.DataFrame:
    """A row per defence; without measures, if it gets no image right."""
    study.make([*boundary_specs(study), *linearised_specs(study)])
    rows = []
    for (architecture, defence), networks in study.targets().items():
        values = boundary_values(study, networks)
        seeds, images = values["distance"].shape
        row = {"architecture": architecture, "defence": defence, "images": images, "seeds": seeds}
        rows.append(row | (measures(values) if images else {}))
    return pd.DataFrame(rows)


def _interval(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(float, values), strict=True))
