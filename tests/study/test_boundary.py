"""The measured distance to the boundary: tables and figures of the tiny study."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from jsigr_lib.figures import boundary as boundary_figures
from jsigr_lib.figures import plotting
from jsigr_lib.measure import statistics
from jsigr_lib.study import boundary


@pytest.fixture(scope="module")
def tables(study):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jsigr_lib.measure.boundary.DRAWS", 50)
        yield boundary.boundary_table(study), boundary.region_table(study)


def test_artefact(study):
    spec = boundary.distance_spec(study, study.training("jsigr"))
    assert spec.images == study.profile.boundary_images == 8 and spec.work() > 0
    tensors = study.get(spec).tensors
    x, y = study.batch("test", 8)
    wrong = study.model(spec.target)(x).argmax(1) != y
    assert torch.equal(tensors["distance"] == 0, wrong) and "points" not in tensors
    assert all(value.shape == (8,) for value in tensors.values())


def test_images_are_at_most_those_of_the_maps(tiny, tmp_path):
    study = tiny(tmp_path, boundary_images=30)
    assert boundary.distance_spec(study, study.training("jsigr")).images == study.profile.saliency_images == 8


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
    monkeypatch.setattr("jsigr_lib.measure.boundary.DRAWS", 5)
    usable = boundary.boundary_values
    monkeypatch.setattr(boundary, "boundary_values", lambda *args: {k: v[:, :0] for k, v in usable(*args).items()})
    for table in (boundary.boundary_table(study), boundary.region_table(study)):
        assert (table.images == 0).all() and list(table.defence) == list(study.profile.defences)


def test_seeds_share_their_images(tiny, tmp_path):
    study = tiny(tmp_path, seeds=[0, 1])
    networks = study.targets()[study.architecture, "standard"]
    values = boundary.boundary_values(study, networks)
    both = [study.get(boundary.distance_spec(study, network)).tensors["distance"] > 0 for network in networks]
    assert values["distance"].shape == (2, int((both[0] & both[1]).sum()))


def test_figures(study, tables):
    table, regions = tables
    values = {name: boundary.boundary_values(study, study.targets()[study.architecture, name]) for name in study.labels}
    fig, alt = boundary_figures.boundary_distance(study, values, table)
    jsigr = table[table.defence == "jsigr"].iloc[0]
    assert f"J-SIGR {jsigr.ratio:.2f} [{jsigr.ratio_low:.2f}, {jsigr.ratio_high:.2f}]" in alt
    line = fig.axes[0].lines[plotting.main(study).index("jsigr")]
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
        ours, theirs = (
            study.get(boundary.distance_spec(study, study.training(name))).tensors for name in ("jsigr", row.b)
        )
        shared = (ours["distance"] > 0) & (theirs["distance"] > 0)
        shared &= ours["boxed"].isfinite() & theirs["boxed"].isfinite()
        assert row.images == int(shared.sum())
        if row.measure != "robustness":
            expected = (ours[row.measure] - theirs[row.measure])[shared].double().mean().item()
            assert row.difference == pytest.approx(expected) and row.low <= row.difference <= row.high
