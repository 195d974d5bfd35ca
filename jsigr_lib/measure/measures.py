"""How good a saliency map is: one value per image, which depends on no other image of its batch. Faithfulness:
`probability_curve`, its `area`, `infidelity`. Robustness: `ssim` of two maps, `max_sensitivity`. Form: `gini`.
Agreement: `top_overlap`, and `statistics.rank_correlation`. Known truth: `share_on`, `points_at`.
Sanity: `randomised`."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.measure.attributions import seeded
from jsigr_lib.measure.linearised import predict
from jsigr_lib.method.errors import InputError, one_of
from jsigr_lib.method.saliency import CHUNK_BYTES, blur
from jsigr_lib.method.shapes import Float, Images, Maps

CURVE_STEPS = 20
TOP_SHARE = 0.1  # of the pixels, for the overlap of the maps' tops
WINDOW, WINDOW_SIGMA = 11, 1.5  # of ssim: side and standard deviation in pixels (Wang et al. 2004)
SQUARES = 4  # infidelity removes each square of a SQUARES x SQUARES raster in turn
NUDGE, NUDGES = 0.02, 5  # max-sensitivity: size of the change of the image, and how many are drawn
TINY = 1e-150  # its square is a double: the loss gradient of a sure network is far below what single precision squares

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
    at_once = max(1, CHUNK_BYTES.get(x.device.type, 1 << 20) // max(1, x.nbytes))
    points = []
    for some in torch.arange(steps + 1).split(at_once):
        changed = [torch.where(rank < round(pixels * step / steps), end, start) for step in some.tolist()]
        chances = predict(model, torch.cat(changed)).softmax(1).gather(1, y.repeat(len(some))[:, None])
        points.append(chances.view(len(some), -1))
    return torch.cat(points).T


def area(curve: np.ndarray) -> np.ndarray:
    """Area under curves [..., steps + 1] over the share of pixels, 0 to 1."""
    return np.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1)


def top_overlap(a: np.ndarray, b: np.ndarray, share: float = TOP_SHARE) -> np.ndarray:
    """Intersection over union of the top `share` of the pixels of two maps [images, pixels]."""
    top = max(1, round(share * a.shape[1]))
    # a pixel's rank is where the argsort of the argsort has it
    a, b = (np.argsort(np.argsort(-values, axis=1, kind="stable"), axis=1) < top for values in (a, b))
    return (a & b).sum(1) / (a | b).sum(1)


def gini(maps: np.ndarray) -> np.ndarray:
    """Sparseness of non-negative maps [images, pixels]: 0 if all pixels are equal, 1 - 1/pixels if one holds all
    (Gini's coefficient, Hurley & Rickard 2009). A map that is 0 everywhere has 0."""
    pixels = maps.shape[1]
    ranks = np.arange(1, pixels + 1)
    total = maps.sum(1)
    weighted = (np.sort(maps, axis=1) * (2 * ranks - pixels - 1)).sum(1)
    return np.divide(weighted, pixels * total, out=np.zeros(len(maps)), where=total > 0)


def ssim(a: Maps, b: Maps) -> PerImage:
    """Structural similarity of two maps, each scaled to peak 1 first: 1 if equal, about 0 if unlike. Over each Gaussian
    window that lies within the map. Raises InputError for maps smaller than the window."""
    if min(a.shape[-2:]) < WINDOW:
        raise InputError(f"maps of {a.shape[-2]} x {a.shape[-1]} pixels; accepted by ssim: {WINDOW} or more a side")
    a, b = (m / m.amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(m.dtype).tiny) for m in (a, b))
    weights = torch.softmax(-((torch.arange(WINDOW).to(a) - WINDOW // 2) ** 2) / (2 * WINDOW_SIGMA**2), 0)

    def average(m: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(m, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))

    mean_a, mean_b = average(a), average(b)
    variances = average(a * a) - mean_a**2 + average(b * b) - mean_b**2
    covariance = average(a * b) - mean_a * mean_b
    # Wang et al. 2004, equation 13
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).mean((1, 2, 3))


def squares(height: int, width: int) -> Float[Tensor, "squares height width"]:
    """The indicator of each cell of a raster of SQUARES x SQUARES."""
    down, across = (
        (torch.arange(side) * SQUARES // side == torch.arange(SQUARES)[:, None]).float() for side in (height, width)
    )
    return torch.einsum("ah,bw->abhw", down, across).flatten(0, 1)


def share_on(maps: Maps, region: Tensor) -> PerImage:
    """Which share of a map's mass lies on a region, bool [batch, 1, height, width]; 0 of a map that is 0."""
    inside, total = (part.double().flatten(1).sum(1) for part in (maps * region, maps))
    return inside / total.where(total > 0, 1)


def points_at(maps: Maps, region: Tensor, tolerance: int = 1) -> PerImage:
    """1 if the map's largest value is on the region, or up to `tolerance` pixels beside it (Zhang et al. 2018)."""
    near = F.max_pool2d(region.float(), 2 * tolerance + 1, stride=1, padding=tolerance)
    return near.flatten(1).gather(1, maps.flatten(1).argmax(1, keepdim=True))[:, 0]


def square_changes(model: nn.Module, x: Images, y: Tensor) -> Float[Tensor, "batch squares"]:
    """What blackening each square of the raster takes from z_y."""
    masks = squares(*x.shape[-2:]).to(x)
    z = predict(model, x)
    outputs = torch.stack([z - predict(model, x * (1 - mask)) for mask in masks], 1)
    return outputs.gather(2, y.view(-1, 1, 1).expand(-1, len(masks), 1))[..., 0]


def infidelity(changes: Float[Tensor, "batch squares"], saliency: Maps) -> PerImage:
    """How badly a map, summed over a square s of the image, foretells what blackening s does to z_y (`square_changes`):
    the mean over s of (beta <s, saliency> - change_s)^2 at the best scale beta, as a share of the mean change_s^2.

    0: it foretells every change; 1: none, or there is none to foretell. Not even a random map has 1, as most changes
    have the same sign; and a map of magnitudes cannot have 0, as it foretells no signs.
    Times the mean change_s^2 it is `captum.metrics.infidelity` with `normalize` for attributions that hold the input.
    """
    foretold = saliency.flatten(1) @ squares(*saliency.shape[-2:]).to(saliency).flatten(1).T
    # Yeh et al. 2019, equation 1; with beta = <foretold, change> / |foretold|^2 the share left is 1 - cos^2
    cosine = F.cosine_similarity(foretold.double(), changes.double(), dim=1, eps=TINY)
    return (1 - cosine.square()).to(saliency)


def max_sensitivity(
    explain: Callable[[Images, Tensor], Maps], x: Images, y: Tensor, generator: torch.Generator
) -> PerImage:
    """Largest relative change of a map, over random nudges of every pixel by up to 0.02, the same for every image.
    `explain` maps images and classes to maps; a map that is 0 everywhere counts its absolute change, as in Captum.
    """
    map_of_x = explain(x, y).double()
    size = map_of_x.flatten(1).norm(dim=1)
    scale = size.where(size > 0, 1)
    uniform = torch.rand(NUDGES, *x.shape[1:], generator=generator, device=generator.device).to(x)
    nudges = NUDGE * (2 * uniform - 1)
    # max over x' of ||S(x') - S(x)|| / ||S(x)|| (Yeh et al. 2019, definition 3.1, estimated)
    changes = [(explain(x + nudge, y) - map_of_x).flatten(1).norm(dim=1) / scale for nudge in nudges]
    return torch.stack(changes).amax(0).to(x)


def randomised(model: nn.Module, seed: int = 0) -> Iterator[nn.Module]:
    """The network with its last layer drawn anew, then its last two, and so on to the first: the cascade of Adebayo et
    al. 2018. A map that hardly changes on the way shows the image, and not what the network learnt. A batch norm
    forgets all, statistics too, together with the layer before it."""
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d, nn.BatchNorm2d))]
    for layer in reversed(layers):
        with seeded(layer.weight, generator):
            layer.reset_parameters()
        if not isinstance(layer, nn.BatchNorm2d):
            yield copy.deepcopy(model)
