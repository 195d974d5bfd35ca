"""Batch norm beneath a gradient penalty, and layers whose double backward is cheap: what they change, and what not."""

import pytest
import torch
from torch import nn
from torch.autograd import grad
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.method.autograd import CheapDoubleBackward, _Replaced, differentiable_twice
from jsigr_lib.method.batch_norm import BatchStatistics, _Measured, affine_batch_norm, logits_apart
from jsigr_lib.method.errors import InputError

# the statistics of a batch, carried from a pass in training mode to one in evaluation mode

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
    """Logits of `x` in training mode, and of `some` as if they were in that batch."""
    statistics = BatchStatistics()
    with statistics:
        z = model.train()(x)
    with statistics.carried(model):
        return z, model(some)


def test_the_batch_itself_gives_the_same_logits_and_weight_gradients(network):
    model, x = network
    train, evaluation = carried(model, x, x)
    assert_close(evaluation, train)
    weights = list(model.parameters())
    by_weights = [grad(z.sin().sum(), weights, retain_graph=True) for z in (evaluation, train)]
    assert_close(*by_weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_sample_is_normalised_as_in_its_batch_and_differentiated_by_itself(name, fixed_seed):
    model, shape = NETWORKS[name]
    x = torch.randn(shape, dtype=torch.double)
    some = x[1:3].clone().requires_grad_()
    train, evaluation = carried(model.double(), x, some)
    assert_close(evaluation, train[1:3])
    (gradient,) = grad(evaluation[0].sin().sum(), some)
    assert gradient[0].abs().max() > 0 and gradient[1].abs().max() == 0


def test_a_layer_that_was_in_evaluation_mode_keeps_its_own_statistics(fixed_seed):
    model = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4), nn.BatchNorm1d(4)).double().train()
    model[0].eval()
    model[0].running_mean += 1
    x, statistics = torch.randn(6, 5, dtype=torch.double), BatchStatistics()
    with statistics:
        z = model(x)
    with statistics.carried(model):
        assert_close(model(x), z)


def test_running_statistics_are_those_of_one_pass(fixed_seed):
    model, x = nn.BatchNorm1d(5), torch.randn(6, 5)
    expected = nn.BatchNorm1d(5)
    expected(x)
    carried(model, x, x)
    assert_close(model.state_dict(), expected.state_dict())


def test_batch_norm_in_training_mode_is_known_by_its_call(fixed_seed):
    x = torch.randn(6, 2)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert logits_apart(model, x) is None
    assert logits_apart(lambda x: F.batch_norm(x, None, None, training=True), x) is None
    assert logits_apart(lambda x: torch.batch_norm(x, None, None, None, None, True, 0.1, 1e-5, False), x) is None
    assert_close(logits_apart(model.eval(), x), model(x))


def test_statistics_that_batch_norm_computes_are_differentiable_with_it(fixed_seed):
    def layer(*tensors):
        return _Measured.apply(*tensors, None, None, 0.1, 1e-5)

    for shape in ((5, 3), (3, 3, 2, 2)):
        given = [torch.randn(s, dtype=torch.double, requires_grad=True) for s in (shape, (3,), (3,))]
        z, mean, scale = layer(*given)
        assert_close(z, F.batch_norm(given[0], None, None, *given[1:], training=True))
        over = [0, *range(2, len(shape))]
        assert_close([mean, scale], [given[0].mean(over), (given[0].var(over, correction=0) + 1e-5).rsqrt()])
        assert torch.autograd.gradcheck(layer, given) and torch.autograd.gradgradcheck(layer, given)


