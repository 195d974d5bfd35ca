from itertools import pairwise

import captum.metrics
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from skimage.metrics import structural_similarity
from torch import nn
from torch.testing import assert_close

from jsigr_lib.measure.attributions import saliency_map
from jsigr_lib.measure.measures import (
    area,
    gini,
    infidelity,
    max_sensitivity,
    points_at,
    probability_curve,
    randomised,
    share_on,
    square_changes,
    squares,
    ssim,
    top_overlap,
)
from jsigr_lib.measure.statistics import rank_correlation
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jacobian import logit_gradient
from jsigr_lib.method.saliency import blur, gradient_map
from jsigr_lib.networks.models import build
from tests.conftest import BATCH, CHANNELS, CLASSES, HEIGHT, PIXELS, WIDTH

SIDE = 4
WEIGHTS = torch.linspace(-1, 2, SIDE * SIDE, dtype=torch.double).view(1, 1, SIDE, SIDE)


class Weighted(nn.Module):
    """Logits <w, x> - 1 and 0, hence p(class 0) = sigmoid(<w, x> - 1)."""

    def forward(self, x):
        z = (WEIGHTS * x).sum((1, 2, 3)) - 1
        return torch.stack([z, torch.zeros_like(z)], 1)


def p(x: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid((WEIGHTS * x).sum((1, 2, 3)) - 1)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(3, 1, SIDE, SIDE, dtype=torch.double)


CLASS_0 = torch.zeros(3, dtype=torch.long)


def curve(x, saliency, kind: str, **options) -> torch.Tensor:
    return probability_curve(Weighted(), x, CLASS_0, saliency, kind=kind, **{"blur_sigma": 1.0, "steps": 16, **options})


# deletion and insertion


def test_ends_of_the_curves(pixels):
    saliency = torch.rand_like(pixels)
    deletion, insertion = (curve(pixels, saliency, kind) for kind in ("deletion", "insertion"))
    assert deletion.shape == insertion.shape == (3, 17)
    assert_close(deletion[:, 0], p(pixels))
    assert_close(deletion[:, -1], p(0 * pixels))
    assert_close(insertion[:, 0], p(blur(pixels, 1.0)))
    assert_close(insertion[:, -1], p(pixels))


@pytest.mark.parametrize("steps", [16, 4, 3])
def test_every_point_by_hand(pixels, steps):
    """After step s, the round(16 s / steps) most salient pixels are changed."""
    saliency = torch.rand_like(pixels)
    blurred = blur(pixels, 1.0)
    order = saliency.flatten(1).argsort(1, descending=True)
    for step in range(steps + 1):
        chosen = torch.zeros(3, 16, dtype=torch.bool).scatter(1, order[:, : round(16 * step / steps)], True)
        chosen = chosen.view_as(pixels)
        deletion, insertion = (curve(pixels, saliency, kind, steps=steps) for kind in ("deletion", "insertion"))
        assert_close(deletion[:, step], p(pixels.masked_fill(chosen, 0)))
        assert_close(insertion[:, step], p(torch.where(chosen, pixels, blurred)))


def test_perfect_map_beats_its_reverse(pixels):
    """The contribution w x of each pixel is the best order to delete in; its negative is the worst."""
    perfect = WEIGHTS * pixels
    random = torch.rand_like(pixels)
    best, middle, worst = (area(curve(pixels, m, "deletion").numpy()) for m in (perfect, random, -perfect))
    assert (best < middle).all() and (middle < worst).all()
    gain = WEIGHTS * (pixels - blur(pixels, 1.0))
    best, middle, worst = (area(curve(pixels, m, "insertion").numpy()) for m in (gain, random, -gain))
    assert (best > middle).all() and (middle > worst).all()


def test_curve_is_about_the_class_asked_for(pixels):
    saliency = torch.rand_like(pixels)
    other = probability_curve(Weighted(), pixels, CLASS_0 + 1, saliency, kind="deletion", blur_sigma=1.0, steps=16)
    assert_close(other, 1 - curve(pixels, saliency, "deletion"))


def test_only_the_order_of_a_map_counts(pixels):
    saliency = torch.rand_like(pixels)
    for kind in ("deletion", "insertion"):
        assert torch.equal(curve(pixels, saliency, kind), curve(pixels, 5 * saliency**3, kind))
    constant = curve(pixels, torch.ones_like(pixels), "deletion")
    assert_close(constant[:, 1], p(pixels.clone().index_fill_(2, torch.tensor([0]), 0) + first_row_but_one(pixels)))


def first_row_but_one(x: torch.Tensor) -> torch.Tensor:
    """The first row without its first pixel: ties go in reading order."""
    kept = torch.zeros_like(x)
    kept[:, :, 0, 1:] = x[:, :, 0, 1:]
    return kept


def test_blur_is_where_insertion_starts(pixels):
    saliency = torch.rand_like(pixels)
    weak, strong = (curve(pixels, saliency, "insertion", blur_sigma=sigma) for sigma in (0.5, 3.0))
    assert not torch.equal(weak[:, 0], strong[:, 0])
    deletions = [curve(pixels, saliency, "deletion", blur_sigma=sigma) for sigma in (0.5, 3.0)]
    assert torch.equal(*deletions)


def test_mode_is_given_back(pixels):
    model = nn.Sequential(nn.Dropout(0.5), Weighted()).train()
    values = probability_curve(model, pixels, CLASS_0, pixels, kind="deletion", blur_sigma=1.0, steps=2)
    assert_close(values[:, 0], p(pixels))
    assert model.training and model[0].training


def test_unknown_kind(pixels):
    with pytest.raises(ValueError, match="delete"):
        curve(pixels, pixels, "delete")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.3] * 21, 0.3), (np.linspace(0, 1, 6), 0.5), ([1, 0], 0.5), ([1, 0, 0, 0, 0], 0.125), ([0, 1, 0], 0.5)],
)
def test_area_of_known_curves(values, expected):
    assert area(np.array(values)) == pytest.approx(expected)
    assert_allclose(area(np.stack([np.zeros(len(values)), values])), [0, expected], atol=1e-15)


