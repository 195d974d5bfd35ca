import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.testing import assert_close

from jsigr_lib.measure.bounds import confidence_gap, distance_bounds
from jsigr_lib.method.errors import InputError


class Margin(nn.Module):
    """Two classes, logits (scale t, 0) of the first pixel t: the boundary is t = 0, at a distance of |t|."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        t = self.scale * x.flatten(1)[:, :1]
        return torch.cat([t, 0 * t], 1)


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 5)]
        return nn.Sequential(*layers).double()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, 1, 6, 6, generator=generator, dtype=torch.double), torch.arange(6) % 5


def gap_of(net, y):
    """-f of one image [pixels], written down once more."""

    def f(flat):
        p = net(flat.view(1, 1, 6, 6)).softmax(1)[0]
        return torch.cat([p[:y], p[y + 1 :]]).max() - p[y]

    return f


def test_gap_slope_and_curvature_are_those_of_autograd(net, batch):
    x, y = batch
    found = confidence_gap(net, x, y)
    for i, (image, label) in enumerate(zip(x, y.tolist(), strict=True)):
        f, flat = gap_of(net, label), image.flatten()
        slope = torch.autograd.functional.jacobian(f, flat)
        curvature = torch.linalg.eigvalsh(torch.autograd.functional.hessian(f, flat))[-1]
        assert_close(found["gap"][i], (-f(flat)).clamp_min(0))
        assert_close(found["slope"][i], slope.norm())
        assert_close(found["slope_l1"][i], slope.abs().sum())
        assert_close(found["curvature"][i], curvature.clamp_min(0))
    assert (found["gap"] > 0).any() and (found["gap"] == 0).any()


def test_bounds_are_those_of_the_formulas():
    found = {"gap": [0.5, 0.2], "slope": [1.0, 2.0], "slope_l1": [3.0, 5.0], "curvature": [4.0, 1.0]}
    bounds = distance_bounds({name: torch.tensor(values) for name, values in found.items()})
    assert_allclose(bounds["gradient"], [0.25, 0.1])
    assert_allclose(bounds["gradient_linf"], [0.1, 0.04])
    assert_allclose(bounds["curvature"], [(5**0.5 - 1) / 4, (5.6**0.5 - 2) / 4], rtol=1e-6)


def test_without_curvature_the_bound_is_that_of_a_slope_of_its_own():
    found = {"gap": [0.5, 0.2], "slope": [1.0, 2.0], "slope_l1": [3.0, 5.0], "curvature": [0.0, 0.0]}
    bounds = distance_bounds({name: torch.tensor(values) for name, values in found.items()})
    assert_allclose(bounds["curvature"], [0.5, 0.1])


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_no_bound_exceeds_the_distance_where_the_images_cover_space(scale):
    t = torch.linspace(0, 3, 301, dtype=torch.double)
    bounds = distance_bounds(confidence_gap(Margin(scale), t.view(-1, 1, 1, 1), torch.zeros(301, dtype=torch.long)))
    for bound in bounds.values():
        assert (bound <= t + 1e-9).all()
        assert bound[10] > 0.9 * t[10]  # near the boundary it is tight


def test_the_bound_is_none_where_the_network_is_wrong(net, batch):
    x, y = batch
    x[y == 1] = 0  # and flat there: the first convolution has negative biases
    net[0].bias.data.fill_(-0.1)
    found = confidence_gap(net, x, y)
    assert (found["slope"] == 0).any() and (found["gap"] == 0).any()
    assert all((bound[found["gap"] == 0] == 0).all() for bound in distance_bounds(found).values())


def test_a_curved_network_is_refused(net, batch):
    net[1] = nn.SiLU()
    with pytest.raises(InputError, match="logits are curved; accepted: piecewise affine"):
        confidence_gap(net, *batch)


def test_the_mode_and_the_gradients_are_left_alone(net, batch):
    net.train()
    confidence_gap(net, *batch)
    assert net.training and all(parameter.grad is None for parameter in net.parameters())
