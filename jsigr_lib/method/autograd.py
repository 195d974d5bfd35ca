"""Backward passes that can be differentiated again, by any model, and cheaply.

A gradient penalty differentiates the backward pass. torch does that for a convolution by one whose batch is the
channels, for evaluation batch norm and GELU by a dozen element-wise steps, and for ReLU by a full pass of zeros. All
are linear in the gradient that passes through them, so the ordinary kernels do the same work: under
`CheapDoubleBackward` a double backward pass costs no more than a backward pass.
"""

import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from math import pi
from threading import Lock

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from jsigr_lib.method.batch_norm import affine_batch_norm

aten = torch.ops.aten


@contextmanager
def differentiable_twice():
    """What passes a model in here can be differentiated twice: nothing is compiled, attention and recurrent layers
    take the kernels that have a second derivative, and a checkpoint keeps what it would compute again later, outside.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_Recurrent())
        stack.enter_context(differentiable_by_inputs)
        for generator in GENERATORS:
            stack.enter_context(generator)
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


class _Replaced:
    """A name in torch's module of checkpoints that stands for something else while any thread is in here."""

    def __init__(self, name: str, replacement):
        self.name, self.replacement, self.users, self.lock = name, replacement, 0, Lock()
        self.original = getattr(torch.utils.checkpoint, name)  # from the start: what is used is part of keys

    def __enter__(self):
        with self.lock:
            if self.users == 0:
                setattr(torch.utils.checkpoint, self.name, self.replacement)
            self.users += 1

    def __exit__(self, *_):
        with self.lock:
            self.users -= 1
            if self.users == 0:
                setattr(torch.utils.checkpoint, self.name, self.original)


class _Kept:
    """In place of reentrant checkpointing: the function itself."""

    @staticmethod
    def apply(function, preserve, *args):
        return function(*args)


def _kept(*_, **__):
    """In place of the other kind, which calls the function between two steps of this."""
    yield


differentiable_by_inputs = _Replaced("CheckpointFunction", _Kept)
"""What passes a model in here can be differentiated by chosen tensors, which reentrant checkpoints refuse."""
NAMES = ("_checkpoint_without_reentrant_generator", "_checkpoint_without_reentrant_generator_impl")  # it was renamed
GENERATORS = [_Replaced(name, _kept) for name in NAMES if hasattr(torch.utils.checkpoint, name)]


