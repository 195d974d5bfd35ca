import json
import re
import tomllib

import pytest

from jsigr_lib.method.errors import InputError
from jsigr_lib.store.paths import CLAIMS, NOTEBOOKS, PAPER_VALUES
from jsigr_lib.study.claims import Claim, load_claims, load_paper_values, paper_by_claim
from jsigr_lib.study.config import load_profile
from jsigr_lib.study.verdicts import ADAPTIVE, MATCHED, beside_paper, contrasts, scorecard, values_per_image

LEDGER = load_claims()
TESTS = [(claim, test) for claim in LEDGER for test in claim.tests]
VALUE = """
[[value]]
claim = "transfer"
measure = "transfer accuracy"
defence = "jsigr"
dataset = "cifar10"
value = 0.5
where = "an invented table, row 5"
"""
OTHER = VALUE.replace("jsigr", "standard").replace("0.5", "0.125")


# the claims


def test_ledger_is_what_the_file_says():
    entries = tomllib.loads(CLAIMS.read_text())["claim"]
    assert [claim.id for claim in LEDGER] == [entry["id"] for entry in entries]
    assert len({claim.id for claim in LEDGER}) == len(LEDGER)
    assert all(claim.tests and claim.statement.endswith(".") for claim in LEDGER)


def test_every_figure_of_a_claim_is_declared_by_a_notebook():
    declared = set()
    for path in NOTEBOOKS.glob("0*.ipynb"):
        declared |= set(json.loads(path.read_text())["metadata"]["jsigr"]["figures"])
    assert {claim.figure for claim in LEDGER} - declared == set()


def test_every_test_compares_defences_that_the_profiles_have():
    for name in ("quick", "smoke", "paper"):
        defences = load_profile(name).defences
        assert {d for _, test in TESTS for d in (test.a, test.b)} - set(defences) == set()


def test_every_measure_is_one_that_is_computed(study, table):
    """A misspelt measure would only ever be "not tested"."""
    table("contrasts")
    computed = {measure for measure, _ in values_per_image(study, "small-cnn", "jsigr")}
    computed |= {ADAPTIVE, MATCHED}  # of a profile with J-SIGR surrogates, or whose attacks bite
    assert {test.measure for _, test in TESTS} - computed == set()


ENTRY = "[[claim]]\nid = 'a'\nstatement = 's'\nfigure = 'f'\n"
TEST = "{ measure = 'm', a = 'x', b = 'y', margin = 0.1 }"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param("claim = ", id="no TOML"),
        pytest.param("", id="empty"),
        pytest.param("claims = []", id="another key"),
        pytest.param(ENTRY, id="no tests"),
        pytest.param(f"{ENTRY}tests = [{TEST}]\ncolour = 3", id="unknown field"),
        pytest.param(f"{ENTRY}tests = [{TEST.replace('0.1', 'true and false')}]", id="bad value"),
        pytest.param(f"{ENTRY}tests = [{TEST.replace('0.1', '[]')}]", id="wrong type"),
        pytest.param(f"{ENTRY}tests = [{TEST.replace('margin', 'limit')}]", id="unknown field of a test"),
        pytest.param("[[claim]]\nid = 'a'\ntests = []", id="fields missing"),
        pytest.param("claim = [1]", id="numbers"),
        pytest.param("claim = 'x'", id="a string"),
        pytest.param("claim = 3", id="a number"),
        pytest.param(b"\xff\xfe", id="bytes"),
        pytest.param(f"{ENTRY}tests = []", id="no test"),
        pytest.param(f"{ENTRY}tests = [{TEST}, {TEST}]", id="a test twice"),
    ],
)
def test_malformed_file(tmp_path, content):
    path = tmp_path / "claims.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        load_claims(path)
    assert str(error.value).startswith((f"{path} is no list of claims: ", f"{path}, claim 1: "))
    assert "\n" not in str(error.value)


