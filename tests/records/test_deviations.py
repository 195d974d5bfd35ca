"""DEVIATIONS.md: whole, numbered, about figures that exist, and quoting the tables it names."""

import json
import re

import pandas as pd
import pytest

from jsigr_lib.method.errors import InputError
from jsigr_lib.records import deviations
from jsigr_lib.records.deviations import behind, line, load_deviations
from jsigr_lib.site import summary
from jsigr_lib.store.paths import DEVIATIONS, NOTEBOOKS, ROOT

CHOICES = load_deviations()
RESULTS = ROOT / "benchmarks" / "results"
HEADER = "| | name | our choice | why | alternative | effect measured | figures |\n|---|---|---|---|---|---|---|\n"
ROW = "| D1 | a name | this | as | that | none | curves, bars |\n"


def test_numbers_are_consecutive_and_names_differ():
    assert [one.number for one in CHOICES] == [f"D{i}" for i in range(1, len(CHOICES) + 1)]
    assert len(CHOICES) > 40
    assert len({one.name for one in CHOICES}) == len(CHOICES)
    assert not [one.name for one in CHOICES if ";" in one.name]


def test_every_figure_named_is_drawn_by_a_notebook():
    declared = set()
    for path in [*NOTEBOOKS.glob("0*.ipynb"), *NOTEBOOKS.glob("neighbours/*.ipynb")]:
        declared |= set(json.loads(path.read_text())["metadata"]["jsigr"]["figures"])
    assert {figure for one in CHOICES for figure in one.figures} <= declared


def test_every_mention_elsewhere_is_a_row():
    """Of a D-number, in the README, the notebooks, the equations and the code."""
    files = [
        ROOT / "README.md",
        *NOTEBOOKS.glob("*.ipynb"),
        *NOTEBOOKS.glob("neighbours/*.ipynb"),
        *(ROOT / "jsigr_lib").rglob("*.py"),
        DEVIATIONS,
    ]
    mentioned = {number for file in files for number in re.findall(r"\bD[1-9]\d?\b", file.read_text())}
    assert mentioned <= {one.number for one in CHOICES}


def numbers_of(table: pd.DataFrame) -> set[str]:
    """As the text writes them: .123, without the 0."""
    values = table.select_dtypes("number").to_numpy().ravel()
    return {f"{abs(value):.3f}".removeprefix("0") for value in values if value == value}


@pytest.mark.parametrize(("part", "rows"), [("frontier", 5), ("ablations", 4)])
def test_numbers_quoted_are_those_of_the_table(part, rows):
    """Every number of three digits in front of the table's name."""
    known = numbers_of(pd.read_csv(RESULTS / f"{part}.csv"))
    quoted = {}
    for one in CHOICES:
        for text, name in re.findall(r"(.*?)\(`benchmarks/results/(\w+)\.csv`\)", one.effect):
            if name == part:
                quoted[one.number] = set(re.findall(r"(?<![\d.])\.\d{3}\b", text))
    assert len(quoted) >= rows and all(quoted.values())
    assert {number: said - known for number, said in quoted.items() if said - known} == {}


def test_verdicts_that_two_data_sets_share_are_counted():
    card = summary.scorecard(ROOT / "figures" / "full").pivot(index="claim", columns="data", values="verdict")
    both = card[["MNIST", "CIFAR-10 (JPEG copy)"]].replace("not tested", pd.NA).dropna()
    (effect,) = [one.effect for one in CHOICES if one.number == "D23"]
    assert len(both) == 6 and list(both.index[both.nunique(axis=1) > 1]) == ["parts"]
    assert "these two alike on five of the six claims that both could judge, not on J-SIGR beside its parts" in effect


def test_files_named_exist():
    for one in CHOICES:
        for path in re.findall(r"`([\w/]+\.(?:csv|png|py))`", f"{one.effect} {one.alternative}"):
            assert (ROOT / path).exists() or (ROOT / "figures" / "quick" / path).exists(), (one.number, path)


# the reader


def test_rows_are_read(tmp_path):
    path = tmp_path / "DEVIATIONS.md"
    path.write_text(f"# Title\n\n{HEADER}{ROW}| D2 | b | c | d | e | f | |\n\n| D9 | another table |\n")
    one, two = load_deviations(path)
    assert (one.number, one.name, one.choice, one.why) == ("D1", "a name", "this", "as")
    assert (one.alternative, one.effect, one.figures) == ("that", "none", ("curves", "bars"))
    assert two.figures == ()
    assert behind("bars", path) == [one]
    assert behind("bar", path) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no list of deviations"),
        (b"\xff\xfe", "no list of deviations"),
        ("", "has no line | | name |"),
        (HEADER + ROW.replace("D1", "D2"), "has 'D2' in row 1; accepted: D1"),
        (HEADER + ROW + ROW, "has 'D1' in row 2; accepted: D2"),
        (HEADER + ROW.replace("| as ", ""), "5 cells after D1"),
        (HEADER + ROW.replace("none", ""), "empty"),
    ],
)
def test_a_broken_table_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "DEVIATIONS.md"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=re.escape(said)) as error:
        load_deviations(path)
    assert "\n" not in str(error.value)


def test_no_file_is_no_choices(tmp_path):
    assert behind("teaser", tmp_path / "DEVIATIONS.md") == []


def test_line_names_the_choices():
    said = line(behind("agreement"))
    assert said.startswith("Choices behind this figure: D2 hard selection; D3 self targets; ")
    assert said.endswith(" (`DEVIATIONS.md`).")
    assert deviations.COLUMNS[1:-1] == ("name", "our choice", "why", "alternative", "effect measured")
