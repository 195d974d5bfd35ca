"""Two runs compared: differences are planted in small tables, and no table of a real run is forgotten."""

import json
import shutil
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsigr_lib.method.errors import InputError
from jsigr_lib.pipeline import order, pipeline
from jsigr_lib.records import comparison, results
from jsigr_lib.records.comparison import TextTable, compare, compare_tables, conclusion, lines
from jsigr_lib.records.record import Manifest, Part, parts
from jsigr_lib.records.running import Code, Environment
from jsigr_lib.records.tolerances import EXACT, RETOLD, Columns, Tolerance
from jsigr_lib.store.paths import ROOT

QUICK = ROOT / "figures" / "quick"
TABLES = {
    "robustness": "defence,attack,eps,images,seeds,accuracy,low,high,flags\n"
    "standard,pgd,0.1,1000,1,0.256,0.2299,0.2839,none\n"
    "jsigr,pgd,0.1,1000,1,0.61,0.5794,0.6398,few images\n",
    "scorecard": "claim,statement,verdict,evidence\n"
    'transfer,It transfers.,supported,"+0.395 [+0.365, +0.426]"\n'
    'maps,It shows.,not supported,"-0.01 [-0.02, +0.01]"\n',
    "curves": "defence,share,probability\njsigr,0.0,0.85\njsigr,0.5,0.31\njsigr,1.0,\n",
}
COLUMNS = {
    "robustness": Columns(keys=["defence", "attack", "eps"]),
    "scorecard": Columns(keys=["claim", "statement"], tolerances={"evidence": RETOLD}),
    "curves": Columns(keys=["defence", "share"], tolerances={"probability": Tolerance(absolute=0.1)}),
}
CODE = Code(version="1", commit=None, modified=None, sources="S")
ENVIRONMENT = Environment(python="3", machine="M", packages={"torch": "2"})


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path]:
    """Two equal runs, whose tables declare their columns."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for table, content in TABLES.items():
            (tmp_path / name / f"{table}.csv").write_text(content)
            declare(tmp_path / name, table, COLUMNS[table])
    return tmp_path / "a", tmp_path / "b"


def declare(folder: Path, table: str, columns: Columns) -> None:
    """The record of a table that says no more than what its columns mean."""
    empty = {key: {} for key in ("choices", "profile", "seeds", "data", "artefacts", "sha256", "content")}
    part = Part(
        **{"name": table, "kind": "table", "alt": "", "changed": None, "root": "", "cell": None, **empty},
        code=CODE,
        environment=ENVIRONMENT,
        columns=columns,
    )
    (folder / f"{table}.json").write_text(json.dumps({"table": part.model_dump()}))


def plant(folder: Path, table: str, old: str, new: str) -> None:
    path = folder / f"{table}.csv"
    content = path.read_text()
    assert content.count(old) == 1
    path.write_text(content.replace(old, new))


def of(text: str) -> TextTable:
    header, *rows = (line.split(",") for line in text.split())
    return TextTable(tuple(header), tuple(dict(zip(header, row, strict=True)) for row in rows))


def test_equal_runs_are_the_same(runs):
    found = compare(*runs)
    assert (found.tables, found.values) == (3, 2 * 6 + 2 + 3)
    assert (found.differences, found.unpaired, found.changed) == ([], [], [])
    assert found.agrees
    assert found.exact
    assert conclusion(found, "A", "B") == "A and B are the same: equal bytes in every table"


@pytest.mark.parametrize(
    ("table", "old", "new", "agrees"),
    [
        ("robustness", "0.256,", "0.2561,", True),
        ("robustness", "0.256,", f"{0.256 + 2**-54!r},", True),
        ("robustness", "0.256,0.2299,0.2839", "0.276,0.2491,0.3046", True),  # one interval holds the other's estimate
        ("robustness", "0.256,0.2299,0.2839", "0.356,0.3269,0.3862", False),
        ("robustness", "0.256,0.2299,0.2839", "0.256,0.2299,0.5839", False),  # a bound is a number like others
        ("robustness", "0.1,1000,1,0.256", "0.1,1000,2,0.256", False),
        ("robustness", "few images", "none", True),  # which a point more or less raises
        ("robustness", "few images", "more effort helps; few images", True),
        ("robustness", "few images", "few images; non-finite", False),
        ("scorecard", ",supported", ",partly supported", False),
        ("scorecard", "It shows.", "It shows!", False),
        ("scorecard", "+0.395", "+0.396", True),
        ("curves", "0.85", "0.8501", True),
        ("curves", "0.85", "0.45", False),
        ("curves", "0.85", "", False),
        ("curves", "0.85", "nan", False),
        ("curves", "0.85", "inf", False),
        ("curves", "1.0,", "1.0,nan", True),
        ("curves", "0.85", "0.850", True),
    ],
)
def test_planted_difference(runs, table, old, new, agrees):
    plant(runs[1], table, old, new)
    for one, other in (runs, runs[::-1]):
        found = compare(one, other)
        assert found.agrees is agrees
        assert found.changed == [table]
        assert not found.exact


def test_rows_are_called_by_the_keys_that_tell_them_apart():
    a = of("claim,architecture,a,b,accuracy\nx,cnn,jsigr,pgd,1\nx,cnn,standard,pgd,1\n")
    b = of("claim,architecture,a,b,accuracy\nx,cnn,jsigr,pgd,9\nx,cnn,standard,pgd,9\n")
    keys = Columns(keys=["claim", "architecture", "a", "b"])
    assert [one.row for one in compare_tables("t", a, b, columns=keys)[0]] == ["jsigr", "standard"]


@pytest.mark.parametrize("who", ["both", "A alone", "B alone"])
def test_declaration_of_either_run_serves(runs, who):
    """That of an older run, which has none, is the other's; if both have one, the first one's counts."""
    plant(runs[1], "curves", "0.85", "0.94")
    for folder, name in zip(runs, ("A", "B"), strict=True):
        if who not in ("both", f"{name} alone"):
            for table in TABLES:
                (folder / f"{table}.json").unlink()
    assert compare(*runs).agrees
    last = compare(*runs).differences[-1]
    assert (last.row, last.allowed) == ("0.0", 0.1)
    declare(runs[0], "curves", Columns(keys=["share"], tolerances={"probability": EXACT}))
    assert not compare(*runs).agrees


def test_tables_without_a_record_are_paired_row_by_row(runs):
    """Their numbers may differ by a tenth."""
    for folder in runs:
        for table in TABLES:
            (folder / f"{table}.json").unlink()
    plant(runs[1], "scorecard", ",supported", ",not supported")
    plant(runs[1], "curves", "0.85", "0.93")
    plant(runs[1], "curves", "0.31", "0.35")
    found = compare(*runs)
    assert [(one.table, one.row, one.column, one.within) for one in found.differences] == [
        ("curves", "row 1", "probability", True),
        ("curves", "row 2", "probability", False),
        ("scorecard", "row 1", "verdict", False),
    ]
    assert found.unpaired == []


def test_what_is_retold_is_not_compared():
    a, b = of("check,measure,p\nx,here,1\n"), of("check,measure,p\nx,there,2\n")
    retold = Columns(keys=["check"], tolerances={"measure": RETOLD, "p": RETOLD})
    assert compare_tables("t", a, b, columns=retold) == ([], [], 0)
    assert compare_tables("t", a, b, columns=Columns(keys=["check"]))[2] == 2


def test_order_of_rows_and_columns_does_not_matter(runs):
    lines_ = TABLES["robustness"].splitlines()
    (runs[1] / "robustness.csv").write_text("\n".join([lines_[0], lines_[2], lines_[1]]) + "\n")
    plant(
        runs[1], "curves", TABLES["curves"], "defence,probability,share\njsigr,0.85,0.0\njsigr,0.31,0.5\njsigr,,1.0\n"
    )
    found = compare(*runs)
    assert found.differences == []
    assert found.agrees
    assert not found.exact


def test_rows_of_equal_keys_are_paired_in_their_order():
    a = of("defence,spread\njsigr,1\njsigr,2\njsigr,3\n")
    assert compare_tables("t", a, a)[0] == []
    assert len(compare_tables("t", a, of("defence,spread\njsigr,1\njsigr,30\njsigr,3\n"))[0]) == 1
    assert compare_tables("t", a, of("defence,spread\njsigr,1\njsigr,2\n"))[1] == ["t: row only in A: row 3"]


def test_rows_without_keys_are_paired_by_their_place():
    found, unpaired, values = compare_tables("t", of("speed\n1\n2\n"), of("speed\n1\n9\n"))
    assert [(one.row, one.a, one.b) for one in found] == [("row 2", "2", "9")]
    assert (unpaired, values) == ([], 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: (b / "curves.csv").unlink(), "table only in A: curves"),
        (lambda b: shutil.copy(b / "curves.csv", b / "more.csv"), "table only in B: more"),
        (
            lambda b: plant(b, "robustness", "jsigr,pgd,0.1,1000,1,0.61,0.5794,0.6398,few images\n", ""),
            "row only in A: jsi",
        ),
        (lambda b: plant(b, "robustness", "jsigr,pgd", "trades,pgd"), "robustness: row only in B: trades"),
        (lambda b: plant(b, "scorecard", "evidence", "proof"), "scorecard: column only in A: evidence"),
        (lambda b: (b / "teaser.png").write_bytes(b"picture"), "figure only in B: teaser"),
    ],
)
def test_what_only_one_has_is_named_and_no_agreement(runs, change, said):
    change(runs[1])
    found = compare(*runs)
    assert any(said in line for line in found.unpaired)
    assert not found.agrees
    assert "results that only one has" in conclusion(found, "A", "B")


def test_many_rows_of_one_run_are_one_line():
    one, unpaired, values = compare_tables(
        "t", of("epoch,x\n" + "".join(f"{i},0\n" for i in range(50))), of("epoch,x\n"), columns=Columns(keys=["epoch"])
    )
    assert (one, values) == ([], 0)
    assert unpaired == ["t: row only in A: 0; 1; 2 and 47 more"]


def test_figures_are_compared_by_what_they_show(runs):
    for name, contents in {"same": (b"1", b"1"), "other": (b"1", b"2")}.items():
        for folder, content in zip(runs, contents, strict=True):
            (folder / f"{name}.png").write_bytes(content)
    found = compare(*runs)
    assert found.figures == (2, 1)
    assert found.agrees


def test_only_the_named_tables_are_compared(runs):
    plant(runs[1], "curves", "0.85", "0.45")
    (runs[1] / "more.csv").write_text("x\n")
    (runs[1] / "more.png").write_bytes(b"")
    assert not compare(*runs).agrees
    found = compare(*runs, only={"robustness", "scorecard"})
    assert found.tables == 2
    assert found.exact


def test_changed_verdict_is_the_headline(runs):
    plant(runs[1], "scorecard", ",supported", ",not supported")
    plant(runs[1], "robustness", "0.256,0.2299,0.2839", "0.956,0.94,0.97")
    found = compare(*runs)
    assert [one.column for one in found.beyond] == ["verdict", "accuracy", "low", "high"]
    last = lines(found, "mine", "theirs")[-1]
    assert last == (
        "mine does not agree with theirs: verdict of transfer: supported in A, not supported in B; "
        "3 other values of 17 beyond tolerance"
    )


def test_lines_count_and_show_the_worst_first(runs):
    plant(runs[1], "curves", "0.85", "0.55")
    plant(runs[1], "curves", "0.31", "0.91")
    plant(runs[1], "robustness", "0.256,", "0.2561,")
    said = lines(compare(*runs), "mine", "theirs", limit=1)
    assert said[:2] == ["A  mine", "B  theirs"]
    assert "tables: 3; values: 17, of which 14 the same, 1 within tolerance, 2 beyond it" in said
    start = said.index("") + 1
    assert said[start].split() == ["table", "row", "column", "A", "B", "apart", "allowed"]
    assert said[start + 1].split()[:6] == ["curves", "0.5", "probability", "0.31", "0.91", "0.6"]
    assert said[start + 2] == "and 1 more"
    assert said[-1] == (
        "mine does not agree with theirs: 2 of 17 values beyond tolerance, none of them a claim's verdict"
    )


def test_column_that_changed_as_a_whole_leaves_room_for_others(runs):
    rows = "".join(f"{epoch},1,{{}}\n" for epoch in range(30))
    for folder, value in zip(runs, "12", strict=True):
        (folder / "many.csv").write_text(
            "epoch,seeds,tolerance\n" + rows.replace(",1,", f",{value},").format(*["1"] * 29, value)
        )
        declare(folder, "many", Columns(keys=["epoch"], tolerances={"tolerance": EXACT}))
    said = lines(compare(*runs), "mine", "theirs")
    assert [line.split()[:3] for line in said if line.startswith("many ")] == [
        *(["many", str(epoch), "seeds"] for epoch in range(3)),
        ["many", "29", "tolerance"],
    ]
    assert "and 27 more" in said


def test_long_text_keeps_both_ends():
    assert comparison._shortened("transfer, standard", 9) == "tran…dard"
    assert comparison._shortened("transfer", 8) == "transfer"


def test_hostile_text_cannot_drive_the_terminal(runs):
    plant(runs[1], "scorecard", ",supported", ",\x1b[31msupported\x07")
    plant(runs[1], "scorecard", "maps,", "m\x1b[2Japs,")
    (runs[1] / "curves.csv").rename(runs[1] / "cur\x1b[2Jves.csv")
    assert all(line.isprintable() for line in lines(compare(*runs), "mine", "theirs"))


def test_one_machine_that_differs_is_told(runs):
    runs = [shutil.copytree(folder, folder / "figures" / "quick") for folder in runs]
    plant(runs[1], "curves", "0.85", "0.8501")
    own = CODE.model_copy(update={"own": {"my_defences": "1"}})
    other = {"packages": {"packages": {"torch": "3"}}, "machine": {"machine": "M, with another instruction set"}}
    for differs in ("nothing", "code", *other):
        for folder, environment, code in (
            (runs[0], ENVIRONMENT, CODE),
            (runs[1], ENVIRONMENT.model_copy(update=other.get(differs)), own if differs == "code" else CODE),
        ):
            manifest = Manifest(run={"machine": "M"}, code=code, environment=environment)
            (folder / "manifest.json").write_text(manifest.model_dump_json())
        found, same = compare(*runs), differs == "nothing"
        assert found.made == {name: name != differs for name in ("profile", "code", "packages", "machine")}
        assert any("should not happen" in line and "curves" in line for line in lines(found, "A", "B")) is same
        assert found.agrees
    (runs[0] / "manifest.json").unlink()
    assert list(compare(*runs).made.values()) == [True, None, None, None]


def test_different_profiles_are_told_first(runs):
    places = [folder / "figures" / name for folder, name in zip(runs, ("quick", "smoke"), strict=True)]
    for folder, place in zip(runs, places, strict=True):
        shutil.copytree(folder, place)
    said = lines(compare(*places), "mine", "theirs")
    assert said[2] == "different: profile"
    assert said[-1].endswith("equal bytes in every table")


cells = st.sampled_from(["", "nan", "0", "0.5", "1e9", "-3", "inf", "-inf", "none", "more effort", "True", "é\x1b"])
columns = st.lists(
    st.sampled_from(["defence", "eps", "accuracy", "low", "high", "flags", "p", "other"]), min_size=1, unique=True
)


@st.composite
def tables(draw, header=columns):
    names = tuple(draw(header))
    rows = draw(st.lists(st.lists(cells, min_size=len(names), max_size=len(names)), max_size=6))
    return TextTable(names, tuple(dict(zip(names, row, strict=True)) for row in rows))


@given(tables())
@settings(max_examples=200, deadline=None)
def test_a_table_agrees_with_itself(table):
    assert compare_tables("t", table, table)[:2] == ([], [])


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_comparison_is_symmetric(data):
    header = data.draw(columns)
    a, b = (data.draw(tables(st.just(header))) for _ in range(2))
    (found, unpaired, values), (mirrored, unpaired_, values_) = compare_tables("t", a, b), compare_tables("t", b, a)
    assert Counter((one.row, one.column, one.a, one.b, one.allowed, one.within) for one in found) == Counter(
        (one.row, one.column, one.b, one.a, one.allowed, one.within) for one in mirrored
    )
    assert values == values_
    swap = str.maketrans("AB", "BA")
    assert sorted(unpaired) == sorted(line.translate(swap) for line in unpaired_)


def test_comparison_never_fails_a_run(tmp_path, runs, monkeypatch):
    """Damaged tables, or none, are told in one line; so is what nobody thought of."""
    said = comparison.against_published(runs[0], "no-such", replaced=runs[1])
    assert said[-1] == "this run and the no-such run before it are the same: equal bytes in every table"
    (runs[1] / "curves.csv").write_text("a,b\n1\n")
    (said,) = comparison.against_published(runs[0], "no-such", replaced=runs[1])
    assert "curves.csv is no table" in said
    (said,) = comparison.against_published(runs[0], "no-such", replaced=tmp_path / "nowhere")
    assert "no run of profile 'no-such' is published" in said
    monkeypatch.setattr(comparison, "compare", lambda *_, **__: 1 / 0)
    assert "division by zero" in comparison.against_published(runs[0], "no-such", replaced=runs[1])[0]


def test_new_run_is_compared_with_the_published_one_or_else_the_one_before(runs, monkeypatch):
    """Also where git knows of no published run; without either, or if that is damaged, it says so."""
    published = nullcontext((runs[1], "the published run"))
    monkeypatch.setattr(comparison, "published_run", lambda profile: published if profile == "quick" else no_git())
    for profile, replaced, last in (
        ("quick", runs[0], "this run and the published run are the same: equal bytes in every table"),
        ("smoke", runs[1], "this run and the smoke run before it are the same: equal bytes in every table"),
        ("smoke", runs[1] / "nowhere", "not compared with another run: no git"),
    ):
        assert comparison.against_published(runs[0], profile, replaced=replaced)[-1] == last
    (runs[1] / "curves.csv").write_text("a,b\n1\n")
    (said,) = comparison.against_published(runs[0], "quick", replaced=runs[0])
    assert said.startswith("not compared with another run: ") and "curves.csv is no table" in said


def test_run_in_the_repository_ends_with_the_comparison(tmp_path, monkeypatch):
    """Of all that it made, or of the tables of the chosen notebooks; not with other settings, and not elsewhere."""
    accuracy = "0.5"

    def execute(name, output, parameters, **_):
        notebook = nbformat.v4.new_notebook(metadata={"jsigr": {"figures": [], "tables": [f"t{name[:2]}"]}})
        nbformat.write(notebook, output)
        (tmp_path / parameters["out"] / f"t{name[:2]}.csv").write_text(f"defence,probability\njsigr,{accuracy}\n")

    for module in (order, pipeline):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(order, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(pipeline, "execute", execute)
    for name in ("verify", "tidy"):
        monkeypatch.setattr(pipeline, name, lambda *_: None)
    monkeypatch.setattr(pipeline, "specs", lambda study, name: [])
    monkeypatch.setattr(comparison, "published_run", no_git)
    assert pipeline.run(profile="smoke").agreement == ["not compared with another run: no git"]
    assert pipeline.run(profile="smoke").agreement[-1].startswith("this run and the smoke run before it are the same")
    accuracy = "0.9"
    (last,) = pipeline.run(profile="smoke", notebooks=["03"]).agreement[-1:]
    assert last == (
        "this run does not agree with the smoke run before it: 1 of 2 values beyond tolerance, "
        "none of them a claim's verdict"
    )
    assert "0.9" in (tmp_path / "figures" / "smoke" / "t03.csv").read_text()
    assert "tables: 1; values: 2, of which 2 the same, 0 within tolerance, 0 beyond it" in (
        pipeline.run(profile="smoke", notebooks=["03"]).agreement
    )
    assert pipeline.run(profile="smoke", settings={"eps": 0.05}).agreement == []
    assert pipeline.run(profile="smoke", out=tmp_path / "elsewhere").agreement == []


def no_git(*_):
    raise InputError("no git")


@pytest.mark.parametrize("path", sorted(QUICK.glob("*.csv")), ids=lambda path: path.stem)
def test_published_table_agrees_with_itself(path):
    table = results.read_table(path)
    assert compare_tables(path.stem, table, table)[:2] == ([], [])


@pytest.mark.slow
def test_every_table_of_a_run_is_known(smoke_run):
    """Its rows have keys of their own, and it agrees with itself. (That each number has an interval or a tolerance was
    checked as it was saved.)"""
    paths = sorted(smoke_run.figures.glob("*.csv"))
    assert len(paths) > 15
    for path in paths:
        table, columns = results.read_table(path), parts(path.with_suffix(".json"))["table"].columns
        assert columns.keys and tuple(columns.keys) == table.columns[: len(columns.keys)]
        assert columns.tolerances.keys() <= set(table.columns)
        repeated = Counter(tuple(row[key] for key in columns.keys) for row in table.rows)
        # the estimators' table holds the mask's and the coin's comparison, which share a row
        assert max(repeated.values(), default=1) == (2 if path.stem == "estimators" else 1)
        assert compare_tables(path.stem, table, table, columns=columns)[:2] == ([], [])
    found = compare(smoke_run.figures, smoke_run.figures)
    assert found.exact
    assert found.figures[0] == found.figures[1] > 20
