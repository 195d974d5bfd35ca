"""Batch norm under a gradient penalty.

In training mode the gradient of a sample's output depends on its batch. In evaluation mode the penalty sees a network
that the cross-entropy does not train: it can be lowered by shrinking the weights before each batch norm, which training
mode undoes, until the running statistics fit neither. What is penalised here is the network in evaluation mode with the
statistics *of the batch*: constants for the gradient by the input, functions of the weights for the training step.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode


def trains_batch_norm(model: nn.Module) -> bool:
    """Whether a forward pass of `model` mixes the samples of its batch."""
    return any(isinstance(module, _BatchNorm) and module.training for module in model.modules())


class BatchStatistics(TorchFunctionMode):
    """Carries the statistics of a batch from a forward pass in training mode over to one in evaluation mode.

    statistics = BatchStatistics()
    with statistics:
        z = model.train()(batch)
    with statistics:
        z = model.eval()(some)  # normalised as they are in that batch

    Of a layer that a pass uses twice, the last statistics are carried.
    """

    def __init__(self):
        super().__init__()
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}  # a layer, by its running mean -> mean and variance

    def __torch_function__(self, func, types, args=(), kwargs=None):
        layer = self._batch_norm if func is F.batch_norm else func
        return layer(*args, **(kwargs or {}))

    def _batch_norm(
        self, input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
    ):
        if training:
            variance, mean = torch.var_mean(input, [0, *range(2, input.dim())], correction=0)
            self.seen[id(running_mean)] = mean, variance
        elif id(running_mean) in self.seen:
            return affine_batch_norm(input, *self.seen[id(running_mean)], weight, bias, eps)
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def affine_batch_norm(
    input: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Batch norm with given statistics, as the affine map per channel that it is; differentiable by the statistics too,
    which torch's own is not."""
    scale = torch.rsqrt(variance + eps) * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * scale
    shape = (1, -1, *[1] * (input.dim() - 2))
    return torch.addcmul(shift.view(shape), input, scale.view(shape))
