"""One iterative loop, x <- clip(x + step * sign(direction)); the named attacks are settings of it.

Images are in [0, 1] and eps is a fraction of that range. The loop runs in evaluation mode, restores the model's own
mode, and asks autograd for the input's gradient only, so that parameters keep the gradients they had.
"""

import torch
from torch import Tensor, nn

from jsigr_lib.errors import InputError, between, one_of
from jsigr_lib.jacobian import Images, loss_gradient


def attack(
    model: nn.Module,
    x: Images,
    y: Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float,
    momentum: float = 0.0,
    random_start: bool = False,
    generator: torch.Generator | None = None,
) -> Images:
    """Raise the cross-entropy of (x, y) within the L-infinity ball of radius eps and within [0, 1].

    Args:
        model: maps images to logits.
        x, y: images in [0, 1] and their true labels.
        eps, step_size: fractions of the pixel range; eps = 0 gives x back.
        steps: gradient steps, from 1.
        momentum: mu of MI-FGSM; 0 is plain sign ascent.
        random_start: begin at a uniformly random point of the ball, drawn with `generator`.

    Returns x_adv, float, without graph. Raises ValueError for a value outside what is accepted.
    """
    check_settings(eps, steps, step_size, momentum)
    _check_batch(x, y)
    x = x.detach()
    lower, upper = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    x_adv = x.clone()
    if random_start:
        device = generator.device if generator else x.device
        noise = torch.rand(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
        x_adv = (x + eps * (2 * noise - 1)).clamp_(lower, upper)
    direction = torch.zeros_like(x)
    for _ in range(steps):
        gradient = loss_gradient(model, x_adv, y)
        # g <- mu g + grad / mean|grad|, each sample by its own mean (Dong et al. 2018); without mu only signs count
        direction = direction.mul_(momentum).add_(_unit_mean(gradient)) if momentum else gradient
        x_adv = x_adv.add_(direction.sign(), alpha=step_size).clamp_(lower, upper)
    return x_adv


def _unit_mean(gradient: Images) -> Images:
    """Divide each sample by its mean magnitude; a zero gradient stays zero instead of becoming NaN."""
    mean = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
    return gradient / mean.clamp_min(torch.finfo(gradient.dtype).tiny)


def check_settings(eps: float, steps: int, step_size: float, momentum: float = 0.0) -> None:
    """Raise InputError unless an attack can run with these settings."""
    between("eps", eps, 0, 1)
    check_steps(steps)
    between("step_size", step_size, 0, 2.5)
    between("momentum", momentum, 0, 100)


def check_steps(steps: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps = {steps!r}; accepted: a whole number from 1")


def _check_batch(x: Tensor, y: Tensor) -> None:
    if x.numel() and not (x.min() >= 0 and x.max() <= 1):
        raise InputError(f"images span {x.min():g} to {x.max():g}; accepted: 0 to 1")
    if y.numel() and y.min() < 0:
        raise InputError(f"label {y.min()}; accepted: class indices from 0")


def fgsm(model: nn.Module, x: Images, y: Tensor, *, eps: float) -> Images:
    """One step of the whole budget (Goodfellow et al. 2015)."""
    return attack(model, x, y, eps=eps, steps=1, step_size=eps)


def pgd(
    model: nn.Module,
    x: Images,
    y: Tensor,
    *,
    eps: float,
    steps: int = 20,
    step_size: float | None = None,
    generator: torch.Generator | None = None,
) -> Images:
    """Random start, then `steps` steps of 2.5 eps / steps unless told otherwise (Madry et al. 2018)."""
    check_steps(steps)
    step_size = 2.5 * eps / steps if step_size is None else step_size
    return attack(model, x, y, eps=eps, steps=steps, step_size=step_size, random_start=True, generator=generator)


def mi_fgsm(model: nn.Module, x: Images, y: Tensor, *, eps: float, steps: int = 10, momentum: float = 1.0) -> Images:
    """Momentum iterative FGSM: steps of eps / steps, mu = 1, T = 10 (Dong et al. 2018)."""
    check_steps(steps)
    return attack(model, x, y, eps=eps, steps=steps, step_size=eps / steps, momentum=momentum)


ATTACKS = {"fgsm": fgsm, "pgd": pgd, "mi-fgsm": mi_fgsm}


def run(name: str, model: nn.Module, x: Images, y: Tensor, *, eps: float, generator=None, **settings) -> Images:
    """The attack called `name`; `generator` reaches those that draw. Raises InputError for an unknown name."""
    one_of("attack", name, ATTACKS)
    if name == "pgd":
        settings["generator"] = generator
    return ATTACKS[name](model, x, y, eps=eps, **settings)
