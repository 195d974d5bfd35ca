"""What an attack or a map cannot do without: the bare passes through the network, and nothing around them.

Needs torch alone, as it also runs in a peer's own environment.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def frozen(model: nn.Module) -> nn.Module:
    """In evaluation mode, its parameters without gradients; changes the model that it is given."""
    return model.eval().requires_grad_(False)


def gradient_passes(model: nn.Module, x: Tensor, y: Tensor, passes: int) -> None:
    """So many times a forward pass and the loss's gradient by the input. Give it a frozen model."""
    x = x.detach().requires_grad_()
    for _ in range(passes):
        torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)


def forward_passes(model: nn.Module, x: Tensor, passes: int) -> None:
    """So many forward passes, without a graph. Give it a model in evaluation mode."""
    with torch.no_grad():
        for _ in range(passes):
            model(x)
