"""How far an image really is from the decision boundary of a network, in L2, pixel units. Nothing finds that distance
exactly: the length of a change that misleads the network is an *upper bound* of it."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from jsigr_lib.measure import statistics
from jsigr_lib.method.balls import distance
from jsigr_lib.method.checks import check_logits, check_pixels, images_of, labels_of, logits_of
from jsigr_lib.method.jacobian import evaluation_mode
from jsigr_lib.method.shapes import Images

IMAGE = (0.0, 1.0)
ROOM = (-4.0, 5.0)  # walls that no search reaches: the tangent's distance knows none
TARGETS = 3  # classes that a search aims at, those with the largest logits
FAB_STEPS, DDN_STEPS, HALVINGS = 8, 50, 15
DRAWS, SEED = 2000, 0  # of the bootstrap

Logits = Callable[[Images], Tensor]


def measured_distance(model: nn.Module, x: Images, y: Tensor) -> dict[str, Tensor]:
    """The shortest changes that two minimum-norm attacks find: FAB (Croce & Hein 2020, by its authors' package), aimed
    at some classes, then DDN (Rony et al. 2019) from where each of these ends, then a bisection towards x.

    Nothing is drawn at random; the model keeps its modes and gradients. Returns, each [batch]:
        distance: length of the shortest change, pixels without limits, as the tangent's; 0 if x is misclassified;
        boxed:    the same with all pixels in [0, 1], as an attacker's, hence no shorter;
        found:    whether there is one at all; if not, the distance is infinite;
        change:   ||z(x') - z(x)|| at the nearest misclassified image x';
    and these images, "points".
    """
    x, y = images_of(x, rank=4).contiguous(), labels_of(y, x)
    check_pixels(x)
    fixed = {name: value.detach() for name, value in (*model.named_parameters(), *model.named_buffers())}

    def logits(x: Images) -> Tensor:
        return functional_call(model, fixed, (x,))  # FAB runs `backward`, which shall not reach the parameters

    with evaluation_mode(model), torch.no_grad():
        check_logits(z := logits_of(logits, x, y))
        boxed, free = (_search(logits, x, y, walls) for walls in (IMAGE, ROOM))
        to_boxed, to_free = (_length(logits, x, y, found) for found in (boxed, free))
        points = torch.where(_wide(to_boxed < to_free), boxed, free)
        change = (logits(points) - z).norm(dim=1)
    nearest = torch.minimum(to_boxed, to_free)
    return {"distance": nearest, "boxed": to_boxed, "found": nearest.isfinite(), "change": change, "points": points}


def _search(logits: Logits, x: Images, y: Tensor, walls: tuple[float, float]) -> Images:
    """The nearest misclassified images found between the walls; x itself where it is one, or where there are none."""
    z = logits(x)
    targets = z.scatter(1, y[:, None], -torch.inf).topk(min(TARGETS, z.shape[1] - 1)).indices.T
    many, labels = x.repeat(len(targets), 1, 1, 1), y.repeat(len(targets))
    starts = torch.cat([_fab(logits, x, y, rank, walls) for rank in range(len(targets))])
    found = _bisection(logits, many, labels, _ddn(logits, many, labels, targets.flatten(), starts, walls))
    best = _length(logits, many, labels, found).view(len(targets), -1).argmin(0)
    nearest = found.view(len(targets), *x.shape)[best, torch.arange(len(x), device=x.device)]
    return torch.where(_wide(z.argmax(1) == y), nearest, x)


def _fab(logits: Logits, x: Images, y: Tensor, rank: int, walls: tuple[float, float]) -> Images:
    """FAB aimed at the class with the rank-th largest wrong logit. It knows float32 and [0, 1] only, so x is scaled."""
    from pyautoattack.fab_pt import FABAttack_PT  # here, as most runs do without it

    low, width = walls[0], walls[1] - walls[0]

    def scaled(seen: Images) -> Tensor:
        return logits((seen * width + low).to(x.dtype)).float()

    fab = FABAttack_PT(scaled, norm="L2", n_iter=FAB_STEPS, targeted=True, device=x.device)
    fab.target_class = rank + 2  # counted from the largest logit, from 1
    found = fab.attack_single_run((x - low) / width, y, is_targeted=True).to(x.dtype) * width + low
    return torch.where(_wide(logits(found).argmax(1) != y), found, x)


def _ddn(logits: Logits, x: Images, y: Tensor, target: Tensor, start: Images, walls: tuple[float, float]) -> Images:
    """Decoupled direction and norm: up the gradient of z_target - z_y, on a sphere that shrinks by 5 % where the image
    is misclassified and grows by 5 % where it is not. Its shortest misleading change, or x."""
    change, best = start - x, start
    shortest = _length(logits, x, y, start)
    radius = torch.where(distance(start, x, "l2") > 0, distance(start, x, "l2"), 1)
    rows = torch.arange(len(x), device=x.device)
    for step in range(DDN_STEPS):
        with torch.enable_grad():
            seen = (x + change).requires_grad_()
            z = logits(seen)
            (gradient,) = torch.autograd.grad((z[rows, target] - z[rows, y]).sum(), seen)
        wrong, length = z.argmax(1) != y, change.flatten(1).norm(dim=1)
        better = wrong & (length < shortest)
        best, shortest = torch.where(_wide(better), seen.detach(), best), torch.where(better, length, shortest)
        # the step falls along a cosine, as in the paper, from 0.6 of the radius
        share = 0.6 * (0.01 + 0.99 * (1 + math.cos(math.pi * step / DDN_STEPS)) / 2)
        change = change + _wide(share * radius) * _unit(gradient)
        radius = radius * torch.where(wrong, 0.95, 1.05)
        change = (x + _wide(radius) * _unit(change)).clamp(*walls) - x
    return best


def _bisection(logits: Logits, x: Images, y: Tensor, wrong: Images) -> Images:
    """The misclassified end of an ever shorter piece of the segment from x to a misclassified image."""
    low, high = torch.zeros(len(x)).to(x), torch.ones(len(x)).to(x)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fooled = logits(x + _wide(middle) * (wrong - x)).argmax(1) != y
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    return torch.where(_wide(high < 1), x + _wide(high) * (wrong - x), wrong)


def _length(logits: Logits, x: Images, y: Tensor, points: Images) -> Tensor:
    """How far each point is, infinitely if it is classified correctly."""
    return torch.where(logits(points).argmax(1) != y, distance(points, x, "l2"), torch.inf)


def _wide(per_image: Tensor) -> Tensor:
    return per_image[:, None, None, None]


def _unit(x: Images) -> Images:
    return x / _wide(x.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny))


def correlation(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds of the rank correlation over images [seeds, images], with a percentile bootstrap interval over
    images, and seeds if several; the draws are the same at every call."""
    rng = np.random.default_rng(SEED)
    seeds, images = a.shape
    chosen = rng.integers(images, size=(DRAWS, images))
    each = np.stack([statistics.rank_correlation(a[s][chosen], b[s][chosen]) for s in range(seeds)], 1)
    draws = np.take_along_axis(each, rng.integers(seeds, size=each.shape), 1).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(statistics.rank_correlation(a, b).mean()), float(low), float(high)
