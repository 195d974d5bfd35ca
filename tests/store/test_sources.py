"""Nothing is kept under the key of code that did not compute it: edits of files whose code is running are noticed."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from itertools import count

import pytest

from jsigr_lib.method.errors import InputError
from jsigr_lib.records.running import running_code
from jsigr_lib.store import sources
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.keys import code_of
from jsigr_lib.store.paths import PACKAGE

MODULE = """
from typing import ClassVar
import torch
from jsigr_lib.store.specs import Spec


class Mine(Spec):
    kind: ClassVar[str] = "mine"
    n: int

    def compute(self, store, device):
        return {"x": torch.full((1,), 2.0 * self.n)}, {}
"""
names = count()
EDITED = r"was edited while its code was running; accepted: a new start \(what is complete is kept\)$"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """written(source): a module of this source, and the name that it can be imported by, each time a new one."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sources, "READ", dict(sources.READ))
    monkeypatch.setattr(sources, "OWN", {})

    def write(source: str):
        path = tmp_path / f"own_{os.getpid()}_{next(names)}.py"
        path.write_text(source)
        importlib.invalidate_caches()
        return path, path.stem

    return write


@pytest.mark.parametrize("undone", [False, True])
def test_an_edit_stops_what_would_be_kept(written, tmp_path, undone):
    """Also an edit of another line than those that count, and one that was undone: what ran meanwhile is not known."""
    path, name = written(MODULE)
    sources.take_in(name)
    spec, store = sys.modules[name].Mine(n=1), Store(tmp_path / "runs")
    assert spec.digest
    path.write_text(MODULE.replace("2.0", "3.0"))
    if undone:
        path.write_text(MODULE)
    for attempt in (lambda: store.get(spec), lambda: store.make([spec]), lambda: code_of(Store.get), running_code):
        with pytest.raises(InputError, match=rf"^{path} {EDITED}"):
            attempt()
    assert not list(tmp_path.glob("runs/*/*"))


def test_a_file_of_the_library_counts_among_those_that_were_read():
    assert {PACKAGE / "networks" / "training.py", PACKAGE / "study" / "profiles" / "smoke.toml"} <= sources.READ.keys()
    assert {path: sources._state(path) for path in sources.files()} == sources.READ


BODY = """
def draw(x, *, scale=2):
    return scale * x  # why


class Map:
    def draw(self, x):
        return draw(x)
"""


@pytest.mark.parametrize(
    ("old", "new", "noticed"),
    [("scale *", "scale +", True), ("return draw(x)", "return -draw(x)", True), ("why", "because", False)],
)
def test_code_of_any_module_is_compared_with_its_file(written, old, new, noticed):
    """A module that no profile named, edited and not imported again, as it happens in a notebook."""
    path, name = written(BODY)
    module = importlib.import_module(name)
    path.write_text(BODY.replace(old, new))
    if noticed:
        with pytest.raises(InputError, match=rf"^{path} {EDITED}"):
            code_of(module.Map)
    else:
        assert code_of(module.Map).files


def test_a_module_that_a_profile_names_counts_by_its_text_also_where_it_is_installed(tmp_path, written, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    digests = []
    for name, factor in (("installed_one", 2), ("installed_two", 3)):
        path = tmp_path / "site-packages" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"def helper(x):\n    return {factor} * x\n\n\ndef draw(x):\n    return helper(x)\n")
        sources.take_in(name)
        digests.append(code_of(sys.modules[name].draw).digest)
    assert digests[0] != digests[1]


def test_a_worker_with_other_code_is_refused(written, tmp_path):
    """It begins after an edit that its parent, which made the keys, has not seen."""
    path, name = written(MODULE)
    module, store = importlib.import_module(name), Store(tmp_path / "runs", jobs=2)
    specs = [module.Mine(n=n) for n in (1, 2)]
    assert len({spec.digest for spec in specs}) == 2
    path.write_text(MODULE.replace("2.0", "3.0"))
    with pytest.raises(InputError, match=rf"^a worker has other code than the run, in {name}; accepted: ") as refused:
        store.make(specs)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("runs/mine/*"))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("def (", r"SyntaxError: .*line 1\)"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    ],
)
def test_a_module_that_fails_is_one_line(written, source, reason):
    path, name = written(source)
    with pytest.raises(InputError, match=rf"^imports = '{name}' fails \({reason}\); accepted: modules .*") as refused:
        sources.take_in(name)
    assert "\n" not in str(refused.value)
    path.write_text("")  # mended: no reason to begin anew
    importlib.invalidate_caches()
    sources.take_in(name)
    sources.unedited()


@pytest.mark.parametrize("name", ["", "no_such_module_of_anybody", ".relative", "a/b", "jsigr_lib.nowhere", "no.such"])
def test_a_name_of_no_module_is_refused(name):
    with pytest.raises(InputError, match=r"^imports = '.*' fails \(.*\); accepted: modules"):
        sources.take_in(name)
    assert name not in sources.OWN


SYNTAX = """
import ast, hashlib, json, sys
from pathlib import Path
from jsigr_lib.store.syntax import names_in, tree_of, written
found = {}
for path in sorted(Path("jsigr_lib").rglob("*.py")):
    for node in ast.walk(tree_of(str(path))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            names = sorted((name, sorted(chains)) for name, chains in names_in(node).items())
            text = f"{written(node)} {names}".encode()
            found[f"{path}:{node.lineno}:{node.col_offset}"] = hashlib.sha256(text).hexdigest()
print(json.dumps(found))
"""


def test_every_version_of_python_reads_the_same_in_all_our_code():
    """Texts and names, of which keys are made. `syntax` needs no library, so that a bare Python can tell."""
    found = {}
    for version in ("3.11", "3.12", "3.13"):
        python = sys.executable if f"{sys.version_info[0]}.{sys.version_info[1]}" == version else f"python{version}"
        options = {"cwd": PACKAGE.parent, "env": {**os.environ, "PYENV_VERSION": version}, "capture_output": True}
        if shutil.which(python) and not subprocess.run([python, "-c", ""], **options).returncode:
            found[version] = json.loads(subprocess.run([python, "-c", SYNTAX], check=True, **options).stdout)
    if len(found) < 2:
        pytest.skip("there is no other Python here")
    first, *others = found.values()
    assert len(first) > 500
    assert all(other == first for other in others)