class _Recurrent(TorchFunctionMode):
    """Recurrent layers by torch's own steps: the backward pass of cuDNN's has no derivative, that of oneDNN's a slow
    one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in RECURRENT:
            return func(*args, **(kwargs or {}))
        onednn = torch._C._get_mkldnn_enabled()
        with torch.backends.cudnn.flags(enabled=False):
            try:
                torch._C._set_mkldnn_enabled(False)  # `torch.backends.mkldnn.flags` warns of what it does not change
                return func(*args, **(kwargs or {}))
            finally:
                torch._C._set_mkldnn_enabled(onednn)


RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)


class CheapDoubleBackward(TorchFunctionMode):
    """While it is active, conv2d, relu, silu, gelu and evaluation batch_norm of any model are the ones below: equal in
    value and in every derivative. Where that is not certain, as for kernels that are computed, the layer stays torch's.

    with CheapDoubleBackward(x) as layers:
        z = model(x)
    with layers.inputs_only():
        (g,) = torch.autograd.grad(z, x, cotangent, create_graph=True)

    Whoever gives x needs its gradient nowhere else: the first convolution's is spared, which is the slowest of all.
    """

    def __init__(self, x: Tensor | None = None):
        super().__init__()
        self.x = x
        self.weights = True  # whether the backward pass in progress has to reach the weights

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        layer = LAYERS.get(func)
        # autocast and functorch know torch's own layers; they do not see into ours
        if layer is None or autocasts((args or list(kwargs.values()))[0].device.type) or _transforms():
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


_transforms = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)  # such as vmap


def comes_from(x: Tensor, images: Tensor | None) -> bool:
    """Whether x is made of the images and of nothing else that is differentiable, by one step after another."""
    node = x.grad_fn
    while node and len(before := [one for one, _ in node.next_functions if one]) == 1:
        (node,) = before
    return images is not None and getattr(node, "variable", None) is images


class _Convolution(torch.autograd.Function):
    """W x + b. Its backward pass is `_ConvolutionTransposed` where it is to be differentiated again."""

    @staticmethod
    def forward(
        ctx, mode: CheapDoubleBackward, x: Tensor, weight: Tensor, bias: Tensor | None, options: tuple
    ) -> Tensor:
        ctx.first = comes_from(x, mode.x)
        ctx.mode, ctx.options, ctx.bias = mode, options, None if bias is None else bias.shape
        ctx.save_for_backward(x, weight)
        return aten.convolution(x, weight, bias, *options)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        _, needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        if torch.is_grad_enabled() and not ctx.mode.weights:
            return None, _ConvolutionTransposed.apply(gradient, weight, x, ctx.options), None, None, None
        needs_x = needs_x and not (ctx.first and ctx.mode.weights)
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


class _Activation(torch.autograd.Function):
    """f(x), element by element. Where f is linear almost everywhere its value is kept, and says what the slope is."""

    @staticmethod
    def forward(ctx, x: Tensor, function: tuple) -> Tensor:
        value, _, curvature = ctx.function = function
        y = value(x)
        ctx.save_for_backward(x if curvature else y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Slope.apply(gradient, *ctx.saved_tensors, ctx.function), None


class _Slope(torch.autograd.Function):
    """f'(x) g, linear in the gradient g: its derivatives are f'(x) gg, and f''(x) g gg."""

    @staticmethod
    def forward(ctx, gradient: Tensor, x: Tensor, function: tuple) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*((gradient, x) if function[2] else (x,)))
        return function[1](gradient, x)

    @staticmethod
    def backward(ctx, gg: Tensor):
        *gradient, x = ctx.saved_tensors
        by_x = gg * gradient[0] * ctx.function[2](x) if gradient else None
        return _Slope.apply(gg, x, ctx.function), by_x, None


def _curvature_of_silu(x: Tensor) -> Tensor:
    s = x.sigmoid()
    return aten.sigmoid_backward(torch.addcmul(x + 2, x, s, value=-2), s)  # (2 + x - 2 x s) s (1 - s)


def _curvature_of_gelu(x: Tensor) -> Tensor:
    square = x.square()
    return (2 - square) * (square * -0.5).exp() * (2 * pi) ** -0.5


RELU = (lambda x: x.clamp_min(0), lambda gradient, y: aten.threshold_backward(gradient, y, 0), None)
SILU = (aten.silu, aten.silu_backward, _curvature_of_silu)
GELU = (aten.gelu, aten.gelu_backward, _curvature_of_gelu)
"""f, f' g and f'', as far as there is one."""


# The replacements take what the function of torch takes, after the mode. NotImplemented leaves the work to torch.


def _conv2d(mode, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    # a kernel with a graph may depend on the image, through which `inputs_only` would lose a part of the gradient
    tensors = [t for t in (weight, bias) if t is not None]
    if (
        input.dim() != 4
        or isinstance(padding, str)
        or not all(t.is_leaf for t in tensors)
        or not _plain(input, *tensors)
    ):
        return NotImplemented
    stride, padding, dilation = ([v, v] if isinstance(v, int) else list(v) for v in (stride, padding, dilation))
    return _Convolution.apply(mode, input, weight, bias, (stride, padding, dilation, False, [0, 0], groups))


def _relu(mode, input, inplace=False, function=RELU):
    return NotImplemented if inplace or not _plain(input) else _Activation.apply(input, function)


def _gelu(mode, input, approximate="none"):
    return _relu(mode, input, approximate != "none", GELU)


def _batch_norm(mode, input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if (
        training
        or running_mean is None
        or not _plain(input, *(t for t in (running_mean, weight, bias) if t is not None))
    ):
        return NotImplemented
    return affine_batch_norm(input, running_mean, torch.rsqrt(running_var + eps), weight, bias)


def _plain(*tensors: Tensor) -> bool:
    """Whether all are torch's own dense tensors of one floating-point type, single precision or more."""
    dtype = tensors[0].dtype
    return dtype in (torch.float32, torch.float64) and all(
        type(t) in (Tensor, nn.Parameter) and t.layout is torch.strided and t.dtype == dtype for t in tensors
    )


LAYERS = {F.conv2d: _conv2d, F.batch_norm: _batch_norm}
LAYERS |= {F.relu: _relu, F.silu: partial(_relu, function=SILU), F.gelu: _gelu}
