from itertools import pairwise

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from jsigr_lib.measure import attributions
from jsigr_lib.measure.attributions import CONTROLS, MAPS, Map, last_places, saliency_map, seeded
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.saliency import blur, bumps, gradient_map, perturbation_saliency, upsample
from jsigr_lib.networks.models import ARCHITECTURES, Ensemble, build
from tests.conftest import BATCH, CHANNELS, CLASSES, HEIGHT, PIXELS, WIDTH

KNOBS = {"grid": 3, "mask_sigma": 0.8, "blur_sigma": 1.0}
PERTURBATIONS = {"perturbation", "perturbation-linearised", "perturbation-vector"}
WITHOUT_PLACES = [name for name in MAPS if name != "grad-cam"]  # what a network without a spatial layer has

every_map = pytest.mark.parametrize("name", MAPS)


def over_channels(attribution: torch.Tensor) -> torch.Tensor:
    return attribution.detach().view(BATCH, CHANNELS, HEIGHT, WIDTH).abs().sum(1, keepdim=True)


# what holds for every map


@every_map
def test_every_map_is_a_magnitude_per_place_and_leaves_no_trace(batch_norm_net, x, y, name):
    modes = [module.training for module in batch_norm_net.modules()]
    state = {key: value.clone() for key, value in batch_norm_net.state_dict().items()}
    before, images = torch.get_rng_state(), x.clone()
    map_ = saliency_map(name, batch_norm_net, x, y, **KNOBS)
    assert map_.shape == (BATCH, 1, HEIGHT, WIDTH) and map_.dtype == torch.double
    assert map_.isfinite().all() and (map_ >= 0).all() and map_.std() > 0
    assert not map_.requires_grad and not x.requires_grad
    assert x.grad is None and all(parameter.grad is None for parameter in batch_norm_net.parameters())
    assert torch.equal(x, images) and torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in batch_norm_net.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in batch_norm_net.state_dict().items())
    assert not any(module._forward_hooks for module in batch_norm_net.modules())


@every_map
def test_a_map_is_the_same_alone_and_in_any_batch(batch_norm_net, x, y, name):
    whole = saliency_map(name, batch_norm_net, x, y, **KNOBS)
    alone = [saliency_map(name, batch_norm_net, x[i : i + 1], y[i : i + 1], **KNOBS) for i in range(BATCH)]
    turned = saliency_map(name, batch_norm_net, x.flip(0), y.flip(0), **KNOBS).flip(0)
    assert_close(torch.cat(alone), whole)
    assert_close(turned, whole)


@every_map
def test_frozen_networks_channels_last_and_no_grad_change_nothing(batch_norm_net, x, y, name):
    expected = saliency_map(name, batch_norm_net, x, y, **KNOBS)
    batch_norm_net.requires_grad_(False).to(memory_format=torch.channels_last)
    with torch.no_grad():
        found = saliency_map(name, batch_norm_net, x.to(memory_format=torch.channels_last), y, **KNOBS)
    assert_close(found, expected)
    assert_close(saliency_map(name, batch_norm_net, x.clone().requires_grad_(), y, **KNOBS), expected)


