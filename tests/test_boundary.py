"""Classifiers whose boundary is known, and the tables of the tiny study."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from jsigr_lib import boundary, boundary_figures, statistics
from jsigr_lib.balls import distance
from jsigr_lib.boundary import measured_distance
from jsigr_lib.errors import InputError
from jsigr_lib.theory import linearised_robustness


class Sphere(nn.Module):
    """Class 0 inside the sphere of this radius around the middle of the cube, class 1 outside; z_1 is always 0."""

    def __init__(self, radius: float):
        super().__init__()
        self.radius = radius

    def forward(self, x):
        return torch.stack([self.radius**2 - (x - 0.5).flatten(1).square().sum(1), torch.zeros(len(x)).to(x)], 1)


class HalfSpace(nn.Module):
    """Class 0 where <w, x> < offset, else class 1."""

    def __init__(self, w, offset: float):
        super().__init__()
        self.register_buffer("w", w)
        self.offset = offset

    def forward(self, x):
        return torch.stack([self.offset - x.flatten(1) @ self.w, torch.zeros(len(x)).to(x)], 1)


@pytest.fixture
def right(linear, x):
    with torch.no_grad():
        return linear(x).argmax(1)


def grey(shape=(6, 2, 4, 5), spread: float = 0.05):
    """Images near the middle of the cube."""
    return 0.5 + spread * torch.randn(shape, dtype=torch.double)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_of_a_linear_classifier_it_is_the_linearised_one(linear, x, right, dtype):
    x, model = x.to(dtype), linear.to(dtype)
    measured, tangent = measured_distance(model, x, right), linearised_robustness(model, x)["robustness"]
    assert measured["found"].all() and measured["distance"].dtype == dtype
    assert_close(measured["distance"], tangent, rtol=1e-3, atol=0)
    assert (measured["distance"] >= tangent * (1 - 1e-5)).all()


@pytest.mark.parametrize("radius", [0.8, 2.0])
def test_of_a_sphere_it_is_the_way_to_its_surface(radius):
    """Also where the tangent is far off: near the middle its slope all but vanishes."""
    x = grey()
    inside = (x - 0.5).flatten(1).norm(dim=1)
    truth = radius - inside
    assert (truth > 0).all()
    model, y = Sphere(radius), torch.zeros(len(x), dtype=torch.long)
    measured = measured_distance(model, x, y)
    assert_close(measured["distance"], truth, rtol=1e-3, atol=0)
    assert (measured["distance"] >= truth - 1e-6).all()
    assert (linearised_robustness(model, x)["robustness"] > 1.2 * truth).all()


def test_pixels_that_may_not_move_lengthen_the_way():
    """Black pixels cannot get darker: the boundary of a half space, along its other pixels only."""
    x = torch.full((1, 1, 2, 4), 0.5, dtype=torch.double)
    x[..., 2:] = 0
    w = torch.tensor([1.0, 0.5, -3, -3, 1, 0.5, -3, -3], dtype=torch.double)
    gap = 0.4
    model = HalfSpace(w, float(x.flatten() @ w) + gap)
    measured = measured_distance(model, x, torch.tensor([0]))
    assert_close(measured["distance"], torch.tensor([gap / w.norm()]), rtol=1e-3, atol=0)
    assert_close(measured["boxed"], torch.tensor([gap / w[[0, 1, 4, 5]].norm()]), rtol=1e-3, atol=0)
    assert measured["points"].min() < 0


def test_each_is_the_way_to_an_error(linear, x, right):
    measured = measured_distance(linear, x, right)
    points = measured["points"]
    z, there = linear(x), linear(points)
    assert (there.argmax(1) != right).all()
    assert_close(distance(points, x, "l2"), measured["distance"])
    assert_close((there - z).norm(dim=1), measured["change"])
    assert (measured["boxed"] >= measured["distance"]).all()


def test_errors_are_at_no_distance(linear, x, right):
    y = right.clone()
    y[1] = (y[1] + 1) % 3
    measured = measured_distance(linear, x, y)
    assert measured["distance"][1] == measured["boxed"][1] == measured["change"][1] == 0 and measured["found"].all()
    assert torch.equal(measured["points"][1], x[1])
    others = measured_distance(linear, x, right)["distance"]
    assert_close(measured["distance"][[0, 2, 3]], others[[0, 2, 3]])
    nothing_left = measured_distance(linear, x, (right + 1) % 3)
    assert not nothing_left["distance"].any() and torch.equal(nothing_left["points"], x)


def test_where_nothing_misleads_it_nothing_is_found(x):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.stack([2 + 0 * x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], 1)

    measured = measured_distance(Constant(), x, torch.zeros(len(x), dtype=torch.long))
    assert measured["distance"].isinf().all() and not measured["found"].any()
    assert torch.equal(measured["points"], x) and not measured["change"].any()


def test_leaves_everything_as_it_was_and_repeats(batch_norm_net, x, y):
    """Modes, buffers, parameters and their gradients, images, the global random state."""
    model = batch_norm_net
    model[0].weight.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)

    def state():
        gradients = [parameter.grad for parameter in model.parameters()]
        tensors = [*model.buffers(), *model.parameters(), *gradients, x, torch.get_rng_state()]
        flags = [module.training for module in model.modules()] + [p.requires_grad for p in model.parameters()]
        return [tensor.detach().clone() for tensor in tensors], flags

    tensors, flags = state()
    first, again = (measured_distance(model, x.clone().requires_grad_(), y) for _ in range(2))
    after, flags_after = state()
    assert flags_after == flags and all(map(torch.equal, after, tensors))
    assert all(torch.equal(first[name], again[name]) and not first[name].requires_grad for name in first)


def test_one_by_one_and_channels_last(net, x):
    with torch.no_grad():
        y = net(x).argmax(1)
    together = measured_distance(net, x, y)["distance"]
    alone = torch.cat([measured_distance(net, x[i : i + 1], y[i : i + 1])["distance"] for i in range(len(x))])
    moved = measured_distance(net, x.contiguous(memory_format=torch.channels_last), y)["distance"]
    assert_close(together, alone)
    assert_close(together, moved)


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [(1.2, 0, "images span .* to 1.2; accepted: 0 to 1"), (0.5, 7, "label 7; accepted: 0 to 2"), (0.5, -1, "label -1")],
)
def test_bad_input(linear, x, y, image, label, message):
    x[0, 0, 0, 0], y[0] = image, label
    with pytest.raises(InputError, match=f"^{message}"):
        measured_distance(linear, x, y)


# the study


@pytest.fixture(scope="module")
def tables(study):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "DRAWS", 50)
        yield boundary.boundary_table(study), boundary.region_table(study)


def test_artefact(study):
    spec = boundary.measured(study, study.training("jsigr"))
    assert spec.images == study.profile.boundary_images == 8 and spec.work() > 0
    tensors = study.get(spec).tensors
    x, y = study.batch("test", 8)
    wrong = study.model(spec.target)(x).argmax(1) != y
    assert torch.equal(tensors["distance"] == 0, wrong) and "points" not in tensors
    assert all(value.shape == (8,) for value in tensors.values())


def test_images_are_at_most_those_of_the_maps(tiny, tmp_path):
    study = tiny(tmp_path, boundary_images=30)
    assert boundary.measured(study, study.training("jsigr")).images == study.profile.saliency_images == 8


def test_boundary_table(study, tables):
    table, _ = tables
    assert list(table.defence) == list(study.profile.defences)
    row = table[table.defence == "jsigr"].iloc[0]
    values = boundary.boundary_values(study, [study.training("jsigr")])
    rho, length = values["robustness"][0], values["distance"][0]
    assert row.images == len(rho) <= 8 and row.seeds == 1 and (length > 0).all()
    assert row.rho_mean == pytest.approx(rho.mean()) and row.distance_median == pytest.approx(np.median(length))
    assert row.ratio == pytest.approx(np.exp(np.log(rho / length).mean()))
    assert row.ratio_low <= row.ratio <= row.ratio_high and row.overestimates == (rho > length).mean()
    assert row.boxed_mean >= row.distance_mean
    assert row.correlation == pytest.approx(statistics.rank_correlation(rho[None], length[None])[0])


def test_region_table(study, tables):
    _, table = tables
    assert list(table.defence) == list(study.profile.defences)
    table = table[table.images > 0]  # such small networks may get nothing right
    assert np.allclose(table.attack, study.profile.eps * 28)
    assert (table.reach_random > 0).all() and (table.reach_towards < table.distance).all()
    assert table.flipped.between(0, 1).all() and (table.flipped_low <= table.flipped_high).all()


def test_a_network_that_gets_nothing_right_has_an_empty_row(study, monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 5)
    usable = boundary.boundary_values
    monkeypatch.setattr(boundary, "boundary_values", lambda *args: {k: v[:, :0] for k, v in usable(*args).items()})
    for table in (boundary.boundary_table(study), boundary.region_table(study)):
        assert (table.images == 0).all() and list(table.defence) == list(study.profile.defences)


def test_seeds_share_their_images(tiny, tmp_path):
    study = tiny(tmp_path, seeds=[0, 1])
    networks = study.targets()[study.architecture, "standard"]
    values = boundary.boundary_values(study, networks)
    both = [study.get(boundary.measured(study, network)).tensors["distance"] > 0 for network in networks]
    assert values["distance"].shape == (2, int((both[0] & both[1]).sum()))


def test_correlation(monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 200)
    rng = np.random.default_rng(0)
    a = rng.random((2, 40))
    assert boundary.correlation(a, a**3) == pytest.approx((1, 1, 1))
    middle, low, high = boundary.correlation(a, a + rng.random((2, 40)))
    assert low < middle < high and boundary.correlation(a, -a)[0] == pytest.approx(-1)


def test_figures(study, tables):
    table, regions = tables
    values = {name: boundary.boundary_values(study, study.targets()[study.architecture, name]) for name in study.labels}
    fig, alt = boundary_figures.boundary_distance(study, values, table)
    jsigr = table[table.defence == "jsigr"].iloc[0]
    assert f"J-SIGR {jsigr.ratio:.2f} [{jsigr.ratio_low:.2f}, {jsigr.ratio_high:.2f}]" in alt
    line = fig.axes[0].lines[study.featured.index("jsigr")]
    assert_close(torch.from_numpy(line.get_ydata()), torch.from_numpy(values["jsigr"]["robustness"].ravel()))
    fig, alt = boundary_figures.linear_region(study, regions)
    assert f"{100 * regions.flipped.iloc[0]:.1f} percent" in alt
    assert np.allclose(fig.axes[0].lines[0].get_xdata(), regions.reach_random, equal_nan=True)


def test_training_figure(study, table):
    history = table("history")
    fig, alt = boundary_figures.training_theory(study, history)
    row = history[history.defence == "jsigr"].iloc[-1]
    quotient = row.margin / (2 * row.jacobian_norm) ** 0.5
    assert f"J-SIGR {row.jacobian_norm:.1f}, {row.margin:.2f}, {quotient:.2f}, {row.robust_accuracy:.2f}" in alt
    line = fig.axes[2].lines[study.featured.index("jsigr")]
    assert line.get_ydata()[-1] == pytest.approx(quotient)


def test_contrasts_of_a_network_that_is_always_wrong_are_an_empty_table(study, monkeypatch):
    usual, values_of = boundary.contrast_table(study), boundary._of_all_images

    def always_wrong(*given):
        values, usable = values_of(*given)
        return values, usable & False

    monkeypatch.setattr(boundary, "_of_all_images", always_wrong)
    table = boundary.contrast_table(study)
    assert table.empty and table.columns.equals(usual.columns)


def test_contrasts_are_paired_on_shared_images(study):
    rows = boundary.contrast_table(study)
    assert set(rows.b) <= set(study.labels) - {"jsigr"} and set(rows.measure) == {"robustness", "distance", "boxed"}
    for row in rows.itertuples():
        ours, theirs = (study.get(boundary.measured(study, study.training(name))).tensors for name in ("jsigr", row.b))
        shared = (ours["distance"] > 0) & (theirs["distance"] > 0)
        shared &= ours["boxed"].isfinite() & theirs["boxed"].isfinite()
        assert row.images == int(shared.sum())
        if row.measure != "robustness":
            expected = (ours[row.measure] - theirs[row.measure])[shared].double().mean().item()
            assert row.difference == pytest.approx(expected) and row.low <= row.difference <= row.high
