"""Policies as artefacts: teachers that imitate the shortest ways of MiniGrid's Fetch, what they hand down, and their
students. Lengths are pixels; states are observations in [0, 1]."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsigr_lib.data import fetch
from jsigr_lib.measure import policies
from jsigr_lib.method.distillation import Distillation
from jsigr_lib.method.saliency import mask_of, upsample
from jsigr_lib.method.shapes import Images
from jsigr_lib.networks import tiles
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec

PERTURBATION = {"grid": fetch.SIDE, "mask_sigma": 3.0, "blur_sigma": 3.0}  # a bump on every tile
STEP = 3e6  # operations of a training step of the network, per state
BATCH = 250  # states at a time, where no gradient by the weights is needed


class PolicyNet(Spec):
    """A trained network that maps observations to the logits of the actions."""

    finite: ClassVar[bool] = True

    @property
    def rooms(self) -> fetch.Episodes:
        raise NotImplementedError

    def untrained(self) -> nn.Module:
        raise NotImplementedError


class Teacher(PolicyNet):
    """Imitates the shortest ways: cross-entropy with all actions that are best, in equal shares."""

    kind: ClassVar[str] = "teacher"
    episodes: fetch.Episodes
    width: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    @property
    def rooms(self) -> fetch.Episodes:
        return self.episodes

    def needs(self) -> list[Spec]:
        return [self.episodes]

    def work(self) -> float:
        return self.epochs * self.episodes.train * self.episodes.poses * STEP

    def untrained(self) -> nn.Module:
        return tiles.built(self.seed, fetch.SIDE, fetch.TILE, width=self.width)

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        rooms, pictures = fetch.rooms_of(self.episodes, "train", store)
        best = store.get(self.episodes).tensors["train_optimal"].float()
        best, model = best / best.sum(1, keepdim=True), self.untrained().to(device)

        def loss(index: Tensor, _) -> Tensor:
            return F.cross_entropy(model(fetch.render(rooms[index], pictures).to(device)), best[index].to(device))

        settings = self.model_dump(include={"epochs", "batch_size", "learning_rate", "seed"})
        return dict(model.state_dict()), {"history": tiles.fit(model, loss, len(rooms), **settings)}


class Bank(Spec):
    """What a teacher hands down, once: its logits at the first states to learn from, and both scores of every tile."""

    kind: ClassVar[str] = "taught"
    teacher: Teacher
    states: int

    def needs(self) -> list[Spec]:
        return [self.teacher, self.teacher.episodes]

    def work(self) -> float:
        return self.states * (1 + fetch.SIDE**2) * STEP / 3

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model, (rooms, pictures) = trained(self.teacher, store), fetch.rooms_of(self.teacher.episodes, "train", store)
        parts = []
        for index in torch.arange(min(self.states, len(rooms))).split(BATCH):
            x = fetch.render(rooms[index], pictures).to(device)
            z, blurred = policies.blurred_logits(model, x, **PERTURBATION)
            parts.append((z, policies.greydanus(z, blurred), policies.sarfa(z, blurred)))
        names = ("logits", "greydanus", "sarfa")
        return {name: torch.cat(part).cpu() for name, part in zip(names, zip(*parts, strict=True), strict=True)}, {}


class Student(PolicyNet):
    """Begins with its teacher's weights and learns from its bank; `selects` by which score it chooses the pixels that
    the penalty leaves free, "nothing" for m = 0."""

    kind: ClassVar[str] = "student"
    bank: Bank
    lambda_s: float = 0.0
    lambda_j: float = 0.0
    selects: Literal["nothing", "greydanus", "sarfa"] = "nothing"
    share: float = 0.0
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    @property
    def rooms(self) -> fetch.Episodes:
        return self.bank.teacher.episodes

    def needs(self) -> list[Spec]:
        return [self.bank, self.bank.teacher, self.rooms]

    def work(self) -> float:
        penalties = 3 * (self.lambda_s > 0) + (self.lambda_j > 0)
        return self.epochs * self.bank.states * (1 + penalties) * STEP

    def untrained(self) -> nn.Module:
        return self.bank.teacher.untrained()

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        (rooms, pictures), taught = fetch.rooms_of(self.rooms, "train", store), store.get(self.bank).tensors
        model = trained(self.bank.teacher, store).requires_grad_()
        objective = Distillation(self.lambda_s, self.lambda_j)

        def loss(index: Tensor, generator: torch.Generator) -> Tensor:
            x = fetch.render(rooms[index], pictures).to(device)
            mask = None if self.selects == "nothing" else selection(taught[self.selects][index].to(x), x, self.share)
            return objective(model, x, taught["logits"][index].to(x), mask, generator=generator)

        settings = self.model_dump(include={"epochs", "batch_size", "learning_rate", "seed"})
        return dict(model.state_dict()), {"history": tiles.fit(model, loss, len(taught["logits"]), **settings)}


def selection(scores: Tensor, x: Images, share: float) -> Tensor:
    """m [batch, 1, H, W]: 1 on the share of pixels where the map, upsampled from the tiles' scores, is highest."""
    return mask_of(upsample(scores, fetch.SIDE, x.shape[-2:]), share, "hard")


def trained(policy: PolicyNet, store: Store) -> nn.Module:
    """The network in evaluation mode, on the store's device, its parameters frozen."""
    model = policy.untrained()
    model.load_state_dict(store.get(policy).tensors)
    return model.to(store.device).eval().requires_grad_(False)
