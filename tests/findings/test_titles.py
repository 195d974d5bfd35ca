"""Titles of figures turn with their tables, and say nothing of nothing."""

import numpy as np
import pandas as pd
import pytest

from jsigr_lib.findings import titles

LABELS = {"standard": "standard", "jsigr": "J-SIGR", "pgd": "PGD-7 training"}


def by_defence(**columns: list) -> pd.DataFrame:
    return pd.DataFrame({"defence": list(LABELS), **columns}).assign(architecture="small-cnn")


def test_projection():
    rng = np.random.default_rng(0)
    text = titles.projection({"standard": rng.normal(1, 0.5, (4000, 3)), "jsigr": rng.normal(1, 0.5, (4000, 3))})
    assert text.startswith("One projection is off by 50 %, the mean of 4,000 by ")
    assert titles.projection({"jsigr": np.full((10, 2), 1.5)}).endswith("by 0 %, the mean of 10 by 50.0 %")


def test_coin():
    text = titles.coin({"standard": 0.12, "jsigr": 0.08}, spread=2.0, fair=5.0)
    assert text.startswith("A coin of 0.08 to 0.12 is the least noisy") and "2.5 times as noisy" in text


def test_penalty():
    g, level = np.arange(4.0), np.full(5, 0.3)
    assert titles.penalty([(g, g)], level, 1.0) == "All three shortcuts of the penalty count what it should"
    assert titles.penalty([(g, g + 1)], level, 1.0).startswith("Two of the three shortcuts")
    assert titles.penalty([(g, g + 1)], level + np.arange(5), 0.2).startswith("None of the three")


@pytest.mark.parametrize(("own", "said"), [(2.8, "2.0 times as far"), (0.7, "0.5 times as far")])
def test_linearised(own, said):
    assert said in titles.linearised(by_defence(mean=[1.4, own, 2.0]).assign(quantity="robustness"))


def test_tangent():
    errors = {"standard": [np.array([[0.1], [0.9]])], "jsigr": [np.array([[0.2], [0.4]])]}
    text = titles.tangent_error([0.1, 3.0], errors, 2.8, LABELS)
    assert text.endswith("the standard network 90 % and J-SIGR 40 %")
    same = np.array([[True, True], [True, False], [False, False]])
    text = titles.tangent_limits(np.array([0.0, 1.0, 2.0]), {"jsigr": {"same": same}}, LABELS)
    assert text.endswith("have changed: J-SIGR 50 %")


def test_boundary():
    text = titles.boundary(by_defence(ratio=[1.1, 1.2, 2.5]), LABELS)
    assert text.endswith("J-SIGR 1.20, the standard network 1.10 and PGD-7 training 2.50")
    assert titles.boundary(by_defence(ratio=[2.5, 1.2, 1.1]), LABELS).endswith(
        "J-SIGR 1.20 and the standard network 2.50"
    )


def test_region():
    found = by_defence(share_of_rho=[0.001, 0.002, 0.004], flipped=[0.02, 0.1, 0.15])
    assert (
        titles.region(found)
        == "The linear region ends after less than a hundredth of the way; 2 % to 15 % of the ReLUs flip"
    )
    assert "after at most 40 % of the way" in titles.region(found.assign(share_of_rho=0.4))


def history(norm: float, margin: float, accuracy: float) -> pd.DataFrame:
    own = {"jacobian_norm": [400.0, norm, 50.0], "margin": [12.0, margin, 9.0]}
    return by_defence(epoch=[4] * 3, validation_accuracy=[0.99, accuracy, 0.95], **own)


def test_training():
    text = titles.in_training(history(16, 5.4, 0.97))
    assert text == "From the standard network to J-SIGR: squared norm 400 to 16.0, margin 12.0 to 5.40"
    assert (
        titles.curves(history(16, 5.4, 0.97))
        == "J-SIGR ends with a 25 times smaller Jacobian norm, for 2 points of accuracy"
    )
    assert (
        titles.curves(history(800, 5.4, 0.99)) == "J-SIGR ends with no smaller Jacobian norm, for 0 points of accuracy"
    )