# overlap of the tops


def test_top_overlap_of_known_maps():
    a = np.arange(20.0)[None]
    swapped = a.copy()
    swapped[0, [19, 0]] = swapped[0, [0, 19]]
    assert top_overlap(a, a) == [1]
    assert top_overlap(a, -a) == [0]
    assert top_overlap(a, swapped, share=0.1) == [pytest.approx(1 / 3)]  # {18, 19} and {18, 0}
    assert top_overlap(a, swapped, share=0.5) == [pytest.approx(9 / 11)]
    assert top_overlap(a, swapped, share=1.0) == [1]
    assert top_overlap(a, swapped, share=0.001) == [0]  # at least one pixel


def test_top_overlap_is_per_image_and_ignores_scale():
    rng = np.random.default_rng(0)
    a, b = rng.random((4, 50)), rng.random((4, 50))
    values = top_overlap(a, b)
    assert values.shape == (4,)
    assert_allclose(values, [top_overlap(a[i : i + 1], b[i : i + 1])[0] for i in range(4)])
    assert_allclose(top_overlap(a, 7 * b + 3), values)
    assert_allclose(top_overlap(b, a), values)


def test_top_overlap_is_of_the_highest_pixels():
    a, b = np.arange(20.0)[None], np.arange(20.0)[None]
    b[0, :18] = b[0, :18][::-1]
    assert top_overlap(a, b, share=0.1) == [1]


def test_ties_of_a_curve_go_in_reading_order():
    """Of 28 x 28 pixels too, which an unstable sort would shuffle."""
    x, rows = torch.rand(1, 1, 28, 28, dtype=torch.double), torch.arange(28)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 2)).double()
    options = {"kind": "deletion", "blur_sigma": 1.0, "steps": 4}
    found = probability_curve(model, x, torch.tensor([1]), torch.ones_like(x), **options)
    for step in range(5):
        expected = model(x * (rows >= 7 * step)[:, None]).softmax(1)[:, 1]
        assert_close(found[:, step], expected.detach())


