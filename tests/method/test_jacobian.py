from contextlib import suppress

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jacobian import (
    evaluation_mode,
    jacobian_norm,
    jacobian_norms,
    logit_gradient,
    loss_gradient,
    sphere,
    vjp,
)


def logits_of(model, x):
    x = x.detach().requires_grad_()
    return model(x), x


def test_exact_norm_of_a_linear_model_is_that_of_its_matrix(linear, x):
    assert_close(jacobian_norm(linear, x, projections="exact"), linear.weight.square().sum())


def test_exact_norms_are_per_sample(quadratic, x):
    norms = jacobian_norms(*logits_of(quadratic, x), projections="exact")
    assert_close(norms, quadratic.jacobian(x).square().sum((1, 2)))
    assert_close(jacobian_norm(quadratic, x, projections="exact"), norms.mean())


@pytest.mark.parametrize("projections", [1, 3])
def test_projections_are_unbiased_with_the_derived_variance(quadratic, x, seeded, projections):
    """Var = 2K/(K+2) (||J J^T||_F^2 - ||J||_F^4 / K) / n."""
    draws = 20_000
    jacobian = quadratic.jacobian(x[:1])[0].detach()
    classes, norm = len(jacobian), jacobian.square().sum()
    variance = 2 * classes / (classes + 2) * ((jacobian @ jacobian.T).square().sum() - norm**2 / classes)
    logits, many = logits_of(quadratic, x[:1].expand(draws, -1, -1, -1))
    sample = jacobian_norms(logits, many, projections=projections, generator=seeded())
    assert abs(sample.mean() - norm) < 3 * (variance / projections / draws) ** 0.5
    assert_close(sample.var(), variance / projections, rtol=0.05, atol=0)


def test_n_projections_are_the_mean_of_n_draws(net, x, seeded):
    generator = seeded()
    singles = [jacobian_norm(net, x, generator=generator) for _ in range(3)]
    assert_close(jacobian_norm(net, x, projections=3, generator=seeded()), torch.stack(singles).mean())
    assert len(set(singles)) == 3
    assert jacobian_norms(*logits_of(net, x), generator=seeded()).mean() == singles[0]


