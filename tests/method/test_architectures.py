"""The single pass against the exact double backward pass, in value and derivative, and that against differences of the
value, on many architectures."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint
from torchvision import models

from jsigr_lib.method import jsigr
from jsigr_lib.method.autograd import differentiable_twice
from jsigr_lib.method.jsigr import JSIGR

SIDE = 8


class Of(nn.Module):
    """A function of the image and of some layers as a model."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def cnn(*norm, activation=nn.ReLU, conv=nn.Conv2d, **options):
    body = [conv(3, 4, 3, **options), *norm, activation(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)]
    return nn.Sequential(*body)


def recurrent(kind):
    return Of(lambda m, x: m.head(m.cell(x.flatten(2))[0][:, -1]), cell=kind(SIDE * SIDE, 5, batch_first=True),
              head=nn.Linear(5, 3))  # fmt: skip


def tokens(x):
    return x.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2)[..., :12]


def attention():
    return Of(lambda m, x: m.head(m.a(tokens(x), tokens(x), tokens(x), need_weights=False)[0].mean(1)),
              a=nn.MultiheadAttention(12, 2, batch_first=True), head=nn.Linear(12, 3))  # fmt: skip


def transformer():
    layer = nn.TransformerEncoderLayer(12, 2, 8, dropout=0.0, batch_first=True)
    return Of(lambda m, x: m.head(m.body(tokens(x)).mean(1)), body=layer, head=nn.Linear(12, 3))


def kernel_from_image():
    def run(m, x):
        n, kernel = len(x), m.k(x.flatten(1)).view(-1, 3, 3, 3)
        return (
            F.conv2d(x.flatten(0, 1)[None], kernel.flatten(0, 1)[:, None], groups=3 * n).view(n, 3, -1).tanh().mean(2)
        )

    return Of(run, k=nn.Linear(3 * SIDE * SIDE, 27))


def user_batch_norm():
    def run(m, x):
        h = m.c(x)
        return m.head(F.batch_norm(h, None, None, m.w, None, training=True).tanh().mean((2, 3)))

    return Of(run, c=nn.Conv2d(3, 4, 3), w=nn.Parameter(torch.rand(4) + 0.5), head=nn.Linear(4, 3))


def twice():
    def run(m, x):
        return m.head(m.n(m.c(m.n(m.c(x)).tanh())).relu().mean((2, 3)))

    return Of(run, c=nn.Conv2d(3, 3, 3), n=nn.BatchNorm2d(3), head=nn.Linear(3, 3))


def checkpointed(use_reentrant, *norm):
    part = nn.Sequential(nn.Conv2d(3, 4, 3), *norm, nn.Tanh())
    return Of(lambda m, x: m.head(checkpoint(m.part, x, use_reentrant=use_reentrant).mean((2, 3))), part=part,
              head=nn.Linear(4, 3))  # fmt: skip


def residual(activation):
    return Of(lambda m, x: m.head((m.act(m.b(m.act(m.a(x)))) + m.a(x)).mean((2, 3))), a=nn.Conv2d(3, 4, 3, padding=1),
              b=nn.Conv2d(4, 4, 3, padding=1), act=activation, head=nn.Linear(4, 3))  # fmt: skip


def vit():
    return models.VisionTransformer(SIDE, 4, 1, 2, 8, 16, num_classes=3)


def swin():
    return models.SwinTransformer([2, 2], 8, [1, 1], [2, 2], [2, 2], stochastic_depth_prob=0.0, num_classes=3)


def convnext():
    from torchvision.models.convnext import CNBlockConfig

    return models.ConvNeXt([CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)], 0.0, 1.0, num_classes=3)


def densenet(memory_efficient=False):
    return models.DenseNet(4, (2, 1), 4, num_classes=3, memory_efficient=memory_efficient)


