"""The protocol that every defence keeps to."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from jsigr_lib.method.shapes import Float, Images


@runtime_checkable
class Objective(Protocol):
    """What a defence is: the loss of a training step, and what whoever trains with it has to know.

    A class that derives from this one has to define the call alone; the rest has the defaults that it finds here.
    """

    guide: Literal["selection", "gradient"] | None = None
    """What a teacher hands to each call, if there is one: the selection mask of its perturbation map, [batch, 1, H, W]
    in [0, 1]; the gradient of its right logit, [batch, C, H, W]; or nothing."""

    terms: Mapping[str, Tensor] = MappingProxyType({})
    """The parts of the last loss, to be logged: scalars without graph, not multiplied by their weights. Each call puts
    new ones here, and reads none."""

    progress: float = 1.0
    """How much of the training is done, from 0 to 1. Whoever trains writes it here before each step, for what changes
    in the course of a training, such as a warm-up."""

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Tensor,
        guide: Tensor | None = None,
        /,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """The loss to differentiate, of a model that maps images x in [0, 1] to logits, and of their labels y [batch].
        Everything random is drawn with the generator."""
        ...

    def kinds_of_step(self) -> list[tuple[float, "Objective"]]:
        """The kinds of training steps that it takes, each as how often, and an objective that takes no other kind.
        Their costs differ, which whoever predicts or measures time has to know."""
        return [(1.0, self)]
