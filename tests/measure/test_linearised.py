import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.testing import assert_close

from jsigr_lib.measure.linearised import (
    full_jacobian,
    linearisation_error,
    linearised_robustness,
    projection_draws,
    projection_variance,
)


class Affine(nn.Module):
    """z = W x + b."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = (torch.tensor(v, dtype=torch.double) for v in (weight, bias))

    def forward(self, x):
        return x.flatten(1) @ self.weight.T + self.bias


def image(*pixels: float) -> torch.Tensor:
    return torch.tensor(pixels, dtype=torch.double).view(1, 1, 1, -1)


# Jacobians and projections


def test_full_jacobian_of_known_models(analytic, x):
    assert_close(full_jacobian(analytic, x), analytic.jacobian(x))


def test_full_jacobian_is_taken_in_evaluation_mode(batch_norm_net, x):
    modes = [module.training for module in batch_norm_net.modules()]
    together = full_jacobian(batch_norm_net, x)
    alone = torch.cat([full_jacobian(batch_norm_net, one[None]) for one in x])
    assert_close(together, alone)
    assert [module.training for module in batch_norm_net.modules()] == modes
    assert all(parameter.grad is None for parameter in batch_norm_net.parameters())


def test_projection_variance_by_hand():
    """One class: no variance. J = (1, 0; 0, 0): K ||J^T v||^2 = 2 cos^2, of variance 1/2."""
    assert_close(projection_variance(torch.rand(3, 1, 7)), torch.zeros(3), atol=1e-5, rtol=0)
    one = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert_close(projection_variance(one), torch.tensor([0.5]))
    orthonormal = torch.eye(3)[None]
    assert_close(projection_variance(orthonormal), torch.zeros(1))


def test_projection_variance_against_monte_carlo(analytic, x, seeded):
    jacobian = analytic.jacobian(x)
    draws = projection_draws(jacobian, 20_000, seeded())
    assert draws.shape == (20_000, len(x))
    variance = projection_variance(jacobian)
    exact = jacobian.square().sum((1, 2))
    assert ((draws.mean(0) - exact).abs() < 4.5 * (variance / 20_000).sqrt()).all()
    assert_close(draws.var(0), variance, rtol=0.06, atol=0)


def test_projections_are_independent_and_seeded(linear, x, seeded):
    jacobian = full_jacobian(linear, x)  # the same for every image
    draws = projection_draws(jacobian, 5, seeded())
    assert len(draws.unique()) == 5 * len(x)
    assert torch.equal(draws, projection_draws(jacobian, 5, seeded()))
    assert not torch.equal(draws, projection_draws(jacobian, 5, seeded(1)))


# linearised robustness


def test_two_classes_by_hand():
    """z = (3 a + 4 b, 0): the boundary 3 a + 4 b = 0 is |3 a + 4 b| / 5 away."""
    model = Affine([[3.0, 4.0], [0.0, 0.0]], [0.0, 0.0])
    found = linearised_robustness(model, torch.cat([image(1, 0.5), image(0.2, 0.1), image(-1, 0.5)]))
    assert_close(found["margin"], torch.tensor([5, 1, 1], dtype=torch.double))
    assert_close(found["jacobian"], torch.full((3,), 5.0, dtype=torch.double))
    assert_close(found["robustness"], torch.tensor([1, 0.2, 0.2], dtype=torch.double))
    assert_close(found["bound"], found["robustness"] / 2**0.5)
    assert_close(found["alignment"], found["robustness"])  # of a homogeneous model (Etmann et al. 2019)


def test_nearest_class_is_not_always_the_second():
    """z = (a, 0, 10 b - 6) at (1, 0.65): the margin is to class 2 (0.5), but class 2 is also steeper, and at (1, 0.61)
    class 1 has the smaller gap to slope ratio nowhere near: distances 1 / 1 and 0.9 / sqrt(101)."""
    model = Affine([[1.0, 0.0], [0.0, 0.0], [0.0, 10.0]], [0.0, 0.0, -6.0])
    found = linearised_robustness(model, image(1, 0.61))
    assert found["margin"].item() == pytest.approx(0.9)
    assert found["robustness"].item() == pytest.approx(0.9 / 101**0.5)
    assert found["alignment"].item() == pytest.approx(abs(1 - 6.1) / 101**0.5)
    far = linearised_robustness(model, image(0.9, 0.0))  # gaps 0.9 and 6.9, slopes 1 and sqrt(101)
    assert far["margin"].item() == pytest.approx(0.9)
    assert far["robustness"].item() == pytest.approx(6.9 / 101**0.5)
    assert far["alignment"].item() == pytest.approx(0.9 / 101**0.5)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_exact_distance_to_the_boundary_of_an_affine_model(classes):
    """Step by rho along the steepest direction to each other class: the first tie is met exactly at rho."""
    model = Affine(torch.randn(classes, 12).tolist(), torch.randn(classes).tolist())
    x = torch.rand(20, 1, 3, 4, dtype=torch.double)
    found = linearised_robustness(model, x)
    z = model(x)
    for i in range(20):
        top = int(z[i].argmax())
        ties = []
        for other in set(range(classes)) - {top}:
            normal = model.weight[other] - model.weight[top]
            moved = x[i].flatten() + found["robustness"][i] * normal / normal.norm()
            logits = model(moved[None])[0]
            ties.append((logits[other] - logits[top]).item())
        assert max(ties) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_bound_is_below_robustness(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5)).double()
    found = linearised_robustness(model, torch.rand(200, 1, 4, 5, dtype=torch.double))
    assert (found["bound"] > 0).all()
    assert (found["bound"] <= found["robustness"]).all()
    assert_close(found["bound"], found["margin"] / 2**0.5 / found["jacobian"])


def test_robustness_follows_the_formula(quadratic, x):
    found = linearised_robustness(quadratic, x)
    z, jacobian = quadratic(x), quadratic.jacobian(x)
    assert_close(found["jacobian"], jacobian.square().sum((1, 2)).sqrt())
    for i in range(len(x)):
        top = int(z[i].argmax())
        others = [k for k in range(3) if k != top]
        distance = {k: ((z[i, top] - z[i, k]) / (jacobian[i, top] - jacobian[i, k]).norm()).item() for k in others}
        nearest = min(distance, key=distance.get)
        slope = jacobian[i, top] - jacobian[i, nearest]
        assert found["robustness"][i].item() == pytest.approx(distance[nearest])
        assert found["margin"][i].item() == pytest.approx(min((z[i, top] - z[i, k]).item() for k in others))
        assert found["alignment"][i].item() == pytest.approx(((x[i].flatten() @ slope).abs() / slope.norm()).item())


# where linearisation fails


@pytest.mark.parametrize("radii", [[0.25, 1.0, 50.0], pytest.param([0.01, 0.1, 0.3])], ids=str)
def test_tangent_of_an_affine_model_is_exact(linear, x, seeded, radii):
    for error in linearisation_error(linear, x, radii, seeded()):
        assert error.shape == (3, len(x))
        assert error.max() < 1e-12


def test_tangent_of_a_quadratic_errs_with_the_square_of_the_distance(quadratic, x, seeded):
    """||z(x + r u) - z(x) - r J u|| is exactly r^2 / 2 ||(u^T A_k u)_k||."""
    relative, of_margin = linearisation_error(quadratic, x, [1e-3, 2e-3], seeded())
    assert_allclose((of_margin[1] / of_margin[0]).numpy(), 4, rtol=1e-3)
    assert_allclose((relative[1] / relative[0]).numpy(), 2, rtol=0.02)
    assert (relative > 0).all()


def test_tangent_error_by_hand(seeded):
    """z = (x^2, 0) of one pixel, x = 1, u = +-1: e = r^2, the change is 2 r u + r^2, the margin 1."""

    class Square(nn.Module):
        def forward(self, x):
            z = x.flatten(1).square()
            return torch.cat([z, torch.zeros_like(z)], 1)

    x = torch.ones(6, 1, 1, 1, dtype=torch.double)
    relative, of_margin = linearisation_error(Square(), x, [0.5, 0.25], seeded())
    assert_close(of_margin, torch.tensor([[0.25], [0.0625]]).double().expand(2, 6))
    forward, backward = (0.25 / 1.25, 0.0625 / 0.5625), (0.25 / 0.75, 0.0625 / 0.4375)
    assert {tuple(round(value, 9) for value in column) for column in relative.T.tolist()} == {
        tuple(round(value, 9) for value in column) for column in (forward, backward)
    }
