"""Our rules of Fetch are MiniGrid's, step by step and pixel by pixel; the search is held against a blind one."""

import sys
from itertools import product

import pytest
import torch
from torch.testing import assert_close

from jsigr_lib.data import fetch
from jsigr_lib.data.fetch import EMPTY, OBJECT, PLAYER, TILE, WALL, Rooms
from jsigr_lib.method.errors import InputError

KEY, BALL = OBJECT, OBJECT + 6  # a red key and a red ball
PICTURES = torch.arange(18, dtype=torch.uint8).view(18, 1, 1, 1).expand(18, 3, TILE, TILE)
"""A tile of code c has the value c."""
LAYOUTS = {
    "open": "#####|#...#|#.k.#|#...#|#####",
    "corner": "#####|#k..#|#.b.#|#...#|#####",
    "wall between": "######|#k#..#|#.#..#|#....#|######",
    "two of a kind": "######|#k...#|#....#|#..bk#|######",
    "cut off": "#####|#.b.#|#bb.#|#..k#|#####",
    "out of reach": "#####|#kb.#|#b..#|#...#|#####",
}


def room(drawn: str, pose=(0, 0, 0), mission: int = KEY) -> Rooms:
    """One room from rows of # wall, k key, b ball and . nothing."""
    codes = {"#": WALL, "k": KEY, "b": BALL, ".": EMPTY}
    cells = torch.tensor([[codes[tile] for tile in row] for row in drawn.split("|")])
    cells[0, 0] = mission
    return Rooms(cells[None], torch.tensor([pose]))


def everywhere(drawn: str) -> Rooms:
    """The room with the player in every free place, facing everywhere."""
    one = room(drawn)
    places = [(x, y, d) for (y, x), d in product((one.cells[0] == EMPTY).nonzero().tolist(), range(4))]
    return Rooms(one.cells.expand(len(places), -1, -1), torch.tensor(places))


def blind(one: Rooms, most: int = 30) -> float:
    """How many actions it takes: all of them are tried from all poses that were reached, until one succeeds."""
    reached, poses = set(), {tuple(one.poses[0].tolist())}
    for steps in range(1, most):
        reached |= poses
        many = Rooms(one.cells.expand(4 * len(poses), -1, -1), torch.tensor(sorted(poses)).repeat(4, 1))
        after, over, success = fetch.act(many, torch.arange(4).repeat_interleave(len(poses)))
        if success.any():
            return steps
        poses = {tuple(pose) for pose in after.poses[~over].tolist()} - reached
        if not poses:
            break
    return float("inf")


