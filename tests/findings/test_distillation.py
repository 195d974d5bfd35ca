"""What is said of policy distillation turns with the tables."""

import pandas as pd
import pytest

from jsigr_lib.findings import distillation
from jsigr_lib.study.distillation import LABELS, MEASURES, STUDENTS

OWN, TRUTH = distillation.OWN, distillation.TRUTH


def returns(**under: float) -> pd.DataFrame:
    """All at .95 without an attack, and so much under PGD; noise and FGSM take nothing."""
    rows = []
    for one in LABELS:
        for threat, level in (("clean", 0), ("noise", 4), ("FGSM", 4), ("PGD", 4)):
            value = under.get(one.replace("-", "_"), 0.5) if threat == "PGD" else 0.95
            rows.append({"student": one, "lambda_s": 0.003, "threat": threat, "level": level, "return": value})
    found = pd.DataFrame(rows).assign(n=200, seeds=3, matched=lambda t: t.student != "teacher", success=0.99)
    return found.assign(return_low=found["return"] - 0.01, return_high=found["return"] + 0.01)


def gains(a: str, b: str, **differences: float) -> pd.DataFrame:
    """Each difference with an interval of .1 on either side."""
    rows = [{"a": a, "b": b, "measure": one.replace("_", " "), "difference": v} for one, v in differences.items()]
    found = pd.DataFrame(rows).assign(level=4)
    return found.assign(difference_low=found.difference - 0.1, difference_high=found.difference + 0.1)


def test_task():
    text = distillation.task(returns(), LABELS)
    assert "99 % of 200 test episodes" in text and "0.95 [0.94, 0.96] over three seeds; KL alone has 0.95" in text


def test_gains_title():
    table = pd.concat([gains("digr", "kl", return_under_PGD=0.3), gains("j-digr", "kl", return_under_PGD=0.2)])
    assert distillation.gains_title(table, LABELS) == "Under PGD DIGR keeps most: 0.30 of return more than KL alone"
    assert "no student keeps clearly more" in distillation.gains_title(gains("digr", "kl", return_under_PGD=0), LABELS)


def test_robustness_title():
    assert (
        distillation.robustness_title(returns(kl=0.3), LABELS, 4)
        == "PGD at 4/255 takes most from KL alone: 0.65 of its return"
    )


@pytest.mark.parametrize(
    ("step", "left", "said"),
    [
        (0.3, 0.4, "leaves KL alone 0.40 of its 0.95; DIGR clearly more, most DIGR: 0.300 [0.200, 0.400]."),
        (0.0, 0.4, "leaves KL alone 0.40 of its 0.95; no student clearly more or less."),
        (-0.3, 0.4, "leaves KL alone 0.40 of its 0.95; DIGR clearly less."),
        (0.0, 0.94, "0.94 of its 0.95, so that little can be gained; no student"),
    ],
)
def test_robustness(step, left, said):
    assert said in distillation.robustness(gains("digr", "kl", return_under_PGD=step), returns(kl=left), LABELS)


@pytest.mark.parametrize(("kept", "said"), [(True, ""), (False, "No weight of DIGR is that close")])
def test_matched(kept, said):
    rows = [("kl", 0.0, True, 0.97), ("digr", 0.01, kept, 0.96)]
    text = distillation.matched(pd.DataFrame(rows, columns=["student", "lambda_s", "kept", "validation"]), LABELS, 0.02)
    assert "DIGR at 0.01" in text and "0.970" in text and said in text and (kept != ("No weight" in text))


@pytest.mark.parametrize(
    ("step", "more", "agrees"),
    [
        (0.3, "clearly more than KL alone", "clearly more with its own perturbation map"),
        (-0.3, "clearly less than KL alone", "clearly less with its own perturbation map"),
        (0.0, "not clearly more or less than KL alone", "neither clearly more nor clearly less with any map"),
    ],
)
def test_maps(step, more, agrees):
    differences = [gains("digr", other, **{TRUTH: step, OWN: step}) for other in ("kl", "input-gradient")]
    table = pd.DataFrame({"student": ["kl", "input-gradient", "digr"], "mean": [0.6, 0.5, 0.8]})
    table = table.assign(measure=TRUTH, matched=True)
    text = distillation.maps(pd.concat(differences), table, LABELS)
    assert "80 % lies on the tiles that decide" in text and more in text and agrees in text
    title = distillation.maps_title(table, LABELS)
    assert "decide lie 60 % (KL alone), 50 % (KL + input gradient) and 80 % (DIGR) of the gradient map" in title


@pytest.mark.parametrize(("step", "said"), [(0.3, "changes return 0.300"), (0.0, "no clear difference")])
def test_sarfa(step, said):
    assert said in distillation.sarfa(gains("digr-sarfa", "digr", **{"return": step}), LABELS)


def test_cost_follows_the_times():
    times = {"1": {"gradient": 1.0, "2": 1.0, "12": 20.0}, "100": {"gradient": 0.1, "2": 0.3, "12": 5.0}}
    assert distillation.cost_title(times) == "A perturbation map of 144 masks takes 20 times a gradient map's time"
    text = distillation.cost(times)
    assert "For one state the perturbation map takes 1.0 to 20.0 times" in text and "3.0 to 50.0 times" in text


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (0.3, "J-DIGR has clearly more than DIGR of: return under PGD 0.300 [0.200, 0.400]"),
        (-0.3, "It has clearly less of: return under PGD −0.300"),
        (0.0, "In none of the two measures can they be told apart"),
    ],
)
def test_jacobian(step, said):
    text = distillation.jacobian(gains("j-digr", "digr", return_under_PGD=step, **{TRUTH: 0.0}), LABELS)
    assert said in text


def test_nothing_to_say():
    empty = pd.DataFrame({"n": []})
    told = [distillation.task(empty, LABELS), distillation.matched(empty, LABELS, 0.02)]
    told += [distillation.robustness(empty, empty, LABELS), distillation.maps(empty, empty, LABELS)]
    told += [distillation.sarfa(empty, LABELS), distillation.jacobian(empty, LABELS)]
    assert all("too little to say" in text for text in told)


def test_every_student_and_measure_has_words():
    assert LABELS.keys() == {"teacher", *STUDENTS} and set(distillation.MAPS) < set(MEASURES.values())
