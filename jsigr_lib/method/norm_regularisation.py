"""Objectives of a regression whose output must not move under small changes of the input: NT (Liu et al. 2024,
YangiD/DefenseIQA-NT, for image quality) and what it is compared with.

The model gives one score q per image, g = dq/dx. In the ball ||x' - x||_inf <= eps the score moves by eps ||g||_1, to
first order. All fit the scores s by |q - s|; each adds one term, or changes the images.

With one output, J-SIGR's Jacobian norm ||J||_F^2 is ||g||_2^2. So is the squared input gradient of |q - s|, as its
slope is 1 or -1: for this loss, input-gradient regularisation and Jacobian regularisation are one thing.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from jsigr_lib.method.autograd import CheapDoubleBackward, differentiable_twice
from jsigr_lib.method.checks import gradient_by
from jsigr_lib.method.jacobian import squared_norm, vjp
from jsigr_lib.method.registry import Registry
from jsigr_lib.method.saliency import Selection, linearised_saliency, mask_of
from jsigr_lib.method.shapes import Float, Images

STEP = 1 / 255  # h of the finite difference: one level of an 8-bit image
SELECTION = Selection(grid=16)  # of the selective term, for images of 64 x 64
JACOBIAN_SHARE = 0.1  # lambda_J over lambda_S of J-SIGR

Scores = Float[Tensor, " batch"]
Objective = Callable[[nn.Module, Images, Scores, float], Float[Tensor, ""]]
"""(model, images in [0, 1], their scores, strength) -> the loss to differentiate; at strength 0 it is `plain`."""


def plain(model: nn.Module, x: Images, s: Scores, strength: float = 0.0) -> Tensor:
    """mean |q(x) - s|."""
    return (model(x) - s).abs().mean()


def norm_regularised(model: nn.Module, x: Images, s: Scores, strength: float) -> Tensor:
    """NT: mean |q - s| + lambda mean 1/2 ((q(x + h sign g) - q(x)) / h)^2, whose last term tends to ||g||_1^2 / 2. The
    direction sign g is a constant, so that no double backward pass is needed."""
    x = x.detach().requires_grad_()
    q = model(x)
    direction = gradient_by(x, q.sum(), retain_graph=True).sign()
    slope = (model(x.detach() + STEP * direction) - q) / STEP
    return (q - s).abs().mean() + strength * slope.square().mean() / 2


def jacobian(model: nn.Module, x: Images, s: Scores, strength: float) -> Tensor:
    """mean |q - s| + lambda mean ||g||_2^2."""
    q, g, _ = _with_gradient(model, x)
    return (q - s).abs().mean() + strength * squared_norm(g).mean()


def input_gradient(model: nn.Module, x: Images, s: Scores, strength: float) -> Tensor:
    """Ross & Doshi-Velez 2018 for the squared error, whose gradient fades where the fit is good: mean |q - s| + lambda
    mean ||d(q - s)^2 / dx||_2^2 = ... + lambda mean 4 (q - s)^2 ||g||_2^2."""
    q, g, _ = _with_gradient(model, x)
    return (q - s).abs().mean() + strength * (4 * (q - s).square() * squared_norm(g)).mean()


def jsigr(model: nn.Module, x: Images, s: Scores, strength: float) -> Tensor:
    """J-SIGR of a score: mean |q - s| + lambda mean (||(1 - m) * g||_2^2 + .1 ||g||_2^2). The selection m keeps the top
    40 % of the pixels of the linearised perturbation map of q free of the first term; the second is the Jacobian's."""
    q, g, images = _with_gradient(model, x)
    with torch.no_grad():
        saliency = linearised_saliency(images, g, **SELECTION.perturbation)
        free = mask_of(saliency, SELECTION.share, SELECTION.kind)
    penalty = squared_norm((1 - free) * g) + JACOBIAN_SHARE * squared_norm(g)
    return (q - s).abs().mean() + strength * penalty.mean()


def attacked(model: nn.Module, x: Images, s: Scores, strength: float) -> Tensor:
    """mean |q(x') - s|, where x' raises |q - s| by one step to the edge of the ball of radius `strength` levels (FGSM).
    The label stays that of the clean image."""
    x = x.detach().requires_grad_()
    q = model(x)
    uphill = gradient_by(x, (q - s).abs().sum()).sign()
    return plain(model, (x.detach() + strength / 255 * uphill).clamp(0, 1), s)


def _with_gradient(model: nn.Module, x: Images) -> tuple[Scores, Images, Images]:
    """q, and g = dq/dx in a graph with it, by the images that are differentiated."""
    x = x.detach().requires_grad_()
    layers = CheapDoubleBackward(x)
    with differentiable_twice(), layers:
        q = model(x)
    with layers.inputs_only():
        return q, vjp(q, x, torch.ones_like(q)), x


OBJECTIVES: dict[str, Objective] = Registry(
    {
        "plain": plain,
        "nt": norm_regularised,
        "jacobian": jacobian,
        "input-gradient": input_gradient,
        "jsigr": jsigr,
        "attacked": attacked,
    }
)
