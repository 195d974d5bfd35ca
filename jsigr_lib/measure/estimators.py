"""How the estimators of the J-SIGR penalty scatter around its exact gradient, and which coin scatters least."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.method.shapes import Images

EXACT = {"estimator": "exact", "fraction": 1.0}
ESTIMATORS = {
    "double backprop": {"estimator": "double-backprop", "fraction": 1.0},
    "single pass": {"estimator": "single-pass", "fraction": 1.0},
    "single pass, a half": {"estimator": "single-pass", "fraction": 0.5},
}
MOMENT_DRAWS = 10  # projections per image behind the predicted spread

Batch = tuple[Images, Tensor, Tensor]
"""Images, labels, masks."""


def penalty_gradient(model: nn.Module, batch: Batch, generator: torch.Generator | None = None, **options) -> Tensor:
    """Gradient of lambda_J R_J + lambda_S R_S by all parameters, one vector, as JSIGR(**options) estimates it."""
    x, y, mask = batch
    penalty = JSIGR(**options)(model, x, y, mask, generator=generator) - F.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(penalty, list(model.parameters()), materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def gradient_scatter(
    model: nn.Module, batch: Batch, draws: int, generator: torch.Generator, weights: dict[str, float], **options
) -> dict[str, float]:
    """How `draws` gradients of an estimator scatter around the exact one.

    Returns bias, by how much their mean is too long along the exact gradient, its standard error, and spread, the root
    of their total variance; all over the length of the exact gradient.
    """
    exact = penalty_gradient(model, batch, **weights, **EXACT)
    length, along, variance = exact.norm().item(), [], 0.0
    for _ in range(draws):
        error = penalty_gradient(model, batch, generator, **weights, **options) - exact
        along.append((error @ exact).item() / length**2)
        variance += error.square().sum().item() / draws
    standard_error = max(np.std(along, ddof=1).item() / draws**0.5, np.finfo(float).tiny)
    return {"bias": np.mean(along).item(), "error": standard_error, "spread": variance**0.5 / length}


def single_pass_moments(
    model: nn.Module, batch: Batch, generator: torch.Generator, weights: dict[str, float]
) -> dict[str, float]:
    """Sums over the images of E||h||^2, ||t||^2 and ||E h + t||^2, with h and t an image's gradients on heads and on
    tails at weight 1, all relative to the squared length of the batch's exact gradient."""
    sums = {"heads": 0.0, "tails": 0.0, "both": 0.0}
    for i in range(len(batch[0])):
        image = tuple(part[i : i + 1] for part in batch)
        tail = penalty_gradient(model, image, **{**weights, "lambda_j": 0.0}, **EXACT)
        whole = penalty_gradient(model, image, **weights, **EXACT)
        sums["tails"] += tail.square().sum().item()
        sums["both"] += whole.square().sum().item()
        for _ in range(MOMENT_DRAWS):
            options = {**weights, "lambda_s": 0.0, **ESTIMATORS["double backprop"]}
            sums["heads"] += penalty_gradient(model, image, generator, **options).square().sum().item() / MOMENT_DRAWS
    length = len(batch[0]) * penalty_gradient(model, batch, **weights, **EXACT).norm().item()
    return {name: value / length**2 for name, value in sums.items()}


def predicted_spread(moments: dict[str, float], coin: float) -> float:
    """Spread of the single pass with this coin: the root of heads / pi + tails / (1 - pi) - both [derived]."""
    return (moments["heads"] / coin + moments["tails"] / (1 - coin) - moments["both"]) ** 0.5


def best_coin(moments: dict[str, float]) -> float:
    """Where the predicted spread is least: pi / (1 - pi) = sqrt(heads / tails) [derived]. An image costs the same on
    either side of the coin, so this is also the least variance per unit of time."""
    heads, tails = moments["heads"] ** 0.5, moments["tails"] ** 0.5
    return heads / (heads + tails)
