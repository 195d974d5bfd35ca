"""How far a piecewise affine network stays affine: its linear regions, bounded by the kinks of its ReLUs, within which
the tangent is the network itself. Distances are L2, in pixel units. Kinks of max pooling are not seen: the regions of a
network that has it may end sooner."""

import torch
from torch import Tensor, nn

from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jacobian import evaluation_mode, sphere
from jsigr_lib.method.shapes import Images

DIRECTIONS = 10  # random ones per image


def reach(model: nn.Module, x: Images, direction: Images) -> Tensor:
    """How far along a direction the first ReLU changes its sign, [batch]; infinite if none does.

    Up to there every ReLU's input is affine, a + t b along the unit direction, so that its sign changes at t = -a / b:
    exact, and no search [derived]. b is a difference of two forward passes with the ReLUs' signs held as they are at x.
    """
    unit = direction / direction.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)[:, None, None, None]
    first = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    inputs = relus(model, x)[0]
    for a, ahead in zip(inputs, relus(model, x + unit, inputs)[0], strict=True):
        a, b = a.flatten(1), (ahead - a).flatten(1)
        leaves = torch.where(a > 0, b < 0, b > 0)
        first = torch.minimum(first, torch.where(leaves, -a / b, torch.inf).amin(1))
    return first


def signs(model: nn.Module, x: Images) -> Tensor:
    """Which ReLUs are on, [batch, ReLUs]."""
    return torch.cat([(a > 0).flatten(1) for a in relus(model, x)[0]], 1)


def relus(model: nn.Module, x: Images, held: list[Tensor] | None = None) -> tuple[list[Tensor], Tensor]:
    """The input of every ReLU in evaluation mode, in the order of the forward pass, and the logits. With `held`, inputs
    at another image, the ReLUs are on where these are positive."""
    inputs: list[Tensor] = []

    def note(_, args: tuple[Tensor], out: Tensor) -> Tensor:
        inputs.append(args[0])
        return out if held is None else args[0] * (held[len(inputs) - 1] > 0)

    hooks = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, nn.ReLU)]
    if not hooks:
        raise InputError(f"{type(model).__name__} has no ReLU; accepted: models with nn.ReLU modules")
    try:
        with evaluation_mode(model), torch.no_grad():
            return inputs, model(x)
    finally:
        for hook in hooks:
            hook.remove()


def on_the_way(model: nn.Module, x: Images, points: Images, generator: torch.Generator) -> dict[str, Tensor]:
    """From x to points, the nearest misclassified images; each [batch].

    reach_random:   median over random directions of how far the linear region reaches;
    reach_towards:  the same towards the point;
    flipped:        share of the ReLUs that differ between x and the point;
    flipped_random: and at the same distance in random directions, their mean.
    """
    length = (points - x).flatten(1).norm(dim=1)
    here = signs(model, x)
    reaches, flips = [], []
    for _ in range(DIRECTIONS):
        u = sphere(len(x), x[0].numel(), like=x, generator=generator).view_as(x)
        reaches.append(reach(model, x, u))
        flips.append((signs(model, x + length[:, None, None, None] * u) != here).float().mean(1))
    return {
        "reach_random": torch.stack(reaches).median(0).values,
        "reach_towards": reach(model, x, points - x),
        "flipped": (signs(model, points) != here).float().mean(1),
        "flipped_random": torch.stack(flips).mean(0),
    }