def test_curves_of_colour_images_alone_and_in_a_batch(batch_norm_net, x, y):
    """A pixel is all its channels."""
    saliency = torch.rand(BATCH, 1, HEIGHT, WIDTH, dtype=torch.double)
    for kind in ("deletion", "insertion"):
        options = {"kind": kind, "blur_sigma": 1.0, "steps": 5}
        whole = probability_curve(batch_norm_net, x, y, saliency, **options)
        alone = [
            probability_curve(batch_norm_net, x[i : i + 1], y[i : i + 1], saliency[i : i + 1], **options)
            for i in range(BATCH)
        ]
        assert_close(torch.cat(alone), whole)
        last = probability_curve(
            batch_norm_net, x.to(memory_format=torch.channels_last).requires_grad_(), y, saliency, **options
        )
        assert_close(last, whole)
        assert not last.requires_grad
    chosen = saliency.flatten(1).argsort(1, descending=True)[:, :4]  # a fifth of 20
    mask = torch.zeros(BATCH, 20, dtype=torch.bool).scatter(1, chosen, True).view_as(saliency)
    batch_norm_net.eval()
    expected = batch_norm_net(x.masked_fill(mask, 0)).softmax(1)[range(BATCH), y].detach()
    deletion = probability_curve(batch_norm_net, x, y, saliency, kind="deletion", blur_sigma=1.0, steps=5)
    assert_close(deletion[:, 1], expected)


# known truth


def test_share_on_a_region_by_hand():
    maps = torch.tensor([[1.0, 2], [3, 4]]).expand(3, 1, 2, 2) * torch.tensor([1.0, 1e-30, 0])[:, None, None, None]
    region = torch.tensor([[True, False], [False, True]]).expand(3, 1, 2, 2)
    assert share_on(maps, region).tolist() == pytest.approx([0.5, 0.5, 0])
    assert share_on(maps, ~region).tolist() == pytest.approx([0.5, 0.5, 0])


@pytest.mark.parametrize(
    ("place", "tolerance", "hit"), [((2, 2), 0, 1), ((1, 1), 0, 0), ((1, 1), 1, 1), ((0, 2), 1, 0)]
)
def test_pointing_game_by_hand(place, tolerance, hit):
    maps, region = torch.rand(1, 1, 5, 6) / 2, torch.zeros(1, 1, 5, 6, dtype=torch.bool)
    maps[0, 0, place[0], place[1]] = 1
    region[..., 2:4, 2:4] = True
    assert points_at(maps, region, tolerance).tolist() == [hit]


# sparseness


@pytest.mark.parametrize(("pixels_on", "pixels"), [(1, 50), (5, 50), (50, 50), (1, 1)])
def test_gini_of_some_equal_pixels_is_the_share_of_the_others(pixels_on, pixels):
    map_ = np.zeros((1, pixels))
    map_[0, :pixels_on] = 0.3
    assert gini(map_) == pytest.approx(1 - pixels_on / pixels)


def test_gini_of_known_maps():
    ramp, steep = np.arange(1, 11.0), np.array([0.0, 1, 3])
    assert gini(ramp[None]) == pytest.approx(9 / 30)  # (n - 1) / 3n
    assert gini(steep[None]) == pytest.approx((0 * -2 + 1 * 0 + 3 * 2) / (3 * 4))
    assert gini(np.zeros((2, 7))).tolist() == [0, 0]


def test_gini_is_the_mean_difference_of_pairs_per_image():
    """Half of E|a - b| / E a over all pairs of pixels; neither order nor scale counts."""
    rng = np.random.default_rng(0)
    maps = rng.random((4, 30)) ** 3
    expected = np.abs(maps[:, :, None] - maps[:, None]).mean((1, 2)) / maps.mean(1) / 2
    assert_allclose(gini(maps), expected)
    assert_allclose(gini(7 * rng.permuted(maps, axis=1)), expected)
    assert_allclose(gini(np.concatenate([maps, np.zeros((1, 30))])), [*expected, 0])


# structural similarity


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    a = torch.rand(3, 1, 14, 17, dtype=torch.double)
    return a, blur(a, 1.0) + 0.1 * torch.rand_like(a)


def test_ssim_is_scikit_images(pair):
    """Which takes its mean over the same windows, those within the image."""
    scaled = [(m / m.amax((1, 2, 3), keepdim=True))[:, 0].numpy() for m in pair]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    expected = [structural_similarity(a, b, **options) for a, b in zip(*scaled, strict=True)]
    assert_close(ssim(*pair), torch.tensor(expected, dtype=torch.double))


def test_ssim_of_equal_unlike_and_empty_maps(pair):
    a, b = pair
    one = torch.ones(3, dtype=torch.double)
    assert_close(ssim(a, a), one)
    assert_close(ssim(a, b), ssim(b, a))
    assert_close(ssim(1e-30 * a, 1e9 * b), ssim(a, b))
    assert_close(ssim(0 * a, 0 * a), one)
    assert (ssim(a, 0 * a).abs() < 0.05).all()
    unlike = ssim(torch.rand(50, 1, 28, 28), torch.rand(50, 1, 28, 28))
    assert unlike.dtype == torch.float32 and unlike.abs().max() < 0.2 and unlike.mean().abs() < 0.05
    assert (ssim(a, b) < 0.95).all()


