import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from jsigr_lib.measure import statistics
from jsigr_lib.measure.attributions import CONTROLS
from jsigr_lib.measure.linearised import linearised_robustness
from jsigr_lib.measure.measures import CURVE_STEPS
from jsigr_lib.study import linearised_tables, map_tables
from jsigr_lib.study.map_tables import (
    INPUTS,
    MEASURES,
    PAIR,
    QUESTIONS,
    Question,
    cascade_table,
    explained_in,
    measures,
    questions_table,
    sanity,
    specs,
)
from jsigr_lib.study.maps import Explained, Sanity
from jsigr_lib.study.sources import headline_attack


def test_specs_are_every_network_and_all_maps_of_the_featured(study):
    p, every = study.profile, specs(study)
    kept = [spec for spec in every if isinstance(spec, Explained)]
    assert [spec.target for spec in kept] == [study.training(name) for name in p.defences]
    for name, spec in zip(p.defences, kept, strict=True):
        assert spec.maps == (tuple(p.saliency_maps) if name in study.featured else PAIR)
        assert spec.attacked == headline_attack(study, "small-cnn")
        assert (spec.images, spec.grid, spec.mask_sigma, spec.blur_sigma) == (
            p.saliency_images,
            p.penalty.grid,
            p.penalty.mask_sigma,
            p.penalty.blur_sigma,
        )
    checked = [spec for spec in every if isinstance(spec, Sanity)]
    assert [spec.target for spec in checked] == [study.training(name) for name in study.featured]
    linearised = [spec for spec in every if isinstance(spec, linearised_tables.Linearised)]
    assert len(linearised) == 2 * len(p.defences)
    assert len(every) == len(kept) + len(checked) + len(linearised)


def test_sanity_never_asks_for_more_images_than_there_are(tiny, study):
    few = tiny(study.store.root, sanity_images=20)
    assert sanity(few, few.training("jsigr")).images == few.profile.saliency_images == 8


def test_measures_of_a_featured_network(study, table):
    table("measures")
    values = measures(study, "jsigr", study.training("jsigr"))
    assert {measure for measure, *_ in values} == MEASURES.keys()
    assert {name for measure, name, _ in values if measure == "infidelity"} == {*study.profile.saliency_maps, *CONTROLS}
    assert {len(value) for (measure, *_), value in values.items() if measure == "max-sensitivity"} == {3}
    assert {len(value) for (measure, *_), value in values.items() if measure != "max-sensitivity"} == {8}
    tensors = study.get(explained_in(study, "jsigr", study.training("jsigr"))).tensors
    assert_allclose(values["agreement", "gradient", "attacked"], tensors["agreement|gradient|attacked"])


def test_measures_of_another_network_are_of_the_pair(study, table):
    table("measures")
    values = measures(study, "otjr", study.training("otjr"))
    assert {measure for measure, *_ in values} == MEASURES.keys() - {"max-sensitivity"}
    assert {name for measure, name, _ in values if measure == "infidelity"} == {*PAIR, *CONTROLS}


def test_alignment_is_that_of_the_margin_clean_and_attacked(study, table):
    table("measures")
    network = study.training("jsigr")
    values = measures(study, "jsigr", network)
    x, _ = study.batch("test", 8)
    x_adv = study.get(headline_attack(study, "small-cnn")).tensors["images"][:8]
    for given, images in (("clean", x), ("attacked", x_adv)):
        expected = linearised_robustness(study.model(network), images)["alignment"]
        assert_allclose(values["alignment", "network", given], expected, rtol=1e-4)


# tables


def test_measures_table(study, table):
    rows = table("measures")
    what = ["architecture", "defence", "measure", "map", "input"]
    assert list(rows) == [*what, "images", "seeds", "mean", "low", "high"]
    assert len(rows) == len(rows[what].drop_duplicates())
    assert set(rows.defence) == set(study.profile.defences)
    assert set(rows.measure) == MEASURES.keys()
    assert set(rows[rows.measure != "max-sensitivity"].images) == {8} and set(rows.seeds) == {1}
    assert (rows.low <= rows["mean"]).all() and (rows["mean"] <= rows.high).all()
    assert rows[["mean", "low", "high"]].notna().all(axis=None)
    values = measures(study, "jsigr", study.training("jsigr"))
    own = rows[rows.defence == "jsigr"]
    assert len(own) == len(values)
    for row in own.itertuples():
        assert row.mean == pytest.approx(values[row.measure, row.map, row.input].mean())


def test_seeds_are_stacked(study, monkeypatch):
    monkeypatch.setattr(map_tables, "measures", lambda study, defence, network: {("m", "g", "clean"): network})
    monkeypatch.setattr(study, "targets", lambda: {("small-cnn", "jsigr"): [np.arange(3), np.ones(3)]})
    assert map_tables.stacked(study, "small-cnn", "jsigr")["m", "g", "clean"].tolist() == [[0, 1, 2], [1, 1, 1]]


