"""MiniGrid's Fetch (Chevalier-Boisvert et al. 2023, Farama-Foundation/Minigrid), as images that say everything.

A room is MiniGrid's own: a player among keys and balls, and a mission, such as "fetch a red key". To pick up another
object ends the episode with nothing. The mission is text, so its object is painted into the corner (0, 0) of the wall,
and an observation, its map and its attack are all one image. Rooms are grids of tile codes, and the rules work on many
at once, because MiniGrid itself takes a millisecond per step; the tests hold both against each other, pixel by pixel.

    code         0      1     2 to 7          8 to 13          14 to 17
    tile         empty  wall  keys, 6 colours  balls, 6 colours  the player, facing right, down, left, up
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from jsigr_lib.method.errors import needs_extra
from jsigr_lib.method.shapes import Images
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec

TASK = "MiniGrid-Fetch-6x6-N2-v0"  # two objects in a room of 4 x 4 tiles, with walls around
SIDE = 6  # tiles
TILE = 8  # pixels; objects can be told apart, and a blur of 3 pixels removes them
LONGEST = 24  # steps of an episode; whoever takes longer walks in circles
ACTIONS = ("turn left", "turn right", "go forward", "pick up")
LEFT, RIGHT, FORWARD, PICK = range(4)
EMPTY, WALL, OBJECT, PLAYER = 0, 1, 2, 14  # the first codes of each kind
COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")  # MiniGrid's COLOR_TO_IDX
KINDS = ("key", "ball")
TOWARDS = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]])  # (x, y) of a step forward: MiniGrid's DIR_TO_VEC
SPLITS = {"train": 0, "validation": 10_000_000, "test": 20_000_000, "maps": 30_000_000}
"""Which of MiniGrid's seeds each split begins with."""

Policy = Callable[[Images], Tensor]
"""Observations [n, 3, H, W] in [0, 1] -> actions [n], int64."""


@dataclass(frozen=True)
class Rooms:
    """Cells [n, H, W], codes without the player, the mission's object at (0, 0); poses [n, 3]: x, y, direction."""

    cells: Tensor
    poses: Tensor

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, index) -> "Rooms":
        return Rooms(self.cells[index], self.poses[index])

    @property
    def mission(self) -> Tensor:
        """The code of the object to fetch [n]."""
        return self.cells[:, 0, 0]

    @property
    def ahead(self) -> Tensor:
        """The code of the tile that the player faces [n]."""
        x, y = (self.poses[:, :2] + TOWARDS[self.poses[:, 2]]).unbind(1)
        return self.cells[torch.arange(len(self)), y, x]


class Played(NamedTuple):
    """Of each episode the return [n] and whether it ended with the right object [n]."""

    returns: Tensor
    success: Tensor


# from MiniGrid


def release() -> str:
    """Which MiniGrid makes the rooms, "3.2.0 with gymnasium 1.4.0". Raises InputError if it is not installed."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame greets whoever imports it
    with needs_extra("the task Fetch", "neighbours"):
        import gymnasium
        import minigrid
    return f"{minigrid.__version__} with gymnasium {gymnasium.__version__}"


def drawn(episodes: int, seed: int) -> Rooms:
    """The rooms in which MiniGrid's episodes with the seeds seed, seed + 1, ... begin."""
    import gymnasium
    import minigrid  # noqa: F401 - it registers the task

    env = gymnasium.make(TASK, disable_env_checker=True).unwrapped
    rooms = []
    for one in range(seed, seed + episodes):
        env.reset(seed=one)
        rooms.append(room_of(env))
    return Rooms(*(torch.stack(part) for part in zip(*rooms, strict=True)))


def room_of(env) -> tuple[Tensor, Tensor]:
    """Cells [H, W] and pose [3] of a MiniGrid environment as it stands."""
    kinds, colours, _ = torch.from_numpy(env.grid.encode()).long().permute(2, 1, 0)  # it has x before y
    cells = torch.where(kinds == 1, EMPTY, torch.where(kinds == 2, WALL, OBJECT + 6 * (kinds - 5) + colours))
    cells[0, 0] = OBJECT + 6 * KINDS.index(env.targetType) + COLOURS.index(env.targetColor)
    return cells, torch.tensor([*map(int, env.agent_pos), int(env.agent_dir)])


def tile_images() -> Tensor:
    """MiniGrid's picture of every code, uint8 [18, 3, TILE, TILE]."""
    from minigrid.core.grid import Grid
    from minigrid.core.world_object import Ball, Key, Wall

    things = [(None, None), (Wall(), None)]
    things += [(kind(colour), None) for kind in (Key, Ball) for colour in COLOURS]
    things += [(None, direction) for direction in range(4)]
    tiles = [torch.from_numpy(Grid.render_tile(one, facing, False, TILE).astype("uint8")) for one, facing in things]
    return torch.stack(tiles).permute(0, 3, 1, 2).contiguous()


# what is seen


def seen(rooms: Rooms) -> Tensor:
    """The codes with the player in the room [n, H, W]."""
    x, y, direction = rooms.poses.unbind(1)
    codes = rooms.cells.clone()
    codes[torch.arange(len(rooms)), y, x] = (PLAYER + direction).to(codes)
    return codes


def render(rooms: Rooms, tiles: Tensor) -> Images:
    """Observations [n, 3, H * TILE, W * TILE] in [0, 1]; `tiles` are those of `tile_images`."""
    pictures = (tiles.float() / 255)[seen(rooms).long()]  # [n, H, W, 3, TILE, TILE]
    return pictures.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def deciding(rooms: Rooms) -> Tensor:
    """The tiles that decide what to do, bool [n, H, W]: the mission, every object that it names, and the player."""
    return (rooms.cells == rooms.mission[:, None, None]) | (seen(rooms) >= PLAYER)


