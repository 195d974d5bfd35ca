"""What is said of the bounds turns with the tables."""

import pandas as pd
import pytest

from jsigr_lib.findings import bounds

LABELS = {"standard": "standard", "scaleable-l2": "scaleable grad. L2", "jsigr": "J-SIGR"}


def accuracy(**under: float) -> pd.DataFrame:
    rows = [(one, "white-box", value) for one, value in under.items()] + [(one, "clean", 0.9) for one in under]
    found = pd.DataFrame([(one.replace("_", "-"), *rest) for one, *rest in rows], columns=["defence", "threat", "of"])
    return found.rename(columns={"of": "accuracy"}).assign(low=found.of - 0.02, high=found.of + 0.02)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (0.9, ["the one finite-difference penalty clearly gains", "clearly more than J-SIGR: scaleable grad. L2"]),
        (0.5, ["none differs clearly from J-SIGR"]),
        (0.1, ["not the one finite-difference penalty clearly gain", "clearly less: scaleable grad. L2"]),
    ],
)
def test_training(own, said):
    apart = [("scaleable-l2", "standard", own - 0.2), ("jsigr", "scaleable-l2", 0.5 - own)]
    gains = pd.DataFrame(apart, columns=["a", "b", "difference"]).assign(low=lambda t: t.difference - 0.02)
    gains = gains.assign(high=gains.difference + 0.02)
    text = bounds.training(accuracy(standard=0.2, scaleable_l2=own, jsigr=0.5), gains, LABELS)
    assert all(one.lower() in text.lower() for one in said), text


def table(exceeds: float) -> pd.DataFrame:
    rows = [("standard", "gradient", 0.2), ("standard", "curvature", 0.3), ("jsigr", "gradient", 0.5)]
    rows += [("jsigr", "curvature", 0.6)]
    found = pd.DataFrame(rows, columns=["defence", "bound", "median_share"])
    return found.assign(architecture="small-cnn", images=90, correlation=0.9, exceeds=[0, 0, exceeds, 0])


@pytest.mark.parametrize(("exceeds", "said"), [(0.02, "an estimate and no certificate"), (0.0, "That is no proof")])
def test_bounds(exceeds, said):
    text = bounds.bounds(table(exceeds), LABELS)
    assert said in text and "0.20 to 0.50 (gradient) and 0.30 to 0.60 (curvature)" in text


@pytest.mark.parametrize(("step", "said"), [(0.3, "tighter than"), (-0.3, "looser than"), (0.0, "not to be told from")])
def test_tightness(step, said):
    row = {"b": "standard", "difference": step, "low": step - 0.1, "high": step + 0.1}
    text = bounds.tightness(pd.DataFrame([{**row, "bound": one} for one in ("gradient", "curvature")]), LABELS)
    assert f"J-SIGR's gradient bound is {'' if step == 0 else 'clearly '}{said}" in text


@pytest.mark.parametrize(("last", "said"), [(2.0, "It has not settled for J-SIGR"), (1.0, "It has settled for all")])
def test_constants(last, said):
    found = pd.DataFrame({"defence": "jsigr", "images": [200, 1000], "slope": [1.0, last], "curvature": 1.0})
    assert said in bounds.constants(found, LABELS)
    assert bounds.constants_title(found).endswith("the one defence" if last > 1 else "not the one defence")


@pytest.mark.parametrize(("share", "said"), [(0.2, "PGD takes three images of those promised"), (0.0, "0 % of the")])
def test_promised(share, said):
    row = {"defence": "jsigr", "promised": share, "largest_bound": 0.05, "survives_pgd": 0.6, "broken": 3}
    assert said in bounds.promised(pd.DataFrame([row]), LABELS, "eps 0.1")


def test_nothing_to_say():
    assert "too little to say" in bounds.training(pd.DataFrame(), pd.DataFrame(), LABELS)
    for told in (bounds.bounds, bounds.constants, bounds.tightness):
        assert "too little to say" in told(pd.DataFrame({"images": [], "defence": []}), LABELS)
