"""Notebook 2's sentences turn with its tables."""

import pandas as pd

from jsigr_lib.findings import training

LABELS = {"standard": "standard", "jacobian": "Jacobian", "jsigr": "J-SIGR"}


def history(jsigr: float, jacobian: float, last: float = 0.92) -> pd.DataFrame:
    rows = [
        ("standard", 1, 100.0, 0.88),
        ("standard", 2, 900.0, last),
        ("jsigr", 2, jsigr, 0.8),
        ("jacobian", 2, jacobian, 0.8),
    ]
    return pd.DataFrame(rows, columns=["defence", "epoch", "jacobian_norm", "validation_accuracy"])


def test_curves():
    text = training.curves(history(9.0, 300.0), LABELS)
    assert "from 100 to 900 (9.0 times) in 2 epochs, for 4 points more validation accuracy" in text
    assert "at least ten times smaller for J-SIGR." in text and "3.0 times smaller for Jacobian" in text
    text = training.curves(history(1000.0, 1000.0, 0.85), LABELS)
    assert "3 points *less*" in text and "*not* smaller for J-SIGR and Jacobian" in text and "ten times" not in text


def search(jsigr: dict[str, float], standard: float = 0.3) -> pd.DataFrame:
    """Weights -> what the source leaves; the one that leaves most is the choice."""
    rows = []
    for split in ("validation", "test"):
        for defence, weights, left in [("standard", "", standard), *(("jsigr", w, left) for w, left in jsigr.items())]:
            what = {"defence": defence, "weights": weights, "split": split}
            chosen = defence == "standard" or left == max(jsigr.values())
            clean = 0.9 if defence == "standard" else 0.85
            rows.append({**what, "threat": "clean", "source": "", "accuracy": clean, "chosen": chosen})
            rows.append({**what, "threat": "transfer", "source": "mlp", "accuracy": left, "chosen": chosen})
    return pd.DataFrame(rows)


GRID = {"lambda_j 0, lambda_s 0": 0.3, "lambda_j 0.1, lambda_s 0": 0.6, "lambda_j 0, lambda_s 3": 0.65}


def test_frontier():
    text = training.frontier(search({"lambda_j 1, lambda_s 1": 0.7}), ["mlp"], LABELS)
    assert "gives up 5 points of clean accuracy on the test images and keeps 70 %" in text
    assert "the standard network keeps 30 %" in text
    assert "tries no weights" in training.frontier(search({}), ["mlp"], LABELS)


def test_grid():
    text = training.grid(search({**GRID, "lambda_j 0.1, lambda_s 3": 0.7}), ["mlp"])
    assert "both weights 70 %, λ_J alone 60 % and λ_S alone 65 %; most is left by both weights" in text
    assert "The corner of no penalty, 30 %, is 30 points behind" in text
    text = training.grid(search({**GRID, "lambda_j 0, lambda_s 0": 0.59, "lambda_j 0.1, lambda_s 3": 0.5}), ["mlp"])
    assert "most is left by λ_S alone" in text and "is *not* far behind" in text


def matched(jacobian: float, clean: float = 0.85) -> pd.DataFrame:
    table = pd.DataFrame({"defence": ["jsigr", "jacobian"], "clean": [0.85, clean], "attacked": [0.7, jacobian]})
    return table.assign(low=table.attacked - 0.02, high=table.attacked + 0.02)


def test_matched():
    assert "Jacobian (60 %) keeps less" in training.matched(matched(0.6), LABELS)
    assert "Jacobian (80 %) keeps more" in training.matched(matched(0.8), LABELS)
    assert "Jacobian (71 %) keeps about as much: its interval holds" in training.matched(matched(0.71), LABELS)
    assert "no other defence is matched" in training.matched(matched(0.6, clean=0.7), LABELS)
    assert "does not search J-SIGR's weights" in training.matched(matched(0.6).iloc[1:], LABELS)
