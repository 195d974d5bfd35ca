"""NT and its rivals on models whose gradient can be written down."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.method import norm_regularisation as objectives
from jsigr_lib.method.norm_regularisation import JACOBIAN_SHARE, OBJECTIVES, SELECTION, STEP
from jsigr_lib.method.saliency import linearised_saliency, selection_mask
from jsigr_lib.networks.quality import untrained

SHAPE = (4, 2, 16, 16)


class Linear(nn.Module):
    """q = <w, x>, hence g = w."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(SHAPE[1:], dtype=torch.double, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return (self.w * x).sum((1, 2, 3))


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(SHAPE, dtype=torch.double, generator=generator)
    return Linear(), x, torch.rand(4, dtype=torch.double, generator=generator)


def error(model, x, s):
    return (model(x) - s).abs().mean()


def test_norm_regularised_is_half_the_squared_l1_norm(given):
    model, x, s = given
    expected = error(model, x, s) + 0.1 * model.w.abs().sum() ** 2 / 2
    assert_close(objectives.norm_regularised(model, x, s, 0.1), expected)


def test_norm_regularised_is_the_difference_of_a_curved_model():
    """q = sum x^2: the difference along sign(x) is 2 ||x||_1 + h N."""
    x = torch.rand(SHAPE, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    slope = 2 * x.abs().sum((1, 2, 3)) + STEP * x[0].numel()
    found = objectives.norm_regularised(lambda x: x.square().sum((1, 2, 3)), x, x.square().sum((1, 2, 3)), 1.0)
    assert_close(found, slope.square().mean() / 2)


def test_jacobian_is_the_squared_l2_norm(given):
    model, x, s = given
    expected = error(model, x, s) + 0.1 * model.w.square().sum()
    assert_close(objectives.jacobian(model, x, s, 0.1), expected)


def test_jacobian_is_the_input_gradient_of_the_absolute_error(given):
    model, x, s = given
    x = x.requires_grad_()
    (g,) = torch.autograd.grad((model(x) - s).abs().sum(), x)
    expected = error(model, x, s) + 0.1 * g.square().sum((1, 2, 3)).mean()
    assert_close(objectives.jacobian(model, x, s, 0.1), expected)


def test_input_gradient_is_of_the_squared_error(given):
    model, x, s = given
    x = x.requires_grad_()
    (g,) = torch.autograd.grad((model(x) - s).square().sum(), x)
    expected = error(model, x, s) + 0.1 * g.square().sum((1, 2, 3)).mean()
    assert_close(objectives.input_gradient(model, x, s, 0.1), expected)


def test_jsigr_spares_what_the_perturbation_map_selects(given):
    model, x, s = given
    g = model.w.detach().expand_as(x)
    kept = 1 - selection_mask(linearised_saliency(x, g, **SELECTION.perturbation), share=SELECTION.share)
    penalty = (kept * g).square().sum((1, 2, 3)) + JACOBIAN_SHARE * g.square().sum((1, 2, 3))
    assert_close(objectives.jsigr(model, x, s, 0.1), error(model, x, s) + 0.1 * penalty.mean())


def test_attacked_raises_the_error_within_the_ball(given):
    model, x, s = given
    found = objectives.attacked(model, x, s, 4.0)
    way = (model(x) - s).sign()[:, None, None, None] * model.w.sign()
    assert_close(found, error(model, (x + 4 / 255 * way).clamp(0, 1), s))
    assert found > error(model, x, s)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "attacked"])
def test_strength_0_is_plain(given, name):
    model, x, s = given
    assert_close(OBJECTIVES[name](model, x, s, 0.0), objectives.plain(model, x, s))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_network_can_be_trained_by_each(name):
    """Gradients reach every parameter but those of a bias that cannot matter, and are finite."""
    model, generator = untrained(0), torch.Generator().manual_seed(0)
    x, s = torch.rand(3, 3, 64, 64, generator=generator), torch.rand(3, generator=generator)
    OBJECTIVES[name](model, x, s, 0.1).backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters())


def test_penalties_differentiate_the_network_as_autograd_does():
    model, generator = untrained(0).double(), torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 64, 64, dtype=torch.double, generator=generator)
    s = torch.rand(2, dtype=torch.double, generator=generator)
    objectives.jacobian(model, x, s, 0.5).backward()
    ours = model.convolutions[0].weight.grad.clone()
    model.zero_grad()
    seen = x.clone().requires_grad_()
    q = model(seen)
    (g,) = torch.autograd.grad(q.sum(), seen, create_graph=True)
    (F.l1_loss(q, s) + 0.5 * g.square().sum((1, 2, 3)).mean()).backward()
    assert_close(ours, model.convolutions[0].weight.grad)
