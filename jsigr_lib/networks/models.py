"""Classifiers: logits out, and the channel normalisation as their first layer, so that inputs, gradients and
attack budgets are all in pixel units, x in [0, 1]."""

from collections.abc import Sequence
from functools import partial
from inspect import signature

import torch
from torch import Tensor, nn

from jsigr_lib.method.errors import InputError, one_of
from jsigr_lib.method.registry import Registry


class Normalise(nn.Module):
    """(x - mean) / std per channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def mlp(channels: int, size: int, classes: int, width: int = 256) -> nn.Sequential:
    """Two hidden layers."""
    hidden = [nn.Linear(channels * size * size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, classes))


def small_cnn(channels: int, size: int, classes: int, width: int = 32, activation=nn.ReLU) -> nn.Sequential:
    """Two strided convolutions, two linear layers; 0.42M parameters on 28x28 grey images; piecewise affine if ReLU."""
    first, second = nn.Conv2d(channels, width, 5, 2, padding=2), nn.Conv2d(width, 2 * width, 3, 2, padding=1)
    hidden = nn.Linear(2 * width * ((size + 3) // 4) ** 2, 4 * width)
    head = [nn.Flatten(), hidden, activation(), nn.Linear(4 * width, classes)]
    return nn.Sequential(first, activation(), second, activation(), *head)


def vgg(channels: int, size: int, classes: int, width: int = 16, *, batch_norm: bool = False) -> nn.Sequential:
    """Pairs of 3x3 convolutions, doubling in width, as in VGG (Simonyan & Zisserman 2015)."""
    layers: list[nn.Module] = []
    for stage in range(3):
        for _ in range(2):
            outputs = width << stage
            layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if batch_norm else [nn.ReLU()]
            channels = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (size // 8) ** 2, classes))


def _convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def nin(channels: int, size: int, classes: int, width: int = 64) -> nn.Sequential:
    """Network in network (Lin, Chen & Yan 2014), with batch norm: each convolution is followed by two of 1x1."""
    layers: list[nn.Module] = []
    for outputs, kernel in ((width, 5), (width, 5), (2 * width, 3)):
        layers += [_convolution(channels, outputs, kernel), _convolution(outputs, outputs, 1)]
        layers += [_convolution(outputs, outputs, 1), nn.MaxPool2d(2)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    """x plus two 3x3 convolutions of it."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(_convolution(width, width), _convolution(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def resnet9(channels: int, size: int, classes: int, width: int = 16) -> nn.Sequential:
    """The nine layers that learn CIFAR-10 fastest (Page 2018, "How to train your ResNet"): residual blocks between max
    pools, no strides."""
    stem = [_convolution(channels, width), _convolution(width, 2 * width), nn.MaxPool2d(2), Residual(2 * width)]
    middle = [_convolution(2 * width, 4 * width), nn.MaxPool2d(2), _convolution(4 * width, 8 * width), nn.MaxPool2d(2)]
    head = [Residual(8 * width), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes)]
    return nn.Sequential(*stem, *middle, *head)


class PreactivationBlock(nn.Module):
    """Two 3x3 convolutions around an identity (He et al. 2016, second form)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation=nn.ReLU):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.act1, self.act2 = activation(), activation()
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.bn1(x))
        identity = x if self.shortcut is None else self.shortcut(y)
        return identity + self.conv2(self.act2(self.bn2(self.conv1(y))))


def resnet(
    channels: int,
    size: int,
    classes: int,
    width: int,
    *,
    stages: int = 3,
    blocks: int = 1,
    stem: int = 0,
    stride: int = 1,
    activation=nn.ReLU,
) -> nn.Sequential:
    """Pre-activation residual network for small images: a stem as wide as the first stage, or `stem`, of 3x3, or 5x5 if
    strided; then stages that double in width."""
    inputs = stem or width
    layers: list[nn.Module] = [nn.Conv2d(channels, inputs, 2 * stride + 1, stride, padding=stride, bias=False)]
    for stage in range(stages):
        for block in range(blocks):
            layers.append(PreactivationBlock(inputs, width << stage, 2 if stage and not block else 1, activation))
            inputs = width << stage
    head = [nn.BatchNorm2d(inputs), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return nn.Sequential(*layers, *head)


class Ensemble(nn.Module):
    """Several networks as one: their mean logits (Liu et al. 2017; what the authors' repository attacks)."""

    def __init__(self, models: Sequence[nn.Module]):
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, x: Tensor) -> Tensor:
        return sum(model(x) for model in self.models) / len(self.models)


ARCHITECTURES = Registry(
    {
        "small-cnn": small_cnn,
        "small-cnn-silu": partial(small_cnn, activation=nn.SiLU),
        "vgg": vgg,
        "vgg-bn": partial(vgg, batch_norm=True),
        "nin": nin,
        "resnet9": resnet9,
        "resnet8": partial(resnet, width=16),
        # The stem halves the image, as in those for large images: twice as wide for as many operations.
        "resnet8-strided": partial(resnet, width=32, stride=2),
        "resnet8-strided-silu": partial(resnet, width=32, stride=2, activation=nn.SiLU),
        "resnet18": partial(resnet, width=64, stages=4, blocks=2),
        # WideResNet-28-10 (Zagoruyko & Komodakis 2016): (28 - 4) / 6 = 4 blocks a stage, 10 times as wide.
        "wrn28-10": partial(resnet, width=160, blocks=4, stem=16),
        "mlp": mlp,
    }
)


def check_width(architecture: str, width: int | None) -> None:
    """Raise InputError unless `architecture` exists and can be as wide; None is its own default.

    Residual networks take multiples of 8 only: the backward pass of a narrower strided 1x1 convolution, channels last,
    corrupts memory on the CPU (torch 2.14.1).
    """
    one_of("architecture", architecture, ARCHITECTURES)
    step = 8 if architecture.startswith(("resnet", "wrn")) else 1
    if width is not None and (width < step or width % step):
        raise InputError(f"width = {width!r} of {architecture}; accepted: multiples of {step} from {step}")


def default_width(architecture: str) -> int:
    """The width that an architecture has if none is asked for."""
    return signature(ARCHITECTURES[architecture]).parameters["width"].default


def build(
    architecture: str,
    *,
    channels: int,
    size: int,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    width: int | None = None,
) -> nn.Sequential:
    """A freshly initialised classifier of [batch, channels, size, size] images in [0, 1]. Its weights are a function of
    `seed` alone; the global random state is left as it was."""
    check_width(architecture, width)
    options = {} if width is None else {"width": width}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = ARCHITECTURES[architecture](channels, size, classes, **options)
    return nn.Sequential(Normalise(mean, std), *body).to(memory_format=torch.channels_last)
