"""What made a figure or table is written beside it and into it, whole and the same each time; and where a process
stands: its code in git or without, its packages, its notebook cell."""

import copy
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from types import SimpleNamespace

import IPython
import pandas as pd
import pytest
import torch

from jsigr_lib.data.data import SPLIT_SEED
from jsigr_lib.figures import plotting
from jsigr_lib.records import embedding, record, running
from jsigr_lib.records.record import parts, vouched
from jsigr_lib.records.tolerances import SHARE, declare
from jsigr_lib.store import sources
from jsigr_lib.store.files import sha256
from jsigr_lib.store.paths import NOTEBOOKS, PACKAGE
from jsigr_lib.study.study import SURROGATE_SEED, Study

ALT = "A line that rises."


@pytest.fixture
def desk(study, tmp_path):
    """The tiny study, with an output folder and a log of its own."""
    other = copy.copy(study)
    other.store, other.out = copy.copy(study.store), tmp_path / "figures"
    other.store.reads = {}
    return other


def draw(study, name: str = "both", alt: str = ALT) -> None:
    fig = plotting.figure(3, 2)
    fig.subplots().plot([1, 2])
    plotting.write(study, name, fig, alt)


def tabulate(study, name: str = "both", value: float = 0.5) -> None:
    study.save_table(declare(pd.DataFrame({"accuracy": [value]}), accuracy=SHARE), name)


def test_record_says_everything(desk):
    spec = desk.training("standard")
    desk.model(spec)
    draw(desk, "agreement")
    part = parts(desk.out / "agreement.json")["figure"]
    assert (part.name, part.kind, part.alt) == ("agreement", "figure", ALT)
    assert part.choices["D2"] == "hard selection"
    assert part.profile == desk.profile.model_dump(mode="json", exclude={"data_root"})
    assert part.seeds == {"networks": [0], "surrogates": SURROGATE_SEED, "split": SPLIT_SEED}
    assert part.data == {"name": "Fashion-MNIST", "content": desk.data.content}
    assert part.artefacts == {"data": [desk.data.digest], "model": [spec.digest]}
    assert len(part.code.sources) == 64 and part.code.version and part.environment.packages["torch"]
    assert part.cell is None
    for suffix in ("png", "svg"):
        content = (desk.out / f"agreement.{suffix}").read_bytes()
        drawing = embedding.extract(content)
        assert part.sha256[suffix] == sha256(content)
        assert part.content[suffix] == drawing.content
        assert record.Record(**drawing.record) == record.Record(**part.model_dump())


def test_changed_fields_stand_beside_the_shipped_ones(desk, tmp_path):
    tabulate(desk)
    changed = parts(desk.out / "both.json")["table"].changed
    shipped = Study("smoke").profile
    assert changed["epochs"] == {"value": 1, "default": shipped.epochs}
    assert changed["widths.mlp"] == {"value": 32, "default": shipped.widths.get("mlp")}
    assert "learning_rate" not in changed and "data_root" not in changed
    as_shipped = Study("smoke", out=tmp_path / "shipped")
    tabulate(as_shipped)
    assert parts(as_shipped.out / "both.json")["table"].changed == {}
    desk.profile = desk.profile.model_copy(update={"name": "mine"})
    tabulate(desk)
    assert parts(desk.out / "both.json")["table"].changed is None


def test_what_is_read_is_recorded_and_not_what_making_it_takes(tiny, tmp_path):
    """Otherwise the first run, which makes the artefacts, would leave other records than the second."""
    kept = []
    for _ in range(2):
        study = tiny(tmp_path)
        study.get(study.training("interpretation"))  # its teacher's gradients are made for it
        tabulate(study)
        kept.append((study.out / "both.json").read_bytes())
    assert kept[0] == kept[1]
    part = parts(study.out / "both.json")["table"]
    assert part.artefacts == {"data": [study.data.digest], "model": [study.training("interpretation").digest]}


