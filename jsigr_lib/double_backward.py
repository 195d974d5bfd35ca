"""Layers whose double backward costs no more than their backward.

A gradient penalty differentiates the backward pass. torch does that for a convolution by one whose batch is the
channels, for evaluation batch norm by a dozen element-wise steps, and for ReLU by a full pass of zeros. All three are
linear in the gradient that passes through them, so the ordinary kernels do the same work.
"""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from jsigr_lib.batch_norm import affine_batch_norm

aten = torch.ops.aten


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
        if layer is None or torch.is_autocast_enabled((args or list(kwargs.values()))[0].device.type):
            return func(*args, **kwargs)
        result = layer(self, *args, **kwargs)
        return func(*args, **kwargs) if result is NotImplemented else result

    @contextmanager
    def inputs_only(self):
        """Backward passes of this graph skip the weights' gradients, which a custom Function cannot see unused."""
        self.weights = False
        try:
            yield
        finally:
            self.weights = True


class _Convolution(torch.autograd.Function):
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
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = x.clamp_min(0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Gate.apply(gradient, *ctx.saved_tensors)


class _Gate(torch.autograd.Function):
    """The gradient where y > 0: linear in it, and constant in y almost everywhere."""

    @staticmethod
    def forward(ctx, gradient: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return aten.threshold_backward(gradient, y, 0)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Gate.apply(gradient, *ctx.saved_tensors), None


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
