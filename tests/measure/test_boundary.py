"""Classifiers whose boundary is known."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from jsigr_lib.measure.boundary import correlation, measured_distance
from jsigr_lib.measure.linearised import linearised_robustness
from jsigr_lib.method.balls import distance
from jsigr_lib.method.errors import InputError


class Sphere(nn.Module):
    """Class 0 inside the sphere of this radius around the middle of the cube, class 1 outside; z_1 is always 0."""

    def __init__(self, radius: float):
        super().__init__()
        self.radius = radius

    def forward(self, x):
        return torch.stack([self.radius**2 - (x - 0.5).flatten(1).square().sum(1), torch.zeros(len(x)).to(x)], 1)


class HalfSpace(nn.Module):
    """Class 0 where <w, x> < offset, else class 1."""

    def __init__(self, w, offset: float):
        super().__init__()
        self.register_buffer("w", w)
        self.offset = offset

    def forward(self, x):
        return torch.stack([self.offset - x.flatten(1) @ self.w, torch.zeros(len(x)).to(x)], 1)


@pytest.fixture
def right(linear, x):
    with torch.no_grad():
        return linear(x).argmax(1)


def grey(shape=(6, 2, 4, 5), spread: float = 0.05):
    """Images near the middle of the cube."""
    return 0.5 + spread * torch.randn(shape, dtype=torch.double)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_of_a_linear_classifier_it_is_the_linearised_one(linear, x, right, dtype):
    x, model = x.to(dtype), linear.to(dtype)
    measured, tangent = measured_distance(model, x, right), linearised_robustness(model, x)["robustness"]
    assert measured["found"].all() and measured["distance"].dtype == dtype
    assert_close(measured["distance"], tangent, rtol=1e-3, atol=0)
    assert (measured["distance"] >= tangent * (1 - 1e-5)).all()


@pytest.mark.parametrize("radius", [0.8, 2.0])
def test_of_a_sphere_it_is_the_way_to_its_surface(radius):
    """Also where the tangent is far off: near the middle its slope all but vanishes."""
    x = grey()
    inside = (x - 0.5).flatten(1).norm(dim=1)
    truth = radius - inside
    assert (truth > 0).all()
    model, y = Sphere(radius), torch.zeros(len(x), dtype=torch.long)
    measured = measured_distance(model, x, y)
    assert_close(measured["distance"], truth, rtol=1e-3, atol=0)
    assert (measured["distance"] >= truth - 1e-6).all()
    assert (linearised_robustness(model, x)["robustness"] > 1.2 * truth).all()


def test_pixels_that_may_not_move_lengthen_the_way():
    """Black pixels cannot get darker: the boundary of a half space, along its other pixels only."""
    x = torch.full((1, 1, 2, 4), 0.5, dtype=torch.double)
    x[..., 2:] = 0
    w = torch.tensor([1.0, 0.5, -3, -3, 1, 0.5, -3, -3], dtype=torch.double)
    gap = 0.4
    model = HalfSpace(w, float(x.flatten() @ w) + gap)
    measured = measured_distance(model, x, torch.tensor([0]))
    assert_close(measured["distance"], torch.tensor([gap / w.norm()]), rtol=1e-3, atol=0)
    assert_close(measured["boxed"], torch.tensor([gap / w[[0, 1, 4, 5]].norm()]), rtol=1e-3, atol=0)
    assert measured["points"].min() < 0


def test_each_is_the_way_to_an_error(linear, x, right):
    measured = measured_distance(linear, x, right)
    points = measured["points"]
    z, there = linear(x), linear(points)
    assert (there.argmax(1) != right).all()
    assert_close(distance(points, x, "l2"), measured["distance"])
    assert_close((there - z).norm(dim=1), measured["change"])
    assert (measured["boxed"] >= measured["distance"]).all()


def test_errors_are_at_no_distance(linear, x, right):
    y = right.clone()
    y[1] = (y[1] + 1) % 3
    measured = measured_distance(linear, x, y)
    assert measured["distance"][1] == measured["boxed"][1] == measured["change"][1] == 0 and measured["found"].all()
    assert torch.equal(measured["points"][1], x[1])
    others = measured_distance(linear, x, right)["distance"]
    assert_close(measured["distance"][[0, 2, 3]], others[[0, 2, 3]])
    nothing_left = measured_distance(linear, x, (right + 1) % 3)
    assert not nothing_left["distance"].any() and torch.equal(nothing_left["points"], x)


def test_where_nothing_misleads_it_nothing_is_found(x):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.stack([2 + 0 * x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], 1)

    measured = measured_distance(Constant(), x, torch.zeros(len(x), dtype=torch.long))
    assert measured["distance"].isinf().all() and not measured["found"].any()
    assert torch.equal(measured["points"], x) and not measured["change"].any()


def test_leaves_everything_as_it_was_and_repeats(batch_norm_net, x, y):
    """Modes, buffers, parameters and their gradients, images, the global random state."""
    model = batch_norm_net
    model[0].weight.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)

    def state():
        gradients = [parameter.grad for parameter in model.parameters()]
        tensors = [*model.buffers(), *model.parameters(), *gradients, x, torch.get_rng_state()]
        flags = [module.training for module in model.modules()] + [p.requires_grad for p in model.parameters()]
        return [tensor.detach().clone() for tensor in tensors], flags

    tensors, flags = state()
    first, again = (measured_distance(model, x.clone().requires_grad_(), y) for _ in range(2))
    after, flags_after = state()
    assert flags_after == flags and all(map(torch.equal, after, tensors))
    assert all(torch.equal(first[name], again[name]) and not first[name].requires_grad for name in first)


def test_one_by_one_and_channels_last(net, x):
    with torch.no_grad():
        y = net(x).argmax(1)
    together = measured_distance(net, x, y)["distance"]
    alone = torch.cat([measured_distance(net, x[i : i + 1], y[i : i + 1])["distance"] for i in range(len(x))])
    moved = measured_distance(net, x.contiguous(memory_format=torch.channels_last), y)["distance"]
    assert_close(together, alone)
    assert_close(together, moved)


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [(1.2, 0, "images span .* to 1.2; accepted: 0 to 1"), (0.5, 7, "label 7; accepted: 0 to 2"), (0.5, -1, "label -1")],
)
def test_bad_input(linear, x, y, image, label, message):
    x[0, 0, 0, 0], y[0] = image, label
    with pytest.raises(InputError, match=f"^{message}"):
        measured_distance(linear, x, y)


def test_correlation(monkeypatch):
    monkeypatch.setattr("jsigr_lib.measure.boundary.DRAWS", 200)
    rng = np.random.default_rng(0)
    a = rng.random((2, 40))
    assert correlation(a, a**3) == pytest.approx((1, 1, 1))
    middle, low, high = correlation(a, a + rng.random((2, 40)))
    assert low < middle < high and correlation(a, -a)[0] == pytest.approx(-1)
