"""Imports between the districts of jsigr_lib point down, and the tool that says so would see one that does not."""

import sys

import pytest

from jsigr_lib.store.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import arrows

MODULES = {
    "__init__.py": "from jsigr_lib.method import attacks",
    "cli.py": "def main():\n    from jsigr_lib.site import site",
    "method/__init__.py": "",
    "method/attacks.py": "import os",
    "method/judges.py": "from jsigr_lib.method.attacks import pgd",
    "store/__init__.py": "",
    "store/paths.py": "",
    "site/__init__.py": "",
    "site/site.py": "import jsigr_lib.method.judges\nfrom jsigr_lib import JSIGR\nfrom jsigr_lib.store import paths",
    "pipeline/__init__.py": "",
    "pipeline/plan.py": "",
}


@pytest.fixture
def found(tmp_path):
    """found({file: code}): wrong arrows and circles of the package above with these files in it."""

    def look(changes):
        for name, code in {**MODULES, **changes}.items():
            (tmp_path / "jsigr_lib" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "jsigr_lib" / name).write_text(code)
        graph = arrows.graph(tmp_path / "jsigr_lib")
        return arrows.wrong(graph), arrows.circles(graph)

    return look


def test_our_own_arrows_point_down(capsys):
    assert arrows.main(quiet=False) == 0, capsys.readouterr().err
    assert "method         -> nothing" in capsys.readouterr().out


def test_nothing_is_wrong_where_all_arrows_point_down(found):
    assert found({}) == ([], [])


@pytest.mark.parametrize(
    ("file", "code", "target"),
    [
        ("method/balls.py", "from jsigr_lib.store import paths", "store.paths"),
        ("method/balls.py", "from jsigr_lib.store.paths import ROOT", "store.paths"),
        ("method/balls.py", "import jsigr_lib.store.paths as places", "store.paths"),
        ("method/balls.py", "def f():\n    from jsigr_lib.site.site import build", "site.site"),
        ("method/balls.py", "if TYPE_CHECKING:\n    from jsigr_lib.cli import main", "cli"),
        ("pipeline/plan.py", "from jsigr_lib.site import site", "site.site"),
        ("store/tensors.py", "from jsigr_lib import cli", "cli"),
    ],
)
def test_an_arrow_that_does_not_point_down_is_found(found, file, code, target):
    module = f"jsigr_lib.{file.removesuffix('.py').replace('/', '.')}"
    assert found({file: code}) == ([(module, f"jsigr_lib.{target}")], [])


def test_the_method_does_not_import_the_face(found):
    assert found({"method/balls.py": "from jsigr_lib import JSIGR"})[0] == [("jsigr_lib.method.balls", "jsigr_lib")]


@pytest.mark.parametrize(
    "code", ["from jsigr_lib.method import judges", "def f():\n    import jsigr_lib.method.judges"]
)
def test_a_circle_is_found(found, code):
    assert found({"method/attacks.py": code}) == ([], [["jsigr_lib.method.attacks", "jsigr_lib.method.judges"]])


def test_a_wrong_arrow_is_a_failure_with_a_line(found, tmp_path, capsys):
    found({"method/attacks.py": "from jsigr_lib.method import judges", "store/paths.py": "import jsigr_lib.site.site"})
    assert arrows.main(quiet=True, package=tmp_path / "jsigr_lib") == 1
    said = capsys.readouterr()
    assert said.out == "" and "jsigr_lib.store.paths imports jsigr_lib.site.site, which is not below it" in said.err


def test_a_relative_import_is_refused(found):
    with pytest.raises(ValueError, match="relative import"):
        found({"method/balls.py": "from . import attacks"})
