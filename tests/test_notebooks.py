"""The source notebooks: clean, parameterised the same way, thin; and each runs alone through plain papermill."""

import ast
from pathlib import Path

import nbformat
import papermill
import pytest
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from papermill.exceptions import PapermillExecutionError

from jsigr_lib.explorer.widgets import PARAMETERS
from jsigr_lib.pipeline import notebooks, order
from jsigr_lib.site.prose import Renderer
from jsigr_lib.store.paths import NOTEBOOKS, ROOT
from jsigr_lib.study.config import GROUPS, Profile
from jsigr_lib.study.needs import NEEDS

SOURCES = [order.place(name) for group in NEEDS for name in order.select(None, group)]
GROUP = {order.place(name): group for group in NEEDS for name in NEEDS[group]}
each_notebook = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def parameters(path: Path) -> str:
    tagged = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    return tagged[0].source


def test_every_notebook_is_in_the_pipeline():
    assert sorted([*NOTEBOOKS.glob("0*.ipynb"), *NOTEBOOKS.glob("neighbours/*.ipynb")]) == sorted(SOURCES)
    assert NEEDS.keys() == GROUPS.keys()


@each_notebook
def test_source_carries_no_outputs(path):
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(path))


@each_notebook
def test_parameters_are_commented_literals(path):
    lines = parameters(path).splitlines()
    assert lines[0].startswith(f'profile = "{GROUPS[GROUP[path]]}"')
    for statement in ast.parse(parameters(path)).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
        assert "#" in lines[statement.lineno - 1]


@each_notebook
def test_parameters_are_the_same_everywhere(path):
    own, first = (
        [line for line in parameters(one).splitlines() if not line.startswith(("live", "profile"))]
        for one in (path, SOURCES[0])
    )
    assert own == first


@each_notebook
def test_every_parameter_counts(path):
    assert set(papermill.inspect_notebook(str(path))) - {"live"} == set(PARAMETERS)
    assert any("open_study(globals())" in cell.source for cell in code_cells(path))


@each_notebook
def test_settings_are_fields_of_the_profile(path):
    known = papermill.inspect_notebook(str(path))
    settings = set(known) - {"profile", "device", "out", "download", "live", "settings"}
    assert settings and settings <= set(Profile.model_fields)


@each_notebook
def test_cells_are_short_and_define_nothing_long(path):
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= 30
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 10


@each_notebook
def test_every_figure_and_table_is_declared(path):
    source = "\n".join(cell.source for cell in code_cells(path))
    declared = read(path).metadata["jsigr"]
    for name in [*declared["figures"], *declared["tables"]]:
        assert f'"{name}"' in source
    assert source.count("plotting.save(") == len(declared["figures"])
    assert source.count("study.save_table(") == len(declared["tables"])


@each_notebook
def test_the_site_can_show_every_formula(path):
    for cell in (one for one in read(path).cells if one.cell_type == "markdown"):
        MarkdownWithMath(renderer=Renderer(path.stem, [])).render(cell.source)


@each_notebook
def test_findings_are_folded_and_read_what_was_made_before(path):
    made, told = set(), 0
    for cell in code_cells(path):
        names = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name | ast.alias)]
        if "findings." in cell.source and "import" not in cell.source:
            assert cell.metadata.tags == ["hide-input"] and cell.metadata.jupyter.source_hidden
            assert {node.id for node in names} <= made
            told += 1
        made |= {node.id if isinstance(node, ast.Name) else node.asname or node.name for node in names}
    assert told


@each_notebook
def test_tells_its_story(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    ours = "abstract only" if GROUP[path] == "study" else "independent implementation"
    for part in ("**Question.**", "**What would change our mind.**", ours):
        assert part in text


@pytest.mark.slow
def test_plain_papermill_runs_a_notebook_alone(tmp_path, smoke_run):
    """From another working directory, into another folder, on what the smoke run trained."""
    with notebooks.own_kernel() as config:
        papermill.execute_notebook(
            str(SOURCES[4]),
            str(tmp_path / "out.ipynb"),
            {"profile": "smoke", "out": str(tmp_path / "figures")},
            progress_bar=False,
            cwd=str(ROOT),
            config=config,
        )
    assert (tmp_path / "figures" / "scorecard.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_misspelt_parameter_stops_a_notebook_in_its_first_cells(tmp_path):
    """papermill itself only warns of it."""
    given = {"profile": "smoke", "epsilon": 0.05, "out": str(tmp_path / "figures")}
    with notebooks.own_kernel() as config, pytest.raises(PapermillExecutionError) as error:
        papermill.execute_notebook(
            str(SOURCES[4]), str(tmp_path / "out.ipynb"), given, progress_bar=False, cwd=str(ROOT), config=config
        )
    assert (error.value.ename, error.value.exec_count) == ("InputError", 3)
    assert error.value.evalue.startswith("unknown parameter 'epsilon'; accepted: profile, ")
    assert not (tmp_path / "figures").exists()