def test_root_covers_every_digest_and_every_content():
    contents = {"a": "1", "b": "2"}
    roots = [contents, {"a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"}, {"a": "1", "b": None}]
    assert len({record.root_hash(one) for one in roots}) == len(roots)
    assert record.root_hash(contents) == record.root_hash({"b": "2", "a": "1"})


def test_hash_of_an_artefact_is_read_from_its_header(desk, tmp_path):
    spec = desk.training("standard")
    desk.get(spec)
    stored = record.artefact_sha256(desk.store.root, "model", spec.digest)
    assert stored.encode() in desk.store.path(spec).read_bytes()
    assert record.artefact_sha256(tmp_path, "model", spec.digest) is None
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / f"{spec.digest}.safetensors").write_bytes(b"half")
    assert record.artefact_sha256(tmp_path, "model", spec.digest) is None


@pytest.mark.parametrize("order", [(draw, tabulate), (tabulate, draw)])
def test_figure_and_table_of_one_name_share_a_file(desk, order):
    for step in order:
        step(desk)
    found = json.loads((desk.out / "both.json").read_text())
    assert list(found) == ["figure", "table"]
    assert found["figure"]["alt"] == ALT
    assert found["table"]["sha256"].keys() == {"csv", "md"}
    assert all(vouched(desk.out / f"both.{suffix}") for suffix in ("png", "svg", "csv", "md"))
    before = found["figure"]
    tabulate(desk, value=0.25)
    assert json.loads((desk.out / "both.json").read_text())["figure"] == before
    assert vouched(desk.out / "both.csv")


def test_order_changes_no_byte(desk):
    kept = []
    for order in ((draw, tabulate), (tabulate, draw)):
        for step in order:
            step(desk)
        kept.append((desk.out / "both.json").read_bytes())
        (desk.out / "both.json").unlink()
    assert kept[0] == kept[1]


@pytest.mark.parametrize("old", [b"", b"{", b"[1]", b'{"figure": 1}', b'{"alt": "as it once was"}', b"[" * 100_000])
def test_file_that_is_no_record_is_replaced(desk, old):
    desk.out.mkdir()
    (desk.out / "both.json").write_bytes(old)
    assert parts(desk.out / "both.json") == {}
    tabulate(desk)
    assert list(parts(desk.out / "both.json")) == ["table"]


def test_changed_file_is_not_vouched_for(desk):
    tabulate(desk)
    (desk.out / "both.csv").write_text("accuracy\n0.6\n")
    assert not vouched(desk.out / "both.csv")
    assert vouched(desk.out / "both.md")
    (desk.out / "both.json").unlink()
    assert not vouched(desk.out / "both.md")


def test_manifest_lists_files_artefacts_and_times(desk):
    spec = desk.training("standard")
    desk.get(spec)
    tabulate(desk)
    record.write_manifest(desk.out, desk.out, {"minutes": 1}, {"01_theory": ["9:00", "9:01"]}, desk.store)
    found = record.load_manifest(desk.out)
    assert found.run == {"minutes": 1}
    assert found.notebooks == {"01_theory": ["9:00", "9:01"]}
    assert found.sha256 == {p.name: sha256(p.read_bytes()) for p in desk.out.iterdir() if p.name != "manifest.json"}
    assert found.artefacts == {
        digest: record.artefact_sha256(desk.store.root, kind, digest)
        for kind, digest in (("data", desk.data.digest), ("model", spec.digest))
    }
    assert record.root_hash(found.artefacts) == parts(desk.out / "both.json")["table"].root
    assert found.code.sources and found.environment.python


def test_manifest_keeps_what_an_earlier_run_left(desk, tmp_path):
    """A run of one notebook replaces its files; the others keep their times, even if their artefacts are gone."""
    tabulate(desk, "earlier")
    record.write_manifest(desk.out, desk.out, {}, {"01": ["a", "b"], "02": ["c", "d"]}, desk.store)
    before = record.load_manifest(desk.out)
    desk.store.root = tmp_path / "emptied"
    record.write_manifest(desk.out, desk.out, {}, {"02": ["e", "f"]}, desk.store)
    after = record.load_manifest(desk.out)
    assert after.notebooks == {"01": ["a", "b"], "02": ["e", "f"]}
    assert after.artefacts == before.artefacts and after.artefacts[desk.data.digest]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"sha256": 3}', b'{"notebooks": {"01": [1]}}'])
