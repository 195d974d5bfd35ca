import pytest
import torch
from torch import nn
from torch.testing import assert_close

from jsigr_lib.method.errors import InputError
from jsigr_lib.networks import models
from jsigr_lib.networks.models import ARCHITECTURES, Normalise, PreactivationBlock, build

GREY = {"channels": 1, "size": 28, "classes": 10, "mean": [0.286], "std": [0.353]}
COLOUR = {"channels": 3, "size": 32, "classes": 7, "mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26]}
NARROW = {"resnet18": 8, "wrn28-10": 16}

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@every_architecture
@pytest.mark.parametrize("data", [GREY, COLOUR], ids=["grey", "colour"])
def test_logits_are_finite_and_every_parameter_is_used(architecture, data):
    model = build(architecture, **data, seed=0, width=NARROW.get(architecture))
    z = model(torch.rand(4, data["channels"], data["size"], data["size"]))
    assert z.shape == (4, data["classes"]) and z.dtype == torch.float32
    assert z.isfinite().all()
    z.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@every_architecture
def test_weights_are_a_function_of_the_seed_alone(architecture):
    options = {**GREY, "width": 8}
    state = torch.get_rng_state()
    first = build(architecture, **options, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    again, other = (build(architecture, **options, seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    weights = [name for name in first if name.endswith("weight") and first[name].ndim > 1]
    assert weights and not any(torch.equal(first[name], other[name]) for name in weights)


def test_normalise_by_hand():
    x = torch.rand(2, 3, 4, 5)
    expected = [(x[:, c] - COLOUR["mean"][c]) / COLOUR["std"][c] for c in range(3)]
    assert_close(Normalise(COLOUR["mean"], COLOUR["std"])(x), torch.stack(expected, 1))


@every_architecture
def test_normalisation_is_the_first_layer(architecture):
    """Gradients are in pixel units: 1/std times those of the body."""
    model = build(architecture, **COLOUR, seed=0, width=NARROW.get(architecture)).eval()
    assert isinstance(model[0], Normalise)
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    normalised = model[0](x).detach().requires_grad_()
    z, body = model(x), model[1:](normalised)
    assert_close(z, body)
    (by_pixel,), (by_input,) = torch.autograd.grad(z.sum(), x), torch.autograd.grad(body.sum(), normalised)
    assert_close(by_pixel, by_input / torch.tensor(COLOUR["std"]).view(3, 1, 1))


def test_mean_and_std_are_state_but_not_parameters():
    model = build("mlp", **GREY, seed=0)
    assert "0.mean" in model.state_dict() and "0.std" in model.state_dict()
    assert "0.mean" not in dict(model.named_parameters())


@pytest.mark.parametrize(
    ("architecture", "data", "millions"),
    [("small-cnn", GREY, 0.422), ("resnet18", COLOUR, 11.17), ("wrn28-10", COLOUR, 36.48)],
)
def test_parameter_counts_at_full_width(architecture, data, millions):
    """The residual networks as published, with 10 classes."""
    with torch.device("meta"):
        model = ARCHITECTURES[architecture](data["channels"], data["size"], 10)
    assert count(model) / 1e6 == pytest.approx(millions, abs=0.005)


def test_strided_stem_halves_the_image_and_changes_nothing_else():
    plain, strided = (build(name, **COLOUR, seed=0, width=16) for name in ("resnet8", "resnet8-strided"))
    kernels = [[m for m in model.modules() if isinstance(m, nn.Conv2d)] for model in (plain, strided)]
    assert [tuple(m.weight.shape) for m in kernels[1][1:]] == [tuple(m.weight.shape) for m in kernels[0][1:]]
    stem = kernels[1][0]
    assert (stem.kernel_size, stem.stride, stem.padding) == ((5, 5), (2, 2), (2, 2))
    assert kernels[0][0].kernel_size == (3, 3)
    assert stem(torch.rand(1, 3, 32, 32)).shape == (1, 16, 16, 16) and stem(torch.rand(1, 3, 28, 28)).shape[-1] == 14


@pytest.mark.parametrize("width", [4, 160])
def test_wide_resnet_by_the_formula(width):
    """Stem, 3 stages of 4 blocks of two 3x3 convolutions, 3 shortcuts of 1x1, and the head."""
    with torch.device("meta"):
        model = ARCHITECTURES["wrn28-10"](3, 32, 10, width=width)
    kernels = [module.weight.shape for module in model.modules() if isinstance(module, nn.Conv2d)]
    expected, norms, inputs = [(16, 3, 3, 3)], 4 * width, 16
    for outputs in (width, 2 * width, 4 * width):
        expected += [(outputs, inputs, 3, 3), (outputs, inputs, 1, 1)] + [(outputs, outputs, 3, 3)] * 7
        norms += inputs + 7 * outputs
        inputs = outputs
    assert sorted(kernels) == sorted(expected) and len(kernels) == 28
    convolutions = sum(torch.Size(kernel).numel() for kernel in expected)
    assert count(model) == convolutions + 2 * norms + 10 * 4 * width + 10


@pytest.mark.parametrize(
    ("architecture", "cells"), [("resnet8", 8), ("resnet8-strided", 4), ("wrn28-10", 8), ("resnet18", 4)]
)
def test_residual_stages_halve_the_image(architecture, cells):
    model = build(architecture, **COLOUR, seed=0, width=8)
    sizes = []
    pool = next(module for module in model if isinstance(module, nn.AdaptiveAvgPool2d))
    pool.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-2:]))
    model(torch.rand(1, 3, 32, 32))
    assert sizes == [(cells, cells)]


def test_preactivation_block_adds_to_its_identity():
    x = torch.randn(2, 4, 6, 6)
    same, wider = PreactivationBlock(4, 4, 1).eval(), PreactivationBlock(4, 8, 2).eval()
    assert not torch.equal(same(x), x)
    for block in (same, wider):
        nn.init.zeros_(block.conv2.weight)
    assert torch.equal(same(x), x)
    assert_close(wider(x), wider.shortcut(wider.bn1(x).relu()))
    assert wider(x).shape == (2, 8, 3, 3)


@every_architecture
def test_width_changes_the_size(architecture):
    narrow, wide = (build(architecture, **GREY, seed=0, width=width) for width in (8, 16))
    assert count(narrow) < count(wide)


def test_unknown_architecture_names_the_accepted_ones():
    accepted = ", ".join(ARCHITECTURES)
    with pytest.raises(InputError, match=f"^unknown architecture 'alexnet'; accepted: {accepted}$"):
        build("alexnet", **GREY, seed=0)


def test_ensemble_averages_logits():
    """Logits, not probabilities."""
    parts = [nn.Sequential(nn.Flatten(), nn.Linear(12, 4)) for _ in range(3)]
    x = torch.rand(5, 3, 2, 2)
    ensemble = models.Ensemble(parts)
    assert_close(ensemble(x), torch.stack([part(x) for part in parts]).mean(0))
    assert_close(models.Ensemble(parts[:1])(x), parts[0](x))
    assert count(ensemble) == sum(map(count, parts))
    assert not any(module.training for module in ensemble.eval().modules()) and not parts[0].training
