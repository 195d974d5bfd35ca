"""Every equation hangs on a thread from code to test, notebook and figure; a thread with an end missing is refused."""

import json
import re
import sys
from types import ModuleType

import pytest

from jsigr_lib.method.errors import InputError
from jsigr_lib.site import prose
from jsigr_lib.store.paths import NOTEBOOKS, ROOT

sys.path.insert(0, str(ROOT / "tools"))
import equations
from equations import load_equations, markdown, stating, unindexed

INDEX = load_equations()
ENTRY = """
[[equation]]
id = "E1"
name = "Jacobian norm"
latex = 'R_J = \\sum_i \\lVert J_i \\rVert_F^2'
tags = ["abs", "code: facebookresearch/jacobian_regularizer"]
functions = ["jsigr_lib.measure.linearised:projection_variance"]
tests = ["tests/measure/test_linearised.py::test_projection_variance_by_hand"]
cell = "01_theory#01-07"
figure = "projection_estimator"
"""


@pytest.fixture
def file(tmp_path):
    """file(text): an index with that text."""

    def write(text: str | bytes):
        path = tmp_path / "equations.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# the repository's own


def test_no_formula_is_left_out():
    assert unindexed(INDEX) == []


def test_ids_are_consecutive_and_names_differ():
    assert [one.id for one in INDEX] == [f"E{i}" for i in range(1, len(INDEX) + 1)]
    assert len({one.name for one in INDEX}) == len(INDEX)


def test_written_index_is_not_stale():
    assert (ROOT / "EQUATIONS.md").read_text() == markdown(INDEX), "run: python tools/equations.py"


def test_every_link_of_the_written_index_leads_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", markdown(INDEX))
    assert len(targets) > 3 * len(INDEX)
    assert all((ROOT / target).is_file() for target in targets)


def test_every_row_of_the_written_index_has_all_its_cells():
    rows = [line for line in markdown(INDEX).splitlines() if line.startswith("|")]
    assert len(rows) == len(INDEX) + 2
    assert {row.count("|") for row in rows} == {9}


@pytest.mark.parametrize("equation", INDEX, ids=lambda one: one.id)
def test_a_browser_can_set_it(equation):
    assert "<math" in prose.mathml(equation.latex)


# one end after another


def test_well_formed_file(file):
    (one,) = load_equations(file(ENTRY))
    assert (one.id, one.name, one.tags) == (
        "E1",
        "Jacobian norm",
        ["abs", "code: facebookresearch/jacobian_regularizer"],
    )
    assert (one.cell, one.mentions, one.figure, one.reason) == ("01_theory#01-07", "", "projection_estimator", "")


def test_an_entry_is_one_block(file):
    second = ENTRY.replace('"E1"', '"E2"').replace('"Jacobian norm"', '"another"')
    assert [one.id for one in load_equations(file(ENTRY + second))] == ["E1", "E2"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param("::test_projection_variance_by_hand", "::test_nothing", "no test", id="missing test"),
        pytest.param("tests/measure/test_linearised.py", "tests/test_nothing.py", "no test", id="missing test file"),
        pytest.param(
            "tests/measure/test_linearised.py", "jsigr_lib/measure/linearised.py", "no test", id="a test elsewhere"
        ),
        pytest.param("::test_projection_variance_by_hand", "::affine", "no test", id="a helper as test"),
        pytest.param("linearised:projection_variance", "linearised:nothing", "no function", id="missing function"),
        pytest.param("linearised:projection_variance", "linearised:Sequence", "no function", id="no function"),
        pytest.param("linearised:projection_variance", "theory", "no function", id="a module"),
        pytest.param("jsigr_lib.measure.linearised:projection_variance", "os.path:join", "no function", id="not ours"),
        pytest.param("jsigr_lib.measure.linearised:", "jsigr_lib.nothing:", "no function", id="missing module"),
        pytest.param("01_theory#01-07", "01_theory#nothing", "no cell", id="missing cell"),
        pytest.param("01_theory#01-07", "06_nothing#01-07", "no cell", id="missing notebook"),
        pytest.param("01_theory#01-07", "01_theory#01-01", "does not hold 'projection_variance'", id="wrong cell"),
        pytest.param("cell =", "mentions = 'elephants'\ncell =", "does not hold 'elephants'", id="not mentioned"),
        pytest.param("cell =", "mentions = 'projection_var'\ncell =", "does not hold", id="a part of a word"),
        pytest.param("projection_estimator", "nothing", "figure 'nothing'", id="missing figure"),
        pytest.param('"abs", ', '"guessed", ', "tag 'guessed'", id="wrong tag"),
        pytest.param('"code: facebookresearch/jacobian_regularizer"', '"code: "', "tag 'code: '", id="no source"),
        pytest.param('cell = "01_theory#01-07"\n', "", "neither cell nor reason", id="no cell and no reason"),
        pytest.param("\\lVert J_i \\rVert", "|J_i|", "breaks a table", id="bars"),
        pytest.param('id = "E1"', 'id = "E2"', "accepted: E1", id="a number left out"),
        pytest.param('id = "E1"', 'id = "one"', "id", id="no number"),
        pytest.param("figure =", "picture =", "picture", id="unknown field"),
        pytest.param('name = "Jacobian norm"', "name = 3", "name", id="wrong type"),
        pytest.param('name = "Jacobian norm"', "", "name", id="field missing"),
        pytest.param(
            '["tests/measure/test_linearised.py::test_projection_variance_by_hand"]', "[]", "tests", id="no test"
        ),
    ],
)
def test_a_broken_thread_is_refused_in_one_line(file, old, new, said):
    assert old in ENTRY
    path = file(ENTRY.replace(old, new))
    with pytest.raises(InputError, match=re.escape(said)) as error:
        load_equations(path)
    assert str(error.value).startswith(f"{path}, E1: ")
    assert "\n" not in str(error.value)


