"""What may lie apart, computed by hand."""

import math

import pandas as pd
import pytest

from jsigr_lib.measure import flags
from jsigr_lib.records import tolerances
from jsigr_lib.records.tolerances import (
    COMMON,
    EXACT,
    MEAN,
    SHARE,
    TRAINED,
    Tolerance,
    declare,
    declared,
    intervals,
    judged,
    same,
)

BOUNDS = {"accuracy": ("low", "high"), "low": ("low", "high"), "high": ("low", "high")}


def row(accuracy: float, half: float) -> dict[str, str]:
    return {"accuracy": str(accuracy), "low": str(accuracy - half), "high": str(accuracy + half)}


def test_intervals_decide_for_estimates_and_their_bounds():
    """Half-widths of 0.03 and 0.04 allow estimates 0.05, and bounds 0.07."""
    for apart, agrees in ((0.049, True), (0.051, False)):
        pair = row(0.5, 0.03), row(0.5 + apart, 0.04)
        for one in (pair, pair[::-1]):
            assert judged("accuracy", one, BOUNDS) == (pytest.approx(0.05), agrees)
            assert judged("high", one, BOUNDS)[0] == pytest.approx(0.07)


def test_interval_without_width_allows_rounding():
    for apart, agrees in ((0.0001, True), (0.0002, False)):
        assert judged("accuracy", (row(0.5, 0), row(0.5 + apart, 0)), BOUNDS) == (tolerances.ROUNDING, agrees)


def test_broken_interval_is_none():
    pair = row(0.5, 0.03) | {"low": ""}, row(0.54, 0.04)
    assert judged("accuracy", pair, BOUNDS) == (pytest.approx(0.054), True)  # a tenth, as of any number


@pytest.mark.parametrize(("tolerance", "a", "b"), [(SHARE, 0.5, 0.6), (MEAN, 1.0, 1.1)])
def test_images_decide_where_no_interval_does(tolerance, a, b):
    """sqrt(1/n + 1/n), of 1 or of the larger number."""
    for images, agrees in ((100, True), (400, False)):
        pair = [{"x": str(value), "images": str(images)} for value in (a, b)]
        allowed = math.sqrt(2 / images) * (1 if tolerance == SHARE else b)
        assert judged("x", pair, {}, tolerance) == (pytest.approx(allowed), agrees)
    assert judged("x", [{"x": "0"}, {"x": "1"}], {}, tolerance)[1]  # of unknown n: anything may be


@pytest.mark.parametrize("images", ["", "nan", "0", "-3", "many", "inf"])
def test_odd_numbers_of_images_do_no_harm(images):
    pair = [{"x": value, "images": images} for value in ("0.2", "0.9")]
    assert judged("x", pair, {}, SHARE)[0] > 0


def test_tolerances_are_in_units_of_their_own_or_relative():
    images, seeds = COMMON["images"], COMMON["seeds"]
    for tolerance, a, b, agrees in [
        *((images, "4", "3", True), (images, "1000", "950", True), (images, "1000", "200", False)),
        *((seeds, "1", "2", False), (seeds, "3", "3.0", True), (EXACT, "1.1362", "1.1087", False)),
        *((TRAINED, "20", "16", True), (TRAINED, "20", "14", False)),
        *((Tolerance(absolute=4), "6.9e-16", "8.1e-16", True), (Tolerance(absolute=4), "0.3", "9.5", False)),
        *((Tolerance(absolute=0.05, relative=0.25), "0.4", "0.5", True), (tolerances.DEFAULT, "100", "89", False)),
    ]:
        assert judged("x", ({"x": a}, {"x": b}), {}, tolerance)[1] is agrees, (tolerance, a, b)


def test_declaration_travels_with_the_table():
    table = declare(pd.DataFrame({"defence": ["jsigr"], "cost": [1.0]}), "defence", cost=EXACT)
    assert declared(table.round(2)) == declared(table[["defence", "cost"]]) == declared(table)
    assert (declared(table).keys, declared(table).tolerances) == (["defence"], {"cost": EXACT})
    assert declared(pd.DataFrame({"said": ["text"]})) == tolerances.Columns()


def test_text_and_what_is_not_finite_must_be_the_same():
    for a, b in [("holds", "fails"), ("True", "False"), ("0.5", ""), ("0.5", "nan"), ("0.5", "inf"), ("-inf", "inf")]:
        assert judged("outcome", ({"outcome": a}, {"outcome": b}), {}) == (None, False)


def test_borderline_flags_may_differ_and_others_not():
    assert tolerances.BORDERLINE - set(flags.FLAGS) == set()
    for a, b, agrees in [
        *(("none", "few images", True), ("more effort helps; few images", "not monotone", True)),
        *(("none", "non-finite", False), ("few images", "few images; zero gradients", False)),
    ]:
        assert judged("flags", ({"flags": a}, {"flags": b}), {}) == (None, agrees)
        assert judged("outcome", ({"outcome": a}, {"outcome": b}), {}) == (None, False)


def test_same_is_of_text_and_of_numbers():
    assert all(same(*pair) for pair in [("a", "a"), ("1", "1.0"), ("0.0e+00", "0"), ("", "nan"), ("NaN", "nan")])
    assert not any(same(*pair) for pair in [("a", "b"), ("1", "1.0001"), ("", "0"), ("nan", "0"), ("", "none")])


def test_intervals_follow_their_estimate():
    columns = ["images", "ratio", "ratio_low", "ratio_high", "common_accuracy", "common_low", "common_high"]
    found = intervals([*columns, "mean", "low", "high", "low", "p", "slow", "other"])
    assert found == {
        **dict.fromkeys(columns[1:4], ("ratio_low", "ratio_high")),
        **dict.fromkeys(columns[4:], ("common_low", "common_high")),
        **dict.fromkeys(("mean", "low", "high"), ("low", "high")),
    }
