"""The statements of the theory notebook on trained networks. Each `..._deviations` is given a statement's formula, and
yields deviations from it and the number of cases. Means over sphere and coin are exact (`symbolic.sphere_design`)."""

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from jsigr_lib.measure import linearised, regions
from jsigr_lib.measure.estimators import EXACT, penalty_gradient
from jsigr_lib.method.jacobian import loss_gradient, sphere, squared_norm, vjp
from jsigr_lib.method.jsigr import JSIGR, residual
from jsigr_lib.theory.specimen import FEW, SOFTNESS, WEIGHTS, Specimen, directions, offsets, penalty
from jsigr_lib.theory.symbolic import sphere_design

PLACES, BETWEEN = 32, 1.01  # of a segment, where its curvature is taken; a margin for what lies between them
COIN, SHARE, BATCH = 0.1, 0.1, 6  # chance of heads; share of the images with the penalty, and images of that batch

Networks = dict[str, Specimen]
Found = Iterable[tuple[str, Tensor, int]]  # network, deviations, cases


def each(check: Callable[[Specimen, Callable], Iterator[tuple[Tensor, int]]]) -> Callable[[Networks, Callable], Found]:
    """The check of one network, as a check of several."""
    return lambda networks, formula: [(name, *part) for name, one in networks.items() for part in check(one, formula)]


