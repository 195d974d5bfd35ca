import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.transforms.functional import gaussian_blur

from jsigr_lib.method import saliency
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.saliency import (
    Selection,
    blur,
    blur_matrix,
    bumps,
    gradient_map,
    linearised_saliency,
    logit_gradient,
    perturbation_saliency,
    profiles,
    selection_mask,
    upsample,
)

GRID = {"grid": 3, "mask_sigma": 0.8, "blur_sigma": 1.0}


def maps_by_hand(model, x, y, score="class"):
    """1/2 (z_y(x) - z_y(Phi_k(x)))^2 or 1/2 ||z(x) - z(Phi_k(x))||^2, one image and one mask at a time."""
    scores = torch.zeros(len(x), 9).to(x)
    for i, image in enumerate(x):
        for k, mask in enumerate(bumps(3, *x.shape[-2:], 0.8).to(x)):
            perturbed = image * (1 - mask) + blur(x, 1.0)[i] * mask
            change = (model(image[None]) - model(perturbed[None]))[0]
            scores[i, k] = change[y[i]] ** 2 / 2 if score == "class" else change.square().sum() / 2
    return F.interpolate(scores.view(-1, 1, 3, 3), x.shape[-2:], mode="bilinear").detach()


@pytest.mark.parametrize("score", ["class", "vector"])
def test_exact_map_by_hand(net, x, y, score):
    assert_close(perturbation_saliency(net, x, y, **GRID, score=score), maps_by_hand(net, x, y, score))


@pytest.mark.parametrize("method", ["exact", "linearised"])
def test_map_of_a_linear_model_by_hand(linear, x, y, method):
    """S_k = 1/2 (w_y . (M_k (A(x) - x)))^2."""
    masks = bumps(3, 4, 5, 0.8).to(x)
    change = masks[:, None, None] * (blur(x, 1.0) - x)
    scores = (change.flatten(2) * linear.weight[y]).sum(2).square().T / 2
    expected = F.interpolate(scores.view(-1, 1, 3, 3), (4, 5), mode="bilinear").detach()
    assert_close(perturbation_saliency(linear, x, y, **GRID, method=method), expected)


def test_linearised_map_is_another_for_a_nonlinear_model(quadratic, x, y):
    exact, linearised = (
        perturbation_saliency(quadratic, x, y, **GRID, method=method) for method in ("exact", "linearised")
    )
    assert (exact - linearised).abs().max() > 0.05 * exact.max()
    gradient = logit_gradient(quadratic, x, y)
    assert_close(linearised, linearised_saliency(x, gradient, **GRID))


@pytest.mark.parametrize("method", ["exact", "linearised"])
def test_a_map_depends_on_its_class(net, x, y, method):
    one, other = (perturbation_saliency(net, x, target, **GRID, method=method) for target in (y, (y + 1) % 3))
    assert (one - other).abs().max() > 0.1 * one.max()


def test_vector_score_is_the_sum_over_classes(net, x, y):
    classes = [perturbation_saliency(net, x, torch.full_like(y, k), **GRID) for k in range(3)]
    assert_close(perturbation_saliency(net, x, y, **GRID, score="vector"), sum(classes))


@pytest.mark.parametrize("images", [1, 8, 13, 36])
def test_number_of_images_per_forward_changes_nothing(net, x, y, monkeypatch, images):
    whole = perturbation_saliency(net, x, y, **GRID, score="vector")
    sizes = []
    net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    monkeypatch.setitem(saliency.CHUNK_BYTES, "cpu", images * x[0].nbytes)
    assert_close(perturbation_saliency(net, x, y, **GRID, score="vector"), whole)
    assert max(sizes) == max(4, images // 4 * 4)


@pytest.mark.parametrize("method", ["exact", "linearised"])
@pytest.mark.parametrize("change", [{"grid": 2}, {"mask_sigma": 1.5}, {"blur_sigma": 0.5}], ids=str)
def test_every_knob_changes_the_map(net, x, y, method, change):
    base = perturbation_saliency(net, x, y, **GRID, method=method)
    other = perturbation_saliency(net, x, y, **{**GRID, **change}, method=method)
    assert (base - other).abs().max() > 0.01 * base.max()


@pytest.mark.parametrize("method", ["exact", "linearised"])
@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (1, 1, 7, 7)])
def test_one_map_per_image_whatever_its_channels(shape, method):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(4))
    x = torch.rand(shape)
    maps = perturbation_saliency(model, x, torch.arange(len(x)), method=method)
    assert maps.shape == (shape[0], 1, *shape[2:]) and maps.dtype == x.dtype
    assert maps.min() >= 0 and maps.amax((1, 2, 3)).min() > 0


