"""Perturbation maps, 7 x 7 places, against the bare forward passes that they need, and Captum's closest methods."""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks import tables
from benchmarks.floors import forward_passes, frozen
from benchmarks.peers import Peers
from benchmarks.workloads import EVALUATION, Workload
from jsigr_lib.method.saliency import blur, perturbation_saliency

GRID, BLUR_SIGMA = 7, 3.0
BASELINE = "bare forwards"
AT_ONCE = (1, GRID)  # Captum's perturbations_per_eval: its default, and a row of places


def table(peers: Peers, *, rounds: int, device: torch.device) -> pd.DataFrame:
    """Every way to a map, on both networks."""
    return pd.concat(
        tables.labelled(
            tables.compare(cases(workload, peers, device), baseline=BASELINE, rounds=rounds, device=device),
            network=workload.architecture,
        )
        for workload in EVALUATION
    )


def cases(workload: Workload, peers: Peers, device: torch.device | str = "cpu") -> dict[str, Callable[[], object]]:
    """49 forwards of the batch and one of the clean images; ours; Captum's. All on one network, frozen."""
    x, y = workload.images(device)
    model = frozen(workload.model(device))

    def ours(method: str) -> Callable[[], Tensor]:
        return lambda: perturbation_saliency(model, x, y, grid=GRID, blur_sigma=BLUR_SIGMA, method=method)

    return {
        BASELINE: lambda: forward_passes(model, x, GRID**2 + 1),
        "jsigr_lib, exact": ours("exact"),
        "jsigr_lib, linearised": ours("linearised"),
        **(captum(model, x, y) if "captum" in peers else {}),
    }


def captum(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Callable[[], Tensor]]:
    """As many places, replaced by the same blurred image; square patches, where ours are bumps."""
    from captum.attr import FeatureAblation, Occlusion

    blurred, side = blur(x, BLUR_SIGMA), -(-x.shape[-1] // GRID)
    patch = (x.shape[1], side, side)
    row = torch.arange(x.shape[-1], device=x.device) // side
    places = (GRID * row[:, None] + row)[None, None]
    occlusion, ablation = Occlusion(model), FeatureAblation(model)
    found = {}
    for n in AT_ONCE:
        common = {"target": y, "baselines": blurred, "perturbations_per_eval": n}
        found[f"Captum Occlusion, {n} at once"] = lambda common=common: occlusion.attribute(
            x, sliding_window_shapes=patch, strides=patch, **common
        )
        found[f"Captum FeatureAblation, {n} at once"] = lambda common=common: ablation.attribute(
            x, feature_mask=places, **common
        )
    return found