class Now(nn.Module):
    """A layer that is passed only if `on`."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer, self.on = layer, False

    def forward(self, x):
        return self.layer(x) if self.on else x


def only_carried(layer, x):
    """What the layer makes of x where the batch itself did not pass it."""
    model, statistics = Now(layer).train(), BatchStatistics()
    with statistics:
        model(x)
    model.on = True
    with statistics.carried(model):
        return model(x)


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_that_the_batch_did_not_pass_has_its_running_statistics(affine, fixed_seed):
    layer, x = nn.BatchNorm1d(5, affine=affine, eps=0.3, momentum=None), torch.randn(6, 5)
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.5, 2)
    for weight in layer.parameters():
        nn.init.normal_(weight)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    found = only_carried(layer, x)
    assert_close(layer.state_dict(), before)
    assert_close(found, layer.eval()(x))


def test_a_batch_norm_without_running_statistics_that_the_batch_did_not_pass_is_refused():
    layer = nn.BatchNorm1d(5, track_running_stats=False)
    message = "a batch norm that the batch did not pass; accepted: the same layers in every pass"
    with pytest.raises(InputError, match=f"^{message}$"):
        only_carried(layer, torch.rand(6, 5))


def test_a_batch_norm_whose_weight_is_computed_is_known_by_its_place(fixed_seed):
    """Its weight is another tensor in each pass."""
    x, weight = torch.randn(6, 2), torch.randn(2).requires_grad_()

    def model(x):
        return F.batch_norm(x, None, None, weight * 2, training=True)

    statistics = BatchStatistics()
    with statistics:
        z = model(x)
    kept = torch.zeros(99)  # so that no tensor lies where one of the first pass lay
    with statistics.carried(model):
        assert_close(model(x), z)
    assert len(kept) == 99


def test_batch_norm_with_given_statistics_keeps_the_type():
    x = torch.rand(4, 3, dtype=torch.bfloat16)
    assert affine_batch_norm(x, torch.zeros(3), torch.ones(3), None, None).dtype == torch.bfloat16


def test_one_value_per_channel_is_refused_by_torch():
    with BatchStatistics(), pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(3)(torch.rand(1, 3))


# layers whose double backward is cheap


class Inplace(nn.Module):
    """A residual connection around an in-place ReLU, whose input changes with it."""

    def forward(self, x):
        y = x * 2
        return F.relu(y, inplace=True) + y


def normalised(channels: int, affine: bool = True) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, affine=affine).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


BODIES = {
    "plain": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 2)),
    "no bias": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 3, 2)),
    "strided": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 1)),
    "uneven": lambda: nn.Sequential(nn.Conv2d(2, 4, (3, 1), stride=(1, 2), padding=(0, 1)), nn.ReLU()),
    "dilated": lambda: nn.Sequential(nn.Conv2d(2, 4, 2, dilation=2), nn.Softplus()),
    "groups": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU()),
    "same padding": lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding="same"), nn.Tanh()),
    "batch norm": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), normalised(4), nn.ReLU(), nn.Conv2d(4, 3, 2)),
    "batch norm without weights": lambda: nn.Sequential(normalised(2, affine=False), nn.Conv2d(2, 3, 3), nn.Tanh()),
    "batch norm in training": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
    "batch norm without statistics": lambda: nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False).eval()),
    "SiLU": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.SiLU(), nn.Conv2d(4, 3, 2), nn.SiLU(inplace=True)),
    "GELU": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Conv2d(4, 3, 2), nn.GELU("tanh")),
    "in place": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), Inplace()),
}


@pytest.fixture(params=BODIES)
def model(request, fixed_seed):
    return nn.Sequential(BODIES[request.param](), nn.Flatten(), nn.LazyLinear(3), nn.Softplus()).double()


@pytest.fixture
def images(fixed_seed, model):
    x = torch.randn(3, 2, 6, 5, dtype=torch.double)
    model(x)  # the last layer finds its size
    return x


def derivatives(model, x, layers=None):
    """Value, gradients by the input, by the weights, and by the weights of a norm of the former."""
    x = x.clone().requires_grad_()
    weights = list(model.parameters())
    if layers is None:
        z = model(x)
        (g,) = torch.autograd.grad(z.square().sum(), x, create_graph=True)
    else:
        with layers:
            z = model(x)
        with layers.inputs_only():
            (g,) = torch.autograd.grad(z.square().sum(), x, create_graph=True)
    penalty = (g.square() * torch.linspace(0, 1, g.numel()).view_as(g)).sum()
    first = torch.autograd.grad(z.sum(), weights, retain_graph=True, materialize_grads=True)
    both = torch.autograd.grad(penalty + z.sum(), weights, materialize_grads=True)
    return [z, g, *first, *both]


def test_value_and_derivatives_are_those_of_torch(model, images):
    expected = derivatives(model, images)
    for found, truth in zip(derivatives(model, images, CheapDoubleBackward()), expected, strict=True):
        assert_close(found, truth)


def test_weights_keep_their_gradient_under_create_graph(model, images):
    """A loss whose backward pass is itself differentiated, by the weights and beyond what the penalty needs."""

    def curvature(context):
        with context:
            z = model(images)
        weights = list(model.parameters())
        first = torch.autograd.grad(z.square().mean(), weights, create_graph=True, materialize_grads=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), weights, materialize_grads=True)

    for found, truth in zip(curvature(CheapDoubleBackward()), curvature(torch.enable_grad()), strict=True):
        assert_close(found, truth)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.SiLU, nn.GELU])
def test_third_derivative(images, activation):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), activation(), nn.Flatten()).double()

    def third(layers):
        x = images.clone().requires_grad_()
        with layers:
            z = model(x)
        (g,) = torch.autograd.grad(z.sum(), x, create_graph=True)
        (h,) = torch.autograd.grad(g.square().sum(), x, create_graph=True)
        return torch.autograd.grad(h.square().sum(), [x, *model.parameters()], materialize_grads=True)

    for found, truth in zip(third(CheapDoubleBackward()), third(torch.enable_grad()), strict=True):
        assert_close(found, truth)


def test_inputs_only_skips_the_weights_and_only_there(images):
    convolution, layers = nn.Conv2d(2, 3, 3).double(), CheapDoubleBackward()
    with layers:
        z = convolution(images.requires_grad_())
    with pytest.raises(RuntimeError, match="boom"), layers.inputs_only():
        assert torch.autograd.grad(z.sum(), convolution.weight, retain_graph=True, allow_unused=True) == (None,)
        raise RuntimeError("boom")
    assert torch.autograd.grad(z.sum(), convolution.weight)[0].abs().sum() > 0


def test_the_gradient_by_images_that_are_named_is_for_the_penalty_alone(images):
    """Through layers without weights too. What is trained below a convolution keeps its gradient."""
    shift = torch.rand(2, 1, 1, dtype=torch.double, requires_grad=True)
    convolution, images = nn.Conv2d(2, 3, 3).double(), images.requires_grad_()
    for make in (lambda: 2 * images - 1, lambda: images + shift, lambda: shift.expand(3, 2, 6, 5)):
        with CheapDoubleBackward(images):
            z = convolution(make())
        found, truth = (
            torch.autograd.grad(z.square().sum(), [images, shift, convolution.weight], materialize_grads=True)
            for z in (z, convolution(make()))
        )
        assert_close(found[1:], truth[1:])
        assert (found[0].abs().sum() > 0) == (truth[1].abs().sum() > 0 and truth[0].abs().sum() > 0)


def test_leaves_other_calls_and_code_outside_alone(images):
    with CheapDoubleBackward():
        inside = F.conv2d(images[0], torch.ones(1, 2, 2, 2, dtype=torch.double))  # an unbatched image
        assert type(F.conv2d(images, torch.ones(1, 2, 2, 2, dtype=torch.double).requires_grad_()).grad_fn).__name__ == (
            "_ConvolutionBackward"
        )
    assert inside.shape == (1, 5, 4)
    outside = F.conv2d(images, torch.ones(1, 2, 2, 2, dtype=torch.double).requires_grad_())
    assert type(outside.grad_fn).__name__ == "ConvolutionBackward0"


class Own(nn.Parameter):
    """A parameter of another library, whose meaning we do not know."""


class Pictures(torch.Tensor):
    """Images of another library."""


MEAN, SCALE = torch.zeros(2, dtype=torch.double), torch.ones(2, dtype=torch.double)
KERNEL = torch.linspace(-1, 1, 12, dtype=torch.double).view(2, 2, 1, 3)


@pytest.mark.parametrize(
    ("ours", "layer"),
    [
        (True, F.relu),
        (False, lambda x: F.relu(x + 0, inplace=True)),
        (True, F.silu),
        (True, F.gelu),
        (True, lambda x: F.gelu(x, approximate="none")),
        (False, lambda x: F.gelu(x, approximate="tanh")),
        (True, lambda x: F.batch_norm(x, MEAN, SCALE)),
        (True, lambda x: F.batch_norm(x, MEAN, SCALE, SCALE, MEAN)),
        (False, lambda x: F.batch_norm(x, MEAN, SCALE, training=True)),
        (False, lambda x: F.batch_norm(x, None, None, training=True)),
        (False, lambda x: F.batch_norm(x, MEAN, SCALE, Own(SCALE), MEAN)),
        (False, lambda x: F.batch_norm(x.bfloat16(), MEAN.float(), SCALE.float())),
        (False, lambda x: F.relu(x.bfloat16())),
        (True, lambda x: F.conv2d(x, KERNEL)),
        (True, lambda x: F.conv2d(x, KERNEL, MEAN, (2, 1), 1, groups=1)),
        (False, lambda x: F.conv2d(x, KERNEL * x.mean())),
        (False, lambda x: F.conv2d(x, KERNEL, padding="same")),
        (False, lambda x: F.conv2d(x, Own(KERNEL))),
        (False, lambda x: F.conv2d(x.as_subclass(Pictures), KERNEL)),
        (False, lambda x: F.conv2d(x.bfloat16(), KERNEL.bfloat16())),
    ],
)
def test_which_layers_are_replaced(images, ours, layer):
    """As the derivatives are equal, nothing else tells; values are equal whatever is left out."""
    images = images.requires_grad_()
    with CheapDoubleBackward():
        z = layer(images)
    theirs = layer(images)
    assert_close(z, theirs)
    assert (type(z.grad_fn) is not type(theirs.grad_fn)) == ours


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_convolution_passes_the_penalty_on(images, frozen):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.SiLU(), nn.Conv2d(3, 2, 2), nn.SiLU()).double()
    model[2 * frozen].requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]

    def penalty(layers):
        x = images.clone().requires_grad_()
        with layers:
            z = model(x)
        (g,) = torch.autograd.grad(z.sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), weights)

    for found, truth in zip(penalty(CheapDoubleBackward()), penalty(torch.enable_grad()), strict=True):
        assert_close(found, truth)


def test_a_name_of_torchs_is_replaced_while_anybody_is_inside():
    theirs, ours = torch.utils.checkpoint.checkpoint, object()
    replaced = _Replaced("checkpoint", ours)
    with replaced:
        with replaced:
            assert torch.utils.checkpoint.checkpoint is ours
        assert torch.utils.checkpoint.checkpoint is ours
    assert torch.utils.checkpoint.checkpoint is theirs


def test_arguments_may_be_named(images):
    weight = torch.randn(2, 2, 2, 2, dtype=torch.double, requires_grad=True)
    named = {"input": images, "weight": weight, "stride": (2, 1), "padding": 1}
    with CheapDoubleBackward():
        assert_close(F.conv2d(**named), F.conv2d(images, weight, None, (2, 1), 1))
        assert_close(F.relu(input=images), images.clamp_min(0))
        assert_close(F.gelu(input=images, approximate="none"), F.gelu(images))


def test_recurrent_layers_are_not_those_whose_double_backward_is_slow_and_settings_stay():
    def kernels():
        return type(nn.LSTM(2, 3)(torch.rand(4, 2, 2))[0].grad_fn).__name__

    usual = kernels()
    with differentiable_twice():
        assert "Mkldnn" not in kernels()
    assert kernels() == usual


def test_autocast_keeps_torchs_own_layers(images):
    convolution = nn.Conv2d(2, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16), CheapDoubleBackward() as layers:
        z = convolution(images.float().requires_grad_())
    assert z.dtype == torch.bfloat16
    with layers.inputs_only():
        torch.autograd.grad(z.float().sum(), convolution.weight)


def test_statistics_go_with_their_layer_where_another_one_is_skipped():
    """As in a network of random depth."""
    first, second = nn.BatchNorm1d(3).double(), nn.BatchNorm1d(3).double()
    x, statistics = torch.rand(8, 3, dtype=torch.double), BatchStatistics()
    with statistics:
        first(5 * x)
        expected = second(x)
    with statistics.carried(nn.ModuleList([first, second])):
        assert_close(second(x), expected)
