"""What a batch's statistics do when they are carried from a pass in training mode to one in evaluation mode."""

import pytest
import torch
from torch import nn
from torch.autograd import grad

from jsigr_lib.batch_norm import BatchStatistics, trains_batch_norm

NETWORKS = {
    "images": (nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 2)), (6, 2, 5, 5)),
    "vectors": (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)), (6, 5)),
    "without weights": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False), nn.Tanh()), (6, 2, 5, 5)),
    "without running statistics": (nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False)), (6, 5)),
    "two": (nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh()), (6, 5)),
}


@pytest.fixture(params=NETWORKS)
def network(request, fixed_seed):
    model, shape = NETWORKS[request.param]
    return model.double(), torch.randn(shape, dtype=torch.double)


def carried(model, x, some):
    """Logits of `x` in training mode, and of `some` in evaluation mode as if they were in that batch."""
    statistics = BatchStatistics()
    with statistics:
        z = model.train()(x)
    with statistics:
        return z, model.eval()(some)


def test_the_batch_itself_gives_the_same_logits_and_weight_gradients(network):
    model, x = network
    train, evaluation = carried(model, x, x)
    torch.testing.assert_close(evaluation, train)
    weights = list(model.parameters())
    by_weights = [grad(z.sin().sum(), weights, retain_graph=True) for z in (evaluation, train)]
    torch.testing.assert_close(*by_weights)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "without running statistics"])
def test_each_sample_is_normalised_as_in_its_batch_and_differentiated_by_itself(name, fixed_seed):
    model, shape = NETWORKS[name]
    x = torch.randn(shape, dtype=torch.double)
    some = x[1:3].clone().requires_grad_()
    train, evaluation = carried(model.double(), x, some)
    torch.testing.assert_close(evaluation, train[1:3])
    (gradient,) = grad(evaluation[0].sin().sum(), some)
    assert gradient[0].abs().max() > 0 and gradient[1].abs().max() == 0


def test_a_layer_that_was_in_evaluation_mode_keeps_its_own_statistics(fixed_seed):
    model = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4), nn.BatchNorm1d(4)).double().train()
    model[0].eval()
    model[0].running_mean += 1
    x, statistics = torch.randn(6, 5, dtype=torch.double), BatchStatistics()
    with statistics:
        z = model(x)
    with statistics:
        torch.testing.assert_close(model.eval()(x), z)


def test_running_statistics_are_those_of_one_pass(fixed_seed):
    model, x = nn.BatchNorm1d(5), torch.randn(6, 5)
    expected = nn.BatchNorm1d(5)
    expected(x)
    carried(model, x, x)
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


def test_who_trains_batch_norm():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert trains_batch_norm(model) and not trains_batch_norm(model.eval()) and not trains_batch_norm(nn.Linear(2, 2))
