"""Trained networks with images, in float64, and what the statements of the theory notebook need to know of them."""

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from jsigr_lib import estimators, regions, theory
from jsigr_lib.jacobian import Images, evaluation_mode
from jsigr_lib.jsigr import JSIGR
from jsigr_lib.study import Study

WEIGHTS = {"lambda_j": 0.01, "lambda_s": 3.0}
FEW = 3  # images, where every one takes many passes
SOFTNESS = 10.0  # of the smoothed network, softplus(a t) / a in place of its ReLUs


@dataclass(frozen=True)
class Specimen:
    """A trained network and images, float64."""

    model: nn.Module
    x: Images
    y: Tensor

    @cached_property
    def jacobian(self) -> Tensor:
        return theory.full_jacobian(self.model, self.x)

    @cached_property
    def logits(self) -> Tensor:
        with torch.no_grad(), evaluation_mode(self.model):
            return self.model(self.x)

    @cached_property
    def slopes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the other classes: gaps z_i* - z_j [batch, K - 1], their gradients, and these gradients' lengths."""
        top = self.logits.argmax(1, keepdim=True)
        others = torch.stack([torch.arange(self.logits.shape[1], device=top.device)] * len(top))
        others = others[others != top].view(len(top), -1)
        rows = self.jacobian.gather(1, others[..., None].expand(-1, -1, self.jacobian.shape[2]))
        gradients = self.jacobian.gather(1, top[..., None].expand(-1, -1, self.jacobian.shape[2])) - rows
        return self.logits.gather(1, top) - self.logits.gather(1, others), gradients, gradients.norm(dim=2)

    def few(self, n: int = FEW) -> "Specimen":
        return Specimen(self.model, self.x[:n], self.y[:n])


def specimens(study: Study, images: int = 24, names: list[str] | None = None) -> dict[str, Specimen]:
    """The first network of every defence, or of some, of the architecture that figures show, on the first test
    images; none that training has made a constant, which has no tangent to speak of."""
    x, y = study.batch("test", images)
    models = {name: study.model(study.training(name)).double().requires_grad_(True) for name in names or study.labels}
    found = {name: Specimen(model, x.double(), y) for name, model in models.items()}
    return {name: one for name, one in found.items() if one.jacobian.any()}


def penalty(one: Specimen, chosen: list[int]) -> Tensor:
    """lambda_J R_J + lambda_S R_S of some of the images, exactly, nothing being spared by a mask."""
    x = one.x[chosen].detach().requires_grad_()
    objective = JSIGR(**WEIGHTS, **estimators.EXACT)
    mask = torch.zeros_like(x[:, :1]).detach()
    with evaluation_mode(one.model):
        return objective._double_backprop(one.model(x), x, one.y[chosen], mask, None)[0].detach()


@contextmanager
def held_relus(model: nn.Module, x: Images):
    """The affine map that a piecewise affine network is around x: its ReLUs stay on or off, as they are at x.
    For batches as long as x, image by image."""
    held = iter([inputs > 0 for inputs in regions._relu_inputs(model, x)])
    hooks = [
        module.register_forward_hook(lambda _, inputs, __: inputs[0] * next(held))
        for module in model.modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def offsets(one: Specimen) -> Tensor:
    """beta of z_i* - z_j = <x, grad> + beta for the other classes: the held network at the black image, where <x, grad>
    is zero. So it comes without a gradient, and without x."""
    with torch.no_grad(), evaluation_mode(one.model), held_relus(one.model, one.x):
        z = one.model(torch.zeros_like(one.x))
    top = one.logits.argmax(1, keepdim=True)
    keep = torch.ones_like(z, dtype=torch.bool).scatter(1, top, False)
    return z.gather(1, top) - z[keep].view(len(z), -1)


def softened(model: nn.Module, softness: float) -> nn.Module:
    """The network with softplus(a t) / a in place of its ReLUs: C^infinity, and the ReLU network as a grows."""
    model = deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus(softness, threshold=500.0))
    return model


def second_derivative(model: nn.Module, x: Images, step: Images, places: Tensor) -> Tensor:
    """phi''(t) of phi(t) = z(x + t step), at some t: [places, batch, classes], by autograd, twice."""
    many, along = (a.repeat(len(places), 1, 1, 1) for a in (x, step))
    t = places.to(x).repeat_interleave(len(x)).requires_grad_()
    with evaluation_mode(model), torch.enable_grad():
        z = model(many + t[:, None, None, None] * along)
        firsts = [torch.autograd.grad(z[:, k].sum(), t, create_graph=True)[0] for k in range(z.shape[1])]
        seconds = [torch.autograd.grad(first.sum(), t, retain_graph=True)[0] for first in firsts]
    return torch.stack(seconds, 1).view(len(places), len(x), -1)


def tangent_error(model: nn.Module, x: Images, step: Images) -> Tensor:
    """||z(x + d) - z(x) - J d||, [batch]."""
    first = torch.einsum("bkn,bn->bk", theory.full_jacobian(model, x), step.flatten(1))
    with torch.no_grad(), evaluation_mode(model):
        return (model(x + step) - model(x) - first).norm(dim=1)