def test_curves_table(study, table):
    rows = table("curves")
    what = ["defence", "input", "curve", "map"]
    assert list(rows) == [*what, "share", "probability"]
    assert len(rows) == 4 * len((*PAIR, *CONTROLS)) * len(study.profile.defences) * (CURVE_STEPS + 1)
    for _, line in rows.groupby(what):
        assert_allclose(line.share, np.linspace(0, 1, CURVE_STEPS + 1))
    ends = rows[rows.share == 0].pivot_table(index=["defence", "input"], columns=["curve", "map"], values="probability")
    assert_allclose(ends["deletion", "gradient"], ends["deletion", "perturbation"], rtol=1e-4)
    last = rows[rows.share == 1].pivot_table(index=["defence", "input"], columns=["curve", "map"], values="probability")
    assert_allclose(last["insertion", "gradient"], ends["deletion", "gradient"], rtol=1e-4)
    tensors = study.get(explained_in(study, "sigr", study.training("sigr"))).tensors
    line = rows.query("defence == 'sigr' and input == 'attacked' and curve == 'insertion' and map == 'gradient'")
    assert_allclose(line.probability, tensors["insertion curve|gradient|attacked"].double().mean(0))


def test_cascade_table(study, table):
    rows = table("cascade")
    assert list(rows) == ["defence", "map", "layers", "images", "seeds", "correlation", "low", "high"]
    assert len(rows) == 4 * len(study.featured) * len((*study.profile.saliency_maps, *CONTROLS))
    own = rows.query("defence == 'jsigr' and map == 'grad-cam'")
    tensors = study.get(sanity(study, study.training("jsigr"))).tensors
    assert own.layers.tolist() == [1, 2, 3, 4]
    assert_allclose(own.correlation, tensors["cascade|grad-cam|clean"].mean(0))
    assert cascade_table(study).drop(columns=["low", "high"]).equals(rows.drop(columns=["low", "high"]))


# the questions


def test_every_question_is_about_maps_of_featured_networks(study):
    for question in QUESTIONS:
        for defence, name in (question.a, question.b):
            assert defence in study.featured and name in (*study.profile.saliency_maps, *CONTROLS)


def test_questions_table(study, table):
    rows = table("questions")
    what = ["question", "a", "b", "measure", "input"]
    assert list(rows) == [*what, "images", "seeds", "difference", "low", "high", "p", "better"]
    assert len(rows) == len(rows[what].drop_duplicates())
    assert set(rows.better) <= {"a", "b", "no difference"}
    assert rows.p.between(0, 1).all()
    assert not set(rows.measure) & {"sparseness", "alignment", "deletion AUC", "insertion AUC"}
    costly = rows[rows.b.str.endswith("perturbation")]
    assert len(costly) and not set(costly.measure) & {"agreement", "top overlap"}
    assert not costly.measure.str.startswith("agreement").any()
    given = "agreement given the energy map"
    assert {"agreement", "top overlap", given} <= set(rows[rows.b == "pgd, gradient"].measure)
    assert given not in set(rows[rows.b == "jsigr, energy"].measure)
    row = rows.query("a == 'jsigr, gradient' and b == 'standard, perturbation' and measure == 'stability'").iloc[0]
    a, b = (measures(study, name, study.training(name)) for name in ("jsigr", "standard"))
    differences = a["stability", "gradient", "both"] - b["stability", "perturbation", "both"]
    assert row.difference == pytest.approx(differences.mean())
    assert row.p >= statistics.signed_rank(differences)


def planted(monkeypatch, study, **values: dict) -> pd.DataFrame:
    """The answer to one question where the maps of `jsigr` and `pgd` measure what is given."""
    monkeypatch.setattr(map_tables, "QUESTIONS", (Question("?", ("jsigr", "gradient"), ("pgd", "gradient")),))
    monkeypatch.setattr(map_tables, "specs", lambda study: [])
    found = {name: {key: np.atleast_2d(value) for key, value in one.items()} for name, one in values.items()}
    monkeypatch.setattr(map_tables, "stacked", lambda study, architecture, name: found.get(name, {}))
    return questions_table(study).set_index("measure")


def test_better_is_a_where_its_end_of_the_measure_is_reached(monkeypatch, study):
    rng = np.random.default_rng(0)
    low, high = rng.normal(0, 0.1, 60), rng.normal(1, 0.1, 60)
    keys = [("stability", "gradient", "both"), ("infidelity", "gradient", "clean"), ("SSIM", "gradient", "both")]
    a, b = dict(zip(keys, (high, high, low), strict=True)), dict(zip(keys, (low, low, low[::-1]), strict=True))
    rows = planted(monkeypatch, study, jsigr=a, pgd=b)
    assert rows.better.to_dict() == {"stability": "a", "infidelity": "b", "SSIM": "no difference"}
    assert rows.difference["stability"] == rows.difference["infidelity"] == pytest.approx(1, abs=0.05)
    assert rows.p["SSIM"] > 0.05 > rows.p["stability"]


def test_a_difference_that_luck_explains_is_none(monkeypatch, study):
    """Twenty measures' worth of noise: Holm's correction leaves none of them."""
    rng = np.random.default_rng(3)
    keys = [(measure, "gradient", given) for measure in MEASURES for given in INPUTS]
    a, b = ({key: rng.normal(size=40) for key in keys} for _ in range(2))
    rows = planted(monkeypatch, study, jsigr=a, pgd=b)
    assert len(rows) > 12 and set(rows.better) == {"no difference"}


def test_a_question_about_a_network_that_is_not_featured_is_left_out(monkeypatch, study, table):
    table("questions")
    monkeypatch.setattr(type(study), "featured", ["standard", "jsigr", "pgd"])
    rows = questions_table(study)
    assert set(rows.b.str.split(", ").str[0]) == {"standard", "jsigr", "pgd"}
    monkeypatch.setattr(type(study), "featured", ["sigr"])
    none = questions_table(study)
    assert len(none) == 0 and list(none) == list(rows)
