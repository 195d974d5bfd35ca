"""How good the maps are, measured: faithfulness (deletion, insertion), agreement of the cheap gradient map with the
costly perturbation map, and stability of each map under attack."""

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from jsigr_lib import statistics
from jsigr_lib.artefacts import Spec, Store
from jsigr_lib.data import load
from jsigr_lib.errors import one_of
from jsigr_lib.jacobian import Images, evaluation_mode
from jsigr_lib.outcomes import Attacked, attacked_split
from jsigr_lib.saliency import Maps, blur, gradient_map, perturbation_saliency
from jsigr_lib.study import Study
from jsigr_lib.threats import sources_of
from jsigr_lib.zoo import Training, trained

CURVE_STEPS = 20
TOP_SHARE = 0.1  # of the pixels, for the overlap of the maps' tops
MAPS = ("gradient", "perturbation")
BATCH = 50


class MapsOf(Spec):
    """Both maps of the first test images for one network, clean or attacked, and their deletion and insertion curves.
    The maps are about the true class."""

    kind: ClassVar[str] = "maps"
    code: ClassVar[tuple[str, ...]] = ("interpretability", "jacobian", "saliency")
    target: Training
    images: int
    grid: int
    mask_sigma: float
    blur_sigma: float
    attacked: Attacked | None = None

    def needs(self) -> list[Spec]:
        return [self.target, self.target.data, *([self.attacked] if self.attacked else [])]

    def work(self) -> float:
        return self.images * (self.grid**2 + 4 * CURVE_STEPS) * self.target.step_flops / 3

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model = trained(self.target, store)
        split = attacked_split(load(self.target.data, store).test, self.attacked, store).first(self.images)
        settings = {"grid": self.grid, "mask_sigma": self.mask_sigma, "blur_sigma": self.blur_sigma}
        parts: list[dict[str, Tensor]] = []
        for index in torch.arange(len(split)).split(BATCH):
            x, y = split.batch(index, device)
            maps = {
                "gradient": gradient_map(model, x, y),
                "perturbation": perturbation_saliency(model, x, y, **settings),
            }
            curves = {
                f"{kind}_{name}": probability_curve(model, x, y, saliency, kind=kind, blur_sigma=self.blur_sigma)
                for name, saliency in maps.items()
                for kind in ("deletion", "insertion")
            }
            parts.append({**maps, **curves})
        return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}, {}


def probability_curve(
    model: nn.Module, x: Images, y: Tensor, saliency: Maps, *, kind: str, blur_sigma: float, steps: int = CURVE_STEPS
) -> Tensor:
    """Probability of class y as pixels are deleted, or inserted, the most salient first (RISE, Petsiuk et al. 2018).

    "deletion" sets them to 0; "insertion" restores them on the blurred image. Returns [batch, steps + 1], from none
    to all of the pixels. A faithful map falls fast under deletion and rises fast under insertion.
    """
    one_of("curve", kind, ("deletion", "insertion"))
    start, end = (x, torch.zeros_like(x)) if kind == "deletion" else (blur(x, blur_sigma), x)
    pixels = saliency[0].numel()
    rank = saliency.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view_as(saliency)
    probabilities = []
    with evaluation_mode(model), torch.no_grad():
        for step in range(steps + 1):
            changed = torch.where(rank < round(pixels * step / steps), end, start)
            probabilities.append(model(changed).softmax(1).gather(1, y[:, None]))
    return torch.cat(probabilities, 1)


def area(curve: np.ndarray) -> np.ndarray:
    """Area under curves [..., steps + 1] over the share of pixels, 0 to 1."""
    return np.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1)


def top_overlap(a: np.ndarray, b: np.ndarray, share: float = TOP_SHARE) -> np.ndarray:
    """Intersection over union of the top `share` of the pixels of two maps [images, pixels]."""
    top = max(1, round(share * a.shape[1]))
    chosen = [np.zeros(a.shape, bool), np.zeros(a.shape, bool)]
    for mask, values in zip(chosen, (a, b), strict=True):
        np.put_along_axis(mask, np.argsort(-values, axis=1, kind="stable")[:, :top], True, axis=1)
    return (chosen[0] & chosen[1]).sum(1) / (chosen[0] | chosen[1]).sum(1)


def maps_spec(study: Study, target: Training, *, attacked: bool) -> MapsOf:
    """Maps of clean images, or of images attacked through the first surrogate: the same images for every defence."""
    p = study.profile
    source = study.surrogate(sources_of(study, target.architecture)[0])
    return MapsOf(
        target=target,
        images=p.saliency_images,
        attacked=Attacked(sources=source, attack=p.transfer_attacks[0], eps=p.eps) if attacked else None,
        **p.penalty.selection.perturbation,
    )


def maps_of(study: Study, target: Training, *, attacked: bool) -> dict[str, np.ndarray]:
    """The tensors of `MapsOf`, each flattened to [images, ...]."""
    tensors = study.get(maps_spec(study, target, attacked=attacked)).tensors
    return {name: value.flatten(1).double().numpy() for name, value in tensors.items()}


def specs(study: Study) -> list[MapsOf]:
    networks = [network for networks in study.targets().values() for network in networks]
    return [maps_spec(study, network, attacked=attacked) for network in networks for attacked in (False, True)]


def measures(study: Study, target: Training) -> dict[tuple[str, str, str], np.ndarray]:
    """(measure, map, input) -> one value per image, for one network."""
    values: dict[tuple[str, str, str], np.ndarray] = {}
    both = {"clean": maps_of(study, target, attacked=False), "attacked": maps_of(study, target, attacked=True)}
    for given, maps in both.items():
        for name in MAPS:
            values["deletion AUC", name, given] = area(maps[f"deletion_{name}"])
            values["insertion AUC", name, given] = area(maps[f"insertion_{name}"])
        values["agreement", "both", given] = statistics.rank_correlation(maps["gradient"], maps["perturbation"])
        values["top overlap", "both", given] = top_overlap(maps["gradient"], maps["perturbation"])
    for name in MAPS:
        values["stability", name, "both"] = statistics.rank_correlation(both["clean"][name], both["attacked"][name])
    return values


def measures_table(study: Study) -> pd.DataFrame:
    """Every measure of every defence: n, seeds, mean and 95 % interval."""
    study.make(specs(study))
    rows = []
    for (architecture, defence), networks in study.targets().items():
        per_seed = [measures(study, network) for network in networks]
        for measure, name, given in per_seed[0]:
            values = np.stack([one[measure, name, given] for one in per_seed])
            average, low, high = statistics.mean(values)
            row = {"architecture": architecture, "defence": defence, "measure": measure, "map": name, "input": given}
            rows.append(
                {**row, "images": values.shape[1], "seeds": len(values), "mean": average, "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def curves_table(study: Study) -> pd.DataFrame:
    """Mean deletion and insertion curves of the figures' architecture, first seed."""
    study.make(specs(study))
    rows = []
    for defence in study.profile.defences:
        for given in ("clean", "attacked"):
            maps = maps_of(study, study.training(defence), attacked=given == "attacked")
            for kind in ("deletion", "insertion"):
                for name in MAPS:
                    curve = maps[f"{kind}_{name}"].mean(0)
                    what = {"defence": defence, "input": given, "curve": kind, "map": name}
                    rows += [
                        {**what, "share": step / (len(curve) - 1), "probability": value}
                        for step, value in enumerate(curve)
                    ]
    return pd.DataFrame(rows)
