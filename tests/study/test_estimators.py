"""The scatter of the estimators for the tiny study's networks."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from jsigr_lib.measure.estimators import ESTIMATORS, predicted_spread
from jsigr_lib.pipeline import pipeline
from jsigr_lib.study import estimators
from jsigr_lib.study.config import load_profile
from jsigr_lib.study.estimators import COINS, Scatter, coin_moments, pooled_deviation, scatter_specs, scatter_table


def test_specs_are_two_networks_with_the_weights_of_j_sigr(study):
    specs = scatter_specs(study)
    options = study.profile.options("jsigr")
    assert {name: spec.target for name, spec in specs.items()} == {
        name: study.training(name) for name in ("standard", "jsigr")
    }
    for spec in specs.values():
        assert spec.needs() == [spec.target, study.data]
        assert (spec.lambda_j, spec.lambda_s, spec.coin) == tuple(options[o] for o in ("lambda_j", "lambda_s", "coin"))
        assert spec.draws == study.profile.estimator_draws == 10
        assert spec in pipeline.specs(study, "01_theory")


def test_every_setting_is_in_the_digest(study):
    base = {"target": study.training("jsigr"), "lambda_j": 0.01, "lambda_s": 3.0, "coin": 0.1, "draws": 10}
    changes = [
        {},
        {"target": study.training("standard")},
        {"lambda_j": 0.02},
        {"lambda_s": 2.0},
        {"coin": 0.2},
        {"draws": 11},
        {"images": 4},
        {"selection": (("share", 0.4),)},
    ]
    digests = [Scatter(**{**base, **change}).digest for change in changes]
    assert len(set(digests)) == len(changes)
    assert digests[0] == Scatter(**base).digest
    selection = scatter_specs(study)["jsigr"].selection
    assert dict(selection) == {"share": 0.4, "grid": 7, "mask_sigma": 2.0, "blur_sigma": 3.0}


@pytest.mark.parametrize(
    "change", [{"estimator_draws": 11}, {"penalty": {"coin": 0.3}}, {"penalty": {"grid": 5}}], ids=str
)
def test_profile_decides_what_is_measured(study, tiny, change):
    other = tiny(study.store.root, **change)
    for name, spec in scatter_specs(other).items():
        assert spec.digest != scatter_specs(study)[name].digest


def test_scatter_table(study, table):
    rows = table("scatter")
    assert list(rows) == ["defence", "estimator", "mask", "coin", "draws", "deviation", "spread", "predicted"]
    assert set(rows.draws) == {10}
    for defence in ("standard", "jsigr"):
        own = rows[rows.defence == defence].reset_index(drop=True)
        coin = scatter_specs(study)[defence].coin
        coins = [coin if options["estimator"] == "single-pass" else None for options in ESTIMATORS.values()]
        assert own.estimator.tolist() == [*ESTIMATORS] * 2 + ["single pass"] * len(COINS)
        assert own["mask"].tolist() == ["hard"] * 3 + ["soft"] * 3 + ["hard"] * len(COINS)
        assert_allclose(own.coin, np.array([*coins, *coins, *COINS], dtype=float))
        assert own.predicted.isna().tolist() == [True] * 6 + [False] * len(COINS)
    assert len(rows) == 2 * (6 + len(COINS))
    assert (rows.deviation >= 0).all()
    assert (rows.spread > 0).all()


class Planted:
    """A study of which every network's rows are these."""

    def __init__(self, monkeypatch, rows, draws):
        monkeypatch.setattr(estimators, "scatter_specs", lambda study: {"a": SimpleNamespace(draws=draws)})
        self.get, self.make = lambda spec: SimpleNamespace(facts={"rows": rows}), lambda specs: None


def test_pooled_deviation_by_hand(monkeypatch):
    """A rare side of the coin counts more: (9 x 0.2 - 0.1) / sqrt((9 x 0.1)^2 + 0.3^2); other estimators do not."""
    rows = [("b", 0.1, 0.2, 0.1), ("b", 0.5, -0.1, 0.3), ("c", 0.5, 9.0, 1.0)]
    rows = [dict(zip(("estimator", "coin", "bias", "error"), row, strict=True)) for row in rows]
    found, draws = pooled_deviation(Planted(monkeypatch, rows, 7), "b")
    assert found == pytest.approx(1.7 / 0.9**0.5) and draws == 14


def test_a_single_draw_of_a_rare_side_is_no_deviation(monkeypatch):
    """Of a right library, where two of eight images are nearly all of a gradient, as in a small network: in one of a
    run's rows the rare side of the coin may hardly occur, and little scatter is left. Pooled, none of 2000 runs with
    the smoke profile's draws is beyond the limit, and a bias of a tenth is."""
    draws, generator = load_profile("smoke").estimator_draws, np.random.default_rng(0)
    coins = np.array([0.1, 0.1, *COINS] * 2)

    def run(factor):
        tails = factor * (generator.random((2, draws, len(coins))) >= coins).mean(0) / (1 - coins)
        error = np.maximum(tails.std(0, ddof=1), 1e-300) / draws**0.5
        rows = zip(coins, tails.mean(0) - 1, error, strict=True)
        rows = [{"estimator": "single pass", "coin": c, "bias": b, "error": e} for c, b, e in rows]
        largest = max(abs(row["bias"]) / row["error"] for row in rows)
        return pooled_deviation(Planted(monkeypatch, rows, draws), "single pass")[0], largest

    pooled, single = np.array([run(1) for _ in range(2000)]).T
    assert (single > 5).mean() > 0.02 and pooled.max() < 5
    assert np.mean([run(1.1)[0] > 5 for _ in range(200)]) > 0.9


def test_every_row_is_measured_with_the_coin_it_names(study, monkeypatch):
    spec = Scatter(target=study.training("standard"), lambda_j=0.01, lambda_s=3.0, coin=0.3, draws=10, images=2)
    asked = []
    monkeypatch.setattr(estimators, "gradient_scatter", lambda *_, **options: asked.append(options) or {})
    monkeypatch.setattr(estimators, "single_pass_moments", lambda *_: {"heads": 1.0, "tails": 1.0, "both": 1.0})
    _, facts = spec.compute(study.store, study.store.device)
    for row, options in zip(facts["rows"], asked, strict=True):
        assert options == {**ESTIMATORS[row["estimator"]], "coin": row["coin"] or spec.coin}
        assert (row["coin"] is None) == (options["estimator"] != "single-pass")


def test_table_predicts_from_the_moments_and_measures_what_it_predicts(study, table):
    """Ten draws tell a spread only roughly; all of them together, well enough."""
    rows, moments = table("scatter").dropna(subset="predicted"), coin_moments(study)
    assert moments.keys() == {"standard", "jsigr"}
    assert moments["standard"] != moments["jsigr"]
    assert_allclose(rows.predicted, [predicted_spread(moments[row.defence], row.coin) for row in rows.itertuples()])
    ratio = rows.spread / rows.predicted
    assert ratio.between(0.5, 2).all()
    assert np.exp(np.log(ratio).mean()) == pytest.approx(1, abs=0.15)
    assert sorted(rows.coin.unique()) == sorted(COINS)


def test_scatter_is_the_same_at_every_run(study, table, monkeypatch):
    monkeypatch.setattr(estimators, "COINS", (0.3, 0.5))
    spec = Scatter(target=study.training("jsigr"), lambda_j=0.01, lambda_s=3.0, coin=0.5, draws=4, images=4)
    (_, first), (_, again) = (spec.compute(study.store, study.store.device) for _ in range(2))
    assert first == again
    assert scatter_table(study).equals(table("scatter"))
