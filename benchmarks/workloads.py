"""The networks and batches that everything is timed on. Weights and pixels are random: no time depends on them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import models as visions
from torchvision.models.convnext import CNBlockConfig

from jsigr_lib.networks import models

CLASSES = 10


@dataclass(frozen=True)
class Workload:
    """A network and a batch for it: [batch, channels, size, size], channels last."""

    architecture: str
    channels: int
    size: int
    batch: int
    width: int | None = None

    def model(self, device: torch.device | str = "cpu") -> nn.Module:
        """As a user has it: in training mode, its parameters to be trained."""
        normalisation = {"mean": [0.5] * self.channels, "std": [0.25] * self.channels}
        shape = {"channels": self.channels, "size": self.size, "classes": CLASSES, **normalisation}
        return models.build(self.architecture, width=self.width, seed=0, **shape).to(device)

    def images(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Images in [0, 1] and their labels."""
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(self.batch, self.channels, self.size, self.size, generator=generator)
        y = torch.randint(CLASSES, (self.batch,), generator=generator)
        return x.to(device).contiguous(memory_format=torch.channels_last), y.to(device)


STEPS = (Workload("small-cnn", 1, 28, 128), Workload("resnet8", 3, 32, 128))
EVALUATION = (Workload("small-cnn", 1, 28, 256), Workload("resnet8", 3, 32, 64))
"""For attacks and maps."""


# networks that are not the library's, as their users have them


@dataclass(frozen=True)
class Usual:
    """A usual network of 32 x 32 colour images and a batch for it, contiguous as a data loader gives it."""

    architecture: str
    activation: type[nn.Module]
    batch: int = 64

    def model(self, device: torch.device | str = "cpu") -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = USUAL[self.architecture]()
        _activate(model, self.activation)
        return model.to(device)

    def images(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        x, y = Workload(self.architecture, 3, 32, self.batch).images(device)
        return x.contiguous(), y


def _activate(model: nn.Module, activation: type[nn.Module]) -> None:
    """Another activation wherever there is one."""
    for name, child in model.named_children():
        if isinstance(child, (nn.ReLU, nn.GELU)):
            setattr(model, name, activation())
        else:
            _activate(child, activation)


def _cnn(norm: type[nn.Module]) -> nn.Sequential:
    layers, channels = [], 3
    for width, stride in ((32, 1), (64, 2), (128, 2)):
        layers += [nn.Conv2d(channels, width, 3, stride, padding=1), norm(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def _resnet18() -> nn.Module:
    """Torchvision's, with the stem for small images."""
    model = visions.resnet18(num_classes=CLASSES)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


def _vit() -> nn.Module:
    return visions.VisionTransformer(32, 4, 4, 4, hidden_dim=128, mlp_dim=256, num_classes=CLASSES)


def _convnext() -> nn.Module:
    model = visions.ConvNeXt([CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)], num_classes=CLASSES)
    model.features[0][0] = nn.Conv2d(3, 32, 2, stride=2)
    return model


class _Lstm(nn.Module):
    """Reads an image line by line."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(96, 128, batch_first=True), nn.Linear(128, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.transpose(1, 2).flatten(2))[0][:, -1])


USUAL = {
    "CNN": lambda: _cnn(nn.Identity),
    "CNN, batch norm": lambda: _cnn(nn.BatchNorm2d),
    "ResNet-18": _resnet18,
    "ViT": _vit,
    "ConvNeXt": _convnext,
    "LSTM": _Lstm,
}
COSTS = (
    *(Usual(name, kind) for name in ("CNN", "CNN, batch norm") for kind in (nn.ReLU, nn.SiLU)),
    *(Usual("ResNet-18", kind, batch=32) for kind in (nn.ReLU, nn.SiLU)),
    *(Usual(name, kind) for name in ("ViT", "ConvNeXt") for kind in (nn.ReLU, nn.GELU)),
    Usual("LSTM", nn.Tanh),
)
