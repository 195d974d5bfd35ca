"""Batch norm beneath a gradient penalty. It is known by its call, not by its class.

In training mode the gradient of a sample's output depends on its batch. In evaluation mode the penalty sees a network
that the cross-entropy does not train: it can be lowered by shrinking the weights before each batch norm, which training
mode undoes, until the running statistics fit neither. What is penalised here is the network as it is trained, dropout
and all, with the statistics *of the batch*: constants for the gradient by the input, functions of the weights for the
training step. `BatchStatistics` carries them over.
"""

from contextlib import ExitStack, contextmanager

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from jsigr_lib.method.checks import at_least_single, logits_of
from jsigr_lib.method.errors import InputError

aten = torch.ops.aten


def logits_apart(model, x: Tensor, y: Tensor | None = None, layers=None) -> Tensor | None:
    """The logits of x under `layers`, or None if a batch norm in training mode mixes the samples."""
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    _check_seen(training)
    if any(isinstance(m, _BatchNorm) for m in training):
        return None  # known without a pass
    try:
        with layers or ExitStack(), _NoMixing():
            return logits_of(model, x, y)
    except _Mixes:
        return None


def _check_seen(training: list[nn.Module]) -> None:
    """Raise InputError if a batch norm among the modules in training mode works where its calls are not seen: in a
    script, in a thread for each device, or with other processes."""
    hidden = None
    if any(isinstance(m, torch.jit.ScriptModule) and "BatchNorm" in m.original_name for m in training):
        hidden = "scripted; accepted: the model before torch.jit"
    elif any(isinstance(m, _BatchNorm) for m in training):
        if any(isinstance(m, nn.DataParallel) and len(m.device_ids) > 1 for m in training):
            hidden = "under DataParallel; accepted: DistributedDataParallel"
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if distributed and any(isinstance(m, nn.SyncBatchNorm) for m in training):
            hidden = "with other processes; accepted: BatchNorm in place of SyncBatchNorm"
    if hidden:
        raise InputError(f"batch norm in training mode is {hidden}")


class _Mixes(Exception):
    """A batch norm in training mode was called."""


class _NoMixing(TorchFunctionMode):
    """Stops at the first batch norm in training mode, before that changes anything."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        call = _batch_norm_call(func, args, kwargs or {})
        if call and call["training"]:
            raise _Mixes
        return func(*args, **(kwargs or {}))


def _batch_norm_call(func, args: tuple, kwargs: dict) -> dict | None:
    """The arguments by name, if `func` is one of torch's two functions of batch norm."""
    if func is F.batch_norm:
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    elif func is torch.batch_norm:
        names = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
    else:
        return None
    defaults = {"weight": None, "bias": None, "training": False, "momentum": 0.1, "eps": 1e-5}
    return {**defaults, **dict(zip(names, args, strict=False)), **kwargs}


class BatchStatistics(TorchFunctionMode):
    """Carries the statistics of a batch from one forward pass in training mode over to another one.

    statistics = BatchStatistics()
    with statistics:
        z = model(batch)
    with statistics.carried(model):
        z = model(some)  # each sample is normalised as in that batch, and nothing is left in the model's buffers

    A call is known by its weight, and among those of the same weight, or of none, by its place in their order.
    """

    def __init__(self):
        super().__init__()
        self.seen: dict[int | None, list[tuple[Tensor, Tensor]]] = {}  # id of a weight -> those of each call
        self.left: dict[int | None, list[tuple[Tensor, Tensor]]] | None = None  # those that are still to be carried

    @contextmanager
    def carried(self, model):
        self.left = {key: list(calls) for key, calls in self.seen.items()}
        with own_buffers(model), self:
            yield

    def __torch_function__(self, func, types, args=(), kwargs=None):
        call = _batch_norm_call(func, args, kwargs or {})
        if not call or not call["training"]:
            return func(*args, **(kwargs or {}))
        x, weight = call["input"], call["weight"]
        key = id(weight) if weight is not None and weight.is_leaf else None
        if self.left is None:
            if x.numel() == x.shape[1]:  # torch says that one value per channel has no statistics
                return func(*args, **(kwargs or {}))
            z, *statistics = _Measured.apply(*(call[name] for name in _Measured.ARGUMENTS))
            self.seen.setdefault(key, []).append(statistics)
            return z
        if self.left.get(key):
            return affine_batch_norm(x, *self.left[key].pop(0), weight, call["bias"])
        if call["running_mean"] is None:
            raise InputError("a batch norm that the batch did not pass; accepted: the same layers in every pass")
        return F.batch_norm(x, call["running_mean"], call["running_var"], weight, call["bias"], False, 0.0, call["eps"])


class _Measured(torch.autograd.Function):
    """Torch's own batch norm in training mode, and the mean and 1 / deviation of each channel that it computes anyway,
    to be differentiated like it: apart from it they take longer than the layer."""

    ARGUMENTS = ("input", "weight", "bias", "running_mean", "running_var", "momentum", "eps")

    @staticmethod
    def forward(ctx, x, weight, bias, mean, variance, momentum, eps):
        cudnn = torch.backends.cudnn.enabled
        *results, ctx.kernel = aten._batch_norm_impl_index(x, weight, bias, mean, variance, True, momentum, eps, cudnn)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, *results[1:])
        return tuple(results[:3])

    @staticmethod
    def backward(ctx, gradient: Tensor, by_mean: Tensor, by_scale: Tensor):
        x, weight, mean, scale, reserve = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        by_x, *others = aten._batch_norm_impl_index_backward(
            ctx.kernel, x, gradient, weight, None, None, mean.detach(), scale.detach(), True, ctx.eps, needed, reserve
        )
        if needed[0]:
            shape = (1, -1, *[1] * (x.dim() - 2))
            # d mean / dx = 1 / n, and d scale / dx = -scale^3 (x - mean) / n
            slope = -by_scale * scale**3 * x.shape[1] / x.numel()
            offset = by_mean * x.shape[1] / x.numel() - slope * mean
            by_x = by_x.addcmul_(at_least_single(x), slope.view(shape)).add_(offset.view(shape))
        return by_x, *others, *[None] * 4


@contextmanager
def own_buffers(model):
    """What passes leave in the buffers of the model, such as running statistics, is gone afterwards."""
    before = [(m._buffers, dict(m._buffers)) for m in model.modules()] if isinstance(model, nn.Module) else []
    copies: dict[int, Tensor] = {}  # one of each, as modules may share them
    for buffers, kept in before:
        for name, buffer in kept.items():
            if buffer is not None:
                buffers[name] = copies.setdefault(id(buffer), buffer.clone())
    try:
        yield
    finally:
        for buffers, kept in before:
            for name, buffer in kept.items():
                buffers[name] = buffer


def affine_batch_norm(x: Tensor, mean: Tensor, scale: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Batch norm with given mean and 1 / deviation, as the affine map per channel that it is; differentiable by those
    too, which torch's own is not."""
    scale = scale if weight is None else scale * weight
    shift = (0 if bias is None else bias) - mean * scale
    shape = (1, -1, *[1] * (x.dim() - 2))
    return (at_least_single(x) * scale.view(shape)).add_(shift.view(shape)).to(x.dtype)
