"""Where a process stands: its code in git or without, its packages, its notebook cell."""

import importlib.metadata
import json
import platform
import shutil
import subprocess
from types import SimpleNamespace

import IPython
import pytest
import torch

from jsigr_lib import origins
from jsigr_lib.paths import NOTEBOOKS, PACKAGE


def git(folder, *arguments: str) -> str:
    settings = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    return subprocess.run(
        ["git", *settings, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A small repository in the place of this one, with one commit."""
    root = tmp_path.resolve() / "root"
    for file in ("jsigr_lib/a.py", "notebooks/01.ipynb", "notebooks/executed/01.ipynb", "figures/f.png", "claims.toml"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("first")
    git(tmp_path, "init", str(root))
    git(root, "add", ".")
    git(root, "commit", "-m", "first")
    monkeypatch.setattr(origins, "ROOT", root)
    monkeypatch.setattr(origins, "PACKAGE", root / "jsigr_lib")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))  # as in a hook of another repository
    origins.code.cache_clear()
    yield root
    origins.code.cache_clear()


def test_commit_of_a_clean_tree(repository, monkeypatch):
    code = origins.code()
    monkeypatch.delenv("GIT_DIR")
    assert (code.commit, code.modified) == (git(repository, "rev-parse", "HEAD"), False)
    assert code.version == importlib.metadata.version("jsigr")


@pytest.mark.parametrize(
    ("file", "modified"),
    [
        ("jsigr_lib/a.py", True),
        ("jsigr_lib/new.py", True),
        ("notebooks/01.ipynb", True),
        ("claims.toml", True),
        ("notebooks/executed/01.ipynb", False),
        ("figures/f.png", False),
        ("figures/new.png", False),
        ("README.md", False),
    ],
)
def test_only_what_results_depend_on_modifies_the_tree(repository, file, modified):
    """Otherwise the second of two equal runs would say that the figures of the first modified the tree."""
    (repository / file).write_text("second")
    assert origins.code().modified is modified


@pytest.mark.parametrize("case", ["zip", "inside another", "no git"])
def test_without_a_repository_of_its_own_the_sources_remain(repository, monkeypatch, case):
    expected = origins.sources()
    if case == "no git":
        monkeypatch.setenv("PATH", "")
    else:
        shutil.rmtree(repository / ".git")
    if case == "inside another":  # such as site-packages in a project of the user's
        monkeypatch.delenv("GIT_DIR")
        git(repository.parent, "init", ".")
        git(repository.parent, "add", ".")
        git(repository.parent, "commit", "-m", "theirs")
    code = origins.code()
    assert (code.commit, code.modified, code.sources) == (None, None, expected)


def test_sources_are_all_files_and_no_caches(repository):
    first = origins.sources()
    (repository / "jsigr_lib" / "__pycache__").mkdir()
    (repository / "jsigr_lib" / "__pycache__" / "a.pyc").write_text("")
    assert origins.sources() == first
    (repository / "jsigr_lib" / "smoke.toml").write_text("")
    more = origins.sources()
    (repository / "jsigr_lib" / "smoke.toml").rename(repository / "jsigr_lib" / "quick.toml")
    assert len({first, more, origins.sources()}) == 3


def test_environment_names_python_machine_and_packages():
    found = origins.environment(torch.device("cpu"))
    assert found.python == platform.python_version()
    assert "CPU" in found.machine and platform.system() in found.machine
    assert found.packages["torch"] == importlib.metadata.version("torch")
    assert {"numpy", "pandas", "matplotlib", "papermill"} <= found.packages.keys()
    assert "ruff" not in found.packages  # an extra


@pytest.fixture
def shell(monkeypatch):
    """shell(source): as if a notebook were executing that cell."""

    def running(*sources: str):
        history = SimpleNamespace(input_hist_raw=list(sources))
        monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(history_manager=history))

    return running


def test_a_script_has_no_cell():
    assert origins.cell() is None


def test_cell_of_a_notebook_is_found(shell):
    cells = json.loads((NOTEBOOKS / "05_claims.ipynb").read_text())["cells"]
    number, cell = next((i, c) for i, c in enumerate(cells, 1) if "study.save_table" in "".join(c["source"]))
    source = "".join(cell["source"])
    shell("", "an earlier cell", source)
    found = origins.cell()
    assert (found.notebook, found.number, found.id, found.source) == ("05_claims", number, cell["id"], source)


@pytest.mark.parametrize("notebooks", [NOTEBOOKS, PACKAGE / "nowhere"])
def test_another_cell_is_its_source_alone(shell, monkeypatch, notebooks):
    monkeypatch.setattr(origins, "NOTEBOOKS", notebooks)
    shell("", "study.save_table(mine, 'mine')")
    assert origins.cell() == origins.Cell(source="study.save_table(mine, 'mine')")
