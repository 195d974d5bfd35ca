"""What is said of image quality turns with the tables."""

import pandas as pd
import pytest

from jsigr_lib.findings import quality

NAMES = ("no defence", "NT", "Jacobian", "J-SIGR")


def agreement(**pushed: float) -> pd.DataFrame:
    rows = [(name, "", 0.0, 0.8, 0.0) for name in NAMES]
    rows += [(name, "PGD", 4.0, pushed.get(name, 0.4), 0.1) for name in NAMES]
    found = pd.DataFrame(rows, columns=["training", "attack", "level", "srcc", "moved"]).assign(rmse=0.1, images=210)
    return found.assign(seeds=3, srcc_low=found.srcc - 0.1, srcc_high=found.srcc + 0.1)


def gains(moved: float = -0.1, clean: float = 0.0, pushed: float = 0.0, ours: float = 0.0) -> pd.DataFrame:
    rows = []
    for what, value in (("moved by PGD", moved), ("clean SRCC", clean), ("SRCC under PGD", pushed)):
        rows += [(what, name, "no defence", value) for name in NAMES[1:]]
        rows += [(what, name, "NT", ours) for name in ("Jacobian", "J-SIGR")]
    found = pd.DataFrame(rows, columns=["quantity", "a", "b", "difference"])
    return found.assign(low=found.difference - 0.03, high=found.difference + 0.03)


def slopes(pgd: float = 0.3, lost: float = 0.01) -> pd.DataFrame:
    found = pd.DataFrame({"training": ["no defence", "NT"], "slope": [20.0, 5.0], "predicted": [0.3, 0.08]})
    return found.assign(fgsm=[0.15, 0.08], pgd=[pgd, 0.1], lost=lost)


@pytest.mark.parametrize(("low", "gap"), [(-0.1, True), (0.1, False)])
def test_model(low, gap):
    found = pd.DataFrame({"training": "no defence", "distortion": ["blur", "JPEG"], "srcc": [0.9, 0.2]})
    found = found.assign(srcc_low=[0.8, low], srcc_high=1.0)
    text = quality.model(agreement(), found)
    assert "0.80 [0.70, 0.90] with the labels, over 210 pictures" in text and "0.90 (blur) and 0.20 (JPEG)" in text
    assert ("does not clearly see JPEG:" in text) == gap


@pytest.mark.parametrize(
    ("moved", "said"), [(-0.1, "clearly less"), (0.0, "not clearly less or more"), (0.1, "clearly *more*")]
)
def test_norm_regularisation(moved, said):
    text = quality.norm_regularisation(gains(moved))
    assert f"PGD moves scores {said} than without" in text
    assert ("not reproduced at this scale" in text) == (moved >= 0)


@pytest.mark.parametrize(
    ("value", "clean", "rank"), [(-0.1, "is clearly lower", "clearly worse"), (0.1, "higher", "better")]
)
def test_what_norm_regularisation_costs(value, clean, rank):
    text = quality.norm_regularisation(gains(clean=value, pushed=value))
    assert clean in text and f"ranks pictures clearly {rank.split()[-1]}" in text


@pytest.mark.parametrize(
    ("moved", "clean", "said"),
    [
        (-0.1, 0.0, "All three trainings clearly hold scores under PGD better than no defence, most of all NT"),
        (-0.1, -0.1, "Of them NT, Jacobian and J-SIGR pay with clearly less clean correlation"),
        (0.0, 0.0, "None of the three trainings clearly hold scores under PGD better than no defence."),
    ],
)
def test_rivals(moved, clean, said):
    text = quality.rivals(gains(moved, clean))
    assert said in text
    assert ("None of them clearly pays" in text) == (moved < 0 and clean == 0)


@pytest.mark.parametrize(
    ("pgd", "lost", "said"),
    [
        (0.3, 0.01, "hardly changes quality itself: PGD lowers HaarPSI by 0.010"),
        (0.3, -0.01, "PGD raises HaarPSI by 0.010"),
        (0.3, 0.2, "changes quality itself, too"),
        (0.05, 0.01, "stand in another order"),
    ],
)
def test_slopes(pgd, lost, said):
    text = quality.slopes(slopes(pgd, lost))
    assert said in text and ("in the same order" in text) == (pgd > 0.1)
    assert quality.slopes_title(slopes()) == "One FGSM step moves scores by 0.50 to 1.00 times the prediction ε‖g‖₁"


@pytest.mark.parametrize(("chosen", "srcc", "stronger", "lost"), [(1, 0.8, 0, 0), (3, 0.8, 1, 0), (1, 0.7, 0, 1)])
def test_strengths(chosen, srcc, stronger, lost):
    names, strengths = ["no defence", "NT", "NT", "NT"], [0.0, 0.1, 0.3, 1.0]
    found = pd.DataFrame({"training": names, "strength": strengths, "srcc": [0.8, *[srcc] * 3], "moved": 0.1})
    text = quality.strengths(found.assign(chosen=["yes" if i == chosen else "" for i in range(4)]))
    assert f"Chosen: NT {strengths[chosen]:g}" in text
    assert ("The strongest that was tried: NT" in text) == stronger
    assert ("so that the weakest stands here: NT" in text) == lost


@pytest.mark.parametrize(
    ("ours", "said", "clean"),
    [
        (-0.1, "clearly less far than", "clearly lower"),
        (0.0, "not clearly less or more far", "not clearly other"),
        (0.1, "clearly *farther* than", "clearly higher"),
    ],
)
def test_answer(ours, said, clean):
    text = quality.answer(gains(ours=ours), agreement(NT=0.6))
    assert f"With J-SIGR, scores move {said}" in text and f"correlation that is {clean}" in text
    assert "NT 0.60 [0.50, 0.70]" in text


def test_title_names_the_best():
    assert quality.attacks_title(agreement(NT=0.6)).endswith("from 0.80 to 0.40; best then is NT, 0.60")


def test_nothing_to_say():
    none = pd.DataFrame()
    for text in (quality.model(none, none), quality.norm_regularisation(none), quality.rivals(none)):
        assert "too little to say" in text
    for text in (quality.slopes(none), quality.strengths(none), quality.answer(none, none)):
        assert "too little to say" in text
    assert quality.attacks_title(none) == quality.slopes_title(none) == ""
