"""A network whose kinks are known by hand."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from jsigr_lib.measure import regions
from jsigr_lib.method.errors import InputError
from jsigr_lib.networks import models


@pytest.fixture
def by_hand():
    """Of an image (u, v): relu(u - 1), relu(v + 2), then relu(3 - first - second)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2)), model[1].bias.copy_(torch.tensor([-1.0, 2]))
        model[3].weight.fill_(-1), model[3].bias.fill_(3)
    return model


def image(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.double).view(1, 1, 1, 2)


@pytest.mark.parametrize(
    ("direction", "where"),
    [
        ((1.0, 0.0), 1.0),  # u - 1 = 0, at u = 1
        ((7.0, 0.0), 1.0),  # its length does not matter
        ((-1.0, 0.0), float("inf")),  # ever farther from that kink, and v stays
        ((0.0, 1.0), 1.0),  # 3 - (v + 2) = 0, at v = 1: a kink of the second layer
        ((0.0, -1.0), 2.0),  # v + 2 = 0, at v = -2
        ((1.0, 1.0), 2**0.5),  # both u = 1 and v = 1 lie on the way
        ((3.0, -4.0), 5 / 3),  # u = 1 after 5/3, v = -2 after 5/2
    ],
)
def test_reach_is_the_first_kink(by_hand, direction, where):
    reach = regions.reach(by_hand, image(0, 0), image(*direction))
    assert_close(reach, torch.tensor([where], dtype=torch.double))


def test_signs(by_hand):
    x = torch.cat([image(0, 0), image(2, 0), image(0, 4), image(0, -3)])
    assert regions.signs(by_hand, x).int().tolist() == [[0, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("architecture", ["small-cnn", "resnet8"])
def test_signs_hold_up_to_the_reach_and_no_farther(architecture, seeded):
    """Of real networks, batch norm and skips among them."""
    shape = {"channels": 1, "size": 12, "classes": 3, "mean": [0.5], "std": [0.3]}
    model = models.build(architecture, width=8, seed=0, **shape).double()
    x = torch.rand(5, 1, 12, 12, dtype=torch.double, generator=seeded())
    u = torch.nn.functional.normalize(torch.randn(5, 144, dtype=torch.double, generator=seeded(1))).view_as(x)
    reach, here = regions.reach(model, x, u), regions.signs(model, x)
    for factor, same in ((0.999, True), (1.001, False)):
        there = regions.signs(model, x + factor * reach[:, None, None, None] * u)
        assert ((there == here).all(1) == same).all()


def test_on_the_way(by_hand, seeded):
    x, points = torch.cat([image(0, 0), image(0, 0)]), torch.cat([image(2, 0), image(0, 0.5)])
    found = regions.on_the_way(by_hand, x, points, seeded())
    assert_close(found["reach_towards"], torch.ones(2, dtype=torch.double))
    assert_close(found["flipped"], torch.tensor([2 / 3, 0]))
    assert ((found["reach_random"] >= 1) & (found["reach_random"] < 3)).all()
    again = regions.on_the_way(by_hand, x, points, seeded())
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert found["flipped_random"][0] > found["flipped_random"][1] == 0


def test_leaves_the_model_as_it_was(batch_norm_net, x, seeded):
    modes = [module.training for module in batch_norm_net.modules()]
    buffers = [buffer.clone() for buffer in batch_norm_net.buffers()]
    z = batch_norm_net.eval()(x)
    batch_norm_net.train()
    batch_norm_net[4].eval()
    regions.on_the_way(batch_norm_net, x, x + 0.1, seeded())
    assert [module.training for module in batch_norm_net.modules()] == modes
    assert all(map(torch.equal, batch_norm_net.buffers(), buffers))
    assert torch.equal(batch_norm_net.eval()(x), z) and not batch_norm_net[2]._forward_hooks


def test_a_network_without_relus_is_refused(net, x):
    with pytest.raises(InputError, match=r"^Sequential has no ReLU; accepted: models with nn\.ReLU modules$"):
        regions.signs(net, x)