class Recording(torch.nn.Module):
    """Notes the memory format of what it is given; `x.view` needs contiguous images, as many models do."""

    def __init__(self, views: bool):
        super().__init__()
        self.body, self.views, self.seen = torch.nn.Linear(3 * 8 * 6, 4), views, []

    def forward(self, x):
        self.seen.append((x.is_contiguous(), x.is_contiguous(memory_format=torch.channels_last)))
        return self.body(x.view(len(x), -1) if self.views else x.flatten(1))


@pytest.mark.parametrize("settings", [{"method": "exact"}, {"method": "linearised"}, {"score": "vector"}], ids=str)
def test_model_sees_the_memory_format_of_the_images(settings):
    x, y = torch.rand(5, 3, 8, 6), torch.arange(5) % 4
    model = Recording(views=True)
    contiguous = perturbation_saliency(model, x, y, **GRID, **settings)
    assert set(model.seen) == {(True, False)}
    model.seen, model.views = [], False
    last = perturbation_saliency(model, x.contiguous(memory_format=torch.channels_last), y, **GRID, **settings)
    assert set(model.seen) == {(False, True)}
    assert_close(last, contiguous)


@pytest.mark.parametrize("method", ["exact", "linearised"])
def test_a_constant_image_has_no_evidence(net, x, y, method):
    maps = perturbation_saliency(net, torch.full_like(x, 0.3), y, **GRID, method=method)
    assert_close(maps, torch.zeros(4, 1, 4, 5).double())


@pytest.mark.parametrize("method", ["exact", "linearised"])
def test_runs_in_evaluation_mode_and_leaves_everything_as_it_was(batch_norm_net, x, y, method):
    modes = [module.training for module in batch_norm_net.modules()]
    x.requires_grad_()
    maps = perturbation_saliency(batch_norm_net, x, y, **GRID, method=method)
    assert [module.training for module in batch_norm_net.modules()] == modes
    assert batch_norm_net[1].num_batches_tracked == 0
    assert x.grad is None and all(p.grad is None for p in batch_norm_net.parameters())
    assert not maps.requires_grad
    batch_norm_net.eval()
    assert torch.equal(maps, perturbation_saliency(batch_norm_net, x, y, **GRID, method=method))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "logit"}, "unknown score 'logit'; accepted: class, vector"),
        ({"method": "fast"}, "unknown method 'fast'; accepted: exact, linearised"),
        ({"method": "linearised", "score": "vector"}, "score = 'vector' with method = 'linearised'"),
        ({"grid": 0}, "grid = 0 is out of range; accepted: 1 to 64"),
        ({"grid": 65}, "grid = 65 is out"),
        ({"mask_sigma": 0.0}, "mask_sigma = 0.0 is out"),
        ({"blur_sigma": float("nan")}, "blur_sigma = nan is out"),
    ],
)
def test_errors_show_the_value(net, x, y, change, message):
    with pytest.raises(InputError, match=f"^{message}"):
        perturbation_saliency(net, x, y, **{**GRID, **change})


def test_bumps_peak_on_a_regular_raster():
    masks = bumps(3, 9, 15, 2.0).view(3, 3, 9, 15)
    for a, row in enumerate([1, 4, 7]):
        for b, column in enumerate([2, 7, 12]):
            down, across = torch.arange(9) - row, torch.arange(15) - column
            expected = torch.exp(-(down[:, None] ** 2 + across**2) / 8)
            assert_close(masks[a, b], expected)


def test_bumps_are_symmetric_and_peak_between_pixels_too():
    masks = bumps(7, 28, 28, 2.0)
    assert_close(masks.flip(0), masks.flip((1, 2)))
    assert_close(masks.view(7, 7, 28, 28).transpose(0, 1).reshape(49, 28, 28), masks.mT)
    assert 0.9 < masks.amax((1, 2)).min() <= masks.max() <= 1


