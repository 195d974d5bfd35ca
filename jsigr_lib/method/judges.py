"""The judges of a defence: the official AutoAttack and its Square attack (Croce & Hein 2020; Andriushchenko et al.
2020), as their authors publish them, behind the signature of our own attacks.

They need the package pyautoattack, which is imported when a judge is called: most runs do without it.
"""

import logging
import sys
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from jsigr_lib.method.balls import ball, budget_of, per_image
from jsigr_lib.method.checks import (
    HALVES,
    check_count,
    check_logits,
    check_pixels,
    described,
    gradient_by,
    images_of,
    labels_of,
    logits_of,
)
from jsigr_lib.method.errors import InputError, needs_extra
from jsigr_lib.method.jacobian import evaluation_mode
from jsigr_lib.method.shapes import Images

NORMS = {"linf": "Linf", "l2": "L2"}  # ours -> theirs
FEWEST_CLASSES = 4  # that the targeted DLR loss is defined for


def autoattack(
    model: nn.Module, x: Images, y: Tensor, *, eps: float, norm: str = "linf", generator: torch.Generator | None = None
) -> Images:
    """The standard version: APGD-CE, targeted APGD-DLR, targeted FAB, Square with 5,000 queries, one after the other on
    the images that are still classified correctly. Those that none of them fools come back unchanged."""
    return _judged(model, x, y, eps=eps, norm=norm, generator=generator, version="standard")


def square(
    model: nn.Module,
    x: Images,
    y: Tensor,
    *,
    eps: float,
    queries: int = 1000,
    norm: str = "linf",
    generator: torch.Generator | None = None,
) -> Images:
    """Square alone: random squares, kept where they raise the loss. It needs no gradient, so none can mislead it."""
    check_count("queries", queries)
    settings = {"version": "custom", "attacks": ["square"], "queries": queries}
    return _judged(model, x, y, eps=eps, norm=norm, generator=generator, **settings)


@torch.inference_mode(False)
def _judged(
    model: nn.Module,
    x: Images,
    y: Tensor,
    *,
    eps: float,
    norm: str,
    generator: torch.Generator | None,
    version: str,
    queries: int | None = None,
    **settings,
) -> Images:
    """x as their `version` leaves it. The generator gives the seed that their own draws start from. They know float32
    alone: images in float64 are shown to the model as such, and what comes back is put into the ball of float64."""
    with needs_extra("AutoAttack", "measure"):
        from pyautoattack import AutoAttack

    x = images_of(x)
    if x.ndim != 4 or x.dtype in HALVES:
        raise InputError(
            f"AutoAttack and Square with {described(x)}; accepted: float32 or float64 images "
            "[batch, channels, height, width]"
        )
    check_pixels(x)
    eps, y = budget_of(eps, norm, x.shape[1:].numel()), labels_of(y, x)
    if eps == 0 or not len(x):
        return x.clone()  # its attacks divide by eps
    seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device if generator else None))
    with evaluation_mode(model), _quiet(), torch.random.fork_rng():
        with torch.no_grad():
            check_logits(z := logits_of(model, x, y))
        if version == "standard" and z.shape[1] < FEWEST_CLASSES:
            raise InputError(f"the model has {z.shape[1]} outputs; AutoAttack accepts models from {FEWEST_CLASSES}")

        def seen(x_adv: Images) -> Tensor:
            return _ByImages.apply(x_adv.to(x.dtype), model).float()

        judge = AutoAttack(seen, norm=NORMS[norm], eps=eps, seed=seed, device=x.device, version=version, **settings)
        judge.apgd_targeted.n_target_classes = judge.fab.n_target_classes = min(9, z.shape[1] - 1)
        if queries:
            judge.square.n_queries = queries
        # contiguous, as its `view` needs it
        start = x.float().contiguous()
        x_adv, _ = judge.run_standard_evaluation(start, y, batch_size=len(x))
    if x.dtype == torch.float64:  # images that none fools come back as they are
        changed = (x_adv != start).flatten(1).any(1)
        x_adv = torch.where(per_image(changed, x), ball(x, eps, norm).holding(x_adv.double()), x)
    return torch.empty_like(x).copy_(x_adv)


class _ByImages(torch.autograd.Function):
    """The logits, whose backward pass reaches the images alone: FAB's `backward` would add to the gradients of
    parameters, and of a model that is a function nobody knows them."""

    @staticmethod
    def forward(ctx, x: Images, model) -> Tensor:
        with torch.set_grad_enabled(x.requires_grad):
            ctx.x = x.detach().requires_grad_(x.requires_grad)
            ctx.z = logits_of(model, ctx.x)
        return ctx.z.detach()

    @staticmethod
    def backward(ctx, cotangent: Tensor) -> tuple[Tensor, None]:
        return gradient_by(ctx.x, ctx.z, cotangent, retain_graph=True), None


@contextmanager
def _quiet():
    """Keeps its log away. Its check for gradients in the forward pass sets a trace function: the one of a debugger or
    of coverage is put back."""
    logger, trace = logging.getLogger("auto-attack"), sys.gettrace()
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled
        sys.settrace(trace)
