"""Notebook 1's sentences turn with its tables."""

import numpy as np
import pandas as pd
import pytest

from jsigr_lib.findings import theory

LABELS = {"standard": "standard", "jsigr": "J-SIGR", "pgd": "PGD-7 training"}


def samples(spread: float):
    draws = np.random.default_rng(0).normal(1, spread, (4000, 3))
    return {"standard": draws, "jsigr": draws}


@pytest.mark.parametrize(("spread", "said"), [(0.5, "Its error is what"), (0.8, "Its error *is not* what")])
def test_projection(spread, said):
    predicted = dict.fromkeys(("standard", "jsigr"), np.full(3, 0.5))
    text = theory.projection(samples(spread), predicted)
    assert said in text and f"off by {spread:.0%}"[:-1] in text
    assert ("suffices" in text) == (spread == 0.5)


def scatter(deviation: float, fair: float) -> pd.DataFrame:
    common = {"defence": "standard", "estimator": "single pass", "mask": "hard", "draws": 100}
    kinds = [{**common, "coin": "0.1", "deviation": deviation, "spread": 0.3, "predicted": ""}]
    tossed = [
        {**common, "coin": c, "deviation": 1.0, "spread": s, "predicted": s} for c, s in (("0.1", 0.3), ("0.5", fair))
    ]
    return pd.DataFrame(kinds + tossed)


def test_estimators():
    assert "Every estimator is right on average" in theory.estimators(scatter(2.5, 0.9))
    wrong = theory.estimators(scatter(9.0, 0.9))
    assert "*Not every estimator is right on average:* one of 3 means" in wrong and "(single pass)" in wrong


def test_coin():
    assert "3.0 times as noisy as the default of 0.1, and 0.1 is the least noisy" in theory.coin(
        scatter(1, 0.9), LABELS
    )
    assert "0.5 times as noisy as the default of 0.1, and 0.5 is the least noisy" in theory.coin(
        scatter(1, 0.15), LABELS
    )


def linearised(jsigr: tuple[float, float, float]) -> pd.DataFrame:
    rows = [("standard", 0.5, 0.4, 0.6), ("jsigr", *jsigr)]
    table = pd.DataFrame(rows, columns=["defence", "mean", "low", "high"])
    return table.assign(architecture="small-cnn", quantity="robustness")


def test_linearised():
    text = theory.linearised(linearised((1.5, 1.4, 1.6)), pd.Series({"J-SIGR": 0.7}), LABELS)
    assert "S6 holds image by image" in text and "Every defence clearly raises it" in text and "0.70 of it" in text
    text = theory.linearised(linearised((0.4, 0.3, 0.5)), pd.Series({"J-SIGR": 1.2}), LABELS)
    assert "*S6 fails:* the bound exceeds ρ̃ for J-SIGR" in text and "J-SIGR does not clearly raise it" in text


def tangents(standard: float, jsigr: float) -> pd.DataFrame:
    rows = {"radius": [1.0, 2.8, 6.0]}
    for name, error in (("standard", standard), ("jsigr", jsigr)):
        rows |= {
            f"{name}, relative to the change": [error / 2, error, 1.0],
            f"{name}, relative to the margin": [0, error, 1],
        }
    return pd.DataFrame(rows)


def test_tangent_error():
    text = theory.tangent_error(tangents(0.5, 0.9), 2.8)
    assert "is wrong: the error of its prediction is 50 %" in text and "*sooner*" in text and "no certificate" in text
    assert "its error is the larger one, 0.90 against 0.50" in text
    text = theory.tangent_error(tangents(0.1, 0.05), 2.8)
    assert "is not far off" in text and "no sooner" in text and "no certificate" not in text
    assert "its error is the smaller one, 0.05 against 0.10" in text


@pytest.mark.parametrize(("kept", "early"), [((1, 0.5, 0), True), ((1, 1, 1), False)])
def test_tangent_limits(kept, early):
    shares = np.array([0, 0.9, 1.0])
    ways = {"jsigr": {"same": np.array([[1, 1], [kept[1]] * 2, [kept[2]] * 2], float)}}
    text = theory.tangent_limits(shares, ways, LABELS)
    assert "(2 images, first seed)" in text and f"{100 - 100 * kept[2]} % there" in text
    assert ("Some change before it" in text) == early


def distances(pgd: float) -> pd.DataFrame:
    rows = [("standard", 1.05), ("jsigr", 1.1), ("pgd", pgd)]
    table = pd.DataFrame(rows, columns=["defence", "ratio"]).assign(architecture="small-cnn", correlation=0.9)
    return table.assign(ratio_low=table.ratio - 0.05, ratio_high=table.ratio + 0.05)


def paired(robustness: float, distance: float) -> pd.DataFrame:
    rows = [("jsigr", "pgd", "robustness", robustness), ("jsigr", "pgd", "distance", distance)]
    table = pd.DataFrame(rows, columns=["a", "b", "measure", "difference"])
    return table.assign(low=table.difference - 0.1, high=table.difference + 0.1)


def test_boundary():
    text = theory.boundary(distances(1.8), paired(-0.7, 0.4), LABELS)
    assert (
        "1.05 to 1.10 times (J-SIGR 1.10 [1.05, 1.15]) the measured distance for the standard network and J-SIGR"
        in text
    )
    assert "For PGD-7 training it promises 1.80 [1.75, 1.85] times what is there" in text and "must not rank" in text
    assert "J-SIGR is behind PGD-7 training (−0.70 [−0.80, −0.60]), *but* ahead by the measured distance" in text
    text = theory.boundary(distances(1.1), paired(-0.7, -0.4), LABELS)
    assert "promises" not in text and "must not rank" not in text and "and so it is by the measured distance" in text
    assert "level with PGD-7 training" in theory.boundary(distances(1.1), paired(0.05, 0.4), LABELS)


@pytest.mark.parametrize(("share", "said"), [(0.001, "is tiny"), (0.5, "is not tiny everywhere")])
def test_region(share, said):
    table = pd.DataFrame({"architecture": "mlp", "defence": ["standard", "jsigr"], "share_of_rho": share})
    table = table.assign(reach_random=0.01, reach_towards=[0.01, 0.02], attack=2.0, flipped=[0.03, 0.1])
    text = theory.region(table, LABELS)
    assert said in text and "at least 100 times as far" in text and "widest for J-SIGR" in text
    assert ("not because the network is affine" in text) == (share == 0.001)


def history(robust: tuple[float, float, float]) -> pd.DataFrame:
    table = pd.DataFrame({"defence": ["standard", "jsigr", "pgd"], "jacobian_norm": [800.0, 8.0, 32.0], "margin": 4.0})
    return table.assign(epoch=1, robust_accuracy=robust)


def test_in_training():
    text = theory.in_training(history((0.1, 0.5, 0.8)), LABELS)
    assert "falls from 800 to 8.00" in text and "does not rank" in text and "PGD-7 training the most robust" in text
    assert "from 0.10 to 1.00" in text
    text = theory.in_training(history((0.1, 0.9, 0.5)), LABELS)
    assert "The quotient ranks the defences" in text and "J-SIGR has the largest quotient, 1.00, and the most" in text


def test_checks():
    table = pd.DataFrame({"statement": ["S1: a", "S2: b"], "holds": [True, True], "deviation": 1e-12})
    table = table.assign(measure="relative difference of the sides")
    assert "All 2 checks hold. The equalities agree to 1e-12" in theory.checks(table)
    assert "*1 of 2 checks fail:* S2: b" in theory.checks(table.assign(holds=[True, False]))
