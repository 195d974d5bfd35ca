"""Threat models: the images within eps of x, in the L-infinity or the L2 norm, and within [0, 1].

Both norms are in pixel units. An L-infinity eps is a share of the pixel range; an L2 eps is the length of the whole
change, up to sqrt(N) for N pixels and channels. Images have any rank from 2: rows of a table and videos are images too.
"""

import torch
from torch import Tensor

from jsigr_lib.method.checks import HALVES, number_of
from jsigr_lib.method.errors import between, one_of
from jsigr_lib.method.shapes import Float, Images

ROUNDING = 1e-6  # what float32 may add to a change


class LinfBall:
    """max |x_adv - x| <= eps."""

    def __init__(self, x: Images, eps: float):
        self.x, self.eps = x, eps
        self.lower, self.upper = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)

    def random(self, generator: torch.Generator | None) -> Images:
        """Uniform in the ball."""
        return (self.x + self.eps * (2 * _draw(torch.rand, self.x, generator) - 1)).clamp_(self.lower, self.upper)

    def climb(self, x_adv: Images, direction: Images, step_size: float) -> Images:
        """In place: the steepest step of size step_size along `direction`, then back into the ball."""
        return self.holding(x_adv.add_(direction.sign(), alpha=step_size))

    def holding(self, x_adv: Images) -> Images:
        """In place: x_adv put into the ball."""
        return x_adv.clamp_(self.lower, self.upper)


class L2Ball:
    """||x_adv - x||_2 <= eps."""

    def __init__(self, x: Images, eps: float):
        self.x, self.eps = x, eps

    def random(self, generator: torch.Generator | None) -> Images:
        """A uniform direction and a uniform radius, then cut to [0, 1]. (In so many dimensions, uniform in the ball
        would be all but on its surface: a start that is all noise.)"""
        direction = _unit(_draw(torch.randn, self.x, generator))
        radius = _draw(torch.rand, self.x.flatten(1)[:, :1], generator)
        return (self.x + self.eps * per_image(radius, self.x) * direction).clamp_(0, 1)

    def climb(self, x_adv: Images, direction: Images, step_size: float) -> Images:
        """In place: a step of length step_size along `direction`, then back into the ball."""
        return self.holding(x_adv.add_(_unit(direction), alpha=step_size))

    def holding(self, x_adv: Images) -> Images:
        """In place: x_adv put into the ball. Cutting to [0, 1] last keeps the budget, as x itself lies in there."""
        change = x_adv.sub_(self.x)
        shrink = (self.eps / _length(change).clamp_min(1e-30)).clamp_max(1)
        return change.mul_(shrink).add_(self.x).clamp_(0, 1)


BALLS = {"linf": LinfBall, "l2": L2Ball}


def ball(x: Images, eps: float, norm: str) -> LinfBall | L2Ball:
    """The images within eps of x. Raises InputError for an unknown norm or an eps out of its range."""
    eps = budget_of(eps, norm, x.shape[1:].numel())
    return BALLS[norm](x, eps)


def budget_of(eps: float, norm: str = "linf", pixels: int | None = None) -> float:
    """eps as a float. Raises InputError unless it is a budget of that norm."""
    one_of("norm", norm, BALLS)
    eps = number_of("eps", eps)
    between("eps", eps, 0, 1 if norm == "linf" else float("inf") if pixels is None else pixels**0.5)
    return eps


def distance(x_adv: Images, x: Images, norm: str = "linf") -> Float[Tensor, " batch"]:
    """How far each image was changed."""
    change = (x_adv - x).flatten(1)
    return change.abs().amax(1) if norm == "linf" else change.norm(dim=1)


def quantise(x_adv: Images, x: Images, *, eps: float, norm: str = "linf") -> Images:
    """The image as an 8-bit file would hold it, rounded so that the budget still holds: to the nearest level within
    it (L-infinity), or, where the nearest levels exceed it, towards x (L2). x has to be 8-bit already."""
    if norm == "linf":
        levels = int(255 * eps + 1e-3)
        original = (255 * x).round()
        nearest = (255 * x_adv).round().clamp(0, 255)
        return nearest.clamp(original - levels, original + levels) / 255
    nearest = (255 * x_adv).round().clamp(0, 255) / 255
    inwards = ((255 * x).round() + (255 * (x_adv - x)).trunc()) / 255
    fits = distance(nearest, x, norm) <= eps + ROUNDING
    return torch.where(per_image(fits, x), nearest, inwards)


def settled(x_adv: Images, x: Images) -> Images:
    """x_adv in the precision of x. Half precision is coarse, so each pixel is rounded towards x: no change grows."""
    if x.dtype not in HALVES:
        return x_adv
    nearest = x_adv.to(x.dtype)
    above = (nearest > x) & (nearest.to(x_adv) > x_adv)
    below = (nearest < x) & (nearest.to(x_adv) < x_adv)
    # the next smaller or larger number: the bits of numbers from 0 are in their order
    return (nearest.view(torch.int16) - above.to(torch.int16) + below.to(torch.int16)).view(x.dtype)


def per_image(values: Tensor, x: Images) -> Tensor:
    """One value per image, in a shape that multiplies x."""
    return values.view(-1, *[1] * (x.ndim - 1))


def each_image(x: Images) -> tuple[int, ...]:
    """The dimensions that belong to one image."""
    return tuple(range(1, x.ndim))


def _draw(kind, like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator else like.device
    return kind(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def _length(x: Images) -> Tensor:
    return per_image(x.flatten(1).norm(dim=1), x)


def _unit(x: Images) -> Images:
    """Each sample divided by its length, and by its largest entry first, as tiny squares vanish; a zero stays zero."""
    x = x / x.abs().amax(dim=each_image(x), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    return x / _length(x).clamp_min(torch.finfo(x.dtype).tiny)
