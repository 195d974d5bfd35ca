"""Trained networks and images in float64, and what the statements of the theory notebook need to know of them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.measure import linearised, regions
from jsigr_lib.measure.estimators import EXACT
from jsigr_lib.method.jacobian import evaluation_mode, sphere
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.method.shapes import Images

WEIGHTS = {"lambda_j": 0.01, "lambda_s": 3.0}
FEW = 3  # images, where every one takes many passes
SOFTNESS = 10.0  # of the smoothed network, softplus(a t) / a in place of its ReLUs


@dataclass(frozen=True)
class Specimen:
    """A network and images, float64. specimen[chosen] has some of the images."""

    model: nn.Module
    x: Images
    y: Tensor

    def __getitem__(self, chosen: slice | list[int]) -> "Specimen":
        return Specimen(self.model, self.x[chosen], self.y[chosen])

    def forward(self) -> tuple[Images, Tensor]:
        """The images, and the logits in their graph."""
        x = self.x.detach().requires_grad_()
        with evaluation_mode(self.model):
            return x, self.model(x)

    @cached_property
    def jacobian(self) -> Tensor:
        return linearised.full_jacobian(self.model, self.x)

    @cached_property
    def logits(self) -> Tensor:
        return linearised.predict(self.model, self.x)

    @cached_property
    def top(self) -> Tensor:
        return self.logits.argmax(1)

    def gaps(self, z: Tensor) -> Tensor:
        """How far the likeliest class is ahead of the others, z_i* - z_k: [batch, K - 1, ...] of [batch, K, ...]."""
        ahead = z[torch.arange(len(z), device=z.device), self.top][:, None] - z
        return ahead[F.one_hot(self.top, z.shape[1]) == 0].view(len(z), -1, *z.shape[2:])

    @cached_property
    def slopes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the other classes: gaps z_i* - z_j [batch, K - 1], their gradients, and these gradients' lengths."""
        gradients = self.gaps(self.jacobian)
        return self.gaps(self.logits), gradients, gradients.norm(dim=2)

    @cached_property
    def nearest(self) -> Tensor:
        """Which of the other classes has the nearest boundary, by the tangent."""
        gaps, _, lengths = self.slopes
        return (gaps / lengths).argmin(1)


def directions(x: Images) -> Images:
    """A random unit vector per image, the same at every call."""
    return sphere(len(x), x[0].numel(), like=x, generator=torch.Generator().manual_seed(0)).view_as(x)


def penalty(one: Specimen, mask: Tensor | None = None) -> Tensor:
    """lambda_J R_J + lambda_S R_S, exactly; without a mask, nothing is spared."""
    x, z = one.forward()
    mask = torch.zeros_like(x[:, :1]) if mask is None else mask
    return JSIGR(**WEIGHTS, **EXACT)._double_backprop(z, x, one.y, mask, None)[0].detach()


def offsets(one: Specimen) -> Tensor:
    """beta of z_i* - z_j = <x, grad> + beta for the other classes: what the network says to the black image, where
    <x, grad> is zero, while its ReLUs stay on or off as they are at x."""
    inputs = regions.relus(one.model, one.x)[0]
    return one.gaps(regions.relus(one.model, torch.zeros_like(one.x), inputs)[1])