# the rules


def act(rooms: Rooms, actions: Tensor) -> tuple[Rooms, Tensor, Tensor]:
    """One step in every room: the rooms afterwards, which episodes are over [n], and which have succeeded [n]. A room
    whose episode is over keeps its object."""
    front, direction = rooms.ahead, rooms.poses[:, 2]
    moves = (actions == FORWARD) & (front == EMPTY)
    place = rooms.poses[:, :2] + TOWARDS[direction] * moves[:, None]
    turned = (direction + (actions == RIGHT).long() - (actions == LEFT).long()) % 4
    over = (actions == PICK) & (front >= OBJECT)
    return Rooms(rooms.cells, torch.cat([place, turned[:, None]], 1)), over, over & (front == rooms.mission)


def reward(steps: Tensor | int, side: int) -> Tensor | float:
    """Of an episode that succeeds in so many steps: 1 - .9 t / T with T = 5 side^2 (MiniGrid's FetchEnv)."""
    return 1 - 0.9 * steps / (5 * side**2)


@torch.no_grad()
def play(policy: Policy, rooms: Rooms, tiles: Tensor) -> Played:
    """An episode from each room. One that takes more than LONGEST steps counts 0."""
    returns, success = torch.zeros(len(rooms), dtype=torch.double), torch.zeros(len(rooms), dtype=torch.bool)
    left = torch.arange(len(rooms))
    for step in range(1, LONGEST + 1):
        rooms, over, succeeds = act(rooms, policy(render(rooms, tiles)))
        success[left[succeeds]] = True
        returns[left[succeeds]] = reward(step, rooms.cells.shape[1])
        rooms, left = rooms[~over], left[~over]
        if not len(left):
            break
    return Played(returns, success)


# what is best


def steps_left(cells: Tensor) -> Tensor:
    """How many actions it takes from every pose to have the mission's object, [n, 4, H, W] by direction, row and
    column; infinite where there is no way or no place to stand. A search backwards from the poses that face the object,
    in all rooms at once: a pose is one action farther than the nearest that it leads to."""
    free, mission = (cells == EMPTY)[:, None], cells[:, 0, 0].view(-1, 1, 1, 1)
    facing = torch.stack([_from_ahead(cells, direction) for direction in range(4)], 1) == mission
    steps = torch.full(facing.shape, torch.inf).masked_fill(free & facing, 1.0)
    while True:
        onwards = torch.stack([_from_ahead(steps[:, direction], direction) for direction in range(4)], 1)
        best = torch.stack([steps.roll(1, 1), steps.roll(-1, 1), onwards]).amin(0) + 1
        better = free & (best < steps)
        if not better.any():
            return steps
        steps = torch.where(better, best, steps)


def _from_ahead(field: Tensor, direction: int) -> Tensor:
    """Of each tile the value [n, H, W] of the one that a player there faces. At the border it is that of the opposite
    side, where walls stand and no player."""
    dx, dy = TOWARDS[direction].tolist()
    return field.roll((-dy, -dx), (1, 2))


def optimal(rooms: Rooms, steps: Tensor) -> Tensor:
    """Which actions are the first of a shortest way, bool [n, 4]; `steps` are those of `steps_left`. None where there
    is no way."""
    each, (x, y, direction) = torch.arange(len(rooms)), rooms.poses.unbind(1)
    here, (dx, dy) = steps[each, direction, y, x], TOWARDS[direction].unbind(1)
    nexts = [steps[each, (direction + turn) % 4, y, x] for turn in (-1, 1)]
    nexts += [steps[each, direction, y + dy, x + dx]]
    ways = torch.stack([*(after == here - 1 for after in nexts), here == 1], 1)
    return ways & here.isfinite()[:, None]


# what is kept


class Episodes(Spec):
    """How MiniGrid's episodes begin; to learn from, each with the player at `poses` random places, and what is best
    there."""

    kind: ClassVar[str] = "episodes"
    task: str = TASK
    release: str
    train: int
    poses: int
    validation: int
    test: int
    maps: int

    @classmethod
    def locate(cls, **sizes: int) -> Self:
        """With the release that is installed. Raises InputError if none is."""
        return cls(release=release(), **sizes)

    def work(self) -> float:
        return 1e8 * (self.train + self.validation + self.test + self.maps)

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        found = {"tiles": tile_images()}
        for name, first in SPLITS.items():
            rooms = drawn(getattr(self, name), first)
            if name == "train":
                rooms, found["train_optimal"] = self._elsewhere(rooms)
            found |= {f"{name}_cells": rooms.cells.to(torch.uint8), f"{name}_poses": rooms.poses}
        return found, {}

    def _elsewhere(self, rooms: Rooms) -> tuple[Rooms, Tensor]:
        """The same rooms several times, the player at random free places from which there is a way; what is best."""
        cells = rooms.cells.repeat_interleave(self.poses, 0)
        generator = torch.Generator().manual_seed(0)
        free = (cells == EMPTY).flatten(1).double()
        places = torch.multinomial(free, 1, generator=generator)[:, 0]
        directions = torch.randint(4, (len(cells),), generator=generator)
        side = cells.shape[2]
        rooms = Rooms(cells, torch.stack([places % side, places // side, directions], 1))
        best = optimal(rooms, steps_left(rooms.cells))
        return rooms[best.any(1)], best[best.any(1)]


def rooms_of(episodes: Episodes, split: str, store: Store) -> tuple[Rooms, Tensor]:
    """The rooms of a split, and the pictures of the tiles."""
    found = store.get(episodes).tensors
    return Rooms(found[f"{split}_cells"].long(), found[f"{split}_poses"]), found["tiles"]