def test_breaking():
    assert titles.breaking([True, False, False]).startswith("Two of the three settings break a statement")
    assert titles.breaking([True, True]).startswith("None of the two settings break")


def searched(jsigr: float) -> pd.DataFrame:
    left = {"standard": 0.3, "jsigr": jsigr, "pgd": 0.6}
    rows = [{"defence": one, "accuracy": a, "weights": "lambda_j 0.01" * (one == "jsigr")} for one, a in left.items()]
    table = pd.DataFrame(rows).assign(chosen=True, threat="transfer", source="mlp")
    return pd.concat([table.assign(split=split) for split in ("validation", "test")])


def test_search():
    assert titles.frontier(searched(0.5), ["mlp"], LABELS).endswith(
        "J-SIGR 50 %, the standard network 30 % and PGD-7 training 60 %"
    )
    assert titles.frontier(searched(0.7), ["mlp"], LABELS).endswith("leave: J-SIGR 70 % and the standard network 30 %")
    assert titles.grid(searched(0.7), ["mlp"]) == "The most is left with lambda_j 0.01: 70 %, at least 70 %"


def test_strength():
    rows = [("mi-fgsm", 5, 0.5), ("di-fgsm", 20, 0.4)]
    table = pd.DataFrame(rows, columns=["attack", "steps", "accuracy"])
    assert titles.strength(table) == "DI-FGSM with 20 steps hurts the undefended network most: 40 % left"
    assert titles.strength(table.assign(accuracy=[0.3, 0.4])).startswith("MI-FGSM with 5 steps")


def test_accuracy():
    common = {"threat": "transfer", "source": "mlp", "source_defence": "standard", "attack": "mi-fgsm", "norm": "linf"}
    table = by_defence(accuracy=[0.3, 0.7, 0.8], eps=[0.1] * 3).assign(**common)
    assert titles.accuracy(table, "mi-fgsm", 0.1, LABELS).endswith(
        "J-SIGR 70 %, the standard network 30 % and PGD-7 training 80 % right"
    )
    assert titles.accuracy(table.assign(accuracy=[0.9, 0.7, 0.8]), "mi-fgsm", 0.1, LABELS).endswith(
        "J-SIGR 70 % and the standard network 90 % right"
    )
    assert titles.accuracy(table, "mi-fgsm", 0.2, LABELS) == ""


def test_judges():
    table = by_defence(accuracy=[0.0, 0.1, 0.5], judge=["AutoAttack"] * 3)
    assert titles.judges(table, LABELS) == "AutoAttack leaves J-SIGR 10 % and PGD-7 training 50 % right"
    assert titles.judges(table.assign(accuracy=[0.0, 0.6, 0.5]), LABELS) == "AutoAttack leaves J-SIGR 60 % right"
    assert titles.judges(table.assign(judge="PGD, restarts"), LABELS).startswith("PGD, restarts leaves")


def test_sources_and_attacks():
    left = pd.DataFrame({"standard": [0.3, 0.5], "jsigr": [0.6, 0.55]}, index=["di-fgsm", "fgsm"])
    text = titles.ranking(left, LABELS)
    assert text.endswith("the standard network DI-FGSM (all within 20 points) and J-SIGR FGSM (all within 5 points)")
    assert titles.ranking(left[:1], LABELS) == ""
    assert titles.matrix(left, LABELS) == "J-SIGR is hurt most by attacks from fgsm: 55 % left"
    assert titles.matrix(left.drop(columns="jsigr"), LABELS) == ""


def test_cost():
    table = by_defence(cost=[1.0, 1.2, 8.0], accuracy=[0.3, 0.7, 0.8])
    assert titles.cost(table, LABELS).endswith(
        "J-SIGR 70 % at 1.20 times, the standard network 30 % at 1.00 times and PGD-7 training 80 % at 8.00 times"
    )


