"""Trained models as artefacts: `Training` says what to train, the store fits it or loads it."""

from functools import lru_cache
from typing import ClassVar, Optional

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from jsigr_lib import models, objectives, training
from jsigr_lib.artefacts import Spec, Store
from jsigr_lib.data import DataSpec, load
from jsigr_lib.saliency import Selection, perturbation_saliency, selection_mask

METHOD = ("attacks", "double_backward", "jacobian", "models", "objectives", "saliency", "training", "zoo")
Options = tuple[tuple[str, float | int | str | bool], ...]


class Training(Spec):
    """One network, one objective, one seed. With a `teacher`, the selection masks come from its perturbation maps."""

    kind: ClassVar[str] = "model"
    code: ClassVar[tuple[str, ...]] = METHOD
    data: DataSpec
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
        return [self.data] if self.teacher is None else [self.data, Bank(teacher=self.teacher, **self._selection)]

    @property
    def _selection(self) -> dict:
        return {"selection": tuple(pair for pair in self.options if pair[0] in Selection.__dataclass_fields__)}

    def build_objective(self):
        return objectives.build(self.objective, **dict(self.options))

    @property
    def step_flops(self) -> int:
        """Operations of one training step per image; see `count_flops`."""
        size = {"fashion-mnist": 28, "mnist": 28, "folder": self.data.image_size}.get(self.data.dataset, 32)
        return count_flops(self.architecture, self.width, self.objective, self.options, size)

    def work(self) -> float:
        return self.epochs * self.data.train_images * self.step_flops

    def untrained(self, shape: dict) -> nn.Module:
        return models.build(self.architecture, width=self.width, seed=self.seed, **shape)

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        data = load(self.data, store)
        masks = None if self.teacher is None else store.get(self.needs()[1]).tensors["masks"]
        model = self.untrained(data.shape).to(device)
        history = training.fit(
            model,
            self.build_objective(),
            data.train,
            data.validation,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            augment=self.augment,
            masks=masks,
            checkpoint=store.checkpoint(self),
        )
        return dict(model.state_dict()), {"history": history}


class Bank(Spec):
    """The selection masks of a teacher for every training image, from its exact perturbation maps."""

    kind: ClassVar[str] = "bank"
    code: ClassVar[tuple[str, ...]] = ("saliency", "zoo")
    teacher: Training
    selection: Options = ()

    def needs(self) -> list[Spec]:
        return [self.teacher, self.teacher.data]

    def work(self) -> float:
        return self.teacher.data.train_images * dict(self.selection).get("grid", 7) ** 2 * 1e7

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        selection = Selection(**dict(self.selection))
        model, data = trained(self.teacher, store), load(self.teacher.data, store)
        masks = []
        for index in torch.arange(len(data.train)).split(500):
            x, y = data.train.batch(index, device)
            maps = perturbation_saliency(model, x, y, **selection.perturbation)
            masks.append(selection_mask(maps, share=selection.share, kind=selection.kind).cpu().half())
        return {"masks": torch.cat(masks)}, {}


def trained(spec: Training, store: Store) -> nn.Module:
    """The trained network in evaluation mode, on the store's device, its parameters frozen."""
    model = spec.untrained(load(spec.data, store).shape)
    model.load_state_dict(store.get(spec).tensors)
    return model.to(store.device).eval().requires_grad_(False)


@lru_cache
def count_flops(architecture: str, width: int | None, objective: str, options: Options, size: int) -> int:
    """Floating-point operations of one training step per image: forward, backward and what the objective adds.

    Counted and not timed, hence the same on every machine. Convolutions and matrix products count, element-wise
    work does not (torch.utils.flop_counter). Images are size x size, grey if 28 pixels wide, else colour. An objective
    that penalises some of its steps only counts as their mean.
    """
    built = objectives.build(objective, **dict(options))
    chance = getattr(built, "chance", 1)
    if 0 < chance < 1:
        every = count_flops(architecture, width, objective, (*options, ("fraction", built.share)), size)
        none = count_flops(architecture, width, "jsigr", (("lambda_j", 0.0), ("lambda_s", 0.0)), size)
        return round(chance * every + (1 - chance) * none)
    channels, images = (1 if size == 28 else 3), 8
    shape = {"channels": channels, "size": size, "classes": 10, "mean": [0.5] * channels, "std": [0.5] * channels}
    model = models.build(architecture, width=width, seed=0, **shape)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(images, channels, size, size, generator=generator), torch.arange(images) % 10
    with _Flops() as counter:
        built(model, x, y, generator=generator).backward()
    return counter.total // images


class _Flops(TorchDispatchMode):
    """Adds up torch's own flop formulas. (torch's FlopCounterMode also tracks modules, which fails in grad by x.)"""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out
