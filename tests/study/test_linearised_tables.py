"""Linearised robustness of the tiny study's networks."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from jsigr_lib.measure.linearised import linearised_robustness
from jsigr_lib.study.linearised_tables import Linearised, linearised_specs, linearised_values


def test_linearised_artefact(study, monkeypatch):
    spec = Linearised(target=study.training("standard"), images=8)
    assert spec.needs() == [study.training("standard"), study.data]
    tensors = study.get(spec).tensors
    x, y = study.batch("test", 8)
    model = study.model(study.training("standard"))
    for name, value in linearised_robustness(model, x).items():
        assert_close(tensors[name], value)
    assert torch.equal(tensors["correct"], model(x).argmax(1) == y)


def test_specs_are_every_network(study):
    networks = [network for many in study.targets().values() for network in many]
    assert [spec.target for spec in linearised_specs(study)] == networks
    assert {spec.images for spec in linearised_specs(study)} == {8}


def test_misclassified_images_have_no_robustness(study):
    target = study.training("standard")
    tensors = study.get(Linearised(target=target, images=8)).tensors
    correct = tensors["correct"].numpy()
    assert 0 < correct.sum() < 8
    values = linearised_values(study, target)
    for name in ("margin", "robustness", "bound"):
        assert (values[name][~correct] == 0).all()
        assert_allclose(values[name][correct], tensors[name].numpy()[correct])
    for name in ("jacobian", "alignment"):
        assert_allclose(values[name], tensors[name].numpy())


def test_linearised_table(study, table):
    rows = table("linearised")
    assert list(rows) == ["architecture", "defence", "quantity", "images", "seeds", "mean", "low", "high"]
    assert len(rows) == 5 * len(study.profile.defences)
    assert set(rows.images) == {8} and set(rows.seeds) == {1}
    assert (rows.low <= rows["mean"]).all() and (rows["mean"] <= rows.high).all()
    values = linearised_values(study, study.training("jsigr"))
    means = rows[rows.defence == "jsigr"].set_index("quantity")["mean"]
    assert means.to_dict() == pytest.approx({name: np.mean(value) for name, value in values.items()})
