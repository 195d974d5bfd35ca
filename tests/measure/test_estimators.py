from itertools import cycle, islice

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.measure import estimators as measure_estimators
from jsigr_lib.measure.estimators import (
    ESTIMATORS,
    EXACT,
    best_coin,
    gradient_scatter,
    penalty_gradient,
    predicted_spread,
    single_pass_moments,
)
from jsigr_lib.method import jsigr

WEIGHTS = {"lambda_j": 0.7, "lambda_s": 1.3}
SINGLE_PASS = ESTIMATORS["single pass"]


@pytest.fixture
def batch(x, y):
    return x, y, (torch.rand_like(x[:, :1]) < 0.4).double()


@pytest.fixture(params=["quadratic", "net"])
def model(request):
    return request.getfixturevalue(request.param)


def terms(model, batch):
    """||J_i||_F^2 and ||(1 - m_i) * g_i||^2 of every image, in the graph of the parameters."""
    r_j, r_s = [], []
    for image, label, mask in zip(*batch, strict=True):
        rows = jacobian(model, image[None], create_graph=True)[0]  # [classes, 1, channels, height, width]
        z = model(image[None])
        g = torch.einsum("k,kbchw->bchw", (z.softmax(1) - F.one_hot(label, z.shape[1]))[0], rows)
        r_j.append(rows.square().sum())
        r_s.append(((1 - mask) * g).square().sum())
    return torch.stack(r_j), torch.stack(r_s)


def gradient(value, model):
    parameters = list(model.parameters())
    found = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([one.flatten() for one in found])


# one gradient


@pytest.mark.parametrize("weights", [WEIGHTS, {**WEIGHTS, "lambda_j": 0.0}, {**WEIGHTS, "lambda_s": 0.0}], ids=str)
def test_exact_gradient_by_hand(model, batch, weights):
    r_j, r_s = terms(model, batch)
    expected = gradient((weights["lambda_j"] * r_j + weights["lambda_s"] * r_s).mean(), model)
    assert_close(penalty_gradient(model, batch, **weights, **EXACT), expected)


def test_gradient_leaves_the_model_as_it_was(net, batch):
    penalty_gradient(net, batch, **WEIGHTS, **EXACT)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_what_the_penalty_does_not_depend_on_has_gradient_zero(net, batch):
    """The Jacobian does not depend on the last bias, and nothing on a parameter that is never used."""
    net.register_parameter("unused", nn.Parameter(torch.ones(2, 5, dtype=torch.double)))
    sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}

    def parts(**weights):
        gradient = penalty_gradient(net, batch, **weights, **EXACT)
        return dict(zip(sizes, gradient.split(list(sizes.values())), strict=True))

    jacobian_alone, both = parts(lambda_j=0.7, lambda_s=0.0), parts(**WEIGHTS)
    assert jacobian_alone["3.bias"].abs().max() < 1e-12 < both["3.bias"].abs().min()
    assert both["unused"].tolist() == [0.0] * 10
    assert all(both[name].abs().max() > 1e-3 for name in sizes if name != "unused")


