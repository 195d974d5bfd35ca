"""Maps against a known truth, of networks that have learnt from glyphs."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from jsigr_lib.data.data import load
from jsigr_lib.data.glyphs import Glyphs
from jsigr_lib.measure import statistics
from jsigr_lib.measure.attributions import CONTROLS, saliency_map
from jsigr_lib.measure.measures import points_at, share_on
from jsigr_lib.study import known_truth
from jsigr_lib.study.known_truth import COLUMNS, MEASURES, NO_NETWORK, PAIR, Located, located, network, values
from jsigr_lib.study.study import SURROGATE_SEED
from jsigr_lib.study.verdicts import values_per_image


def test_networks_learn_from_glyphs_what_the_profile_says(tiny, study):
    one = network(study, "jsigr", 3, cue=True)
    assert isinstance(one.data, Glyphs) and one.data.cue and one.data.train_images == study.profile.truth_images
    assert one.seed == 3 and dict(one.options) == study.profile.options("jsigr") and not one.augment
    own = {"jsigr": {"lambda_s": 0.5}}
    other = network(tiny(study.store.root, truth_options=own, augment=True), "jsigr", 3)
    assert dict(other.options)["lambda_s"] == 0.5 and not other.augment and not other.data.cue
    taught = network(study, "interpretation", 0)
    assert taught.teacher.data == taught.data == network(study, "standard", 0).data


def test_the_attack_comes_from_another_network_and_is_the_same_for_all(study):
    ones = [located(study, network(study, name, 0)) for name in known_truth.defences(study)]
    assert len({one.attacked.digest for one in ones}) == 1
    (source,) = ones[0].attacked.sources
    assert source == network(study, "standard", SURROGATE_SEED) and source not in [one.target for one in ones]


def test_specs_are_every_judged_defence_on_both_kinds_of_pictures(tiny, study):
    more = tiny(study.store.root, truth_seeds=2, truth_defences=["standard", "jsigr", "fast"])
    every = [one for one in known_truth.specs(more) if isinstance(one, Located)]
    assert len({one.digest for one in every}) == 2 * 2 * 3
    assert {one.target.seed for one in every} == {0, 1} and {one.target.data.cue for one in every} == {True, False}
    every = tiny(study.store.root, truth_defences=[])
    assert known_truth.defences(every) == study.featured


@pytest.mark.parametrize("cue", [False, True])
def test_values_are_those_of_the_library(study, table, cue):
    table("known truth")
    target = network(study, "jsigr", 0, cue=cue)
    found, model = values(study, "jsigr", cue=cue), study.model(target)
    kept, data = study.get(target.data).tensors, load(target.data, study.store)
    attacked = study.get(located(study, target).attacked).tensors["images"]
    x, y = data.test.first(8).batch(slice(None))
    settings = study.profile.penalty.selection.perturbation
    for name, given in (("gradient", "clean"), ("perturbation", "attacked"), ("energy", "clean")):
        maps = saliency_map(name, model, x if given == "clean" else attacked, y, **settings)
        truth, decoy = (share_on(maps, kept[f"test_{what}"][:8]) for what in ("truth", "decoy"))
        assert_allclose(found["share on the truth", name, given], truth[None], rtol=1e-4)
        assert_allclose(found["truth against decoy", name, given], (truth / (truth + decoy))[None], rtol=1e-4)
        assert_allclose(found["pointing", name, given], points_at(maps, kept["test_truth"][:8])[None])
        if cue:
            on_cue = share_on(maps, kept["test_cue"][:8])[None]
            assert_allclose(found["share on the cue", name, given], on_cue, rtol=1e-4)
    assert {measure for measure, *_ in found} == {name for name in MEASURES if cue or "cue" not in name}


def test_table_has_every_defence_and_the_controls_once(study, table):
    rows = table("known truth")
    assert list(rows) == COLUMNS
    assert len(rows) == len(rows[COLUMNS[:5]].drop_duplicates()) == (2 * 2 + 3) * 2 * (3 + 4)
    assert set(rows[rows.defence == NO_NETWORK]["map"]) == {*CONTROLS}
    assert set(rows[rows.defence != NO_NETWORK]["map"]) == {*PAIR}
    assert rows[rows.defence == NO_NETWORK].clean_accuracy.isna().all()
    assert rows[rows.defence != NO_NETWORK].clean_accuracy.between(0, 1).all()
    row = rows.query("pictures == 'glyphs' and defence == 'jsigr' and map == 'gradient' and input == 'attacked'")
    ours, others = (values(study, name)["share on the truth", "gradient", "attacked"] for name in ("jsigr", "standard"))
    row = row[row.measure == "share on the truth"].iloc[0]
    assert row["mean"] == pytest.approx(ours.mean())
    assert [row.gain, row.gain_low, row.gain_high] == pytest.approx(statistics.mean(ours - others))
    assert not rows[rows.defence == "standard"].gain.any()


def test_claims_see_the_shares(study, table):
    table("contrasts")
    found = values_per_image(study, study.architecture, "jsigr")
    expected = values(study, "jsigr")["share on the truth", "perturbation", "clean"]
    assert_allclose(found["share of the perturbation map on the truth", ""], expected)
    assert "share of the gradient map on the truth, attacked" in {measure for measure, _ in found}
    assert not known_truth.claimed(study, "pgd")


def test_other_data_leave_it_out(study, monkeypatch):
    monkeypatch.setattr(study, "profile", study.profile.model_copy(update={"dataset": "mnist"}))
    assert known_truth.defences(study) == [] and known_truth.specs(study) == []


def test_a_map_that_is_nothing_prefers_neither(study, table, monkeypatch):
    table("known truth")
    spec = located(study, network(study, "jsigr", 0))
    monkeypatch.setattr(Located, "draw", lambda self, name, model, x, y: torch.zeros(len(x), 1, 28, 28))
    found, _ = spec.compute(study.store, study.store.device)
    assert set(found["truth against decoy|gradient|clean"].tolist()) == {0.5}
    assert not np.any(found["share on the truth|gradient|clean"].numpy())
