"""Trained models as artefacts: `Training` says what to train, the store fits it or loads it."""

from typing import Any, ClassVar, Literal, Optional

import torch
from pydantic import SerializeAsAny
from torch import Tensor, nn

from jsigr_lib.data.data import DataSpec, load
from jsigr_lib.method import defences
from jsigr_lib.method.defences import target_gradient
from jsigr_lib.method.jacobian import logit_gradient
from jsigr_lib.method.saliency import Selection, perturbation_saliency, selection_mask
from jsigr_lib.networks import models, training
from jsigr_lib.networks.counting import PLAIN, Options, count_flops
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec


class Training(Spec):
    """One network, one objective, one seed. A `teacher` guides it: the selection masks come from its perturbation maps,
    or the gradients to imitate from its own, whichever the objective takes."""

    kind: ClassVar[str] = "model"
    finite: ClassVar[bool] = True
    data: SerializeAsAny[DataSpec]
    architecture: str
    width: int | None = None
    objective: str
    options: Options = ()
    epochs: int
    batch_size: int
    learning_rate: float
    augment: bool = False
    seed: int
    teacher: Optional["Training"] = None

    def needs(self) -> list[Spec]:
        return [self.data] if self.teacher is None else [self.data, self.guide]

    def uses(self) -> list[Any]:
        """An unknown name is refused by whoever looks it up."""
        return [defences.OBJECTIVES.get(self.objective), models.ARCHITECTURES.get(self.architecture)]

    @property
    def guide(self) -> "Bank":
        """The artefact that holds what the teacher hands down."""
        kind = self.build_objective().guide
        fields = Selection.__dataclass_fields__ if kind == "selection" else ()
        return Bank(teacher=self.teacher, holds=kind, selection=tuple(p for p in self.options if p[0] in fields))

    def build_objective(self) -> defences.Objective:
        return defences.build(self.objective, **dict(self.options))

    @property
    def size(self) -> int:
        """Height and width of an image."""
        return {"fashion-mnist": 28, "mnist": 28, "folder": self.data.image_size}.get(self.data.dataset, 32)

    @property
    def step_flops(self) -> int:
        """How many operations one training step takes per image; see `count_flops`."""
        return count_flops(self.architecture, self.width, self.objective, self.options, self.size)

    @property
    def pass_flops(self) -> float:
        """How many operations a forward pass takes per image: a third of those of a plain training step."""
        return count_flops(self.architecture, self.width, *PLAIN, self.size) / 3

    def work(self) -> float:
        return self.epochs * self.data.train_images * self.step_flops

    def untrained(self, shape: dict) -> nn.Module:
        return models.build(self.architecture, width=self.width, seed=self.seed, **shape)

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        data = load(self.data, store)
        guide = None if self.teacher is None else store.get(self.guide).tensors["guide"]
        model, checkpoint = self.untrained(data.shape).to(device), store.checkpoint(self)
        settings = self.model_dump(include={"epochs", "batch_size", "learning_rate", "seed", "augment"})
        history = training.fit(
            model, self.build_objective(), data.train, data.validation, guide=guide, checkpoint=checkpoint, **settings
        )
        return dict(model.state_dict()), {"history": history}


class OfNetwork(Spec):
    """What is computed from one network, images of its data and the other specs among the fields, such as attacked
    images."""

    target: Training

    def needs(self) -> list[Spec]:
        others = [value for name, value in self if name != "target" and isinstance(value, Spec)]
        return [self.target, self.target.data, *others]


class Bank(Spec):
    """What a teacher hands down for every training image: the selection mask of its exact perturbation map, or the
    gradient of its right logit as a target."""

    kind: ClassVar[str] = "bank"
    teacher: Training
    holds: Literal["selection", "gradient"] = "selection"
    selection: Options = ()

    def needs(self) -> list[Spec]:
        return [self.teacher, self.teacher.data]

    def work(self) -> float:
        passes = dict(self.selection).get("grid", 7) ** 2 if self.holds == "selection" else 2
        return self.teacher.data.train_images * passes * self.teacher.pass_flops

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model, data = trained(self.teacher, store), load(self.teacher.data, store)
        batches = (data.train.batch(index, device) for index in torch.arange(len(data.train)).split(500))
        return {"guide": torch.cat([self._guide(model, x, y).cpu().half() for x, y in batches])}, {}

    def _guide(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if self.holds == "gradient":
            return target_gradient(logit_gradient(model, x, y))
        selection = Selection(**dict(self.selection))
        maps = perturbation_saliency(model, x, y, **selection.perturbation)
        return selection_mask(maps, share=selection.share, kind=selection.kind)


def trained(spec: Training, store: Store) -> nn.Module:
    """The trained network in evaluation mode, on the store's device, its parameters frozen."""
    model = spec.untrained(load(spec.data, store).shape)
    model.load_state_dict(store.get(spec).tensors)
    return model.to(store.device).eval().requires_grad_(False)