def test_manifest_of_another_kind_is_an_empty_one(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    assert record.load_manifest(tmp_path) == record.Manifest()


@pytest.mark.skipif(os.name == "nt", reason="no named pipes")
def test_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "both.json")
    assert parts(tmp_path / "both.json") == {}


# the process


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
    monkeypatch.setattr(running, "ROOT", root)
    monkeypatch.setattr(sources, "PACKAGE", root / "jsigr_lib")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))  # as in a hook of another repository
    running._library.cache_clear()
    yield root
    running._library.cache_clear()


def test_commit_of_a_clean_tree(repository, monkeypatch):
    code = running.running_code()
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
    assert running.running_code().modified is modified


@pytest.mark.parametrize("case", ["zip", "inside another", "no git"])
def test_without_a_repository_of_its_own_the_sources_remain(repository, monkeypatch, case):
    expected = sources.library_sha256()
    if case == "no git":
        monkeypatch.setenv("PATH", "")
    else:
        shutil.rmtree(repository / ".git")
    if case == "inside another":  # such as site-packages in a project of the user's
        monkeypatch.delenv("GIT_DIR")
        git(repository.parent, "init", ".")
        git(repository.parent, "add", ".")
        git(repository.parent, "commit", "-m", "theirs")
    code = running.running_code()
    assert (code.commit, code.modified, code.sources) == (None, None, expected)


def test_sources_are_all_files_and_no_caches(repository):
    first = sources.library_sha256()
    (repository / "jsigr_lib" / "__pycache__").mkdir()
    (repository / "jsigr_lib" / "__pycache__" / "a.pyc").write_text("")
    assert sources.library_sha256() == first
    (repository / "jsigr_lib" / "smoke.toml").write_text("")
    more = sources.library_sha256()
    (repository / "jsigr_lib" / "smoke.toml").rename(repository / "jsigr_lib" / "quick.toml")
    assert len({first, more, sources.library_sha256()}) == 3


def test_environment_names_python_machine_and_packages():
    found = running.environment(torch.device("cpu"))
    assert found.python == platform.python_version()
    assert "CPU" in found.machine and platform.system() in found.machine
    assert torch.backends.cpu.get_cpu_capability() in found.machine
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
    assert running.running_cell() is None


def test_cell_of_a_notebook_is_found(shell):
    cells = json.loads((NOTEBOOKS / "05_claims.ipynb").read_text())["cells"]
    number, cell = next((i, c) for i, c in enumerate(cells, 1) if "study.save_table" in "".join(c["source"]))
    source = "".join(cell["source"])
    shell("", "an earlier cell", source)
    found = running.running_cell()
    assert (found.notebook, found.number, found.id, found.source) == ("05_claims", number, cell["id"], source)


@pytest.mark.parametrize("content", ["", "<<<<<<< mine", "[]", "{}"])
def test_cell_is_found_beside_a_notebook_in_the_midst_of_a_merge(shell, monkeypatch, tmp_path, content):
    (tmp_path / "01.ipynb").write_text(content)
    (tmp_path / "02.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": ["1 + 1"]}]}))
    monkeypatch.setattr(running, "NOTEBOOKS", tmp_path)
    shell("", "1 + 1")
    assert running.running_cell().notebook == "02"


@pytest.mark.parametrize("notebooks", [NOTEBOOKS, PACKAGE / "nowhere"])
def test_another_cell_is_its_source_alone(shell, monkeypatch, notebooks):
    monkeypatch.setattr(running, "NOTEBOOKS", notebooks)
    shell("", "study.save_table(mine, 'mine')")
    assert running.running_cell() == running.NotebookCell(source="study.save_table(mine, 'mine')")
