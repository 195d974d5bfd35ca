"""The statements of the theory notebook on trained networks, in float64: each function takes some networks with images
and returns the largest deviation found. Means over the sphere and the coin are exact (`findings.sphere_design`)."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor, nn

from jsigr_lib import estimators, formulas, regions, theory
from jsigr_lib.findings import EQUAL, EXCESS, RATIO, RELATIVE, ROUNDING, Finding, sphere_design
from jsigr_lib.jacobian import evaluation_mode, sphere, squared_norm, vjp
from jsigr_lib.jsigr import JSIGR
from jsigr_lib.specimens import (
    SOFTNESS,
    WEIGHTS,
    Specimen,
    offsets,
    penalty,
    second_derivative,
    softened,
    tangent_error,
)

PLACES, BETWEEN = 32, 1.01  # of a segment, where its curvature is taken; a margin for what lies between them


def _largest(found: Iterable[tuple[str, Tensor, int]], tolerance: float, measure: str) -> Finding:
    """Of (name, deviations, cases), with the network it was found on."""
    parts = [(value.max().item(), cases, name) for name, value, cases in found]
    deviation, _, worst = max(parts)
    return Finding(deviation, tolerance, sum(cases for _, cases, _ in parts), measure, worst)


def _apart(left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
    return (left - right).abs() / scale.clamp_min(torch.finfo(scale.dtype).tiny)


def _projections(one: Specimen) -> tuple[Tensor, Tensor, Tensor]:
    """The estimates from every point of the design, [points, batch], the points' weights, and ||J||_F^2."""
    points, weights = (torch.tensor(a, device=one.x.device) for a in sphere_design(one.logits.shape[1]))
    x = one.x.detach().requires_grad_()
    with evaluation_mode(one.model):
        z = one.model(x)
    squares = [squared_norm(vjp(z, x, v.expand_as(z), create_graph=False)) for v in points]
    return formulas.projection(z.shape[1], torch.stack(squares)), weights, one.jacobian.square().sum((1, 2))


def projection_mean(specimens: dict[str, Specimen]) -> Finding:
    """S1, the mean over the sphere being exact."""

    def found():
        for name, one in specimens.items():
            one = one.few()
            estimates, weights, norm = _projections(one)
            yield name, _apart(weights @ estimates, norm, norm), len(norm)

    return _largest(found(), EQUAL, RELATIVE)


def projection_variance(specimens: dict[str, Specimen]) -> Finding:
    """S2, the mean over the sphere being exact; and that `theory.projection_variance` is that formula."""

    def found():
        for name, one in specimens.items():
            one = one.few()
            estimates, weights, norm = _projections(one)
            gram = (one.jacobian @ one.jacobian.mT).square().sum((1, 2))
            formula = formulas.projection_variance(one.logits.shape[1], gram, norm)
            measured = weights @ (estimates - norm).square()
            for variance in (measured, theory.projection_variance(one.jacobian)):
                yield name, _apart(variance, formula, norm.square()), len(norm)

    return _largest(found(), EQUAL, RELATIVE)


def input_gradient(specimens: dict[str, Specimen]) -> Finding:
    """S3: autograd's gradient of the loss against the Jacobian's product, relative to the largest entry."""

    def found():
        for name, one in specimens.items():
            x = one.x.detach().requires_grad_()
            with evaluation_mode(one.model):
                loss = nn.functional.cross_entropy(one.model(x), one.y, reduction="sum")
            g = torch.autograd.grad(loss, x)[0].flatten(1)
            onehot = nn.functional.one_hot(one.y, one.logits.shape[1])
            product = torch.einsum("bkn,bk->bn", one.jacobian, formulas.residual(one.logits.softmax(1), onehot))
            yield name, _apart(g, product, g.abs().amax(1, keepdim=True)), len(g)

    return _largest(found(), EQUAL, RELATIVE)


def single_pass(specimens: dict[str, Specimen], coin: float = 0.1) -> Finding:
    """S4, value and gradient by all parameters: both sides of the coin and, on heads, an orthonormal basis in a random
    position, over which the mean of any square <v, .>^2 is exact."""

    def found():
        for name, one in specimens.items():
            one = one.few()
            mask = torch.rand(one.x[:, :1].shape, generator=torch.Generator().manual_seed(0)).to(one.x)
            value, gradient = _single_pass_mean(one, mask, coin)
            x = one.x.detach().requires_grad_()
            exact = JSIGR(**WEIGHTS, **estimators.EXACT)._double_backprop(one.model(x), x, one.y, mask, None)[0]
            expected = estimators.penalty_gradient(one.model, (one.x, one.y, mask), **WEIGHTS, **estimators.EXACT)
            yield name, _apart(value, exact.detach(), exact.detach()), 1
            yield name, _apart(gradient, expected, expected.abs().max()), 1

    return _largest(found(), EQUAL, RELATIVE)


