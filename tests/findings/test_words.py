"""Numbers become words by rules that do not flatter: no rounding to nothing, no sureness that the interval lacks."""

import pandas as pd
import pytest

from jsigr_lib.findings import words

LABELS = {"standard": "standard", "jsigr": "J-SIGR", "pgd": "PGD *7*"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.number(-0.416), "−0.42"),
        (words.number(-0.004), "0.00"),
        (words.number(1234.5, 0), "1,234"),
        (words.brief(990.1), "990"),
        (words.brief(60.26), "60.3"),
        (words.brief(6.088), "6.09"),
        (words.percent(0), "0 %"),
        (words.percent(0.004), "under 1 %"),
        (words.percent(0.996), "over 99 %"),
        (words.percent(1), "100 %"),
        (words.percent(0.714), "71 %"),
        (words.points(-0.004), "under half a point"),
        (words.points(0.006), "1 point"),
        (words.points(-0.031), "3 points"),
        (words.lost([0.04, 0.05]), "4 to 5 points"),
        (words.lost([-0.014, 0.016]), "−1 to 2 points"),
        (words.lost([0.011]), "1 point"),
        (words.span([0.3, 0.1, 0.2]), "0.10 to 0.30"),
        (words.span([0.301, 0.299]), "0.30"),
        (words.count(0, "row"), "no rows"),
        (words.count(1, "row"), "one row"),
        (words.count(13, "row"), "13 rows"),
        (words.of_all(0, 4, "defence"), "none of the four defences"),
        (words.of_all(2, 4, "defence"), "two of the four defences"),
        (words.of_all(4, 4, "defence"), "all four defences"),
        (words.of_all(2, 2, "defence"), "both defences"),
        (words.of_all(1, 1, "defence"), "the one defence"),
        (words.of_all(0, 1, "defence"), "not the one defence"),
        (words.listed([]), "none"),
        (words.listed(["a"]), "a"),
        (words.listed(["a", "b", "c"], "or"), "a, b or c"),
        (words.begin("J-SIGR and others"), "J-SIGR and others"),
        (words.begin("two of them"), "Two of them"),
        (words.name("standard", LABELS), "the standard network"),
        (words.name("unknown", LABELS), "unknown"),
        (words.names(["jsigr", "pgd"], LABELS), "J-SIGR and PGD &#42;7&#42;"),
    ],
)
def test_words(said, expected):
    assert said == expected


@pytest.mark.parametrize(("low", "high", "expected"), [(0.1, 0.3, 1), (-0.3, -0.1, -1), (-0.1, 0.3, 0), (0, 0.3, 0)])
def test_a_difference_is_sure_only_if_its_whole_interval_is(low, high, expected):
    assert words.sign({"low": low, "high": high}) == expected


def test_intervals_of_rows():
    row = pd.Series({"difference": "-0.416", "low": -0.5, "high": -0.3})  # text, as in a table with blanks
    assert words.interval(row) == "−0.42 [−0.50, −0.30]"
    assert words.interval(pd.Series({"difference": 0.1, "low": 0.001, "high": 0.2})) == "0.100 [0.001, 0.200]"
    assert words.interval(pd.Series({"difference": 0.1, "low": -0.001, "high": 0.2})) == "0.10 [0.00, 0.20]"
    assert words.share(pd.Series({"accuracy": 0.714, "low": 0.69, "high": 0.731})) == "71 % [69, 73]"


def test_a_paragraph_leaves_out_what_is_empty_and_says_if_that_is_all():
    text = words.paragraph("One.", "", "Two.", lead="Lead.")
    assert text == "**Lead.** One. Two." == text._repr_markdown_()
    assert words.Text("3 % of 5")._repr_markdown_() == "3\N{NO-BREAK SPACE}% of 5"
    assert words.paragraph("", "") == f"**What it shows.** {words.NOTHING}"


def test_rows_of_tables():
    table = pd.DataFrame({"architecture": ["cnn", "cnn", "mlp"], "defence": ["a", "b", "a"], "n": [1, 2, 3]})
    assert list(words.first(table).n) == [1, 2]
    assert list(words.rows(table, defence="a", architecture=["cnn", "mlp"]).n) == [1, 3]
    assert not len(words.rows(table, nothing=1)) and not len(words.rows(pd.DataFrame(), defence="a"))
    assert {name: row.n for name, row in words.keyed(table).items()} == {"a": 1, "b": 2}
    assert words.keyed(pd.DataFrame()) == {}