def test_ssim_of_a_map_alone_and_in_a_batch(pair):
    a, b = pair
    assert_close(torch.cat([ssim(a[i : i + 1], b[i : i + 1]) for i in range(3)]), ssim(a, b))


def test_ssim_needs_room_for_its_window():
    assert ssim(*torch.ones(2, 1, 1, 11, 11)).tolist() == [1]
    for size in ((10, 20), (20, 10)):
        with pytest.raises(InputError, match=rf"^maps of {size[0]} x {size[1]} pixels; accepted by ssim: 11 or more"):
            ssim(*torch.rand(2, 1, 1, *size))


# infidelity


@pytest.mark.parametrize("size", [(28, 28), (4, 5), (7, 9), (3, 2)])
def test_squares_share_out_the_image(size):
    masks = squares(*size)
    assert masks.shape == (16, *size) and masks.dtype == torch.float32
    assert torch.equal(masks.sum(0), torch.ones(size))
    if min(size) >= 4:
        areas = masks.sum((1, 2))
        low, high = ((size[0] // 4) * (size[1] // 4), -(-size[0] // 4) * -(-size[1] // 4))
        assert (areas >= low).all() and (areas <= high).all()


def test_squares_are_blocks_in_reading_order():
    masks = squares(28, 8)
    for k in range(16):
        down, across = masks[k].nonzero().T
        row, column = divmod(k, 4)
        assert (down.min(), down.max(), across.min(), across.max()) == (
            7 * row,
            7 * row + 6,
            2 * column,
            2 * column + 1,
        )


def contributions(linear, x, y) -> torch.Tensor:
    """Signed: w_y x, summed over channels."""
    return (linear.weight[y].view_as(x) * x).sum(1, keepdim=True).detach()


def test_infidelity_of_exact_contributions_is_0(linear, x, y):
    exact = contributions(linear, x, y)
    for scale in (1, 1e-40, -3):
        assert_close(infidelity(square_changes(linear, x, y), scale * exact), torch.zeros(BATCH, dtype=torch.double))
    assert (infidelity(square_changes(linear, x, (y + 1) % CLASSES), exact) > 0.05).all()


def test_infidelity_of_known_maps(linear, x, y):
    """1 - cos^2 of what a map foretells, its sum over each square, and what happens."""
    masks = squares(HEIGHT, WIDTH).double()
    area = masks.sum((1, 2))
    change = torch.einsum("bchw,shw->bs", contributions(linear, x, y), masks)
    even = torch.ones(BATCH, 1, HEIGHT, WIDTH, dtype=torch.double)
    expected = 1 - (change @ area) ** 2 / (change.square().sum(1) * area.square().sum())
    assert_close(infidelity(square_changes(linear, x, y), even), expected)
    blind = torch.zeros_like(change)  # foretells of two squares what is orthogonal to what happens
    blind[:, 3], blind[:, 8] = change[:, 8], -change[:, 3]
    map_ = torch.einsum("bs,shw->bhw", blind / area, masks)[:, None]
    assert_close(infidelity(square_changes(linear, x, y), map_), torch.ones(BATCH, dtype=torch.double))


def test_infidelity_is_1_if_nothing_is_foretold_or_there_is_nothing_to_foretell(linear, x, y):
    one = torch.ones(BATCH, dtype=torch.double)
    saliency = torch.rand(BATCH, 1, HEIGHT, WIDTH, dtype=torch.double)
    assert_close(infidelity(square_changes(linear, x, y), 0 * saliency), one)
    assert_close(infidelity(square_changes(linear, 0 * x, y), saliency), one)


def test_infidelity_is_captums(batch_norm_net, x, y):
    """As a share of the mean squared change. Captum takes attributions per channel, and squares as masks."""
    saliency = torch.rand(BATCH, 1, HEIGHT, WIDTH, dtype=torch.double)
    masks = squares(HEIGHT, WIDTH).double()
    found = infidelity(square_changes(batch_norm_net, x, y), saliency)
    model = batch_norm_net.eval()

    def remove(images):
        chosen = masks.repeat(BATCH, 1, 1)[:, None].expand_as(images)
        return chosen, images * (1 - chosen)

    with torch.no_grad():
        error = captum.metrics.infidelity(
            model, remove, x, saliency.expand_as(x) / CHANNELS, target=y, n_perturb_samples=16, normalize=True
        )
        changes = torch.stack([(model(x) - model(x * (1 - mask)))[range(BATCH), y] for mask in masks])
    assert_close(found, error / changes.square().mean(0))


def test_infidelity_of_an_image_alone_and_in_a_batch(batch_norm_net, x, y):
    saliency = torch.rand(BATCH, 1, HEIGHT, WIDTH, dtype=torch.double)
    modes = [module.training for module in batch_norm_net.modules()]
    whole = infidelity(square_changes(batch_norm_net, x, y), saliency)
    alone = [
        infidelity(square_changes(batch_norm_net, x[i : i + 1], y[i : i + 1]), saliency[i : i + 1])
        for i in range(BATCH)
    ]
    assert whole.shape == (BATCH,) and not whole.requires_grad
    assert_close(torch.cat(alone), whole)
    assert [module.training for module in batch_norm_net.modules()] == modes


def test_tiny_maps_of_single_precision_are_measured_too(linear, x, y, seeded):
    """The loss gradient of a sure network is some 1e-25, whose square is 0 in single precision."""
    model, x = linear.float(), x.float()
    saliency = torch.rand(BATCH, 1, HEIGHT, WIDTH)
    assert_close(
        infidelity(square_changes(model, x, y), 1e-25 * saliency), infidelity(square_changes(model, x, y), saliency)
    )
    large, tiny = (
        max_sensitivity(lambda given, _, scale=scale: scale * given.square(), x, y, seeded()) for scale in (1, 1e-25)
    )
    assert_close(tiny, large)
    assert tiny.dtype == torch.float32


# max-sensitivity


def nudges_of(seed: int) -> torch.Tensor:
    uniform = torch.rand(5, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
    return (0.04 * uniform - 0.02).double()


def test_a_map_that_never_changes_is_not_sensitive(linear, x, y, seeded):
    values = max_sensitivity(lambda given, target: saliency_map("smoothgrad", linear, given, target), x, y, seeded())
    assert_close(values, torch.zeros(BATCH, dtype=torch.double))


def test_max_sensitivity_of_the_gradient_of_a_quadratic_model(quadratic, x, y, seeded):
    """The change is A nudge, within 0.02 |A| sqrt(pixels); the largest over five nudges."""
    symmetric = ((quadratic.weight + quadratic.weight.mT) / 2)[y].detach()
    gradient = (symmetric @ x.flatten(1)[..., None])[..., 0]
    changes = torch.stack([(symmetric @ nudge.flatten()).norm(dim=1) for nudge in nudges_of(3)])
    found = max_sensitivity(lambda given, target: logit_gradient(quadratic, given, target), x, y, seeded(3))
    assert_close(found, changes.amax(0) / gradient.norm(dim=1), rtol=1e-5, atol=0)
    bound = 0.02 * PIXELS**0.5 * torch.linalg.matrix_norm(symmetric, 2) / gradient.norm(dim=1)
    assert (found > 0).all() and (found <= bound).all()


def test_max_sensitivity_of_an_empty_map_is_its_absolute_change(x, y, seeded):
    values = max_sensitivity(lambda given, _: given, 0 * x, y, seeded(1))
    assert_close(values, nudges_of(1).flatten(1).norm(dim=1).max().expand(BATCH), rtol=1e-5, atol=0)


def test_max_sensitivity_is_captums_given_the_same_nudges(net, x, y, seeded):
    expected = captum.metrics.sensitivity_max(
        lambda given, target: (gradient_map(net, given[0], target),),
        x,
        lambda images: (images + nudges_of(2).repeat(BATCH, 1, 1, 1),),
        n_perturb_samples=5,
        target=y,
    )
    found = max_sensitivity(lambda given, target: gradient_map(net, given, target), x, y, seeded(2))
    assert_close(found, expected, rtol=1e-5, atol=0)


def test_max_sensitivity_alone_in_a_batch_and_by_seed(net, x, y, seeded):
    def explain(given, target):
        return saliency_map("gradient", net, given, target)

    before = torch.get_rng_state()
    whole = max_sensitivity(explain, x, y, seeded(0))
    alone = [max_sensitivity(explain, x[i : i + 1], y[i : i + 1], seeded(0)) for i in range(BATCH)]
    assert whole.shape == (BATCH,)
    assert_close(torch.cat(alone), whole)
    assert not torch.equal(max_sensitivity(explain, x, y, seeded(1)), whole)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_control_is_as_sensitive_as_chance(linear, x, y, seeded):
    x, y = torch.rand(20, 1, 12, 12, dtype=torch.double), torch.zeros(20, dtype=torch.long)
    values = max_sensitivity(lambda given, target: saliency_map("random", linear, given, target), x, y, seeded())
    assert (values > 0.6).all() and (values < 0.9).all()  # sqrt(2 var / mean square) = 0.71


# the cascade


@pytest.fixture
def residual() -> nn.Module:
    """As if trained: every weight and every statistic moved."""
    model = build("resnet8", channels=1, size=8, classes=3, mean=[0.3], std=[0.2], seed=0, width=8)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and name not in ("0.mean", "0.std"):
                value.mul_(3).add_(0.5 * torch.rand_like(value))
    return model


def changed(a: nn.Module, b: nn.Module) -> set[str]:
    pairs = zip(a.state_dict().items(), b.state_dict().values(), strict=True)
    return {name.rpartition(".")[0] for (name, value), other in pairs if not torch.equal(value, other)}


def test_cascade_goes_from_the_last_layer_to_the_first(residual):
    residual.requires_grad_(False)
    original = {name: value.clone() for name, value in residual.state_dict().items()}
    before = torch.get_rng_state()
    models = list(randomised(residual))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, original[name]) for name, value in residual.state_dict().items())
    order = [
        {"9"},
        {"5", "4.shortcut"},
        {"4.conv2"},
        {"4.bn2", "4.conv1"},
        {"4.bn1", "3.shortcut"},
        {"3.conv2"},
        {"3.bn2", "3.conv1"},
        {"3.bn1", "2.conv2"},
        {"2.bn2", "2.conv1"},
        {"2.bn1", "1"},
    ]
    assert len(models) == len(order)
    for count, model in enumerate(models, 1):
        assert changed(model, residual) == set().union(*order[:count])
        assert model.training == residual.training
    for (earlier, later), layers in zip(pairwise(models), order[1:], strict=True):
        assert changed(earlier, later) == layers


def test_end_of_the_cascade_is_an_untrained_network(residual):
    *_, last = randomised(residual)
    fresh = build("resnet8", channels=1, size=8, classes=3, mean=[0.3], std=[0.2], seed=5, width=8)
    for (name, value), other in zip(last.state_dict().items(), fresh.state_dict().values(), strict=True):
        if value.ndim > 1 and "." in name and not name.startswith("0."):
            assert value.std().item() == pytest.approx(other.std().item(), rel=0.35)
        elif name != "9.bias":
            assert torch.equal(value, other), name  # normalisation as at the start


def test_cascade_is_a_function_of_its_seed(residual):
    (*_, zero), (*_, again), (*_, one) = (randomised(residual, seed) for seed in (0, 0, 1))
    assert not changed(zero, again)
    assert changed(zero, one) == {name for name, _ in convolutions(zero)}


def convolutions(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def test_layers_are_drawn_independently():
    model = nn.Sequential(nn.Flatten(), *(nn.Linear(6, 6) for _ in range(3))).double()
    *_, last = randomised(model)
    assert last[1].weight.dtype == torch.double
    assert not torch.equal(last[1].weight, last[2].weight)
    assert not torch.equal(last[2].weight, last[3].weight)


def test_cascade_destroys_the_map_of_a_network_and_not_the_control(x, y):
    """Weights with structure, as learnt ones have: a bump per class."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 144, CLASSES)).double()
    images = 0.5 + 0.5 * torch.rand(BATCH, 1, 12, 12, dtype=torch.double)
    places = torch.arange(12.0)
    with torch.no_grad():
        model[0].weight.abs_()
        for k in range(CLASSES):
            bump = torch.exp(-((places - 3 * k - 2) ** 2) / 6)
            model[3].weight[k] = (bump[:, None] * bump).flatten().repeat(4)
    models = list(randomised(model))
    assert len(models) == 2
    for name in ("gradient-x-input", "smoothgrad", "integrated-gradients", "random"):
        original, *later = (saliency_map(name, m, images, y).flatten(1).numpy() for m in (model, *models))
        for map_ in later:
            correlation = rank_correlation(original, map_)
            assert (np.abs(correlation) < 0.35).all() if name != "random" else (correlation > 0.999).all()