def _single_pass_mean(one: Specimen, mask: Tensor, coin: float) -> tuple[Tensor, Tensor]:
    """The estimator's mean, and the mean of its gradient."""
    x = one.x.detach().requires_grad_()
    with evaluation_mode(one.model):
        z = one.model(x)
    classes = z.shape[1]
    basis = torch.linalg.qr(sphere(classes, classes, like=z.detach(), generator=torch.Generator().manual_seed(0)))[0]
    squares = torch.stack([squared_norm(vjp(z, x, v.expand_as(z))) for v in basis]).mean(0)
    cotangent = formulas.residual(z.softmax(1), nn.functional.one_hot(one.y, classes))
    selective = squared_norm((1 - mask) * vjp(z, x, cotangent))
    outcomes = [
        (coin, formulas.heads(WEIGHTS["lambda_j"], classes, coin) * squares),
        (1 - coin, formulas.tails(WEIGHTS["lambda_s"], coin) * selective),
    ]
    mean = sum(chance * outcome.mean() for chance, outcome in outcomes)
    gradients = torch.autograd.grad(mean, list(one.model.parameters()), materialize_grads=True)
    return mean.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def fraction(specimens: dict[str, Specimen], images: int = 6, share: float = 0.1) -> Finding:
    """S5: the mean over every half of the batch that can be drawn and over steps with and without the penalty, of
    the penalties as `JSIGR` computes them, against the penalty of the whole batch."""

    def found():
        for name, one in specimens.items():
            one, objective = one.few(images), JSIGR(**WEIGHTS, fraction=share)
            size = len(objective._draw_images(images, torch.Generator()))
            halves = [list(half) for half in combinations(range(images), size)]
            whole, parts = penalty(one, list(range(images))), [penalty(one, half) for half in halves]
            counted = torch.stack([formulas.fraction(part, objective.penalised_steps) for part in parts])
            yield name, _apart(objective.penalised_steps * counted.mean(), whole, whole), len(halves)

    return _largest(found(), EQUAL, RELATIVE)


def robustness_bound(specimens: dict[str, Specimen]) -> Finding:
    """S6: bound / rho~ of every image, and ||grad(z_i - z_j)||^2 over its bound for every pair of classes."""

    def found():
        for name, one in specimens.items():
            robust = theory.linearised_robustness(one.model, one.x)
            norm = one.jacobian.square().sum((1, 2))
            gap = one.slopes[0].amin(1)
            yield name, gap / formulas.slope_squared(norm).sqrt() / robust["robustness"], len(gap)
            pairs = torch.cdist(one.jacobian, one.jacobian).square() / formulas.slope_squared(norm)[:, None, None]
            yield name, pairs, len(gap) * pairs.shape[1] * (pairs.shape[1] - 1) // 2

    return _largest(found(), 1 + ROUNDING, RATIO)


def boundary_distance(specimens: dict[str, Specimen]) -> Finding:
    """S7, on the network's own tangent: at rho~ along the steepest way two logits tie (reached), and at no smaller
    distance, the steepest way to any class included, is there a tie (not undercut). Gaps left over, in gaps."""

    def found():
        for name, one in specimens.items():
            rho = theory.linearised_robustness(one.model, one.x)["robustness"]
            gaps, gradients, lengths = one.slopes
            nearest = formulas.distance(gaps, lengths).argmin(1)
            rows = torch.arange(len(rho), device=rho.device)
            for j in range(gaps.shape[1]):  # at rho~ towards class j
                step = -gradients[:, j] / lengths[:, j, None] * rho[:, None]
                there = (gaps + torch.einsum("bjn,bn->bj", gradients, step)) / gaps
                yield name, -there.amin(1), len(rho)
                yield name, torch.where(nearest == j, there[rows, nearest].abs(), 0), 0

    return _largest(found(), EQUAL, "gap left at rho~ / gap")


def alignment(specimens: dict[str, Specimen]) -> Finding:
    """S8: the affine identity z_i* - z_j = <x, grad> + beta for every class, and by how much |rho~ - alpha| exceeds
    |beta| / ||grad||, relative to the larger of rho~ and alpha."""

    def found():
        for name, one in specimens.items():
            gaps, gradients, lengths = one.slopes
            offset = offsets(one)
            inner = torch.einsum("bjn,bn->bj", gradients, one.x.flatten(1))
            yield name, _apart(gaps, inner + offset, gaps.amax(1, keepdim=True)), gaps.numel()
            robust = theory.linearised_robustness(one.model, one.x)
            rho, alpha = robust["robustness"], robust["alignment"]
            nearest = (gaps / lengths).argmin(1, keepdim=True)
            most = formulas.alignment_gap(offset, lengths).gather(1, nearest)[:, 0]
            yield name, ((rho - alpha).abs() - most) / torch.maximum(rho, alpha), len(rho)

    return _largest(found(), EQUAL, EXCESS)


def remainder(specimens: dict[str, Specimen], lengths: tuple[float, ...] = (0.1, 1.0)) -> Finding:
    """S9: the tangent's error at 0.99 of the way to the linear region's end, relative to the logits; and, for the
    softened network, by how much it exceeds M ||d||^2 / 2, with M the largest second derivative at `PLACES` places of
    the segment, and one percent, relative to that bound."""
    ratios = []

    def found():
        for name, one in specimens.items():
            u = sphere(len(one.x), one.x[0].numel(), like=one.x, generator=torch.Generator().manual_seed(0))
            u = u.view_as(one.x)
            step = 0.99 * regions.reach(one.model, one.x, u).clamp_max(1e3)[:, None, None, None] * u
            yield name, tangent_error(one.model, one.x, step) / one.logits.norm(dim=1), len(u)
        for name in [name for name in ("standard", "jsigr") if name in specimens]:
            one = specimens[name].few()
            model, way = softened(one.model, SOFTNESS), u[: len(one.x)]
            places = torch.linspace(0, 1, PLACES, dtype=one.x.dtype)
            for length in lengths:
                second = second_derivative(model, one.x, length * way, places).norm(dim=2).amax(0)
                curvature = BETWEEN * second / length**2
                ratio = tangent_error(model, one.x, length * way) / formulas.remainder(curvature, length)
                ratios.append(ratio.max().item())
                yield name, ratio - 1, len(ratio)

    result = _largest(found(), EQUAL, EXCESS)
    return replace(result, worst=f"softened: at most {max(ratios):.2f} of the bound")