def test_the_second_of_a_name_is_refused(file):
    with pytest.raises(InputError, match="E2: name 'Jacobian norm' is taken"):
        load_equations(file(ENTRY + ENTRY.replace('"E1"', '"E2"')))


@pytest.mark.parametrize("content", [None, "equation = ", "", "equations = []", "equation = 3", b"\xff\xfe"])
def test_what_is_no_index(tmp_path, file, content):
    path = tmp_path / "missing.toml" if content is None else file(content)
    with pytest.raises(InputError) as error:
        load_equations(path)
    assert str(error.value).startswith(f"{path} is no list of equations: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["equation = [1]", "equation = ['x']"])
def test_what_is_no_entry(file, content):
    with pytest.raises(InputError, match=r"E1: .*Equation"):
        load_equations(file(content))


def test_a_reason_stands_in_for_a_cell(file):
    (one,) = load_equations(file(ENTRY.replace('cell = "01_theory#01-07"', 'reason = "as it is"')))
    assert "| as it is | [projection_estimator](notebooks/01_theory.ipynb) |" in markdown([one])


def test_a_method_is_called_by_its_class(file):
    text = ENTRY.replace(
        "jsigr_lib.measure.linearised:projection_variance", "jsigr_lib.method.jsigr:JSIGR._single_pass"
    )
    (one,) = load_equations(file(text.replace("01_theory#01-07", "02_training#02-04")))
    assert equations.file_of(one.functions[0]) == "jsigr_lib/method/jsigr.py"


# what states a formula


def test_formulas_are_found_in_docstrings_and_comments():
    module = ModuleType("invented")
    source = '''
def stated(x):
    """||x||_2^2."""

def derived(x):
    """The same [derived]."""

def commented(x):
    # mean_i of x
    return x

def silent(x):
    """Reads a file."""

def _private(x):
    """||x||"""
'''
    exec(compile(source, __file__, "exec"), module.__dict__)
    with pytest.MonkeyPatch.context() as patch:
        lines = {name: part for part in re.split(r"\n(?=def )", source) for name in re.findall(r"def (\w+)", part)}
        patch.setattr(equations.inspect, "getsource", lambda function: lines[function.__name__])
        assert stating(module) == ["stated", "derived", "commented"]


def test_a_formula_in_no_entry_is_missed():
    left = [one for one in INDEX if "jsigr_lib.measure.linearised:projection_variance" not in one.functions]
    assert unindexed(left) == ["jsigr_lib.measure.linearised:projection_variance"]


def test_cells_are_those_of_the_source_notebooks():
    notebook = json.loads((NOTEBOOKS / "05_claims.ipynb").read_text())
    for cell in notebook["cells"]:
        assert equations.cell_source(f"05_claims#{cell['id']}") == "".join(cell["source"])
