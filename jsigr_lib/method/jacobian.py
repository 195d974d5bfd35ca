"""The Jacobian norm R_J = mean_i ||J(x_i)||_F^2 with J = dz/dx, z the logits, x in pixel units."""

from contextlib import contextmanager
from functools import wraps
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.method.autograd import differentiable_by_inputs, differentiable_twice
from jsigr_lib.method.batch_norm import BatchStatistics, logits_apart, own_buffers
from jsigr_lib.method.checks import at_least_single, gradient_by, images_of, labels_of, logits_of
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.shapes import Float, Images


@contextmanager
def evaluation_mode(model: nn.Module):
    """Put every module in evaluation mode, and give each its own mode back afterwards.

    Batch norm mixes the samples of a batch in training mode, where the gradient of one sample's output by its
    own input is not defined. Whatever differentiates by the input does it in evaluation mode. A model that is a plain
    function has no mode to change.
    """
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    if any(training for _, training in modes):
        model.eval()
    try:
        with differentiable_by_inputs:
            yield model
    finally:
        for module, training in modes:
            if module.training != training:  # as setting it takes its time
                module.training = training


def with_graph(function):
    """For a function of (..., tensors) that differentiates: it works under no_grad and inference_mode as well, where
    its result has no graph."""

    @wraps(function)
    def works(*args, **kwargs):
        graph = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            result = function(*(a.clone() if torch.is_tensor(a) and a.is_inference() else a for a in args), **kwargs)
        return result if graph else result.detach()

    return works


def sphere(batch: int, classes: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One vector per sample, uniform on the unit sphere of R^classes: shape [batch, classes]."""
    device = generator.device if generator else like.device
    v = torch.randn(batch, classes, generator=generator, device=device, dtype=like.dtype)
    return (v / v.norm(dim=1, keepdim=True)).to(like.device)


def vjp(logits: Tensor, x: Images, cotangent: Tensor, *, create_graph: bool = True) -> Images:
    """J_i^T c_i for every sample at once. A cotangent that depends on x keeps its own derivative (grad_outputs,
    and not the gradient of <c, z>, which would add z's product with dc/dx)."""
    return gradient_by(x, logits, cotangent, create_graph=create_graph, retain_graph=True)


def logit_gradient(model: nn.Module, x: Images, y: Tensor) -> Images:
    """d z_y / dx."""
    return _input_gradient(model, x, y, lambda z, y: z.gather(1, y[:, None]).sum())


def loss_gradient(model: nn.Module, x: Images, y: Tensor) -> Images:
    """g = dl/dx, l the cross-entropy of each sample."""
    return _input_gradient(model, x, y, lambda z, y: F.cross_entropy(z, y, reduction="sum"))


@with_graph
def _input_gradient(model: nn.Module, x: Images, y: Tensor, objective) -> Images:
    x, y = images_of(x), labels_of(y, x)
    with evaluation_mode(model):
        x.requires_grad_()
        return gradient_by(x, objective(logits_of(model, x, y), y))


def squared_norm(g: Images) -> Float[Tensor, " batch"]:
    """||g_i||_2^2 of every sample."""
    return at_least_single(g).square().sum(dim=tuple(range(1, g.ndim)))


def jacobian_norms(
    logits: Tensor,
    x: Images,
    *,
    projections: int | str = 1,
    generator: torch.Generator | None = None,
    create_graph: bool = True,
) -> Float[Tensor, " batch"]:
    """||J_i||_F^2 of every sample, for logits that were computed from x and still hold their graph.

    Exact: one vector-Jacobian product per class, sum_k ||J_i^T e_k||^2. Estimated: K/n sum_mu ||J_i^T v_mu||^2
    with v_mu uniform on the unit sphere; unbiased, as E[v v^T] = I/K.
    Source: Hoffman, Roberts, Yaida 2019 (facebookresearch/jacobian_regularizer).
    """
    batch, classes = logits.shape
    if projections == "exact":
        cotangents = torch.eye(classes, dtype=logits.dtype, device=logits.device)
        return sum(squared_norm(vjp(logits, x, e.expand(batch, -1), create_graph=create_graph)) for e in cotangents)
    if isinstance(projections, bool) or not isinstance(projections, Integral) or projections < 1:
        raise InputError(f'projections = {projections!r}; accepted: a whole number from 1, or "exact"')
    total = 0
    for _ in range(projections):
        v = sphere(batch, classes, like=logits, generator=generator)
        total = total + squared_norm(vjp(logits, x, v, create_graph=create_graph))
    return total * (classes / projections)


def jacobian_norm(
    model: nn.Module, x: Images, *, projections: int | str = 1, generator: torch.Generator | None = None
) -> Float[Tensor, ""]:
    """R_J = mean_i ||J(x_i)||_F^2, a scalar tensor in logits^2 per pixel^2.

    Args:
        model: maps images to logits [batch, classes]; used in its own mode, dropout and all. Batch norm in training
            mode has the statistics of this batch, which are constants for the derivative by x; it is left unchanged.
        x: images in [0, 1], or samples of any other shape [batch, ...].
        projections: n random projections, or "exact" for all classes.
        generator: makes the projections reproducible.

    The result can be differentiated by the parameters, unless called under `torch.no_grad()`.
    Raises ValueError for wrong shapes or types, and if projections is neither a positive integer nor "exact".
    """
    x = images_of(x)
    create_graph = torch.is_grad_enabled()
    return _jacobian_norm(model, x, projections=projections, generator=generator, create_graph=create_graph)


@with_graph
def _jacobian_norm(model, x: Tensor, **options) -> Tensor:
    x = x.detach().requires_grad_()
    with differentiable_twice(), own_buffers(model):
        z = logits_apart(model, x)
        if z is None:
            statistics = BatchStatistics()
            with statistics:
                logits_of(model, x.detach())
            with statistics.carried(model):
                z = logits_of(model, x)
        return jacobian_norms(z, x, **options).mean()
