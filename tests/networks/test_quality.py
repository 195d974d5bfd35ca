"""The quality network, its training, the attack on its scores, and the choice of a strength."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from jsigr_lib.data.photographs import Crops
from jsigr_lib.method.norm_regularisation import plain
from jsigr_lib.networks import quality
from jsigr_lib.networks.quality import Choice, attack, fit, scores, slopes, untrained


def crops(seed: int = 0) -> Crops:
    """Two sources whose label is how little noise they have."""
    generator = torch.Generator().manual_seed(seed)
    amount = torch.linspace(0, 1, 5)
    noise = torch.rand(2, 5, 2, 3, 64, 64, generator=generator) - 0.5
    images = (128 + 120 * amount[None, :, None, None, None, None] * noise).to(torch.uint8)
    return Crops(images, (1 - amount)[None, :, None].expand(2, 5, 2).contiguous())


class Mean(nn.Module):
    """q = the mean pixel."""

    def forward(self, x):
        return x.mean((1, 2, 3))


def test_the_seed_decides_the_network_and_nothing_else_changes():
    state = torch.get_rng_state()
    one, same, other = untrained(0), untrained(0), untrained(1)
    assert_close(one.score.weight, same.score.weight)
    assert not one.score.weight.equal(other.score.weight)
    assert torch.get_rng_state().equal(state)


def test_scores_do_not_see_the_brightness():
    x = 0.5 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert_close(untrained(0)(x), untrained(0)(x + 0.3), rtol=1e-3, atol=1e-4)


def test_training_lowers_the_loss_and_repeats():
    settings = {"strength": 0.0, "epochs": 4, "batch_size": 4, "learning_rate": 0.003, "seed": 1}
    first, second = untrained(0), untrained(0)
    losses = fit(first, plain, crops(), **settings)
    assert losses[-1] < losses[0] and len(losses) == 4
    assert fit(second, plain, crops(), **settings) == losses
    assert_close(first.score.weight, second.score.weight)


def test_scores_and_slopes_are_means_over_crops():
    x = torch.rand(3, 2, 3, 8, 8)
    assert_close(scores(Mean(), x), x.mean((1, 2, 3, 4)))
    assert_close(slopes(Mean(), x), torch.ones(3))


@pytest.mark.parametrize("steps", [1, 5])
def test_attacks_push_away_from_the_middle_within_the_ball(steps):
    low, high = torch.full((1, 2, 3, 8, 8), 0.3), torch.full((1, 2, 3, 8, 8), 0.6)
    x = torch.cat([low, high])
    x_adv = attack(Mean(), x, 4.0, steps=steps, middle=0.5)
    assert ((x_adv - x).abs() <= 4 / 255 + 1e-6).all()
    assert_close(scores(Mean(), x_adv) - scores(Mean(), x), torch.tensor([4 / 255, -4 / 255]), rtol=1e-4, atol=1e-6)


def test_all_crops_of_a_picture_are_pushed_one_way():
    x = torch.stack([torch.full((3, 8, 8), 0.4), torch.full((3, 8, 8), 0.9)])[None]
    moved = attack(Mean(), x, 4.0, steps=1, middle=0.5) - x
    assert (moved < 0).all()


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ([(0.8, 0.5), (0.79, 0.2), (0.78, 0.1), (0.6, 0.0)], 1),
        ([(0.8, 0.5), (0.5, 0.2), (0.7, 0.1), (0.6, 0.0)], 1),
        ([(0.8, 0.5), (0.9, 0.3), (0.9, 0.4), (0.9, 0.35)], 0),
    ],
    ids=["moves least of those that lose little", "loses least if all lose much", "a better one"],
)
def test_choice(monkeypatch, found, chosen):
    answers = iter(found)
    monkeypatch.setattr(quality, "_judge", lambda *_: next(answers))
    spec = SimpleNamespace(plain=None, candidates=(1, 2, 3), level=4.0)
    tensors, _ = Choice.compute(spec, None, torch.device("cpu"))
    assert tensors["chosen"] == chosen and tensors["correlation"].tolist() == [one for one, _ in found]


def test_a_crop_is_turned_in_eight_ways():
    x = torch.arange(9.0).view(1, 1, 3, 3).expand(400, 1, 3, 3)
    seen = {tuple(one.flatten().tolist()) for one in quality.turned(x, torch.Generator().manual_seed(0))}
    assert len(seen) == 8 and all(one[4] == 4 and {one[0], one[8]} in ({0, 8}, {2, 6}) for one in seen)
