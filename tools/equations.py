"""The equation index: a thread from every equation to the function that computes it, the test that checks it, the
notebook cell that shows it and the figure that draws it. `python tools/equations.py` writes EQUATIONS.md anew.

EQUATIONS.md names files and functions, and no lines, which move with every edit.
"""

import ast
import importlib
import inspect
import json
import re
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jsigr_lib.method.errors import InputError, shown, within
from jsigr_lib.store import toml
from jsigr_lib.store.paths import EQUATIONS, NOTEBOOKS, ROOT

TAG = re.compile(r"abs|derived|ours|(code|cited): \S.*")
FORMULA = re.compile(r"\|\||\^[T2]|\[derived\]|\bsum_|\bmean_i|<=|E\[|\bsqrt\b|[)\w] = [^=]*[*/^]")
"""What a docstring or a comment has that states a formula."""
INDEXED = (
    *(
        "method.jacobian",
        "method.saliency",
        "method.jsigr",
        "measure.estimators",
        "measure.linearised",
        "measure.boundary",
        "measure.regions",
    ),
    *("theory.statements", "measure.measures"),
)
"""Modules whose formulas have to be in the index."""


class Equation(BaseModel):
    """One entry of equations.toml; its comments there say what each field holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    id: str = Field(pattern=r"^E[1-9]\d*$")
    name: str = Field(min_length=1)
    latex: str = Field(min_length=1)
    tags: list[str] = Field(min_length=1)
    functions: list[str] = Field(min_length=1)
    tests: list[str] = Field(min_length=1)
    cell: str = ""
    mentions: str = ""
    figure: str = ""
    reason: str = ""

    @field_validator("tags")
    @classmethod
    def _known_tags(cls, tags: list[str]) -> list[str]:
        for tag in tags:
            if not TAG.fullmatch(tag):
                raise ValueError(f"tag {tag!r}; accepted: abs, derived, ours, code: <source> or cited: <source>")
        return tags

    @model_validator(mode="after")
    def _whole(self):
        if "|" in self.latex or "\n" in self.latex:
            raise ValueError("latex breaks a table; accepted: one line, \\lvert and \\lVert for bars")
        if not self.cell and not self.reason:
            raise ValueError("neither cell nor reason; accepted: a cell, or the reason why there is none")
        return self


def load_equations(path: Path = EQUATIONS) -> list[Equation]:
    """The entries, E1, E2, ... in order, each with every end of its thread in place. Raises InputError in one line that
    names the entry and what is wrong with it."""
    found: list[Equation] = []
    for number, entry in enumerate(toml.entries(path, "equation", "list of equations"), 1):
        with within(f"{path}, E{number}"):
            equation = toml.checked(Equation, entry)
            if equation.id != f"E{number}":
                raise InputError(f"id {shown(equation.id)}; accepted: E{number}")
            if equation.name in [other.name for other in found]:
                raise InputError(f"name {shown(equation.name)} is taken; accepted: another")
            _check_ends(equation)
            found.append(equation)
    return found


def _check_ends(equation: Equation) -> None:
    for name in equation.functions:
        file_of(name)
    for name in equation.tests:
        check_test(name)
    if equation.cell:
        source = cell_source(equation.cell)
        wanted = [equation.mentions] if equation.mentions else [_short(name) for name in equation.functions]
        if not any(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", source) for one in wanted):
            raise InputError(
                f"cell {equation.cell} does not hold {' or '.join(map(repr, wanted))}; accepted: one that does"
            )
    if equation.figure and equation.figure not in figures():
        raise InputError(f"figure {equation.figure!r}; accepted: one of {', '.join(figures())}")


def _short(function: str) -> str:
    """The name that a caller writes: a method's class, else the function."""
    return function.partition(":")[2].partition(".")[0]


def file_of(function: str) -> str:
    """The file, below the repository, of "jsigr_lib.module:name". Raises InputError if there is no such code."""
    module, _, name = function.partition(":")
    path = f"{module.replace('.', '/')}.py"
    if not re.fullmatch(r"jsigr_lib(\.\w{1,64}){1,2}", module) or name not in _defined(ROOT / path):
        raise InputError(
            f"no function {function!r}; accepted: jsigr_lib.<district>.<module>:<function>, <class> or <class>.<method>"
        )
    return path


