"""The lower bounds beside the measured distance: tables of the tiny study."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from jsigr_lib.figures import bounds as figures
from jsigr_lib.measure.bounds import confidence_gap, distance_bounds
from jsigr_lib.study import bounds
from jsigr_lib.study.attacked import correct_of, white_box


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jsigr_lib.measure.boundary.DRAWS", 50)
        yield


def test_artefact(study):
    network = study.training("jsigr")
    spec = bounds.Gap(target=network)
    study.make([spec])
    tensors, (x, y) = study.get(spec).tensors, study.batch("test", study.profile.test_images)
    assert spec.work() > 0 and all(len(value) == len(x) for value in tensors.values())
    for name, value in confidence_gap(study.model(network).double(), x.double(), y).items():
        assert_close(tensors[name], value)


def test_shares_are_bounds_of_all_images_over_distances_of_the_first(study):
    network = study.training("standard")
    study.make(bounds.specs(study))
    found = bounds.ratios(study, [network])
    distance = study.get(bounds.distance_spec(study, network)).tensors["distance"].double()
    every = distance_bounds(study.get(bounds.Gap(target=network)).tensors)
    usable = distance > 0
    for name in bounds.BOUNDS:
        expected = every[name][: len(distance)][usable] / distance[usable]
        assert_close(torch.from_numpy(found[name][0]), expected)


def test_tables(study):
    p, table = study.profile, bounds.bounds_table(study)
    right = table.set_index(["defence", "bound"])
    assert set(table.bound) == set(bounds.BOUNDS) and table.median_share.between(0, 10).all()
    found = bounds.ratios(study, [study.training("jsigr")])
    row = right.loc["jsigr", "curvature"]
    assert row.images == found["curvature"].shape[1] and row.median_share == np.median(found["curvature"])
    assert row.exceeds == (found["curvature"] > 1).mean()
    constants = bounds.constants_table(study)
    assert list(constants.images.unique())[-1] == p.test_images
    for name in ("slope", "curvature"):
        assert all(one[name].is_monotonic_increasing for _, one in constants.groupby("defence"))


def test_tightness_is_paired(study):
    table = bounds.tightness_table(study).set_index(["b", "bound"])
    together = bounds.ratios(study, [study.training("jsigr"), study.training("standard")])
    ours, theirs = together["gradient"]
    row = table.loc["standard", "gradient"]
    assert row.difference == pytest.approx((ours - theirs).mean()) and row.images == len(ours)
    assert "jsigr" not in table.index.get_level_values(0)


def test_gains_are_paired(study):
    table = bounds.gains_table(study).set_index(["a", "b"])
    right = {
        name: correct_of(study, [white_box(study, study.training(name), study.profile.eps)])
        for name in ("jsigr", "standard")
    }
    row = table.loc["jsigr", "standard"]
    assert row.difference == pytest.approx(right["jsigr"].mean() - right["standard"].mean())
    assert set(table.index.get_level_values("b")) == {"standard"} | {
        name for name in study.labels if name not in ("jsigr", "standard")
    }


def test_costs_are_told(study):
    cost = bounds.accuracy_table(study).drop_duplicates("defence").set_index("defence").cost
    assert cost["standard"] == 1 and (cost[cost.index != "standard"] > 1).all()


def test_pages_begin_with_images_that_have_distances(study):
    values = bounds.one_by_one(study, ["standard", "jsigr"], images=4)
    for one in values.values():
        one["measured"] = np.array([0.0, 0.5, 0.4, 0.3])
    said = [text for _, text in figures.pages(study, values)]
    assert [text.split(".")[0] for text in said] == [f"Test image {i}" for i in (1, 2, 3, 0)]
    assert "wrong" in said[-1] and not any("wrong" in text for text in said[:-1])