def test_maps():
    table = by_defence(mean=[0.4, 0.7, 0.3]).assign(measure="agreement", input="clean", map="gradient")
    assert "J-SIGR 0.70 and the standard network 0.40 (" in titles.agreement(table, LABELS)
    assert "PGD-7 training 0.80" in titles.agreement(table.assign(mean=[0.4, 0.7, 0.8]), LABELS)
    assert (
        titles.measures([True, False, True])
        == "A network's perturbation map beats its gradient map in two of the three comparisons"
    )
    assert titles.measures([]) == ""
    assert titles.cascade(pd.Series({"gradient": 0.05, "energy": 0.9})).endswith(
        "keep 0.90 (energy) to 0.05 (gradient)"
    )


def test_deletion():
    rows = [(one, s, p) for one, left in (("standard", 0.3), ("jsigr", 0.6)) for s, p in ((0.0, 0.9), (0.2, left))]
    table = pd.DataFrame(rows, columns=["defence", "share", "probability"])
    table = table.assign(curve="deletion", input="clean", map="gradient")
    assert titles.deletion(table, LABELS).endswith(
        "the 20 % most salient pixels the true class keeps: the standard network 30 % and J-SIGR 60 %"
    )


def test_truth():
    table = by_defence(mean=[0.64, 0.59, 0.5]).assign(
        pictures="glyphs", measure="share on the truth", input="clean", map="gradient"
    )
    assert (
        titles.on_the_truth(table, LABELS)
        == "Share on the evidence: gradient map J-SIGR 59 % and the standard network 64 %"
    )


def test_gallery():
    right = {"standard": [False, False, True], "jsigr": [True, True, True]}
    assert (
        titles.under_attack(right, LABELS)
        == "Of three attacked images the standard network is right on one and J-SIGR is right on three"
    )
    assert titles.under_attack({"standard": [False], "jsigr": [True]}, LABELS).endswith(
        "network is right on none and J-SIGR is right on one"
    )
    assert titles.under_attack({"jsigr": [True]}, LABELS) == ""


def test_claims():
    card = pd.DataFrame({"data": ["MNIST"] * 3, "verdict": ["supported", "supported", "refuted"]})
    assert titles.verdicts(card) == "MNIST: 2 supported, 1 refuted"
    tests = pd.DataFrame({"outcome": ["holds", "fails", "fails"]})
    assert titles.clear(tests) == "One of the three differences clears the margin"
    assert titles.clear(tests.assign(outcome="holds")) == "All three differences clear the margin"
    gained = pd.DataFrame({"bites": [True, True, False], "difference": [0.2, 0.3, 0.01]})
    assert titles.gains(gained) == "Where the attack bites, J-SIGR gains +0.20 to +0.30"
    assert titles.gains(gained.assign(bites=False)).startswith("No attack bites")


@pytest.mark.parametrize(("own", "said"), [(0.7, "gains 40 points"), (0.2, "loses 10 points")])
def test_trade_offs(own, said):
    paid = by_defence(cost=[1.0, 1.2, 8.0], clean=[0.99, 0.97, 0.95], transferred=[0.3, own, 0.8])
    assert (
        titles.trade_offs(paid) == f"J-SIGR {said} under transferred attack, for 2 points clean and 1.20 times the cost"
    )


NONE = pd.DataFrame({"defence": [], "architecture": [], "data": [], "verdict": []})


@pytest.mark.parametrize(
    "said",
    [
        titles.linearised(NONE),
        titles.boundary(NONE, LABELS),
        titles.region(NONE),
        titles.in_training(NONE),
        titles.curves(NONE),
        titles.frontier(NONE, [], LABELS),
        titles.grid(NONE, []),
        titles.strength(NONE),
        titles.judges(NONE, LABELS),
        titles.cost(NONE, LABELS),
        titles.agreement(NONE, LABELS),
        titles.deletion(NONE, LABELS),
        titles.cascade(pd.Series(dtype=float)),
        titles.on_the_truth(NONE, LABELS),
        titles.verdicts(NONE),
        titles.trade_offs(NONE),
    ],
)
def test_of_nothing(said):
    assert said == ""