def check_test(test: str) -> None:
    """Raises InputError if there is no test "tests/test_x.py::test_y"."""
    path, _, name = test.partition("::")
    known = re.fullmatch(r"tests/(\w{1,64}/)?test_\w{1,64}\.py", path) and name.startswith("test_")
    if not known or name not in _defined(ROOT / path):
        raise InputError(f"no test {test!r}; accepted: tests/<file>.py::<test>, without parameters")


@lru_cache
def _defined(path: Path) -> set[str]:
    """Every function, class, method and partial that a file defines."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def cell_source(cell: str) -> str:
    """Source of "01_theory#01-07". Raises InputError if there is no such cell."""
    notebook, _, name = cell.partition("#")
    cells = {one["id"]: one["source"] for one in _notebooks().get(notebook, {}).get("cells", [])}
    if name not in cells:
        raise InputError(f"no cell {cell!r}; accepted: <notebook>#<id of a cell>")
    return "".join(cells[name])


def figures() -> dict[str, str]:
    """Figure -> the notebook that draws it."""
    return {
        figure: name
        for name, notebook in _notebooks().items()
        for figure in notebook["metadata"].get("jsigr", {}).get("figures", [])
    }


@lru_cache
def _notebooks() -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}


def unindexed(equations: list[Equation]) -> list[str]:
    """Public functions of the modules of `INDEXED` that state a formula and are in no entry."""
    known = {name for equation in equations for name in equation.functions}
    modules = [importlib.import_module(f"jsigr_lib.{name}") for name in INDEXED]
    stated = [f"{module.__name__}:{function}" for module in modules for function in stating(module)]
    return [function for function in stated if function not in known]


def stating(module: ModuleType) -> list[str]:
    """The public functions that a module defines with a formula in their docstring or in a comment."""
    found = []
    for name, function in vars(module).items():
        function = inspect.unwrap(function) if callable(function) else function
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_"):
            comments = re.findall(r"#\s.*", inspect.getsource(function))
            if FORMULA.search("\n".join([function.__doc__ or "", *comments])):
                found.append(name)
    return found


def markdown(equations: list[Equation]) -> str:
    """EQUATIONS.md: the index with links."""
    lines = [
        "# The equations: from the formula to code, test, notebook and figure",
        "",
        "Written by `python tools/equations.py` from `equations.toml`; a test fails if an end of a thread is",
        "missing or this file is stale. Tags: [abs] said by the abstract; [code: ...] read in the cited code;",
        "[cited: ...] defined in the cited work; [derived] follows by algebra, and the test checks it; [ours] our",
        "choice, a row of [DEVIATIONS.md](DEVIATIONS.md).",
        "",
        "| | name | equation | tag | code | test | notebook | figure |",
        "|---|---|---|---|---|---|---|---|",
    ]
    drawn = figures()
    for one in equations:
        code = ", ".join(
            _link(f"`{name.partition(':')[0].rpartition('.')[2]}.{name.partition(':')[2]}`", file_of(name))
            for name in one.functions
        )
        tests = ", ".join(_link(f"`{name.partition('::')[2]}`", name.partition("::")[0]) for name in one.tests)
        notebook, _, cell = one.cell.partition("#")
        shown = _link(f"{notebook}, cell {cell}", f"notebooks/{notebook}.ipynb") if one.cell else one.reason
        figure = _link(one.figure, f"notebooks/{drawn[one.figure]}.ipynb") if one.figure else ""
        cells = [
            one.id,
            one.name,
            f"${one.latex}$",
            " ".join(f"[{tag}]" for tag in one.tags),
            code,
            tests,
            shown,
            figure,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _link(text: str, target: str) -> str:
    return f"[{text}]({target})"


if __name__ == "__main__":
    (ROOT / "EQUATIONS.md").write_text(markdown(load_equations()), encoding="utf-8")
