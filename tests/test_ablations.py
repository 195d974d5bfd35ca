"""The ablations of DEVIATIONS.md: each changes one thing, and is compared with the default, pair by pair."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from benchmarks import ablations, frontier, run
from benchmarks.ablations import ABLATIONS, DEFAULT, Ablated, MapCosine, VectorBank, map_cosine
from jsigr_lib.method.jacobian import sphere
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.method.saliency import Selection, linearised_saliency, perturbation_saliency, selection_mask
from jsigr_lib.records.deviations import load_deviations
from jsigr_lib.store.paths import ROOT
from jsigr_lib.study.study import Study

CHOSEN = (DEFAULT, "cosine", "teacher", "vector", "share-20")
SMALL = {
    "jobs": 1,
    "train_images": 128,
    "validation_images": 32,
    "test_images": 24,
    "saliency_images": 8,
    "epochs": 1,
    "surrogate_epochs": 1,
    "batch_size": 16,
    "learning_rate": 0.02,
    "pgd_steps": 2,
    "seeds": [0, 1],
    "eps_grid": [0.0, 0.2],
    "widths": {"small-cnn": 2, "vgg": 2, "mlp": 16},
}
GRID = {"grid": 3, "mask_sigma": 0.8, "blur_sigma": 1.0}


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """Some of the ablations, as small as it gets: the study and its table."""
    folder = tmp_path_factory.mktemp("ablations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "ABLATIONS", {name: ABLATIONS[name] for name in CHOSEN})
        study = ablations.study(device="cpu", runs=folder, out=folder / "results", **SMALL)
        return study, ablations.table(study)


@pytest.fixture(scope="module")
def all_of_them() -> Study:
    return ablations.study(device="cpu", jobs=1)


def test_rows_are_every_measure_of_every_ablation(some):
    _, rows = some
    labels = [ABLATIONS[name].label for name in CHOSEN]
    assert rows.ablation.unique().tolist() == labels
    assert rows.groupby("ablation", sort=False).measure.apply(list).tolist() == [list(frontier.MEASURES.values())] * 5
    assert set(rows.seeds) == {2} and set(rows.images) == {24, 8}
    assert (rows.mean_low <= rows["mean"]).all() and (rows["mean"] <= rows.mean_high).all()
    assert (rows.difference_low <= rows.difference).all() and (rows.difference <= rows.difference_high).all()


def test_difference_is_to_the_default_and_paired(some):
    study, rows = some
    default = rows[rows.ablation == "the default"].set_index("measure")
    assert not default[["difference", "difference_low", "difference_high"]].any(axis=None)
    for row in rows.itertuples():
        assert row.difference == pytest.approx(row.mean - default["mean"][row.measure])
    assert (rows[rows.ablation != "the default"].difference != 0).sum() > 4
    value, base = (ablations.values(study, name)["agreement"] for name in ("cosine", DEFAULT))
    assert value.shape == (2, 8) and not np.array_equal(value, base)


def test_default_is_the_frontiers(all_of_them):
    plain = Study(str(frontier.PROFILE), device="cpu")
    assert ablations.networks(all_of_them, DEFAULT) == [plain.training(DEFAULT, seed=seed) for seed in (0, 1, 2)]


def test_each_changes_one_thing(all_of_them):
    default = all_of_them.profile.options(DEFAULT)
    for name, one in ABLATIONS.items():
        options = all_of_them.profile.options(name)
        changed = {key for key in options if options[key] != default[key]}
        assert changed == set(one.options)
        assert len(changed) + bool(one.teacher or one.extra) == (0 if name == DEFAULT else 3 if name == "cosine" else 1)
        for network in ablations.networks(all_of_them, name):
            assert isinstance(network, Ablated) == bool(one.extra)
            assert (network.teacher is not None) == one.teacher


def test_every_ablation_is_a_network_of_its_own(all_of_them):
    digests = [network.digest for name in ABLATIONS for network in ablations.networks(all_of_them, name)]
    assert len(set(digests)) == 3 * len(ABLATIONS)


def test_vector_selection_is_that_of_all_logits(some):
    study, _ = some
    (network, _), (plain, _) = (ablations.networks(study, name) for name in ("vector", "teacher"))
    assert isinstance(network.guide, VectorBank) and network.guide in network.needs()
    x, y = study.batch("train", 128)
    expected = {
        score: selection_mask(perturbation_saliency(study.model(network.teacher), x, y, score=score))
        for score in ("vector", "class")
    }
    assert torch.equal(study.get(network.guide).tensors["guide"].float(), expected["vector"])
    assert torch.equal(study.get(plain.guide).tensors["guide"].float(), expected["class"])
    assert not torch.equal(expected["vector"], expected["class"])


def test_cosine_loss_by_hand(analytic, x, y, seeded):
    objective = MapCosine(0.7, 1.3, estimator="double-backprop", fraction=1.0, selection=Selection(**GRID))
    loss = objective(analytic, x, y, generator=seeded())
    z, jacobian = analytic(x), analytic.jacobian(x)
    v = sphere(*z.shape, like=z, generator=seeded())
    r_j = z.shape[1] * torch.einsum("bkn,bk->bn", jacobian, v).square().sum(1).mean()
    g = torch.einsum("bkn,bk->bn", jacobian, z.softmax(1) - F.one_hot(y, z.shape[1])).view_as(x)
    saliency = linearised_saliency(x, g.detach(), **GRID).flatten(1)
    unlike = (1 - F.cosine_similarity(g.abs().sum(1).flatten(1), saliency)).mean()
    assert_close(loss, F.cross_entropy(z, y) + 0.7 * r_j + 1.3 * unlike)
    assert_close(objective.terms["selective"], unlike.detach())


def test_cosine_network_is_trained_by_the_cosine(all_of_them):
    (network, *_) = ablations.networks(all_of_them, "cosine")
    objective = network.build_objective()
    assert isinstance(objective, MapCosine)
    assert (objective.lambda_j, objective.lambda_s, objective.fraction) == (0.01, 1.0, 0.1)
    assert type(ablations.networks(all_of_them, "double")[0].build_objective()) is JSIGR


def test_flat_options_are_passed_on():
    objective = map_cosine(lambda_j=0.1, lambda_s=2.0, estimator="double-backprop", fraction=0.5, share=0.2, grid=3)
    assert (objective.fraction, objective.selection.share, objective.selection.grid) == (0.5, 0.2, 3)


def test_ablations_are_a_part_of_the_benchmarks(monkeypatch, tmp_path, some):
    _, rows = some
    monkeypatch.setattr(ablations, "table", lambda study: rows)
    run.main(["ablations"], rounds=2, threads=1, device="cpu", out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"environment.json", "ablations.csv", "ablations.md"}


# what was published


def test_published_table_has_every_ablation():
    published = pd.read_csv(ROOT / "benchmarks" / "results" / "ablations.csv")
    assert published.ablation.unique().tolist() == [one.label for one in ABLATIONS.values()]
    assert set(published.seeds) == {3}


def test_deviations_quote_every_ablation():
    published = pd.read_csv(ROOT / "benchmarks" / "results" / "ablations.csv")
    effects = {one.number: one.effect for one in load_deviations()}
    for one in ABLATIONS.values():
        if one.deviation:
            assert ablations.said(published, one.label) in effects[one.deviation], one.label
