"""What must never be in the code, and what must never leave the output folder.

Data come from outside: they are read as safetensors, CSV, JSON, TOML, pictures and the byte formats of `sources.py`,
none of which can carry code. What does run code is what a user names for that: `jsigr bench` runs the clone and the
interpreter given by `--jacobian-regularizer` and `--torchattacks`, and notebooks are code. Between the processes of one
run, joblib's loky pickles what we send it; nothing from outside comes that way.
"""

import ast
import json
import re
from pathlib import Path

import matplotlib.figure
import pandas as pd
import pytest

from jsigr_lib.explorer import pretrained
from jsigr_lib.figures import plotting
from jsigr_lib.method.errors import InputError, file_name
from jsigr_lib.pipeline import order, pipeline
from jsigr_lib.site import site
from jsigr_lib.store.paths import NOTEBOOKS, PROFILES, ROOT
from jsigr_lib.study.config import load_profile

UNSAFE_MODULES = {
    *("pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml", "xmlrpc"),
    *("requests", "urllib", "urllib3", "http", "httpx", "aiohttp", "ftplib", "telnetlib", "smtplib", "code", "codeop"),
}
UNSAFE_CALLS = {
    *("eval", "exec", "compile", "__import__", "execfile", "os.system", "os.popen", "torch.load", "torch.save"),
    *("torch.hub.load", "joblib.load", "joblib.dump", "pd.read_pickle", "pandas.read_pickle", "pd.eval", "pandas.eval"),
    *("np.fromfile", "np.save", "tempfile.mktemp", "shutil.unpack_archive", "numexpr.evaluate"),
}
UNSAFE_METHODS = {"to_pickle", "read_pickle", "extractall"}


