"""Defences at J-SIGR's clean accuracy, as mixtures of candidates."""

import numpy as np
import pytest

from jsigr_lib.study import matching, weights
from jsigr_lib.study.matching import _best


def test_the_best_mixture_of_the_wanted_accuracy_by_hand():
    """Between a (.90 clean, .20 attacked) and c (.80, .60) lies .85 with .40; b alone has it with .35, d and e less."""
    measured = {"a": (0.90, 0.20), "b": (0.85, 0.35), "c": (0.80, 0.60), "d": (0.70, 0.10)}
    assert _best(measured, 0.85) == {"a": pytest.approx(0.5), "c": pytest.approx(0.5)}
    assert _best(measured | {"b": (0.85, 0.41)}, 0.85) == {"b": 1.0}


@pytest.mark.parametrize(("wanted", "nearest"), [(0.95, "a"), (0.6, "d")])
def test_out_of_reach_is_the_nearest(wanted, nearest):
    assert _best({"a": (0.90, 0.20), "d": (0.70, 0.10)}, wanted) == {nearest: 1.0}


def test_mixtures_are_as_accurate_as_jsigr(tiny, study):
    """On validation images, but for those out of reach; J-SIGR is its own candidate."""
    tried = {"tried": {"lambda_j": [0.01, 1.0]}}
    defences = {name: one.model_dump() for name, one in study.profile.defences.items()}
    defences["jacobian"] |= tried | {"options": {"lambda_j": 0.01, "lambda_s": 0.0}}
    other = tiny(study.store.root, defences=defences)
    other.make(weights.specs(other))
    found = matching.mixtures(other)
    assert set(found) == {"jsigr", "jacobian"}
    assert found["jsigr"] == {other.training("jsigr"): 1.0}
    assert sum(found["jacobian"].values()) == pytest.approx(1)
    if len(found["jacobian"]) == 2:
        clean = sum(share * matching._clean(other, one) for one, share in found["jacobian"].items())
        assert clean == pytest.approx(matching._clean(other, other.training("jsigr")))
    values = matching.attacked(other, found["jacobian"])
    assert values.shape == (len(weights.counting(other)), 1, 32) and 0 <= values.min() <= values.max() <= 1
    table = matching.table(other).set_index("defence")
    assert table.attacked["jacobian"] == pytest.approx(values.mean())
    assert np.isclose(table.clean["jsigr"], matching.correct_of(other, [_clean_test(other)]).mean())


def _clean_test(study):
    return matching.Outcomes(target=study.training("jsigr"))


def test_without_a_search_nothing_is_matched(tiny, study):
    defences = {name: {**one.model_dump(), "tried": {}} for name, one in study.profile.defences.items()}
    assert matching.mixtures(tiny(study.store.root, defences=defences)) == {}
