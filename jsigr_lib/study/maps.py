"""What the study of saliency keeps of each network: what its maps measure, image by image, and the first few maps.
Tensors are named measure|map|input, one value per test image; the input is clean, attacked or both."""

from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from jsigr_lib.data.data import load
from jsigr_lib.measure import measures
from jsigr_lib.measure.attributions import CONTROLS, MAPS, saliency_map
from jsigr_lib.measure.statistics import partial_rank_correlation, rank_correlation
from jsigr_lib.method.shapes import Images
from jsigr_lib.networks.zoo import OfNetwork, trained
from jsigr_lib.store.artefacts import Store
from jsigr_lib.study.attacked import Attacked, attacked_split

BATCH = 50
KEPT = 12  # images whose maps are kept, for figures
REFERENCE = "perturbation"  # the costly map that the others are held against
RANDOM, ENERGY = "random", "energy"  # the controls that gains and partial agreement are measured from
LAYERS = 6  # about how many a cascade draws anew, for `work`

Values = dict[str, Tensor]


class DrawnMaps(OfNetwork):
    """Some maps of the first test images of one network, each about the true class, and the controls."""

    maps: tuple[str, ...]
    images: int
    grid: int
    mask_sigma: float
    blur_sigma: float

    @property
    def every(self) -> tuple[str, ...]:
        """The maps, and the controls among them."""
        return (*self.maps, *(name for name in CONTROLS if name not in self.maps))

    def uses(self) -> list[Any]:
        return [MAPS[name].draw for name in self.every if name in MAPS]

    def draw(self, name: str, model: nn.Module, x: Images, y: Tensor) -> Tensor:
        settings = {"grid": self.grid, "mask_sigma": self.mask_sigma, "blur_sigma": self.blur_sigma}
        return saliency_map(name, model, x, y, **settings)

    def work(self) -> float:
        """By the forward passes per image."""
        return self.images * self.passes() * self.target.pass_flops


class Explained(DrawnMaps):
    """Measures of every map on clean images and, unless `attacked` is None, on attacked ones and between the two; also
    "deletion curve" and "insertion curve" [images, points], and "map" of the first images."""

    kind: ClassVar[str] = "maps"
    attacked: Attacked | None = None

    def passes(self) -> int:
        each = sum(MAPS[name].passes + 2 * measures.CURVE_STEPS + measures.SQUARES**2 for name in self.every)
        return each * (2 if self.attacked else 1)

    def compute(self, store: Store, device: torch.device) -> tuple[Values, dict]:
        model = trained(self.target, store)
        clean = load(self.target.data, store).test.first(self.images)
        splits = {"clean": clean}
        if self.attacked:
            splits["attacked"] = attacked_split(clean, self.attacked, store)
        parts: list[Values] = []
        for index in torch.arange(self.images).split(BATCH):
            drawn, values = {}, {}
            for given, split in splits.items():
                x, y = split.batch(index, device)
                drawn[given] = {name: self.draw(name, model, x, y) for name in self.every}
                measured = {**self._faithfulness(model, x, y, drawn[given]), **self._form(drawn[given])}
                values |= {f"{name}|{given}": value for name, value in measured.items()}
            for name in self.every if self.attacked else ():  # how much of each map the attack leaves as it was
                clean_map, other = drawn["clean"][name], drawn["attacked"][name]
                values[f"stability|{name}|both"] = torch.from_numpy(rank_correlation(pixels(clean_map), pixels(other)))
                values[f"SSIM|{name}|both"] = measures.ssim(clean_map, other)
            parts.append({name: value.cpu() for name, value in values.items()})
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: value[:KEPT] if name.startswith("map|") else value for name, value in whole.items()}, {}

    def _faithfulness(self, model: nn.Module, x: Images, y: Tensor, drawn: Values) -> Values:
        """Deletion, insertion and infidelity. A gain is how much better than a random order a map does: networks that
        are surer of themselves have other areas, whatever their maps."""
        values: Values = {}
        for kind in ("deletion", "insertion"):
            for name in drawn:
                curve = measures.probability_curve(model, x, y, drawn[name], kind=kind, blur_sigma=self.blur_sigma)
                values[f"{kind} curve|{name}"] = curve
                values[f"{kind} AUC|{name}"] = torch.from_numpy(measures.area(curve.double().cpu().numpy()))
            for name in drawn:
                more = values[f"{kind} AUC|{name}"] - values[f"{kind} AUC|{RANDOM}"]
                values[f"{kind} gain|{name}"] = more if kind == "insertion" else -more
        changes = measures.square_changes(model, x, y)
        return values | {f"infidelity|{name}": measures.infidelity(changes, drawn[name]) for name in drawn}

    def _form(self, drawn: Values) -> Values:
        """The maps themselves, how far they agree with the perturbation map, and how sparse they are."""
        values: Values = {}
        reference, energy = pixels(drawn[REFERENCE]), pixels(drawn[ENERGY])
        for name in drawn:
            map_ = pixels(drawn[name])
            values[f"map|{name}"] = drawn[name]
            values[f"agreement|{name}"] = torch.from_numpy(rank_correlation(map_, reference))
            given = partial_rank_correlation(map_, reference, energy)
            values[f"agreement given the energy map|{name}"] = torch.from_numpy(given)
            values[f"top overlap|{name}"] = torch.from_numpy(measures.top_overlap(map_, reference))
            values[f"sparseness|{name}"] = torch.from_numpy(measures.gini(map_))
        return values


class Sanity(DrawnMaps):
    """Measures that draw a map many times, on clean images: its max-sensitivity, and "cascade" [images, layers], the
    rank correlation of the map with that of the network whose last 1, 2, ... layers were drawn anew."""

    kind: ClassVar[str] = "sanity"

    def passes(self) -> int:
        return sum(MAPS[name].passes for name in self.every) * (1 + measures.NUDGES + LAYERS)

    def compute(self, store: Store, device: torch.device) -> tuple[Values, dict]:
        model = trained(self.target, store)
        x, y = load(self.target.data, store).test.first(self.images).batch(slice(None), device)
        values: Values = {}
        for name in self.every:
            draw = partial(self.draw, name)
            sensitivity = measures.max_sensitivity(partial(draw, model), x, y, torch.Generator().manual_seed(0))
            original, others = pixels(draw(model, x, y)), measures.randomised(model)
            cascade = [rank_correlation(original, pixels(draw(changed, x, y))) for changed in others]
            values[f"max-sensitivity|{name}|clean"] = sensitivity.cpu()
            values[f"cascade|{name}|clean"] = torch.from_numpy(np.stack(cascade, 1))
        return values, {}


def pixels(maps: Tensor) -> np.ndarray:
    """[images, pixels], float64."""
    return maps.flatten(1).double().cpu().numpy()