@every_map
def test_every_map_but_the_controls_is_about_its_class(batch_norm_net, x, y, name):
    one, other = (saliency_map(name, batch_norm_net, x, target, **KNOBS) for target in (y, (y + 1) % CLASSES))
    assert torch.equal(one, other) == (name in (*CONTROLS, "perturbation-vector"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_map_on_every_architecture(architecture):
    width = {"vgg": 4, "resnet8": 8, "resnet8-strided": 8, "resnet18": 8, "wrn28-10": 16}.get(architecture)
    colour = {"channels": 3, "size": 16, "classes": 5, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    model = build(architecture, **colour, seed=0, width=width).train().requires_grad_(False)
    x, y = torch.rand(2, 3, 16, 16).to(memory_format=torch.channels_last), torch.tensor([0, 3])
    for name in MAPS:
        map_ = saliency_map(name, model, x, y, grid=2)
        assert map_.shape == (2, 1, 16, 16) and map_.dtype == torch.float32
        assert map_.isfinite().all() and (map_ >= 0).all()
        if name != "grad-cam":  # which is 0 where its evidence is against the class
            assert (map_.amax((1, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    ("knob", "value", "users"),
    [
        ("grid", 2, {*PERTURBATIONS, "occlusion", "energy"}),
        ("mask_sigma", 0.5, {*PERTURBATIONS, "energy"}),
        ("blur_sigma", 0.6, {*PERTURBATIONS, "energy"}),
    ],
)
def test_every_knob_changes_the_maps_that_use_it_and_no_other(batch_norm_net, x, y, knob, value, users):
    one, other = (
        {name: saliency_map(name, batch_norm_net, x, y, **settings) for name in MAPS}
        for settings in (KNOBS, {**KNOBS, knob: value})
    )
    assert {name for name in MAPS if not torch.equal(one[name], other[name])} == users


def test_a_generator_changes_the_drawn_maps_and_no_other(batch_norm_net, x, y, seeded):
    default, zero, again, one = (
        {name: saliency_map(name, batch_norm_net, x, y, **KNOBS, generator=generator and generator()) for name in MAPS}
        for generator in (None, lambda: seeded(0), lambda: seeded(0), lambda: seeded(1))
    )
    assert all(torch.equal(default[name], zero[name]) and torch.equal(zero[name], again[name]) for name in MAPS)
    assert {name for name in MAPS if not torch.equal(zero[name], one[name])} == {"smoothgrad", "random"}


def test_an_unknown_map_is_told_which_there_are(linear, x, y):
    with pytest.raises(InputError, match=rf"^unknown map 'gradcam'; accepted: {', '.join(MAPS).replace('(', '.')}$"):
        saliency_map("gradcam", linear, x, y)


@every_map
@pytest.mark.parametrize("knob", [{"grid": 0}, {"grid": 2.5}, {"mask_sigma": 0.0}, {"blur_sigma": float("nan")}])
def test_every_map_refuses_a_bad_knob(batch_norm_net, x, y, name, knob):
    with pytest.raises(InputError, match=f"^{next(iter(knob))} = "):
        saliency_map(name, batch_norm_net, x, y, **knob)


@every_map
def test_passes_are_about_what_a_map_costs(name):
    """Images that a network sees per image, three times as many where gradients are taken."""
    seen = []

    class Counted(nn.Conv2d):
        def forward(self, x):
            seen.append(len(x) * (3 if torch.is_grad_enabled() else 1))
            return super().forward(x)

    model = nn.Sequential(Counted(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 12 * 12, 3))
    saliency_map(name, model, torch.rand(2, 1, 14, 14), torch.tensor([0, 1]))
    assert sum(seen) / 2 == pytest.approx(MAPS[name].passes, abs=1)


def test_no_two_maps_are_called_alike():
    assert len({one.label for one in MAPS.values()}) == len(MAPS)


def test_a_map_of_ones_own(monkeypatch, batch_norm_net, x, y):
    monkeypatch.setitem(MAPS, "mine", Map("mine", 0, lambda model, x, y, *, grid, **_: grid * x.sum(1, keepdim=True)))
    assert torch.equal(saliency_map("mine", batch_norm_net, x, y, grid=2), 2 * x.sum(1, keepdim=True))


# maps of a linear model, by hand


def test_gradients_of_a_linear_model(linear, x, y):
    """The contribution of a pixel to z_y is w_y x; the gradient is w_y, noise or not."""
    w = linear.weight[y]
    contribution = over_channels(w * x.flatten(1))
    assert_close(saliency_map("gradient-x-input", linear, x, y), contribution)
    assert_close(saliency_map("integrated-gradients", linear, x, y), contribution, rtol=1e-6, atol=0)
    assert_close(saliency_map("smoothgrad", linear, x, y), over_channels(w))


@pytest.mark.parametrize(
    ("grid", "rows", "columns"),
    [
        (1, [0, 4], [0, 5]),
        (2, [0, 2, 4], [0, 3, 5]),
        (3, [0, 2, 3, 4], [0, 2, 4, 5]),
        (4, [0, 1, 2, 3, 4], [0, 2, 3, 4, 5]),
        (64, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_occlusion_of_a_linear_model(linear, x, y, grid, rows, columns):
    """|sum of w_y x over the cell|, through both channels; cells are as equal as whole pixels allow."""
    contribution = (linear.weight[y] * x.flatten(1)).view_as(x).sum(1, keepdim=True).detach()
    expected = torch.zeros_like(contribution)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            place = (..., slice(top, bottom), slice(left, right))
            expected[place] = contribution[place].sum((2, 3), keepdim=True).abs()
    assert_close(saliency_map("occlusion", linear, x, y, grid=grid), expected)


def test_a_grid_finer_than_the_image_occludes_each_pixel_once(linear, x, y):
    seen = []
    linear.register_forward_hook(lambda module, given, output: seen.append(len(output)))
    saliency_map("occlusion", linear, x, y, grid=64)
    assert seen == [BATCH] * (1 + HEIGHT * WIDTH)


def test_occlusion_is_captums_where_the_grid_divides_the_image(x, y):
    model = nn.Sequential(nn.Conv2d(CHANNELS, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 4 * 7, CLASSES)).double()
    x = torch.rand(BATCH, CHANNELS, 6, 9, dtype=torch.double)
    window = (CHANNELS, 2, 3)
    expected = captum.attr.Occlusion(model).attribute(x, window, strides=window, target=y)
    assert_close(saliency_map("occlusion", model, x, y, grid=3), expected[:, :1].abs().double(), rtol=1e-5, atol=1e-6)


def test_ours_are_those_of_the_saliency_module(net, x, y):
    assert torch.equal(saliency_map("gradient", net, x, y), gradient_map(net, x, y))
    for name, variant in {
        "perturbation": {},
        "perturbation-linearised": {"method": "linearised"},
        "perturbation-vector": {"score": "vector"},
    }.items():
        expected = perturbation_saliency(net, x, y, **KNOBS, **variant)
        assert torch.equal(saliency_map(name, net, x, y, **KNOBS), expected)


# integrated gradients


def test_integrated_gradients_of_a_quadratic_model(quadratic, x, y):
    """Along the path the gradient grows linearly: x_i g_i(x) / 2."""
    jacobian = quadratic.jacobian(x)[range(BATCH), y].view_as(x)
    found = saliency_map("integrated-gradients", quadratic, x, y)
    assert_close(found, over_channels(x * jacobian / 2), rtol=1e-6, atol=1e-9)


def test_integrated_gradients_are_complete(x, y):
    """Where all weights are positive so are all contributions, and magnitudes too sum to z(x) - z(0)."""
    rising = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 8), nn.Tanh(), nn.Linear(8, CLASSES)).double()
    with torch.no_grad():
        for parameter in rising.parameters():
            parameter.abs_().mul_(4)
        rising[1].bias.sub_(6)  # the steep part of tanh is halfway to the image
        expected = (rising(x) - rising(0 * x)).gather(1, y[:, None])[:, 0]
    found = saliency_map("integrated-gradients", rising, x, y).sum((1, 2, 3))
    assert_close(found, expected, rtol=1e-4, atol=0)


def test_chunks_of_the_path_are_a_detail(monkeypatch, net, x, y):
    whole = saliency_map("integrated-gradients", net, x, y)
    seen = []
    net.register_forward_hook(lambda module, given, output: seen.append(len(output)))
    for at_once in (1, 5 * x[0].nbytes, 11 * x[0].nbytes):
        monkeypatch.setattr(attributions, "CHUNK_BYTES", {"cpu": at_once})
        assert_close(saliency_map("integrated-gradients", net, x, y), whole)
    assert max(seen) == 8 and min(seen) == BATCH  # never more than 11 images, but a whole batch


# SmoothGrad


def test_smoothgrad_of_a_quadratic_model(quadratic, x, y, seeded):
    """The gradient at the mean of the noisy images: the same 16 draws of sigma 0.15 for every image."""
    noise = 0.15 * torch.randn(16, CHANNELS, HEIGHT, WIDTH, generator=seeded(3))
    expected = quadratic.jacobian(x + noise.double().mean(0))[range(BATCH), y]
    assert_close(saliency_map("smoothgrad", quadratic, x, y, generator=seeded(3)), over_channels(expected))


def test_smoothgrad_is_captums_given_the_same_noise(monkeypatch, net, x, y, seeded):
    noise = 0.15 * torch.randn(16, CHANNELS, HEIGHT, WIDTH, generator=seeded(0)).double()

    def add(images, stdev, copies):
        assert (stdev, copies) == (0.15, 16)
        return (images[:, None] + noise).flatten(0, 1)

    monkeypatch.setattr(captum.attr.NoiseTunnel, "_add_noise_to_input", staticmethod(add))
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(net))
    expected = tunnel.attribute(x.clone().requires_grad_(), target=y, nt_samples=16, stdevs=0.15, abs=False)
    assert_close(saliency_map("smoothgrad", net, x, y), over_channels(expected))


# Grad-CAM


@pytest.fixture
def strided(fixed_seed) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 2 * 3, CLASSES)
    ).double()


def test_grad_cam_by_hand(strided, x, y):
    """max(0, sum over channels of the mean gradient times the activation), 2 x 3, upsampled to the image."""
    activation = strided[:2](x).detach()
    weights = strided[3].weight[y].detach().view_as(activation).mean((2, 3), keepdim=True)
    coarse = (weights * activation).sum(1, keepdim=True).clamp_min(0)
    assert (coarse.amax((1, 2, 3)) > 0).any()
    found = saliency_map("grad-cam", strided, x, y)
    assert_close(found, F.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear", align_corners=False))


def test_grad_cam_needs_a_layer_with_places(net, x, y):
    with pytest.raises(InputError, match=r"^no layer of Sequential has places"):
        saliency_map("grad-cam", net, x, y)
    for name in WITHOUT_PLACES:
        assert saliency_map(name, net, x, y, **KNOBS).shape == (BATCH, 1, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [
        *(("small-cnn", 4), ("vgg", 14), ("mlp", 0)),
        *(("resnet8", 6), ("resnet8-strided", 6), ("resnet18", 11), ("wrn28-10", 15)),
    ],
)
def test_last_places_of_every_architecture(architecture, layer):
    """The activation after the last convolution, before pooling; of an MLP its normalisation."""
    model = build(architecture, channels=1, size=16, classes=3, mean=[0.5], std=[0.2], seed=0, width=16)
    x = torch.rand(2, 1, 16, 16)
    found = last_places(model, x)
    assert found is model[layer]
    if architecture != "mlp":
        assert isinstance(found, nn.ReLU)
        after = model[layer + 1 :]
        assert not any(isinstance(module, nn.Conv2d) for module in after.modules())


def test_last_places_ignores_pooled_vectors_and_follows_nesting(strided, x):
    pooled = nn.Sequential(*strided[:2], nn.AdaptiveAvgPool2d(1), nn.Dropout(0.0), nn.Flatten(), nn.Linear(3, CLASSES))
    assert last_places(pooled.double(), x) is strided[1]
    assert last_places(Ensemble([strided]), x) is strided[1]
    assert not any(module._forward_hooks for module in pooled.modules())


def test_last_places_leaves_the_network_as_it_was(batch_norm_net, x):
    state = {key: value.clone() for key, value in batch_norm_net.state_dict().items()}
    assert last_places(batch_norm_net, x) is batch_norm_net[2]
    assert batch_norm_net.training and not batch_norm_net[4].training
    assert all(torch.equal(value, state[key]) for key, value in batch_norm_net.state_dict().items())


# the same, asked of Captum directly


CAPTUM = {
    "gradient-x-input": lambda model, x, y: captum.attr.InputXGradient(model).attribute(x, target=y),
    "integrated-gradients": lambda model, x, y: captum.attr.IntegratedGradients(model).attribute(
        x, baselines=0 * x.detach(), target=y, n_steps=24
    ),
    "grad-cam": lambda model, x, y: captum.attr.LayerGradCam(model, model[2]).attribute(x, y).clamp_min(0),
}


@pytest.mark.parametrize("name", CAPTUM)
def test_a_map_is_captums(batch_norm_net, x, y, name):
    model = batch_norm_net.eval()
    expected = CAPTUM[name](model, x.clone().requires_grad_(), y).detach().abs().sum(1, keepdim=True)
    assert_close(saliency_map(name, model, x, y, **KNOBS), expected)


# the controls


def test_the_control_is_a_function_of_the_image_alone(linear, net, x, y):
    control = saliency_map("random", linear, x, y)
    assert torch.equal(saliency_map("random", net, x, y), control)
    twice = saliency_map("random", linear, x[[2, 0, 2]], y[:3])
    assert torch.equal(twice, control[[2, 0, 2]])
    nudged = saliency_map("random", linear, x + 1e-9, y)
    assert (nudged - control).abs().mean() > 0.2


def test_the_control_is_uniform_and_differs_between_images(linear):
    maps = saliency_map("random", linear, torch.rand(200, 1, 10, 10), torch.zeros(200, dtype=torch.long)).flatten(1)
    assert (maps >= 0).all() and (maps < 1).all()
    assert maps.mean().item() == pytest.approx(1 / 2, abs=0.01)
    assert maps.var().item() == pytest.approx(1 / 12, abs=0.003)
    correlation = torch.corrcoef(maps) - torch.eye(200)
    assert correlation.abs().max() < 0.6 and correlation.mean().abs() < 0.01


def test_the_energy_map_is_how_much_each_mask_changes_the_image(linear, net, x, y):
    masks, blurred = bumps(KNOBS["grid"], HEIGHT, WIDTH, KNOBS["mask_sigma"]), blur(x, KNOBS["blur_sigma"])
    energy = [(mask * (blurred - x)).square().sum((1, 2, 3)) for mask in masks.to(x)]
    expected = upsample(torch.stack(energy, 1), KNOBS["grid"], x.shape[-2:])
    for model in (linear, net):
        assert_close(saliency_map("energy", model, x, y, **KNOBS), expected)


def test_the_centre_is_a_gaussian_in_the_middle_whatever_the_image(linear, x, y):
    maps = saliency_map("centre", linear, x, y)
    down = torch.exp(-((torch.arange(HEIGHT) - (HEIGHT - 1) / 2) ** 2) / (2 * (HEIGHT / 4) ** 2))
    across = torch.exp(-((torch.arange(WIDTH) - (WIDTH - 1) / 2) ** 2) / (2 * (WIDTH / 4) ** 2))
    assert_close(maps, torch.outer(down, across).to(x).expand_as(maps))


# torch's global generator


def test_seeded_draws_are_a_function_of_the_generator(x):
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(2):
        with seeded(x, generator):
            draws.append(torch.rand(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    with seeded(x, torch.Generator().manual_seed(0)):
        assert torch.equal(torch.rand(3), draws[0])
    assert not torch.equal(*draws)


def test_seeded_gives_the_state_back_after_an_error(x):
    before = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(x, torch.Generator()):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "tail",
    [nn.Sequential(nn.Flatten(2), nn.Linear(36, 3), nn.Flatten()), nn.Sequential(nn.Linear(6, 3), nn.Flatten())],
    ids=["tokens", "channels last"],
)
def test_grad_cam_refuses_what_is_not_channels_first(tail):
    with pytest.raises(InputError, match="has a Linear after its last convolution"):
        last_places(nn.Sequential(nn.Conv2d(1, 2, 3), tail), torch.rand(2, 1, 8, 8))