def test_malformed_file_names_the_field(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(f"{ENTRY}tests = [{TEST}]\ncolour = 3")
    with pytest.raises(InputError, match=r"claim 1: unknown field 'colour'; accepted: id, "):
        load_claims(path)


def test_a_claim_that_stands_there_twice_is_named(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(2 * f"{ENTRY}tests = [{TEST}]\n")
    with pytest.raises(InputError, match=r"claim 2: id = 'a'; accepted: one that no other claim has$"):
        load_claims(path)


def test_well_formed_file(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(f'{ENTRY}on = "others"\ntests = [{TEST}]\n')
    (claim,) = load_claims(path)
    assert claim == Claim(
        id="a", statement="s", figure="f", on="others", tests=[{"measure": "m", "a": "x", "b": "y", "margin": 0.1}]
    )


# the paper's numbers


@pytest.fixture
def file(tmp_path):
    """file(text): paper values with that text."""

    def write(text: str | bytes):
        path = tmp_path / "paper_values.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_we_have_no_number_of_the_paper():
    assert load_paper_values(LEDGER) == []
    assert tomllib.loads(PAPER_VALUES.read_text()) == {}


def test_the_format_in_the_comments_is_accepted(file):
    lines = [line.removeprefix("# ") for line in PAPER_VALUES.read_text().splitlines()]
    example = "\n".join(line for line in lines if re.match(r"\[\[value\]\]|\w+ = ", line))
    (value,) = load_paper_values(LEDGER, file(example))
    assert (value.claim, value.measure, value.defence, value.dataset) == (
        *("transfer", "transfer accuracy", "jsigr", "cifar10"),
    )


def test_values_are_read(file):
    one, two = load_paper_values(LEDGER, file(VALUE + OTHER))
    assert (one.defence, one.value, one.where) == ("jsigr", 0.5, "an invented table, row 5")
    assert (two.defence, two.value) == ("standard", 0.125)


def test_places_tell_numbers_apart(file):
    assert len(load_paper_values(LEDGER, file(VALUE + VALUE.replace("row 5", "row 6")))) == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"transfer"', '"transfers"', "unknown claim 'transfers'; accepted: transfer, at-transfer"),
        ('"transfer accuracy"', '"stability of the gradient map"', "unknown measure of claim 'transfer'"),
        ('"jsigr"', '"pgd"', "unknown defence of claim 'transfer', 'pgd'; accepted: jsigr, standard"),
        ('"cifar10"', '"imagenet"', "unknown dataset 'imagenet'"),
        ("0.5", "52.3", "accuracy = 52.3 is out of range; accepted: 0 to 1"),
        ("0.5", "-0.1", "accuracy = -0.1"),
        ("0.5", "nan", "value = nan: "),
        ("0.5", "inf", "value = inf: "),
        ("0.5", '"0.5"', "value = '0.5': "),
        ("0.5", "true", "value = True: "),
        ('"an invented table, row 5"', '" "', "where = ' ': "),
        ("where", "place", "where is missing; accepted: "),
        ("where", "colour = 'red'\nwhere", "unknown field 'colour'; accepted: claim, "),
        ("measure", "# measure", "measure is missing; accepted: "),
    ],
)
def test_a_bad_entry_is_refused_in_one_line(file, old, new, said):
    path = file(OTHER + VALUE.replace(old, new, 1))
    with pytest.raises(InputError, match=re.escape(f"{path}, value 2: {said}")) as error:
        load_paper_values(LEDGER, path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [None, "value = ", "value = 3", "values = []", "colour = 'red'", VALUE + "\n[other]\nx = 1", b"\xff\xfe"]
)
def test_what_is_no_list_of_values(tmp_path, file, content):
    path = tmp_path / "missing.toml" if content is None else file(content)
    with pytest.raises(InputError) as error:
        load_paper_values(LEDGER, path)
    assert str(error.value).startswith(f"{path} is no list of values: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["value = [1]", "value = ['x']", "value = [[]]"])
def test_what_is_no_entry(file, content):
    with pytest.raises(InputError, match="value 1: "):
        load_paper_values(LEDGER, file(content))


# beside ours


def test_nothing_is_the_papers_without_an_entry(study, table):
    said = paper_by_claim(LEDGER, [])
    assert said == {claim.id: "not entered" for claim in LEDGER}
    assert set(scorecard(study, LEDGER, table("contrasts"), said).paper) == {"not entered"}
    assert set(beside_paper(study, LEDGER, []).paper) == {"not entered"}


def test_scorecard_shows_what_was_entered(file, study):
    said = paper_by_claim(LEDGER, load_paper_values(LEDGER, file(VALUE + OTHER)))
    card = scorecard(study, LEDGER, contrasts(study, []), said).set_index("claim")
    place = "(cifar10; an invented table, row 5)"
    assert (
        card.paper["transfer"] == f"jsigr, transfer accuracy: 0.5 {place}; standard, transfer accuracy: 0.125 {place}"
    )
    assert set(card.paper.drop("transfer")) == {"not entered"}


def test_ours_stands_beside_the_papers(file, study, table):
    table("contrasts")
    rows = beside_paper(study, LEDGER, load_paper_values(LEDGER, file(VALUE)))
    entered = rows[rows.paper != "not entered"]
    assert set(entered.claim) == {"transfer"} and set(entered.defence) == {"jsigr"}
    assert set(entered.paper) == {"0.5 (cifar10; an invented table, row 5)"}
    assert set(rows.dataset) == {study.profile.data_title}
    values = values_per_image(study, "small-cnn", "jsigr")
    for row in entered.itertuples():
        assert row.ours == pytest.approx(values[row.measure, row.context].mean())
        assert row.low <= row.ours <= row.high
    tested = {(claim.id, t.measure, d) for claim in LEDGER for t in claim.tests for d in (t.a, t.b)}
    assert set(zip(rows.claim, rows.measure, rows.defence, strict=True)) <= tested


def test_a_number_entered_twice_is_refused(file):
    with pytest.raises(InputError, match="value 2: a second value for jsigr, transfer accuracy"):
        load_paper_values(LEDGER, file(VALUE + VALUE.replace("0.5", "0.6")))
