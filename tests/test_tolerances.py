"""What may lie apart, computed by hand."""

import math

import pytest

from jsigr_lib import flags, tolerances
from jsigr_lib.tolerances import intervals, judged, same

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


@pytest.mark.parametrize(("column", "a", "b"), [("eight_bit", 0.5, 0.6), ("rho_mean", 1.0, 1.1)])
def test_images_decide_where_no_interval_does(column, a, b):
    """sqrt(1/n + 1/n), of 1 or of the larger number."""
    for images, agrees in ((100, True), (400, False)):
        pair = [{column: str(value), "images": str(images)} for value in (a, b)]
        allowed = math.sqrt(2 / images) * (1 if column == "eight_bit" else b)
        assert judged(column, pair, {}) == (pytest.approx(allowed), agrees)
    assert judged(column, [{column: "0"}, {column: "1"}], {})[1]  # of unknown n: anything may be


@pytest.mark.parametrize("images", ["", "nan", "0", "-3", "many", "inf"])
def test_odd_numbers_of_images_do_no_harm(images):
    pair = [{"eight_bit": value, "images": images} for value in ("0.2", "0.9")]
    assert judged("eight_bit", pair, {})[0] > 0


def test_tolerances_are_in_units_of_their_own_or_relative():
    for column, a, b, agrees in [
        *(("images", "4", "3", True), ("images", "1000", "950", True), ("images", "1000", "200", False)),
        *(("seeds", "1", "2", False), ("seeds", "3", "3.0", True), ("cost", "1.1362", "1.1087", False)),
        *(("jacobian_norm", "20", "16", True), ("jacobian_norm", "20", "14", False)),
        *(("deviation", "6.9e-16", "8.1e-16", True), ("deviation", "0.3", "9.5", False)),
        *(("jsigr, relative to the change", "0.4", "0.5", True), ("of a kind unknown", "100", "89", False)),
    ]:
        assert judged(column, ({column: a}, {column: b}), {})[1] is agrees, (column, a, b)


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
