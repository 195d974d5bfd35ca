"""What is said of OTJR turns with the tables."""

import pandas as pd
import pytest

from jsigr_lib.findings import transport

LABELS = {"jsigr": "J-SIGR", "pgd": "PGD-7", "trades": "TRADES-7", "otjr": "OTJR-7"}


def accuracies(otjr: float = 0.6, *, auto: float | None = 0.5) -> pd.DataFrame:
    rows = [("J-SIGR", "pgd", 0.5), ("PGD-7", "pgd", 0.6), ("TRADES-7", "pgd", 0.6), ("OTJR-7", "pgd", otjr)]
    rows += [(name, "", 0.9) for name in LABELS.values()]
    rows += [(name, "autoattack", auto) for name in ("PGD-7", "TRADES-7", "OTJR-7") if auto]
    found = pd.DataFrame(rows, columns=["training", "attack", "accuracy"]).assign(images=100, cost=2.0)
    return found.assign(low=found.accuracy - 0.03, high=found.accuracy + 0.03)


def differences(**of: float) -> pd.DataFrame:
    found = pd.DataFrame({"a": "OTJR-7", "b": list(of), "difference": list(of.values())})
    return found.assign(low=found.difference - 0.03, high=found.difference + 0.03)


@pytest.mark.parametrize(
    ("apart", "said"),
    [(0.1, "clearly more than PGD-7"), (0.0, "not clearly more or less"), (-0.1, "clearly *less* than PGD-7")],
)
def test_rivals(apart, said):
    found = differences(**{"PGD-7": apart, "TRADES-7": 0.0})
    text = transport.rivals(accuracies(), found, LABELS)
    assert said in text and "Under AutoAttack (100 images, first seed)" in text
    assert ("not reproduced at this scale" in text) == (apart <= 0)
    assert "AutoAttack" not in transport.rivals(accuracies(auto=None), found, LABELS)


def test_parts():
    found = differences(**{"OTJR, a": 0.1, "OTJR, b": -0.1, "OTJR, c": 0.0, "PGD-7": 0.5})
    text = transport.parts(found, ["OTJR, a", "OTJR, b", "OTJR, c"])
    assert "clearly more under PGD than it does with a 0.10" in text and "With b −0.10" in text
    assert "No clear difference with c." in text and "PGD-7" not in text and "none of its ideas" not in text
    assert "none of its ideas is needed" in transport.parts(differences(**{"OTJR, c": 0.0}), ["OTJR, c"])


@pytest.mark.parametrize(("pairs", "said"), [(3.0, "never less"), (1.0, "less for 1 of 1")])
def test_directions(pairs, said):
    found = pd.DataFrame({"quantity": ["transport", "pairs", "best"], "mean": [2.0, pairs, 4.0]})
    found = found.assign(training="OTJR-7", low=found["mean"] - 0.1, high=found["mean"] + 0.1)
    assert said in transport.directions(found)
    assert transport.directions_title(found).endswith("the one training") == (pairs < 2 or pairs > 2)


@pytest.mark.parametrize(
    ("otjr", "said"), [(0.7, "20 points less than"), (0.51, "1 point less than OTJR-7 (not clearly)")]
)
def test_answer(otjr, said):
    assert said in transport.answer(accuracies(otjr), LABELS)


def test_nothing_to_say():
    assert "too little to say" in transport.parts(pd.DataFrame(), [])
    assert "too little to say" in transport.directions(pd.DataFrame({"training": [], "quantity": []}))
    assert "too little to say" in transport.rivals(pd.DataFrame(), pd.DataFrame(), LABELS)