@pytest.mark.parametrize(("grid", "height", "width"), [(1, 4, 5), (3, 9, 15), (7, 28, 32)])
def test_bumps_are_outer_products_of_profiles(grid, height, width):
    masks, down, across = bumps(grid, height, width, 2.0), profiles(grid, height, 2.0), profiles(grid, width, 2.0)
    assert masks.shape == (grid**2, height, width)
    for k, mask in enumerate(masks):
        assert_close(mask, torch.outer(down[k // grid], across[k % grid]))


@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0, 100.0])
@pytest.mark.parametrize("size", [1, 2, 5, 28])
def test_blur_matrix_averages(size, sigma):
    matrix = blur_matrix(size, sigma)
    assert matrix.shape == (size, size)
    assert_close(matrix.sum(1), torch.ones(size))
    assert matrix.min() >= 0
    assert_close(matrix, matrix.flip((0, 1)))  # no side of the image is another's
    if round(3 * sigma) == 0 or size == 1:
        assert torch.equal(matrix, torch.eye(size))


@pytest.mark.parametrize(("shape", "sigma"), [((20, 11), 3.0), ((5, 13), 1.0), ((28, 28), 3.0), ((9, 9), 5.0)])
def test_blur_against_torchvision(shape, sigma):
    x = torch.rand(2, 3, *shape, dtype=torch.double)
    radius = min(round(3 * sigma), min(shape) - 1)
    assert_close(blur(x, sigma), gaussian_blur(x, [2 * radius + 1] * 2, [sigma] * 2))


def test_each_side_is_cut_off_at_its_own_size():
    """A row of an image that does not vary down is blurred as the row alone."""
    row = torch.rand(1, 1, 1, 30)
    assert_close(blur(row.expand(1, 1, 4, 30), 3.0), blur(row, 3.0).expand(1, 1, 4, 30))


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_blur_against_scipy(sigma):
    x = torch.rand(2, 3, 12, 15, dtype=torch.double)
    expected = gaussian_filter(x.numpy(), sigma, truncate=3, mode="mirror", axes=(2, 3))
    assert_close(blur(x, sigma), torch.from_numpy(expected))


@pytest.mark.parametrize(("size", "sigma"), [((4, 5), 3.0), ((1, 6), 2.0), ((5, 5), 0.1)])
def test_blur_keeps_constants_on_any_image(size, sigma):
    x = torch.full((2, 1, *size), 0.3)
    assert_close(blur(x, sigma), x)


def test_upsample_is_bilinear():
    assert torch.equal(upsample(torch.arange(8.0).view(2, 4), 2, (2, 2)), torch.arange(8.0).view(2, 1, 2, 2))
    rows = torch.tensor([0.0, 0.25, 0.75, 1.0])  # between the centres of the cells
    assert_close(upsample(torch.tensor([[0.0, 0, 1, 1]]), 2, (4, 2))[0, 0], rows[:, None].expand(4, 2))


def test_gradients_by_hand(analytic, x, y):
    """g = J^T (p - onehot(y)), its absolute values summed over the channels."""
    p = analytic(x).softmax(1)
    g = torch.einsum("bk,bkn->bn", p - F.one_hot(y, 3), analytic.jacobian(x)).view_as(x).detach()
    assert_close(gradient_map(analytic, x, y), g.abs().sum(1, keepdim=True))


MAPS = {
    "random": lambda: torch.rand(3, 1, 6, 7),
    "ties": lambda: torch.randint(3, (3, 1, 6, 7)).float(),
    "constant": lambda: torch.ones(3, 1, 6, 7),
    "zero": lambda: torch.zeros(3, 1, 6, 7),
}


@pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.33, 0.4, 1.0])
def test_hard_selection_keeps_exactly_its_share_and_the_highest(make, share):
    maps = make()
    mask = selection_mask(maps, share=share)
    assert mask.shape == maps.shape
    assert mask.sum((1, 2, 3)).tolist() == [round(share * 42)] * 3
    assert torch.equal(mask, mask.square())
    for chosen, values in zip(mask.bool(), maps, strict=True):
        kept, dropped = values[chosen].tolist(), values[~chosen].tolist()
        assert min(kept, default=2) >= max(dropped, default=-1)


def test_soft_selection_is_the_map_over_its_maximum():
    maps = torch.rand(3, 1, 6, 7, dtype=torch.double) * torch.tensor([1e-9, 1, 1e9]).view(3, 1, 1, 1)
    mask = selection_mask(maps, kind="soft")
    assert_close(mask, maps / maps.amax((1, 2, 3), keepdim=True))
    assert mask.amax((1, 2, 3)).tolist() == [1] * 3
    assert selection_mask(torch.zeros(1, 1, 6, 7), kind="soft").tolist() == torch.zeros(1, 1, 6, 7).tolist()


@pytest.mark.parametrize("make", [selection_mask, lambda _, **options: Selection(**options)])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": -0.1}, "share = -0.1 is out of range; accepted: 0 to 1"),
        ({"share": 1.1}, "share = 1.1 is out"),
        ({"share": float("nan")}, "share = nan is out"),
        ({"kind": "medium"}, "unknown selection 'medium'; accepted: hard, soft"),
    ],
)
def test_selection_errors_show_the_value(make, options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        make(torch.rand(1, 1, 6, 7), **options)


def test_selection_holds_the_arguments_of_a_perturbation():
    assert Selection(grid=3, mask_sigma=0.8, blur_sigma=1.0).perturbation == GRID
    with pytest.raises(InputError, match=r"^grid = 0 is out"):
        Selection(grid=0)
