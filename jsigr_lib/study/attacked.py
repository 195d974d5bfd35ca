"""What the study of robustness keeps: attacked images, made once, and which of them each network still gets right."""

from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import field_validator, model_validator
from torch import Tensor

from jsigr_lib.data.data import Split, load
from jsigr_lib.measure import flags
from jsigr_lib.method import attacks
from jsigr_lib.method.balls import distance, quantise
from jsigr_lib.networks.models import Ensemble
from jsigr_lib.networks.training import predict
from jsigr_lib.networks.zoo import OfNetwork, Training, trained
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tensor_files import read_finite
from jsigr_lib.study.config import Profile
from jsigr_lib.study.study import Study

ATTACK_BATCH = 250
Sources = Training | tuple[Training, ...]


class Attacked(Spec):
    """The first test (or validation) images attacked through one source network, or several with averaged logits."""

    kind: ClassVar[str] = "attacked"
    finite: ClassVar[bool] = True
    sources: tuple[Training, ...]
    attack: str
    eps: float
    norm: Literal["linf", "l2"] = "linf"
    settings: tuple[tuple[str, float | int], ...] = ()
    split: Literal["validation", "test"] = "test"
    images: int | None = None  # how many; None is all of the split

    @field_validator("sources", mode="before")
    @classmethod
    def _as_tuple(cls, value):
        return (value,) if isinstance(value, Training) else value

    def needs(self) -> list[Spec]:
        return [*self.sources, self.sources[0].data]

    def uses(self) -> list[Any]:
        return [attacks.ATTACKS.get(self.attack)]

    def work(self) -> float:
        settings, of_a_step = dict(self.settings), {"vt-fgsm": 21, "si-fgsm": 5}
        whole = {"autoattack": 1300, "square": settings.get("queries", 1000) / 18}
        passes = whole.get(self.attack, settings.get("steps", 10) * of_a_step.get(self.attack, 1))
        images = self.images or self.sources[0].data.test_images
        return images * passes * settings.get("restarts", 1) * sum(1.5 * one.pass_flops for one in self.sources)

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        models = [trained(source, store) for source in self.sources]
        model = models[0] if len(models) == 1 else Ensemble(models)
        split = getattr(load(self.sources[0].data, store), self.split).first(self.images)
        generator = torch.Generator().manual_seed(self.sources[0].seed)
        options = {"eps": self.eps, "norm": self.norm, "generator": generator, **dict(self.settings)}
        batches = []
        for index in torch.arange(len(split)).split(ATTACK_BATCH):
            x, y = split.batch(index, device)
            batches.append(attacks.run(self.attack, model, x, y, **options).cpu())
        return {"images": torch.cat(batches)}, {}


class Outcomes(OfNetwork):
    """Which images a network still classifies correctly: clean (attacked None), or attacked, as they are in floating
    point and as an 8-bit file would hold them; `farthest` says how far the attack went, so that the images, which are
    large, need not be kept."""

    kind: ClassVar[str] = "outcomes"
    attacked: Attacked | None = None
    split: Literal["validation", "test"] = "test"

    @model_validator(mode="after")
    def _same_split(self):
        if self.attacked and self.attacked.split != self.split:
            raise ValueError(f"split {self.split!r}, attacked images of {self.attacked.split!r}; accepted: the same")
        return self

    @property
    def shares(self) -> str:
        return self.attacked.digest if self.attacked else ""

    def work(self) -> float:
        data, given = self.target.data, self.attacked
        images = data.test_images if self.split == "test" else data.validation_images
        return (given.images or images if given else images) * (2 if given else 1) * self.target.pass_flops

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model = trained(self.target, store)
        clean = getattr(load(self.target.data, store), self.split)
        if self.attacked is None:
            right = predict(model, clean) == clean.labels
            return {"correct": right, "correct_8bit": right.clone()}, {}
        if self.attacked not in store:
            store.get(self.attacked)
        attacked, rounded, farthest = _kept(store.path(self.attacked), clean, self.attacked.eps, self.attacked.norm)
        right, right_8bit = (predict(model, one) == one.labels for one in (attacked, rounded))
        return {"correct": right, "correct_8bit": right_8bit}, {"farthest": farthest}


@lru_cache(maxsize=1)
def _kept(path: Path, clean: Split, eps: float, norm: str) -> tuple[Split, Split, float]:
    """Attacked images as they are and as an 8-bit file would hold them, and how far they are from the clean ones: once
    for all outcomes of these images, which are made one after the other."""
    images = read_finite(path).tensors["images"]
    clean = clean.first(len(images))
    original = clean.batch(slice(None))[0]
    rounded = quantise(images, original, eps=eps, norm=norm)
    farthest = distance(images, original, norm).max().item()
    return Split(images, clean.labels), Split(rounded, clean.labels), farthest


class Probe(OfNetwork):
    """The evidence of `flags.probe` about a network, on its first test images."""

    kind: ClassVar[str] = "probe"
    images: int

    def work(self) -> float:
        return self.images * 30 * 1.5 * self.target.pass_flops

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        x, y = load(self.target.data, store).test.first(self.images).batch(slice(None), device)
        generator = torch.Generator().manual_seed(self.target.seed)
        return {}, {"evidence": flags.probe(trained(self.target, store), x, y, generator=generator)}


def attacked_split(split: Split, attacked: Attacked | None, store: Store) -> Split:
    """The same images and labels, attacked."""
    if attacked is None:
        return split
    images = store.get(attacked).tensors["images"]
    return Split(images, split.labels[: len(images)])


def correct_of(study: Study, outcomes: list[Outcomes], which: str = "correct") -> np.ndarray:
    """0/1 per seed and image."""
    return torch.stack([study.get(outcome).tensors[which] for outcome in outcomes]).numpy()


def white_box(study: Study, target: Training, eps: float) -> Outcomes:
    """PGD with one random start on the target itself."""
    settings, images = (("steps", study.profile.pgd_steps),), study.profile.white_box_images
    attacked = Attacked(sources=target, attack="pgd", eps=eps, settings=settings, images=images)
    return Outcomes(target=target, attacked=attacked)


def transfer_settings(p: Profile, attack: str = "") -> tuple[tuple[str, int], ...]:
    """How many steps a transfer attack makes, the headline one by default; FGSM is of one step."""
    own = p.transfer_steps is None or (attack or p.transfer_attacks[0]) == "fgsm"
    return () if own else (("steps", p.transfer_steps),)


def transferred(
    study: Study, target: Training, sources: Sources, eps: float, *, attack="", norm="linf", split="test"
) -> Outcomes:
    """Attack images made on other networks, never on the target itself; with the headline attack by default."""
    attack = attack or study.profile.transfer_attacks[0]
    settings = transfer_settings(study.profile, attack)
    attacked = Attacked(sources=sources, attack=attack, eps=eps, norm=norm, split=split, settings=settings)
    if target in attacked.sources:
        raise ValueError(f"source and target are the same network ({target.digest}); accepted: two different ones")
    return Outcomes(target=target, attacked=attacked, split=split)