@pytest.mark.parametrize("options", ESTIMATORS.values(), ids=ESTIMATORS)
def test_generator_decides_the_estimate(net, batch, seeded, options):
    first, again, other = (
        penalty_gradient(net, batch, seeded(seed), **WEIGHTS, **options, coin=0.5) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# many gradients


@pytest.fixture
def many(batch):
    return tuple(part.repeat_interleave(500, dim=0) for part in batch)


@pytest.mark.parametrize("options", ESTIMATORS.values(), ids=ESTIMATORS)
def test_every_estimator_is_unbiased(linear, many, seeded, options):
    found = gradient_scatter(linear, many, 100, seeded(), WEIGHTS, coin=0.5, **options)
    assert found.keys() == {"bias", "error", "spread"}
    assert abs(found["bias"]) < 4 * found["error"]
    assert found["spread"] > 0.01


@pytest.mark.parametrize("options", ESTIMATORS.values(), ids=ESTIMATORS)
def test_a_bias_would_show(linear, many, seeded, options, monkeypatch):
    """Enough images that the noise of 100 draws hides no bias of 5 percent: it is 7 standard errors and more."""

    def biased(*arguments, **options):
        return (1.05 if options["estimator"] != "exact" else 1) * penalty_gradient(*arguments, **options)

    monkeypatch.setattr(measure_estimators, "penalty_gradient", biased)
    found = gradient_scatter(linear, many, 100, seeded(), WEIGHTS, coin=0.5, **options)
    assert found["bias"] > 7 * found["error"]


def test_scatter_by_hand(net, batch, seeded):
    weights, options = {"lambda_j": 0.7, "lambda_s": 1.3}, {**SINGLE_PASS, "coin": 0.3}
    found = gradient_scatter(net, batch, 50, seeded(), weights, **options)
    exact, generator = penalty_gradient(net, batch, **weights, **EXACT), seeded()
    draws = torch.stack([penalty_gradient(net, batch, generator, **weights, **options) for _ in range(50)])
    along = draws @ exact / exact.norm()
    bias, error = along.mean() / exact.norm() - 1, along.std() / 50**0.5 / exact.norm()
    spread = (draws - exact).square().sum(1).mean().sqrt() / exact.norm()
    assert found == pytest.approx({"bias": bias.item(), "error": error.item(), "spread": spread.item()})


def test_spread_falls_with_the_root_of_the_batch(net, batch, seeded):
    more = tuple(part.repeat_interleave(9, dim=0) for part in batch)
    few, many = (
        gradient_scatter(net, images, 250, seeded(), WEIGHTS, coin=0.5, **SINGLE_PASS)["spread"]
        for images in (batch, more)
    )
    assert few / many == pytest.approx(3, rel=0.1)


def test_spread_is_a_property_of_the_estimator(net, batch, seeded):
    first, other = (
        gradient_scatter(net, batch, 400, seeded(seed), WEIGHTS, coin=0.5, **SINGLE_PASS)["spread"] for seed in (0, 1)
    )
    assert first != other
    assert first == pytest.approx(other, rel=0.08)


@pytest.mark.parametrize("weights", [WEIGHTS, {**WEIGHTS, "lambda_j": 0.0}], ids=str)
def test_what_has_no_noise_does_not_scatter(net, batch, seeded, weights):
    options = EXACT if weights["lambda_j"] else ESTIMATORS["double backprop"]
    found = gradient_scatter(net, batch, 10, seeded(), weights, **options)
    assert found["spread"] < 1e-12
    assert abs(found["bias"]) < 1e-12


# which coin


GOLDEN = (1 + 5**0.5) / 2
ICOSAHEDRON = [(0, 1, GOLDEN), (0, 1, -GOLDEN), (1, GOLDEN, 0), (1, -GOLDEN, 0), (GOLDEN, 0, 1), (-GOLDEN, 0, 1)]
"""Half of its vertices: their mean of any polynomial of degree 4 that is even is its mean over the sphere."""


@pytest.fixture
def moments(net, batch, seeded):
    """Of `net`, without noise."""
    vertices = cycle(F.normalize(torch.tensor(ICOSAHEDRON, dtype=torch.double)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsigr, "sphere", lambda batch, classes, **_: torch.stack([*islice(vertices, batch)]))
        patch.setattr(measure_estimators, "MOMENT_DRAWS", len(ICOSAHEDRON))
        return single_pass_moments(net, batch, seeded(), WEIGHTS)


def test_moments_by_hand(net, batch, moments):
    """With h = lambda_J K v^T D v, D the derivative of J J^T by a parameter and v uniform on the sphere:
    E h = lambda_J tr D and E h^2 = lambda_J^2 K / (K + 2) (2 ||D||_F^2 + (tr D)^2)."""
    _, r_s = terms(net, batch)
    heads, tails, both, whole = 0.0, 0.0, 0.0, 0.0
    for image, selective in zip(batch[0], r_s, strict=True):
        rows = jacobian(net, image[None], create_graph=True)[0].flatten(1)
        slopes = [gradient(entry, net) for entry in (rows @ rows.T).flatten()]
        slopes = torch.stack(slopes).view(3, 3, -1)
        trace, tail = slopes.diagonal().sum(1), WEIGHTS["lambda_s"] * gradient(selective, net)
        heads += WEIGHTS["lambda_j"] ** 2 * 3 / 5 * (2 * slopes.square().sum() + trace.square().sum())
        tails += tail.square().sum()
        both += (WEIGHTS["lambda_j"] * trace + tail).square().sum()
        whole += WEIGHTS["lambda_j"] * trace + tail
    expected = {"heads": heads, "tails": tails, "both": both}
    assert moments == pytest.approx({name: (value / whole.square().sum()).item() for name, value in expected.items()})


def test_heads_are_drawn_at_random(net, batch, seeded, moments, monkeypatch):
    monkeypatch.setattr(measure_estimators, "MOMENT_DRAWS", 60)
    first, again, other = (single_pass_moments(net, batch, seeded(seed), WEIGHTS) for seed in (0, 0, 1))
    assert first == again
    assert first["heads"] != other["heads"]
    for drawn in (first, other):
        assert drawn == pytest.approx({**moments, "heads": drawn["heads"]})
        assert drawn["heads"] == pytest.approx(moments["heads"], rel=0.25)


@pytest.mark.parametrize(("coin", "noise"), [(0.1, 0.08), (0.4, 0.05), (0.73, 0.05), (0.9, 0.05)])
def test_predicted_spread_is_the_measured_one(net, batch, seeded, moments, coin, noise):
    measured = gradient_scatter(net, batch, 800, seeded(1), WEIGHTS, coin=coin, **SINGLE_PASS)["spread"]
    assert predicted_spread(moments, coin) == pytest.approx(measured, rel=noise)


def test_predicted_spread_by_hand():
    assert predicted_spread({"heads": 2.0, "tails": 3.0, "both": 1.0}, 0.25) == pytest.approx(11**0.5)


@pytest.mark.parametrize(("heads", "tails"), [(1.0, 1.0), (0.02, 5.0), (7.0, 0.3), (1e-4, 1.0)])
def test_best_coin_is_the_minimum(heads, tails):
    moments = {"heads": heads, "tails": tails, "both": 0.5 * min(heads, tails)}
    grid = np.linspace(0.0005, 0.9995, 1999)
    least = grid[np.argmin([predicted_spread(moments, coin) for coin in grid])]
    assert best_coin(moments) == pytest.approx(least, abs=0.0005)
