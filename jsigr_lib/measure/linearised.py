"""The tangent of a network: its Jacobian, what the tangent says of robustness, and how soon the network leaves it.
Distances are L2, in pixel units."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from jsigr_lib.method.jacobian import evaluation_mode, sphere, vjp
from jsigr_lib.method.shapes import Images


def predict(model: nn.Module, x: Images) -> Tensor:
    """The logits in evaluation mode, without a graph."""
    with torch.no_grad(), evaluation_mode(model):
        return model(x)


def full_jacobian(model: nn.Module, x: Images) -> Tensor:
    """J = dz/dx of every image: [batch, classes, pixels]."""
    with evaluation_mode(model), torch.enable_grad():
        x = x.detach().requires_grad_()
        z = model(x)
        rows = [vjp(z, x, e.expand_as(z), create_graph=False) for e in torch.eye(z.shape[1]).to(z)]
    return torch.stack([row.flatten(1) for row in rows], 1)


def projection_variance(jacobian: Tensor) -> Tensor:
    """Var[K ||J^T v||^2] = 2K/(K+2) (||J J^T||_F^2 - ||J||_F^4 / K), v uniform on the sphere [derived]."""
    classes = jacobian.shape[1]
    gram = jacobian @ jacobian.mT
    trace = gram.diagonal(dim1=1, dim2=2).sum(1)
    return 2 * classes / (classes + 2) * (gram.square().sum((1, 2)) - trace.square() / classes)


def projection_draws(jacobian: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """K ||J^T v||^2 for many v: [draws, batch]."""
    batch, classes, _ = jacobian.shape
    gram = jacobian @ jacobian.mT
    v = sphere(draws * batch, classes, like=jacobian, generator=generator).view(draws, batch, classes)
    return classes * torch.einsum("dbk,bkl,dbl->db", v, gram, v)


def linearised_robustness(model: nn.Module, x: Images) -> dict[str, Tensor]:
    """Distance to the boundary of the linearised classifier, per image (Etmann et al. 2019).

    Returns, each [batch]:
        margin:     z_i* - max_{j != i*} z_j;
        jacobian:   ||J||_F;
        robustness: rho = min_{j != i*} (z_i* - z_j) / ||grad (z_i* - z_j)||;
        bound:      margin / (sqrt(2) ||J||_F) <= rho [derived];
        alignment:  |<x, grad (z_i* - z_j*)>| / ||grad (z_i* - z_j*)||, j* the class that attains rho.
    """
    z, jacobian = predict(model, x), full_jacobian(model, x)
    top = z.argmax(1, keepdim=True)
    gaps = z.gather(1, top) - z
    slopes = jacobian.gather(1, top[..., None].expand(-1, -1, jacobian.shape[2])) - jacobian
    lengths = slopes.norm(dim=2).clamp_min(torch.finfo(z.dtype).tiny)
    distances = (gaps / lengths).scatter(1, top, torch.inf)
    robustness, nearest = distances.min(1)
    margin = gaps.scatter(1, top, torch.inf).amin(1)
    norm = jacobian.flatten(1).norm(dim=1)
    inner = (x.flatten(1)[:, None] * slopes).sum(2).abs() / lengths
    return {
        "margin": margin,
        "jacobian": norm,
        "robustness": robustness,
        "bound": margin / (2**0.5 * norm),
        "alignment": inner.gather(1, nearest[:, None])[:, 0],
    }


def tangent_error(model: nn.Module, x: Images, direction: Images, distances: Sequence[float]) -> tuple[Tensor, Tensor]:
    """How wrong the tangent is at some distances r along a direction u: ||e|| of e = z(x + r u) - z(x) - r J u, and the
    length of the change z(x + r u) - z(x), both [distances, batch]."""
    first_order = torch.einsum("bkn,bn->bk", full_jacobian(model, x), direction.flatten(1))
    z = predict(model, x)
    changes = torch.stack([predict(model, x + distance * direction) - z for distance in distances])
    errors = changes - torch.as_tensor(distances, dtype=z.dtype, device=z.device)[:, None, None] * first_order
    return errors.norm(dim=2), changes.norm(dim=2)


def linearisation_error(
    model: nn.Module, x: Images, radii: Sequence[float], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`tangent_error` along one random unit direction per image, relative to the change, ||e|| / ||z(x + r u) - z(x)||,
    and to what would change the decision, ||e|| / margin(x); both [radii, batch]."""
    u = sphere(len(x), x[0].numel(), like=x, generator=generator).view_as(x)
    errors, changes = tangent_error(model, x, u, radii)
    top_two = predict(model, x).topk(2).values
    margin = (top_two[:, 0] - top_two[:, 1]).clamp_min(1e-12)
    return errors / changes.clamp_min(1e-12), errors / margin


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
