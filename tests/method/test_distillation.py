"""The student's loss, against formulas on models whose Jacobian is known."""

import pytest
import torch
from torch.testing import assert_close

from jsigr_lib.method.distillation import Distillation
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jacobian import jacobian_norms


@pytest.fixture
def taught(x):
    return torch.randn(len(x), 3, dtype=torch.double)


@pytest.fixture
def mask(x):
    return (torch.rand_like(x[:, :1]) < 0.5).double()


def kl(model, x, taught):
    teacher, student = taught.softmax(1), model(x).softmax(1)
    return (teacher * (teacher.log() - student.log())).sum(1).mean()


def outside(model, x, taught, mask):
    """mean ||(1 - m) dz_a/ds||^2, by the model's own Jacobian."""
    rows = model.jacobian(x)[torch.arange(len(x)), taught.argmax(1)].view_as(x)
    return ((1 - mask) * rows).square().sum((1, 2, 3)).mean()


def gradient(loss, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)])


def check(loss, expected, model):
    assert_close(loss, expected)
    assert_close(gradient(loss, model), gradient(expected, model))


def test_without_penalties_it_is_the_kl(analytic, x, taught, mask):
    check(Distillation()(analytic, x, taught, mask), kl(analytic, x, taught), analytic)


def test_digr(analytic, x, taught, mask):
    expected = kl(analytic, x, taught) + 0.7 * outside(analytic, x, taught, mask)
    check(Distillation(0.7)(analytic, x, taught, mask), expected, analytic)


def test_nothing_selected_is_input_gradient_regularisation(analytic, x, taught, mask):
    whole = Distillation(0.7)(analytic, x, taught)
    check(whole, kl(analytic, x, taught) + 0.7 * outside(analytic, x, taught, 0 * mask), analytic)
    check(whole, Distillation(0.7)(analytic, x, taught, 0 * mask), analytic)


def test_all_selected_is_the_kl(analytic, x, taught, mask):
    check(Distillation(0.7)(analytic, x, taught, torch.ones_like(mask)), kl(analytic, x, taught), analytic)


def test_jacobian_norm_is_the_librarys(analytic, x, taught, mask, seeded):
    z = analytic(inputs := x.clone().requires_grad_())
    expected = kl(analytic, x, taught) + 0.7 * outside(analytic, x, taught, mask)
    expected = expected + 0.2 * jacobian_norms(z, inputs, generator=seeded(3)).mean()
    check(Distillation(0.7, 0.2)(analytic, x, taught, mask, generator=seeded(3)), expected, analytic)


def test_jacobian_norm_is_that_of_all_actions_in_the_mean(analytic, x, taught, seeded):
    generator, objective = seeded(), Distillation(0.0, 1.0)
    values = torch.stack([objective(analytic, x, taught, generator=generator).detach() for _ in range(3000)])
    expected = kl(analytic, x, taught) + analytic.jacobian(x).square().sum((1, 2)).mean()
    assert (values.mean() - expected).abs() < 4 * values.std() / 3000**0.5


def test_a_student_that_agrees_has_no_loss_and_a_penalty_that_pulls(linear, x):
    """The reason for the action's logit: here the gradient of the KL by the input is 0."""
    taught = linear(x).detach()
    assert_close(Distillation()(linear, x, taught), torch.zeros((), dtype=torch.double))
    assert gradient(Distillation(1.0)(linear, x, taught), linear).abs().max() > 0.1


@pytest.mark.parametrize("weights", [(-1.0, 0.0), (0.0, float("nan")), (2e6, 0.0)])
def test_weights_out_of_range(weights):
    with pytest.raises(InputError, match="lambda_"):
        Distillation(*weights)
