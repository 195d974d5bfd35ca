import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.networks import tiles


@pytest.fixture
def images():
    return torch.rand(4, 3, 12, 12)


def test_tiles_are_in_reading_order(images):
    found = tiles.tiles_of(images, 4)
    assert found.shape == (4, 9, 3 * 16)
    assert_close(found[2, 5], images[2, :, 4:8, 8:12].flatten())


def test_logits_are_of_each_image_alone(images):
    model = tiles.built(0, 3, 4, width=8)
    z = model(images)
    assert z.shape == (4, 4)
    assert_close(model(images[1:2]), z[1:2])


def test_every_tile_counts_and_the_mission_twice(images):
    """The gradient reaches all tiles; and the first one changes what is made of the others."""
    model = tiles.built(0, 3, 4, width=8)
    x = images.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).square().sum(), x)
    assert tiles.tiles_of(gradient.abs(), 4).sum((0, 2)).min() > 0
    other = images.detach().clone()
    other[:, :, :4, :4] = 1 - other[:, :, :4, :4]
    before, after = (
        model.own(f) + model.mission(f[:, :1]) for f in (model.alone(tiles.tiles_of(i, 4)) for i in (images, other))
    )
    assert (before - after)[:, 1:].abs().max() > 0


def test_weights_are_a_function_of_the_seed():
    one, same, other = (tiles.built(seed, 3, 4, width=8).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["own.weight"], other["own.weight"])


def test_fit_learns_and_repeats(images):
    labels = torch.tensor([0, 1, 2, 3])
    models = [tiles.built(0, 3, 4, width=8) for _ in range(2)]

    def loss(model):
        return lambda index, _: F.cross_entropy(model(images[index]), labels[index])

    settings = {"epochs": 60, "batch_size": 3, "learning_rate": 0.01, "seed": 0}
    histories = [tiles.fit(model, loss(model), 4, **settings) for model in models]
    assert histories[0] == histories[1] and len(histories[0]) == 60
    assert histories[0][-1] < 0.3 * histories[0][0]
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
