"""How good a saliency map is, as numbers: what each measure is, on arrays and models, one value per image.

Faithfulness: `probability_curve` and its `area`, `infidelity`. Robustness: `ssim` of two maps, `max_sensitivity`.
Form: `gini`. Agreement of two maps: `top_overlap`, and `statistics.rank_correlation`. Sanity: `randomised`.
"""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsigr_lib.attributions import seeded
from jsigr_lib.errors import one_of
from jsigr_lib.jacobian import Images, evaluation_mode
from jsigr_lib.saliency import Maps, blur

CURVE_STEPS = 20
TOP_SHARE = 0.1  # of the pixels, for the overlap of the maps' tops
SSIM_SIGMA = 1.5  # of the window, pixels (Wang et al. 2004)
SQUARES = 4  # infidelity removes each square of a SQUARES x SQUARES raster in turn
NUDGE, NUDGES = 0.02, 5  # max-sensitivity: size of the change of the image, and how many are drawn

PerImage = Float[Tensor, " batch"]


def probability_curve(
    model: nn.Module, x: Images, y: Tensor, saliency: Maps, *, kind: str, blur_sigma: float, steps: int = CURVE_STEPS
) -> Float[Tensor, "batch points"]:
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


def gini(maps: np.ndarray) -> np.ndarray:
    """Sparseness of non-negative maps [images, pixels]: 0 if all pixels are equal, 1 - 1/pixels if one holds all
    (Gini's coefficient, Hurley & Rickard 2009). A map that is 0 everywhere has 0."""
    pixels = maps.shape[1]
    ranks = np.arange(1, pixels + 1)
    total = maps.sum(1)
    weighted = (np.sort(maps, axis=1) * (2 * ranks - pixels - 1)).sum(1)
    return np.divide(weighted, pixels * total, out=np.zeros(len(maps)), where=total > 0)


def ssim(a: Maps, b: Maps) -> PerImage:
    """Structural similarity of two maps (Wang et al. 2004), each scaled to peak 1 first: 1 if equal, about 0 if unlike.

    Gaussian window of 1.5 pixels; the constants of the original, for values in [0, 1].
    """
    a, b = (m / m.amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(m.dtype).tiny) for m in (a, b))
    mean_a, mean_b = blur(a, SSIM_SIGMA), blur(b, SSIM_SIGMA)
    variances = blur(a * a, SSIM_SIGMA) - mean_a**2 + blur(b * b, SSIM_SIGMA) - mean_b**2
    covariance = blur(a * b, SSIM_SIGMA) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean((1, 2, 3))


def squares(height: int, width: int) -> Float[Tensor, "squares height width"]:
    """The indicator of each cell of a raster of SQUARES x SQUARES."""
    down, across = (
        (torch.arange(side) * SQUARES // side == torch.arange(SQUARES)[:, None]).float() for side in (height, width)
    )
    return torch.einsum("ah,bw->abhw", down, across).flatten(0, 1)


def infidelity(model: nn.Module, x: Images, y: Tensor, saliency: Maps) -> PerImage:
    """How badly a map predicts what removing a part of the image does to z_y (Yeh et al. 2019, through Captum): the
    mean over squares s of (beta <saliency, x_s> - change_s)^2, at the best scale beta, as a share of mean change_s^2.

    0: the map foretells every change; 1: it foretells nothing. 0 for an image that no square changes.
    """
    from captum.metrics import infidelity as of_captum

    masks = squares(*x.shape[-2:]).to(x)

    def remove(given: Images) -> tuple[Images, Images]:
        removed = given * masks.repeat(len(x), 1, 1)[:, None]
        return removed, given - removed

    with evaluation_mode(model), torch.no_grad():
        attributions = saliency.expand_as(x) / x.shape[1]
        error = of_captum(
            model, remove, x, attributions, target=y, n_perturb_samples=len(masks), normalize=True
        ).nan_to_num()
        _, without = remove(x.repeat_interleave(len(masks), 0))
        chosen = y[:, None]
        changes = (
            model(x).gather(1, chosen) - model(without).unflatten(0, (len(x), -1)).gather(2, chosen[..., None])[..., 0]
        )
    scale = changes.square().mean(1)
    return torch.where(scale > 0, error / scale.clamp_min(torch.finfo(x.dtype).tiny), 0)


def max_sensitivity(
    explain: Callable[[Images, Tensor], Maps], x: Images, y: Tensor, generator: torch.Generator
) -> PerImage:
    """Largest relative change of a map, ||S(x') - S(x)|| / ||S(x)||, over random x' with |x' - x| <= 0.02 in every
    pixel (Yeh et al. 2019, through Captum). `explain` maps images and classes to maps."""
    from captum.metrics import sensitivity_max

    with seeded(x, generator):
        return sensitivity_max(
            lambda given, target: (explain(given[0], target),),
            x,
            perturb_radius=NUDGE,
            n_perturb_samples=NUDGES,
            target=y,
        )


def randomised(model: nn.Module, seed: int = 0) -> Iterator[nn.Module]:
    """The network with its last layer drawn anew, then its last two, and so on to the first: the cascade of Adebayo et
    al. 2018. A map that hardly changes on the way shows the image, and not what the network learnt.
    """
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    for layer in reversed(layers):
        with seeded(layer.weight, generator), torch.no_grad():
            layer.reset_parameters()
        yield model
