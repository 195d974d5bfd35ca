"""What lies between a gradient penalty and autograd: batch norm beneath it, and layers that make it cheap.

Batch norm. In training mode the gradient of a sample's output depends on its batch. In evaluation mode the penalty sees
a network that the cross-entropy does not train: it can be lowered by shrinking the weights before each batch norm,
which training mode undoes, until the running statistics fit neither. What is penalised here is the network in
evaluation mode with the statistics *of the batch*: constants for the gradient by the input, functions of the weights
for the training step. `BatchStatistics` carries them over.

Double backward. A gradient penalty differentiates the backward pass. torch does that for a convolution by one whose
batch is the channels, for evaluation batch norm by a dozen element-wise steps, and for ReLU by a full pass of zeros.
All three are linear in the gradient that passes through them, so the ordinary kernels do the same work: under
`CheapDoubleBackward` a double backward pass costs no more than a backward pass.
"""

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten


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

    Of a layer that one pass uses twice, the statistics of the second use are carried.
    """

    def __init__(self):
        super().__init__()
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}  # the id of a layer's running mean -> mean, variance

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


class CheapDoubleBackward(TorchFunctionMode):
    """While it is active, conv2d, relu and evaluation batch_norm of any model are the ones below: equal in value and
    in every derivative.

    with CheapDoubleBackward() as layers:
        z = model(x)
    with layers.inputs_only():
        (g,) = torch.autograd.grad(z, x, cotangent, create_graph=True)
    """

    def __init__(self):
        super().__init__()
        self.weights = True  # whether the backward pass in progress has to reach the weights

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        layer = LAYERS.get(func)
        # autocast chooses the precision of torch's own layers; it does not see into ours
        if layer is None or autocasts((args or list(kwargs.values()))[0].device.type):
            return func(*args, **kwargs)
        result = layer(self, *args, **kwargs)
        return func(*args, **kwargs) if result is NotImplemented else result

    @contextmanager
    def inputs_only(self):
        """While it lasts, backward passes of this graph skip the gradients of the weights: a custom Function is not
        told that they are not asked for."""
        self.weights = False
        try:
            yield
        finally:
            self.weights = True


def autocasts(device: str) -> bool:
    """Whether autocast is active on that type of device."""
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # torch before 2.4 has one function for each type
        return torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled()


class _Convolution(torch.autograd.Function):
    """W x + b. Its backward pass is `_ConvolutionTransposed` where it is to be differentiated again."""

    @staticmethod
    def forward(
        ctx, mode: CheapDoubleBackward, x: Tensor, weight: Tensor, bias: Tensor | None, options: tuple
    ) -> Tensor:
        ctx.mode, ctx.options, ctx.bias = mode, options, None if bias is None else bias.shape
        ctx.save_for_backward(x, weight)
        return aten.convolution(x, weight, bias, *options)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        _, needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        if torch.is_grad_enabled() and not ctx.mode.weights:
            return None, _ConvolutionTransposed.apply(gradient, weight, x, ctx.options), None, None, None
        needed = [needs_x, needs_weight and ctx.mode.weights, needs_bias and ctx.mode.weights]
        return None, *aten.convolution_backward(gradient, x, weight, ctx.bias, *ctx.options, needed), None


class _ConvolutionTransposed(torch.autograd.Function):
    """W^T g, as a function of g and W: its derivatives are W gg, and the weight gradient of the pair (gg, g)."""

    @staticmethod
    def forward(ctx, gradient: Tensor, weight: Tensor, x: Tensor, options: tuple) -> Tensor:
        ctx.options = options
        ctx.save_for_backward(gradient, weight)
        return aten.convolution_backward(gradient, x, weight, None, *options, [True, False, False])[0]

    @staticmethod
    def backward(ctx, gg: Tensor):
        gradient, weight = ctx.saved_tensors
        by_gradient = aten.convolution(gg, weight, None, *ctx.options) if ctx.needs_input_grad[0] else None
        needed = [False, ctx.needs_input_grad[1], False]
        return by_gradient, aten.convolution_backward(gradient, gg, weight, None, *ctx.options, needed)[1], None, None


class _Relu(torch.autograd.Function):
    """max(x, 0), which keeps its value for the backward pass, as that says where x > 0."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = x.clamp_min(0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Gate.apply(gradient, *ctx.saved_tensors)


class _Gate(torch.autograd.Function):
    """The gradient where y > 0, else 0: linear in the gradient, and constant in y almost everywhere."""

    @staticmethod
    def forward(ctx, gradient: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return aten.threshold_backward(gradient, y, 0)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Gate.apply(gradient, *ctx.saved_tensors), None


# The replacements take what the function of torch takes, after the mode. NotImplemented leaves the work to torch.


def _conv2d(mode, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    if input.dim() != 4 or isinstance(padding, str):
        return NotImplemented
    stride, padding, dilation = ([v, v] if isinstance(v, int) else list(v) for v in (stride, padding, dilation))
    return _Convolution.apply(mode, input, weight, bias, (stride, padding, dilation, False, [0, 0], groups))


def _relu(mode, input, inplace=False):
    return NotImplemented if inplace else _Relu.apply(input)


def _batch_norm(mode, input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if training or running_mean is None:
        return NotImplemented
    return affine_batch_norm(input, running_mean, running_var, weight, bias, eps)


LAYERS = {F.conv2d: _conv2d, F.relu: _relu, F.batch_norm: _batch_norm}
