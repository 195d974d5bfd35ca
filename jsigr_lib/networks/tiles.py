"""A policy network for pictures made of tiles, and the loop that trains it on any loss."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from jsigr_lib.method.shapes import Float, Images
from jsigr_lib.networks.models import Normalise

MEAN, STD = 0.15, 0.25  # about those of MiniGrid's pictures, which are mostly dark
SLOPE = 0.1  # of units below 0: with none, of three seeds one learned nothing and one could not tell all objects apart

Loss = Callable[[Tensor, torch.Generator], Float[Tensor, ""]]
"""(indices of a batch, generator) -> the loss of a training step."""


class TileNet(nn.Module):
    """Logits of the actions, from images of side x side tiles: every tile is looked at alone, then beside the mission's
    tile, the first; then all together. Piecewise affine. It is built to compare places that are far from each other,
    which small convolutional networks learn slowly."""

    def __init__(self, side: int, tile: int, *, channels: int = 3, width: int = 32, actions: int = 4):
        super().__init__()
        self.tile = tile
        self.normalise = Normalise([MEAN] * channels, [STD] * channels)
        layers = (nn.Linear(channels * tile**2, width), nn.LeakyReLU(SLOPE), nn.Linear(width, width))
        self.alone = nn.Sequential(*layers, nn.LeakyReLU(SLOPE))
        self.own, self.mission = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width, bias=False)
        self.beside = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Linear(2 * width, width // 2), nn.LeakyReLU(SLOPE))
        hidden = nn.Linear(side**2 * (width // 2), 8 * width)
        self.together = nn.Sequential(nn.Flatten(), hidden, nn.LeakyReLU(SLOPE), nn.Linear(8 * width, actions))

    def forward(self, x: Images) -> Float[Tensor, "batch actions"]:
        features = self.alone(tiles_of(self.normalise(x), self.tile))
        return self.together(self.beside(self.own(features) + self.mission(features[:, :1])))


def tiles_of(x: Images, tile: int) -> Float[Tensor, "batch tiles pixels"]:
    """The tiles of each image, row by row."""
    rows, columns = (size // tile for size in x.shape[-2:])
    return x.unflatten(3, (columns, tile)).unflatten(2, (rows, tile)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def built(seed: int, side: int, tile: int, *, width: int) -> TileNet:
    """Freshly initialised; its weights are a function of `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TileNet(side, tile, width=width)


def fit(
    model: nn.Module, loss: Loss, n: int, *, epochs: int, batch_size: int, learning_rate: float, seed: int
) -> list[float]:
    """Train in place: AdamW on one cosine cycle with a tenth of warm-up. The loss looks up the n samples itself.
    Returns its mean over each epoch."""
    generator, means = torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-4)
    steps = epochs * math.ceil(n / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps + 1, pct_start=0.1)
    model.train()
    for _ in range(epochs):
        values = []
        for index in torch.randperm(n, generator=generator).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            value = loss(index, generator)
            value.backward()
            optimizer.step()
            schedule.step()
            values.append(value.detach())
        means.append(torch.stack(values).mean().item())
    return means