def test_generator_decides_the_projections_and_leaves_the_global_state(net, x, seeded):
    state = torch.get_rng_state()
    first, again, other = (jacobian_norm(net, x, generator=seeded(seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("projections", [2, "exact"])
def test_projections_are_made_where_the_generator_or_the_logits_are(net, x, seeded, projections):
    """And not on the default device, here one on which nothing has a value."""
    expected, generator = jacobian_norm(net, x, projections=projections, generator=seeded()), seeded()
    with torch.device("meta"):
        assert jacobian_norm(net, x, projections=projections, generator=generator) == expected


def test_sphere_is_uniform(x, seeded):
    v = sphere(30_000, 3, like=x, generator=seeded())
    assert v.dtype == x.dtype
    assert_close(v.norm(dim=1), torch.ones(30_000, dtype=v.dtype))
    assert_close(v.mean(0), torch.zeros(3, dtype=v.dtype), rtol=0, atol=0.01)
    assert_close(v.T @ v / 30_000, torch.eye(3, dtype=v.dtype) / 3, rtol=0, atol=0.01)


def test_gradient_by_parameters_of_a_linear_model_is_twice_its_matrix(linear, x):
    jacobian_norm(linear, x, projections="exact").backward()
    assert_close(linear.weight.grad, 2 * linear.weight.detach())


def test_gradient_by_parameters_of_one_projection(linear, x, seeded):
    """d/dW K mean_i ||W^T v_i||^2 = 2K mean_i v_i v_i^T W."""
    jacobian_norm(linear, x, generator=seeded()).backward()
    v = sphere(len(x), 3, like=x, generator=seeded())
    assert_close(linear.weight.grad, 2 * 3 * v.T @ v @ linear.weight.detach() / len(x))


@pytest.mark.parametrize("projections", [2, "exact"])
def test_gradient_by_parameters_against_finite_differences(net, x, seeded, projections):
    def norm(*_):  # gradcheck moves the parameters in place
        return jacobian_norm(net, x, projections=projections, generator=seeded())

    assert gradcheck(norm, (net[1].weight, net[1].bias, net[3].weight))


def test_no_graph_under_no_grad(net, x):
    with torch.no_grad():
        norm = jacobian_norm(net, x, projections="exact")
    assert not norm.requires_grad
    assert_close(norm, jacobian_norm(net, x, projections="exact").detach())


@pytest.mark.parametrize("projections", [2, "exact"])
def test_norms_can_do_without_a_graph(net, x, seeded, projections):
    logits, x = logits_of(net, x)
    with_graph, without = (
        jacobian_norms(logits, x, projections=projections, generator=seeded(), create_graph=create_graph)
        for create_graph in (True, False)
    )
    assert with_graph.requires_grad and not without.requires_grad
    assert torch.equal(with_graph, without)


def test_neither_images_nor_parameters_keep_a_gradient(net, x):
    x.requires_grad_()
    jacobian_norm(net, x)
    assert x.grad is None
    assert [parameter.grad for parameter in net.parameters()] == [None] * 4


@pytest.mark.parametrize("projections", [0, -1, 1.5, True, "all", None])
def test_bad_projections(net, x, projections):
    with pytest.raises(InputError, match=f'^projections = {projections!r}; accepted: .* or "exact"$'):
        jacobian_norm(net, x, projections=projections)


def test_vjp_is_the_transposed_product(analytic, x):
    logits, x = logits_of(analytic, x)
    cotangent = torch.randn_like(logits)
    expected = torch.einsum("bkn,bk->bn", analytic.jacobian(x), cotangent)
    assert_close(vjp(logits, x, cotangent).flatten(1), expected)
    assert not vjp(logits, x, cotangent, create_graph=False).requires_grad


def test_gradients_by_hand(analytic, x, y):
    """dz_y/dx = J_y and g = J^T (p - onehot(y)), of each image and without a graph."""
    jacobian, p = analytic.jacobian(x), analytic(x).softmax(1)
    g = torch.einsum("bk,bkn->bn", p - F.one_hot(y, 3), jacobian).view_as(x).detach()
    assert_close(logit_gradient(analytic, x, y), jacobian[range(4), y].view_as(x).detach())
    assert_close(loss_gradient(analytic, x, y), g)


@pytest.mark.parametrize("gradient", [logit_gradient, loss_gradient])
def test_gradients_are_those_of_evaluation_mode_and_touch_nothing(batch_norm_net, x, y, gradient):
    x.requires_grad_()
    with torch.no_grad():
        found = gradient(batch_norm_net, x, y)
    assert batch_norm_net[1].num_batches_tracked == 0
    assert batch_norm_net[1].training
    assert x.grad is None and not found.requires_grad
    assert_close(found, gradient(batch_norm_net.eval(), x, y))


def test_training_mode_has_the_statistics_of_the_batch_and_moves_none(batch_norm_net, x):
    before = {name: value.clone() for name, value in batch_norm_net.state_dict().items()}
    training = jacobian_norm(batch_norm_net, x, projections="exact")
    assert_close(batch_norm_net.state_dict(), before, rtol=0, atol=0)
    assert jacobian_norm(batch_norm_net.eval(), x, projections="exact") != training
    inputs = batch_norm_net[0](x)
    batch_norm_net[1].running_mean = inputs.mean((0, 2, 3)).detach()
    batch_norm_net[1].running_var = inputs.var((0, 2, 3), correction=0).detach()
    assert_close(jacobian_norm(batch_norm_net, x, projections="exact"), training)


def test_any_rank_half_precision_and_a_plain_function(linear):
    weight = torch.randn(3, 16)
    norm = weight.square().sum()
    for shape in ((8, 16), (8, 1, 2, 2, 4)):
        assert_close(jacobian_norm(lambda x: x.flatten(1) @ weight.T, torch.rand(shape), projections="exact"), norm)
    half = jacobian_norm(lambda x: x @ weight.half().T, torch.rand(8, 16).half(), projections="exact")
    assert_close(half, norm, rtol=0.01, atol=0)
    with torch.inference_mode():
        x = torch.rand(8, 16)
        assert_close(jacobian_norm(lambda x: x @ weight.T, x, projections="exact"), norm)


@pytest.mark.parametrize("error", [None, KeyError])
def test_evaluation_mode_gives_every_module_its_own_mode_back(batch_norm_net, error):
    before = [module.training for module in batch_norm_net.modules()]
    assert set(before) == {True, False}
    with suppress(KeyError), evaluation_mode(batch_norm_net) as model:
        assert model is batch_norm_net
        assert not any(module.training for module in model.modules())
        if error:
            raise error
    assert [module.training for module in batch_norm_net.modules()] == before
