"""What a policy is worth: how its episodes end when its observations are changed, what it looks at, and how long a map
takes. Budgets are levels of 255."""

import time
from functools import partial
from typing import ClassVar

import torch
from pydantic import SerializeAsAny
from torch import Tensor, nn

from jsigr_lib.data import fetch
from jsigr_lib.measure import policies
from jsigr_lib.measure.statistics import rank_correlation
from jsigr_lib.method import attacks
from jsigr_lib.method.jacobian import logit_gradient
from jsigr_lib.method.saliency import perturbation_saliency
from jsigr_lib.method.shapes import Images
from jsigr_lib.networks.distilled import BATCH, PERTURBATION, STEP, PolicyNet, Teacher, trained
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec

PGD_STEPS = 10
ATTACKS = {"FGSM": attacks.fgsm, "PGD": partial(attacks.pgd, steps=PGD_STEPS)}
THREATS = ("noise", *ATTACKS)
KEPT = 8  # states whose scores are kept whole, for figures


class OfPolicy(Spec):
    """What is computed from one policy and the rooms that it has not seen."""

    policy: SerializeAsAny[PolicyNet]

    def needs(self) -> list[Spec]:
        return [self.policy, self.policy.rooms]


class Results(OfPolicy):
    """return|threat|level and success|threat|level of every test episode; return|validation|0. Threats change every
    observation by up to `level`/255 per pixel: at random, or so that the policy's own action becomes unlikely."""

    kind: ClassVar[str] = "results"
    levels: tuple[int, ...]

    def work(self) -> float:
        passes = 1 + len(self.levels) * (1 + 1 + PGD_STEPS)
        return self.policy.rooms.test * 10 * passes * STEP

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model, found = trained(self.policy, store), {}
        asked = [("validation", "validation", "clean", 0), ("test", "clean", "clean", 0)]
        asked += [("test", threat, threat, level) for threat in THREATS for level in self.levels]
        for split, name, threat, level in asked:
            rooms, pictures = fetch.rooms_of(self.policy.rooms, split, store)
            acting = partial(act_under, model, device, threat, level / 255, torch.Generator().manual_seed(0))
            played = fetch.play(acting, rooms, pictures)
            found |= {f"return|{name}|{level}": played.returns, f"success|{name}|{level}": played.success}
        return found, {}


def act_under(model: nn.Module, device, threat: str, eps: float, generator: torch.Generator, x: Images) -> Tensor:
    """The likeliest actions [batch], on the CPU, of a policy that sees changed observations. The attack raises the
    cross-entropy of the action that it would have taken."""
    x = x.to(device)
    with torch.no_grad():
        own = model(x).argmax(1)
    if threat == "noise":
        signs = torch.randint(2, x.shape, generator=generator).to(x) * 2 - 1
        x = (x + eps * signs).clamp(0, 1)
    elif threat in ATTACKS:
        x = ATTACKS[threat](model, x, own, eps=eps, generator=generator)
    with torch.no_grad():
        return model(x).argmax(1).cpu()


class Looks(OfPolicy):
    """What a policy looks at, in states that it has not seen: the gradient's mass and both scores, tile by tile, each
    about the action that it takes. "share|map" lies on the tiles that decide; "agreement|gradient|score" are rank
    correlations over the tiles, with its own scores and with its "teacher"'s; scores|map of the first states."""

    kind: ClassVar[str] = "looks"
    teacher: Teacher

    def needs(self) -> list[Spec]:
        return [*super().needs(), self.teacher]

    def work(self) -> float:
        return self.policy.rooms.maps * 2 * (3 + fetch.SIDE**2) * STEP / 3

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        rooms, pictures = fetch.rooms_of(self.policy.rooms, "maps", store)
        model, teacher, parts = trained(self.policy, store), trained(self.teacher, store), []
        for index in torch.arange(len(rooms)).split(BATCH):
            x, places = fetch.render(rooms[index], pictures).to(device), fetch.deciding(rooms[index]).flatten(1)
            own, theirs = scores_of(model, x), scores_of(teacher, x)["greydanus"]
            values = {f"share|{name}": policies.share_of(one, places.to(one.device)) for name, one in own.items()}
            for name, other in {**own, "teacher": theirs}.items():
                if name != "gradient":
                    values[f"agreement|gradient|{name}"] = _agreement(own["gradient"], other)
            parts.append({name: value.cpu() for name, value in {**values, **_named(own)}.items()})
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: value[:KEPT] if name.startswith("scores|") else value for name, value in whole.items()}, {}


def scores_of(model: nn.Module, x: Images) -> dict[str, Tensor]:
    """Each map of the action that the policy takes, tile by tile [batch, tiles]."""
    z, blurred = policies.blurred_logits(model, x, **PERTURBATION)
    gradient = policies.mass(logit_gradient(model, x, z.argmax(1)), fetch.SIDE)
    return {"gradient": gradient, "greydanus": policies.greydanus(z, blurred), "sarfa": policies.sarfa(z, blurred)}


def _named(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"scores|{name}": value for name, value in scores.items()}


def _agreement(a: Tensor, b: Tensor) -> Tensor:
    return torch.from_numpy(rank_correlation(*(one.double().cpu().numpy() for one in (a, b))))


class Clocked(OfPolicy):
    """Milliseconds of one state's map, in its facts: of the gradient, and by perturbation on several grids; for a state
    alone, and per state of a batch. The least of several tries."""

    kind: ClassVar[str] = "clocked"
    grids: tuple[int, ...]
    batches: tuple[int, ...] = (1, 100)

    def work(self) -> float:
        return sum(grid**2 for grid in self.grids) * sum(self.batches) * 5 * STEP / 3

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model, found = trained(self.policy, store), {}
        rooms, pictures = fetch.rooms_of(self.policy.rooms, "test", store)
        for batch in self.batches:
            x = fetch.render(rooms[:batch], pictures).to(device)
            y = model(x).argmax(1)
            ways = {"gradient": partial(logit_gradient, model, x, y)}
            for grid in self.grids:
                settings = {**PERTURBATION, "grid": grid, "score": "vector"}
                ways[str(grid)] = partial(perturbation_saliency, model, x, y, **settings)
            found[str(batch)] = {name: _milliseconds(way, device) / len(x) for name, way in ways.items()}
        return {"grids": torch.tensor(self.grids)}, {"milliseconds": found}


def _milliseconds(way, device: torch.device, tries: int = 5) -> float:
    took = []
    for _ in range(tries):
        start = time.perf_counter()
        way()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - start)
    return 1e3 * min(took)