def _apart(left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
    return (left - right).abs() / scale.clamp_min(torch.finfo(scale.dtype).tiny)


def _projections(one: Specimen) -> tuple[Tensor, Tensor, Tensor]:
    """||J^T v||^2 at every point of the design, [points, batch], the points' weights, and ||J||_F^2."""
    points, weights = (torch.tensor(a, device=one.x.device) for a in sphere_design(one.logits.shape[1]))
    x, z = one.forward()
    squares = [squared_norm(vjp(z, x, v.expand_as(z), create_graph=False)) for v in points]
    return torch.stack(squares), weights, one.jacobian.square().sum((1, 2))


@each
def mean_deviations(one, estimate):
    """S1, the mean over the sphere being exact."""
    squares, weights, norm = _projections(one[:FEW])
    yield _apart(weights @ estimate(one.logits.shape[1], squares), norm, norm), len(norm)


@each
def variance_deviations(one, variance):
    """S2, the mean over the sphere being exact; and that `linearised.projection_variance` is that formula."""
    one = one[:FEW]
    squares, weights, norm = _projections(one)
    classes, gram = one.logits.shape[1], (one.jacobian @ one.jacobian.mT).square().sum((1, 2))
    measured = weights @ (classes * squares - norm).square()
    for found in (measured, linearised.projection_variance(one.jacobian)):
        yield _apart(found, variance(classes, gram, norm), norm.square()), len(norm)


@each
def gradient_deviations(one, cotangent):
    """S3: autograd's gradient of the loss against the Jacobian's product, relative to the largest entry."""
    g = loss_gradient(one.model, one.x, one.y).flatten(1)
    c = cotangent(one.logits.softmax(1), F.one_hot(one.y, one.logits.shape[1]))
    product = torch.einsum("bkn,bk->bn", one.jacobian, c)
    yield _apart(g, product, g.abs().amax(1, keepdim=True)), len(g)


@each
def single_pass_deviations(one, coin_weights):
    """S4, value and gradient by all parameters: both sides of the coin and, on heads, an orthonormal basis in a random
    position, over which the mean of any square <v, .>^2 is exact."""
    one = one[:FEW]
    mask = torch.rand(one.x[:, :1].shape, generator=torch.Generator().manual_seed(0)).to(one.x)
    x, z = one.forward()
    classes = z.shape[1]
    heads, tails = coin_weights(**WEIGHTS, classes=classes, coin=COIN)
    basis = torch.linalg.qr(sphere(classes, classes, like=z.detach(), generator=torch.Generator().manual_seed(0)))[0]
    squares = torch.stack([squared_norm(vjp(z, x, v.expand_as(z))) for v in basis]).mean(0)
    selective = squared_norm((1 - mask) * vjp(z, x, residual(z, one.y)))
    mean = COIN * (heads * squares).mean() + (1 - COIN) * (tails * selective).mean()
    gradients = torch.autograd.grad(mean, list(one.model.parameters()), materialize_grads=True)
    exact, expected = penalty(one, mask), penalty_gradient(one.model, (one.x, one.y, mask), **WEIGHTS, **EXACT)
    yield _apart(mean.detach(), exact, exact), 1
    yield _apart(torch.cat([gradient.flatten() for gradient in gradients]), expected, expected.abs().max()), 1


@each
def fraction_deviations(one, counted):
    """S5: the mean penalty over every half of the batch that can be drawn, and over steps with and without it, against
    the penalty of the whole batch."""
    objective = JSIGR(**WEIGHTS, fraction=SHARE)
    size = len(objective._draw_images(BATCH, torch.Generator())[0])
    halves = [penalty(one[list(half)]) for half in combinations(range(BATCH), size)]
    mean = torch.stack([counted(half, objective.penalised_steps) for half in halves]).mean()
    whole = penalty(one[:BATCH])
    yield _apart(objective.penalised_steps * mean, whole, whole), len(halves)


@each
def bound_deviations(one, slope_squared):
    """S6: bound / rho~ of every image, and ||grad(z_i - z_j)||^2 over its bound for every pair of classes."""
    robust = linearised.linearised_robustness(one.model, one.x)
    most = slope_squared(one.jacobian.square().sum((1, 2)))
    gap = one.slopes[0].amin(1)
    yield gap / most.sqrt() / robust["robustness"], len(gap)
    pairs = torch.cdist(one.jacobian, one.jacobian).square() / most[:, None, None]
    yield pairs, len(gap) * pairs.shape[1] * (pairs.shape[1] - 1) // 2


@each
def distance_deviations(one, distance):
    """S7, on the tangent: at rho~ along the steepest way two logits tie, and along the steepest way to any other class
    there is no tie before. Gaps left over, in gaps."""
    rho = linearised.linearised_robustness(one.model, one.x)["robustness"]
    gaps, gradients, lengths = one.slopes
    nearest = distance(gaps, lengths).argmin(1)
    for j in range(gaps.shape[1]):  # at rho~ towards class j
        step = -gradients[:, j] / lengths[:, j, None] * rho[:, None]
        there = (gaps + torch.einsum("bjn,bn->bj", gradients, step)) / gaps
        yield -there.amin(1), len(rho)
        yield torch.where(nearest == j, there[:, j].abs(), 0), 0


@each
def alignment_deviations(one, alignment_gap):
    """S8: the affine identity z_i* - z_j = <x, grad> + beta for every class, and by how much |rho~ - alpha| exceeds
    |beta| / ||grad||, relative to the larger of rho~ and alpha."""
    (gaps, gradients, lengths), offset = one.slopes, offsets(one)
    inner = torch.einsum("bjn,bn->bj", gradients, one.x.flatten(1))
    yield _apart(gaps, inner + offset, gaps.amax(1, keepdim=True)), gaps.numel()
    robust = linearised.linearised_robustness(one.model, one.x)
    rho, alpha = robust["robustness"], robust["alignment"]
    most = alignment_gap(offset, lengths).gather(1, one.nearest[:, None])[:, 0]
    yield ((rho - alpha).abs() - most) / torch.maximum(rho, alpha), len(rho)


def remainder_deviations(networks: Networks, remainder: Callable) -> Found:
    """S9: the tangent's error at 0.99 of the way to the linear region's end, relative to the logits; and, for two
    softened networks, its relative excess over M ||d||^2 / 2 and one percent, M the largest second derivative at
    `PLACES` places of the segment."""
    flat, ratios = [], []
    for name, one in networks.items():
        u = directions(one.x)
        step = 0.99 * regions.reach(one.model, one.x, u).clamp_max(1e3)[:, None, None, None] * u
        error = linearised.tangent_error(one.model, one.x, step, [1.0])[0][0]
        flat.append(error / one.logits.norm(dim=1))
        if name not in ("standard", "jsigr"):
            continue
        x, model = one.x[:FEW], linearised.softened(one.model, SOFTNESS)
        places = torch.linspace(0, 1, PLACES, dtype=x.dtype)
        for length in (0.1, 1.0):
            step = length * u[:FEW]
            second = linearised.second_derivative(model, x, step, places).norm(dim=2).amax(0)
            error = linearised.tangent_error(model, x, step, [1.0])[0][0]
            ratios.append(error / remainder(BETWEEN * second / length**2, length))
    said = f"softened: at most {torch.cat(ratios).max():.2f} of the bound"
    return [(said, values, len(values)) for values in (*flat, *(ratio - 1 for ratio in ratios))]
