"""Single states of MiniGrid's Fetch with the maps that policies draw of them, for figures and for leafing through."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from jsigr_lib.data import fetch
from jsigr_lib.data.fetch import Rooms
from jsigr_lib.method.jacobian import logit_gradient
from jsigr_lib.method.saliency import perturbation_saliency
from jsigr_lib.networks.distilled import PERTURBATION, trained
from jsigr_lib.study.distillation import episodes, looks, matched, policies, specs
from jsigr_lib.study.study import Study

GUIDE = "perturbation"  # the name of the guide's own perturbation map


@dataclass(frozen=True)
class Scene:
    """A state: the observation [3, H, W]; the tiles that decide, bool [h, w]; which actions are best, bool [4]; maps,
    [H, W] by pixel or [h, w] by tile; and where it stands in an episode, with the action that was taken."""

    image: np.ndarray
    deciding: np.ndarray
    best: np.ndarray
    maps: dict[str, np.ndarray]
    episode: int = 0
    step: int = 0
    action: int = 0


def first_states(study: Study) -> list[Scene]:
    """The first states whose maps are measured, with the first teacher's scores of every tile."""
    study.make(specs(study))
    scores = study.get(looks(policies(study)["teacher", 0.0][0])).tensors
    rooms, tiles = fetch.rooms_of(episodes(study), "maps", study.store)
    kept = {name.partition("|")[2]: value for name, value in scores.items() if name.startswith("scores|")}
    side = rooms.cells.shape[1:]
    return [
        Scene(
            **_state(rooms[i : i + 1], tiles), maps={name: value[i].view(side).numpy() for name, value in kept.items()}
        )
        for i in range(len(kept["gradient"]))
    ]


def walk(study: Study, guide: str, shown: list[str], first: int) -> list[Scene]:
    """The steps of the first test episodes, as the compared student `guide` acts, with the gradient map of each student
    that is shown, of the action that it would take, and the guide's perturbation map. First seed."""
    study.make(specs(study))
    chosen, every = matched(study), policies(study)
    models = {name: trained(every[chosen[name]][0], study.store) for name in dict.fromkeys([guide, *shown])}
    rooms, tiles = fetch.rooms_of(episodes(study), "test", study.store)
    scenes = []
    for episode in range(min(first, len(rooms))):
        room = rooms[episode : episode + 1]
        for step in range(1, fetch.LONGEST + 1):
            x = fetch.render(room, tiles).to(study.store.device)
            action, maps = _action(models[guide], x), {name: _gradient(models[name], x) for name in shown}
            exact = perturbation_saliency(models[guide], x, action, **PERTURBATION, score="vector")
            about = {"episode": episode, "step": step, "action": int(action)}
            scenes.append(Scene(**_state(room, tiles), maps={**maps, GUIDE: exact[0, 0].cpu().numpy()}, **about))
            room, over, _ = fetch.act(room, action.cpu())
            if over:
                break
    return scenes


def _state(room: Rooms, tiles: Tensor) -> dict[str, np.ndarray]:
    best = fetch.optimal(room, fetch.steps_left(room.cells))
    found = {"image": fetch.render(room, tiles), "deciding": fetch.deciding(room), "best": best}
    return {name: value[0].numpy() for name, value in found.items()}


def _action(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


def _gradient(model: nn.Module, x: Tensor) -> np.ndarray:
    """|dz_a/ds|, summed over channels [H, W]."""
    return logit_gradient(model, x, _action(model, x)).abs().sum(1)[0].cpu().numpy()