@pytest.mark.parametrize("drawn", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_search_is_as_good_as_trying_everything(drawn):
    rooms = everywhere(drawn)
    x, y, direction = rooms.poses.unbind(1)
    found = fetch.steps_left(rooms.cells[:1])[0][direction, y, x]
    assert found.tolist() == [blind(rooms[i : i + 1]) for i in range(len(rooms))]


@pytest.mark.parametrize("drawn", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_best_actions_are_those_that_lead_one_step_nearer(drawn):
    rooms = everywhere(drawn)
    best = fetch.optimal(rooms, fetch.steps_left(rooms.cells))
    for i in range(len(rooms)):
        here, expected = blind(rooms[i : i + 1]), []
        for action in range(4):
            after, over, success = fetch.act(rooms[i : i + 1], torch.tensor([action]))
            nearer = bool(success) or (not over and blind(after) == here - 1)
            expected.append(nearer and here < float("inf"))
        assert best[i].tolist() == expected


def test_nobody_stands_in_walls():
    steps = fetch.steps_left(room(LAYOUTS["open"]).cells)
    assert steps.shape == (1, 4, 5, 5) and steps[0, :, 0].isinf().all() and steps[0, :, 2, 2].isinf().all()


@pytest.mark.parametrize(
    ("pose", "action", "after", "ends"),
    [
        ((1, 1, 0), fetch.LEFT, (1, 1, 3), (False, False)),
        ((1, 1, 3), fetch.RIGHT, (1, 1, 0), (False, False)),
        ((1, 1, 0), fetch.FORWARD, (2, 1, 0), (False, False)),
        ((1, 1, 3), fetch.FORWARD, (1, 1, 3), (False, False)),  # a wall
        ((2, 1, 1), fetch.FORWARD, (2, 1, 1), (False, False)),  # an object
        ((2, 1, 1), fetch.PICK, (2, 1, 1), (True, True)),
        ((1, 1, 0), fetch.PICK, (1, 1, 0), (False, False)),  # nothing there
        ((1, 1, 3), fetch.PICK, (1, 1, 3), (False, False)),  # a wall
    ],
)
def test_rules(pose, action, after, ends):
    moved, over, success = fetch.act(room(LAYOUTS["open"], pose), torch.tensor([action]))
    assert (tuple(moved.poses[0].tolist()), (bool(over), bool(success))) == (after, ends)


def test_another_object_ends_the_episode_with_nothing():
    _, over, success = fetch.act(room(LAYOUTS["open"], (2, 1, 1), mission=BALL), torch.tensor([fetch.PICK]))
    assert over and not success


def test_what_decides():
    found = fetch.deciding(room(LAYOUTS["two of a kind"], (2, 3, 0)))[0].nonzero().tolist()
    assert found == [[0, 0], [1, 1], [3, 2], [3, 4]]  # mission, key, player, key


def test_pictures_have_rows_down_and_the_player_in_them():
    image = fetch.render(room(LAYOUTS["wall between"], (3, 1, 2)), PICTURES)
    assert image.shape == (1, 3, 5 * TILE, 6 * TILE)
    codes = (image[0, 0, ::TILE, ::TILE] * 255).round().int()
    assert codes.tolist() == fetch.seen(room(LAYOUTS["wall between"], (3, 1, 2)))[0].tolist()
    assert codes[1, 3] == PLAYER + 2 and codes[1, 1] == KEY and codes[0, 0] == KEY


def expert(rooms: Rooms):
    """The policy that reads codes off the picture and searches."""

    def policy(x):
        codes = (x[:, 0, ::TILE, ::TILE] * 255).round().long()
        place = (codes >= PLAYER).flatten(1).int().argmax(1)
        y, x = place // codes.shape[2], place % codes.shape[2]
        each = torch.arange(len(codes))
        poses = torch.stack([x, y, codes[each, y, x] - PLAYER], 1)
        codes[each, y, x] = EMPTY
        now = Rooms(codes, poses)
        return fetch.optimal(now, fetch.steps_left(codes)).int().argmax(1)

    return policy


def test_episodes_of_an_expert_are_shortest_ways():
    rooms = everywhere(LAYOUTS["two of a kind"])
    x, y, direction = rooms.poses.unbind(1)
    steps = fetch.steps_left(rooms.cells[:1])[0][direction, y, x].double()
    played = fetch.play(expert(rooms), rooms, PICTURES)
    assert played.success.all()
    assert_close(played.returns, 1 - 0.9 * steps / (5 * 5**2))  # by rows: five


@pytest.mark.parametrize("action", [fetch.LEFT, fetch.PICK])
def test_walking_in_circles_and_taking_the_wrong_thing_count_nothing(action):
    rooms = room(LAYOUTS["open"], (2, 1, 1), mission=BALL)
    returns, success = fetch.play(lambda x: torch.full((len(x),), action), rooms, PICTURES)
    assert returns.tolist() == [0.0] and not success


def test_without_minigrid_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(
        InputError, match=r"^the task Fetch needs the package gymnasium; pip install 'jsigr\[neighbours]"
    ):
        fetch.Episodes.locate(train=1, poses=1, validation=1, test=1, maps=1)


# beside MiniGrid


@pytest.fixture(scope="module")
def environment():
    pytest.importorskip("minigrid")
    fetch.release()
    import gymnasium

    return gymnasium.make(fetch.TASK, disable_env_checker=True).unwrapped


def test_rooms_look_as_minigrid_draws_them(environment):
    rooms, tiles = fetch.drawn(20, 7), fetch.tile_images()
    images = (255 * fetch.render(rooms, tiles)).round().to(torch.uint8)
    for i, image in enumerate(images):
        environment.reset(seed=7 + i)
        theirs = torch.from_numpy(environment.get_frame(highlight=False, tile_size=TILE)).permute(2, 0, 1)
        mission = fetch.OBJECT + 6 * fetch.KINDS.index(environment.targetType)
        mission += fetch.COLOURS.index(environment.targetColor)
        assert (image[:, :TILE, :TILE] == tiles[mission]).all()
        theirs[:, :TILE, :TILE] = image[:, :TILE, :TILE]
        assert (image == theirs).all()


def test_steps_and_rewards_are_minigrids(environment):
    """Random walks, as long as an episode lasts."""
    generator, ends = torch.Generator().manual_seed(0), []
    for seed in range(40):
        environment.reset(seed=seed)
        rooms = fetch.drawn(1, seed)
        for step in range(1, 31):
            action = torch.multinomial(torch.tensor([0.2, 0.2, 0.4, 0.2]), 1, generator=generator)
            _, reward, over, _, _ = environment.step(int(action))
            rooms, ours, success = fetch.act(rooms, action)
            assert bool(ours) == over and bool(success) == (reward > 0)
            if over:
                ends.append(reward)
                assert reward == pytest.approx(fetch.reward(step, fetch.SIDE) if success else 0)
                break
            assert fetch.room_of(environment)[1].tolist() == rooms.poses[0].tolist()
    assert 0 in ends and max(ends) > 0.8 and environment.max_steps == 5 * fetch.SIDE**2


def test_episodes_artefact(environment, tmp_path):
    from jsigr_lib.store.artefacts import Store

    store = Store(tmp_path)
    spec = fetch.Episodes.locate(train=5, poses=3, validation=2, test=2, maps=2)
    rooms, tiles = fetch.rooms_of(spec, "train", store)
    assert len(rooms) == 15 and tiles.shape == (18, 3, TILE, TILE)
    best = store.get(spec).tensors["train_optimal"]
    assert best.any(1).all() and (best == fetch.optimal(rooms, fetch.steps_left(rooms.cells))).all()
    x, y, _ = rooms.poses.unbind(1)
    assert (rooms.cells[torch.arange(15), y, x] == EMPTY).all()
    tested, _ = fetch.rooms_of(spec, "test", store)
    assert (tested.cells == fetch.drawn(2, fetch.SPLITS["test"]).cells).all()
