"""The networks and batches that everything is timed on. Weights and pixels are random: no time depends on them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