QUICK = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 3)),
    "mlp, tanh": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 5), nn.Tanh(), nn.Linear(5, 3)),
    "cnn": cnn,
    "cnn, SiLU": lambda: cnn(activation=nn.SiLU),
    "cnn, GELU": lambda: cnn(activation=nn.GELU),
    "cnn, softplus": lambda: cnn(activation=nn.Softplus),
    "cnn, leaky": lambda: cnn(activation=nn.LeakyReLU),
    "cnn, PReLU": lambda: cnn(activation=nn.PReLU),
    "cnn, in place": lambda: cnn(activation=lambda: nn.ReLU(inplace=True)),
    "cnn, dilated": lambda: cnn(dilation=2),
    "cnn, same, circular": lambda: cnn(padding="same", padding_mode="circular"),
    "transposed": lambda: cnn(conv=nn.ConvTranspose2d),
    "weight norm": lambda: cnn(conv=lambda *a: parametrizations.weight_norm(nn.Conv2d(*a))),
    "spectral norm": lambda: cnn(conv=lambda *a: parametrizations.spectral_norm(nn.Conv2d(*a))),
    "batch norm": lambda: cnn(nn.BatchNorm2d(4)),
    "batch norm, no weights": lambda: cnn(nn.BatchNorm2d(4, affine=False)),
    "batch norm, no statistics": lambda: cnn(nn.BatchNorm2d(4, track_running_stats=False)),
    "batch norm, cumulative": lambda: cnn(nn.BatchNorm2d(4, momentum=None)),
    "batch norm of the user": user_batch_norm,
    "batch norm twice": twice,
    "group norm": lambda: cnn(nn.GroupNorm(2, 4)),
    "instance norm": lambda: cnn(nn.InstanceNorm2d(4, affine=True)),
    "local response": lambda: cnn(nn.LocalResponseNorm(2)),
    "residual": lambda: residual(nn.ReLU()),
    "residual, SiLU": lambda: residual(nn.SiLU()),
    "lstm": lambda: recurrent(nn.LSTM),
    "gru": lambda: recurrent(nn.GRU),
    "attention": attention,
    "transformer": transformer,
    "kernel from the image": kernel_from_image,
    "checkpoint": lambda: checkpointed(False),
    "checkpoint, batch norm": lambda: checkpointed(False, nn.BatchNorm2d(4)),
    "checkpoint, reentrant": lambda: checkpointed(True, nn.BatchNorm2d(4)),
}
SLOW = {
    "resnet": lambda: models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3),
    "bottleneck": lambda: models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=3),
    "densenet": densenet,
    "densenet, memory": lambda: densenet(memory_efficient=True),
    "vit": vit,
    "swin": swin,
    "convnext": convnext,
    "mobilenet": lambda: models.MobileNetV2(3, 0.1, [[1, 8, 1, 1], [6, 8, 1, 2]], dropout=0.0),
    "shufflenet": lambda: models.ShuffleNetV2([1, 1, 1], [8, 8, 8, 8, 8], num_classes=3),
    "squeezenet": lambda: models.SqueezeNet("1_1", 3, dropout=0.0),
}


NO_DIFFERENCES = {("spectral norm", True)}  # whose power iteration moves with the weights, and counts as constant
STEP = 1e-7
EXACT = JSIGR(5.0, 5.0, fraction=1, selection=None, estimator="exact")


def entropy(model, x, y):
    with differentiable_twice():  # beneath a reentrant checkpoint, weights have no gradient otherwise
        return F.cross_entropy(model(x), y)


def penalised(estimator, *weights):
    return JSIGR(*weights, fraction=1, selection=None, estimator=estimator)


def loss_and_gradient(model, state, objective, x, y):
    """One vector each."""
    model.load_state_dict(state)  # a power iteration goes on with every pass
    loss = objective(model, x, y)
    gradient = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return torch.stack([loss.detach()]), torch.cat([part.flatten() for part in gradient])


def slope(model, state, direction, x, y):
    """By a central difference, of the value along a direction of the parameters."""
    values = []
    for step in (STEP, -STEP):
        model.load_state_dict(state)
        with torch.no_grad():
            parts = direction.split([parameter.numel() for parameter in model.parameters()])
            for parameter, part in zip(model.parameters(), parts, strict=True):
                parameter += step * part.view_as(parameter)
            values.append(EXACT(model, x, y))
    return (values[0] - values[1]) / (2 * STEP)


def assert_equal_up_to_rounding(found, truth):
    """Beside the largest entry of all: what batch norm undoes has a gradient of 0, by cancellation."""
    for one, other in zip(found, truth, strict=True):
        assert_close(one, other, rtol=0, atol=1e-10 * other.abs().max().item())


def compare(make, side, training, monkeypatch, differences=True):
    """R_S, one vector for each image, and R_J, of which E[v v^T] = I / K, as the mean over the K unit vectors: both at
    once against the exact ones. Their gradient against differences of their value, along a
    direction."""
    torch.manual_seed(0)
    model = make().double().train(training)
    x, y = torch.rand(4, 3, side, side, dtype=torch.double), torch.arange(4) % 3
    with torch.no_grad():  # away from the kinks where batch norms and biases begin
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    tails = loss_and_gradient(model, state, penalised("single-pass", 0.0, 5.0), x, y)
    heads = []
    for k in range(3):
        unit = torch.eye(3, dtype=torch.double)[k].expand(4, 3)
        with monkeypatch.context() as patched:
            patched.setattr(jsigr, "sphere", lambda *_, unit=unit, **__: unit)
            heads.append(loss_and_gradient(model, state, penalised("single-pass", 5.0, 0.0), x, y))
    exact, plain = (loss_and_gradient(model, state, objective, x, y) for objective in (EXACT, entropy))
    both = [sum(parts) / 3 for parts in zip(*heads, strict=True)]
    found = [tail + head - once for tail, head, once in zip(tails, both, plain, strict=True)]
    assert_equal_up_to_rounding(found, exact)

    if differences:
        direction = F.normalize(torch.randn_like(exact[1]), dim=0)
        assert_close(slope(model, state, direction, x, y), exact[1] @ direction, rtol=0,
                     atol=1e-5 * exact[1].norm().item())  # fmt: skip


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", QUICK)
def test_single_pass_is_exact_and_has_the_slope_of_its_value(name, training, monkeypatch):
    compare(QUICK[name], SIDE, training, monkeypatch, (name, training) not in NO_DIFFERENCES)


@pytest.mark.torture
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", SLOW)
def test_single_pass_is_exact_on_larger_ones(name, training, monkeypatch):
    compare(SLOW[name], SIDE if name == "vit" else 4 * SIDE, training, monkeypatch)