def sources() -> dict[str, str]:
    """Where -> code: modules and the code cells of notebooks, published ones too, their magics left out."""
    found = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for folder in ("jsigr_lib", "benchmarks", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    for path in sorted(NOTEBOOKS.rglob("*.ipynb")):
        cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        lines = "".join("".join([*cell["source"], "\n"]) for cell in cells).splitlines()
        found[str(path.relative_to(ROOT))] = "\n".join(line for line in lines if line[:1] not in "%!")
    return found


def dotted(node: ast.AST) -> str:
    """a.b.c of a call's function; "" in front of what is no name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(code: str) -> list[str]:
    """What there is of it, with its line."""
    found = []
    for node in ast.walk(ast.parse(code)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            called = {f"{node.module}.{alias.name}" for alias in node.names}
            found += [f"{node.lineno}: {name}" for name in called & UNSAFE_CALLS]
        found += [f"{node.lineno}: {name}" for name in names if name.split(".")[0] in UNSAFE_MODULES]
        if isinstance(node, ast.Call):
            name, given = dotted(node.func), {one.arg: one.value for one in node.keywords}
            if name in UNSAFE_CALLS or name.rpartition(".")[2] in UNSAFE_METHODS:
                found.append(f"{node.lineno}: {name}")
            if name.endswith(".query") and not all(isinstance(one, ast.Constant) for one in node.args):
                found.append(f"{node.lineno}: {name} of other than literal text")
            if name in ("np.load", "numpy.load") and ast.unparse(given.get("allow_pickle", ast.Name(""))) != "False":
                found.append(f"{node.lineno}: {name} without allow_pickle=False")
            if "shell" in given and ast.unparse(given["shell"]) != "False":
                found.append(f"{node.lineno}: {name} with a shell")
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import urllib.request",
        "def f():\n    import marshal",
        "eval('1')",
        "x = [exec(s) for s in y]",
        "torch.load(path, weights_only=True)",
        "from torch import load",
        "from os import system",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "pd.read_pickle(path)",
        "table.query(text)",
        "subprocess.run(command, shell=True)",
        "archive.extractall()",
        "joblib.load(path)",
        "yaml.load(text)\nimport yaml",
    ],
)
def test_the_search_finds_what_is_unsafe(code):
    assert unsafe(code)


@pytest.mark.parametrize(
    "code", ["model.eval()", "re.compile(p)", "np.load(p, allow_pickle=False)", "import json", "t.query('x > 0')"]
)
def test_the_search_leaves_what_is_safe(code):
    assert not unsafe(code)


def test_no_code_is_unsafe():
    """Of archives, results.py unpacks the zip file that git has just made of our own commit; syntax.py compiles our own
    files to compare with the code that runs, and executes nothing of it."""
    found = sources()
    assert {"jsigr_lib/data/data.py", "benchmarks/run.py", "notebooks/01_theory.ipynb"} <= set(found)
    lines = [f"{where}:{line}" for where, code in found.items() for line in unsafe(code)]
    known = r"jsigr_lib/(records/results\.py:\d+: archive\.extractall|store/syntax\.py:\d+: compile)"
    assert [line for line in lines if not re.fullmatch(known, line)] == []


def test_what_starts_other_programs_is_known():
    """git, which says what is published and what made a figure; Python, which asks a cluster; in benchmarks/ also
    peers, browsers and ourselves."""
    users = {where for where, code in sources().items() if re.search(r"\bexec_module|\bsubprocess\b|\bPopen\b", code)}
    assert {where for where in users if not where.startswith("benchmarks/")} == {
        *("jsigr_lib/records/running.py", "jsigr_lib/records/results.py", "jsigr_lib/store/ray_engine.py")
    }


# names that become paths

TRAVERSALS = [
    "../evil",
    "..",
    "/tmp/evil",
    "a/b",
    "a\\b",
    ".hidden",
    "-rf",
    "",
    "evil\n",
    "évil",
    "a" * 65,
    "a\0b",
    "~",
]


@pytest.mark.parametrize("name", [*TRAVERSALS, None, 3, ["a"]])
def test_what_cannot_name_a_file(name):
    with pytest.raises(InputError, match="accepted: up to 64 letters, digits"):
        file_name("name", name)


@pytest.mark.parametrize("name", ["a", "A9", "jsigr-l1", "2024.full_v2", "a" * 64, "a.."])
def test_what_can_name_a_file(name):
    assert file_name("name", name) == name


@pytest.mark.parametrize("name", TRAVERSALS)
def test_a_profile_cannot_be_called_so(tmp_path, name):
    path = tmp_path / "mine.toml"
    path.write_text(f"name = {json.dumps(name)}\n" + (PROFILES / "smoke.toml").read_text())
    with pytest.raises(InputError):
        load_profile(str(path))
    with pytest.raises(InputError):
        pipeline.run(profile=str(path), out=tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["mine.toml"]


def test_a_profile_is_called_like_its_file(tmp_path):
    path = tmp_path / "my profile.toml"
    path.write_text((PROFILES / "smoke.toml").read_text())
    with pytest.raises(InputError, match="name = 'my profile'; accepted"):
        load_profile(str(path))


@pytest.mark.parametrize("name", TRAVERSALS)
def test_a_defence_cannot_be_called_so(name):
    defences = load_profile("smoke").model_dump()["defences"]
    with pytest.raises(InputError, match="name of a defence"):
        load_profile("smoke", defences={**defences, name: defences["standard"]})


@pytest.mark.parametrize("label", ["", "a" * 65, "two\nlines", "\x1b[31mred"])
def test_a_label_cannot_be_so(label):
    defences = load_profile("smoke").model_dump()["defences"]
    with pytest.raises(InputError, match="label"):
        load_profile("smoke", defences={**defences, "third": {**defences["standard"], "label": label}})


@pytest.mark.parametrize("name", TRAVERSALS)
def test_nothing_is_saved_outside_the_output_folder(study, monkeypatch, tmp_path, name):
    monkeypatch.setattr(study, "out", tmp_path / "a" / "out")
    for save in (
        lambda: plotting.write(study, name, matplotlib.figure.Figure(layout="constrained"), "words"),
        lambda: study.save_table(pd.DataFrame({"x": ["text"]}), name),
        lambda: study.save_measured(name, {}),
    ):
        with pytest.raises(InputError):
            save()
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_sites_and_pretrained_networks_are_only_those_there_are(tmp_path, name):
    with pytest.raises(InputError):
        site.build(name, out=tmp_path / "site")
    with pytest.raises(InputError, match="unknown pretrained network"):
        pretrained.load(name)
    assert not [*tmp_path.iterdir()]


def test_a_sum_file_leads_nowhere_else(tmp_path):
    """SHA256SUMS names files of its own folder alone."""
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / "evil.safetensors").write_bytes(b"")
    (tmp_path / "fashion-mnist" / "SHA256SUMS").write_text(f"{'0' * 64}  ../evil.safetensors\n")
    with pytest.raises(InputError):
        pretrained.load("../evil", tmp_path)
    assert pretrained.names(folder=tmp_path) == []


@pytest.mark.parametrize("notebook", ["../evil", "01_theory/../../evil", "/etc/passwd"])
def test_notebooks_are_only_those_there_are(notebook):
    with pytest.raises(InputError, match="unknown notebook"):
        order.select([notebook])


def test_targets_of_a_run_are_below_out():
    for name in ("smoke", "a.b-c_d"):
        assert (Path("out") / "figures" / file_name("name", name)).parent == Path("out/figures")
