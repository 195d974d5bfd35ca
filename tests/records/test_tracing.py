"""A figure or table is traced wherever it went, an altered one is noticed, and no file makes the command misbehave."""

import base64
import copy
import io
import json
import platform
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jsigr_lib import cli
from jsigr_lib.figures import plotting
from jsigr_lib.method.errors import InputError
from jsigr_lib.records import embedding, record, running, tracing
from jsigr_lib.records.tolerances import SHARE, declare
from jsigr_lib.records.tracing import trace
from jsigr_lib.store.paths import NOTEBOOKS
from jsigr_lib.store.tensor_files import write

TIMES = ["2022-07-27T09:00:00+00:00", "2022-07-27T09:01:00+00:00"]
FILES = ("both.png", "both.svg", "both.csv", "both.md")


@pytest.fixture
def repository(study, tmp_path, monkeypatch):
    """A repository with one run's figure and table, made by a cell of notebook 01, and the artefacts below runs/."""
    root = tmp_path / "repository"
    monkeypatch.setattr(tracing, "ROOT", root)
    monkeypatch.setattr(tracing, "RUNS", study.store.root)
    cell = running.NotebookCell(source="plotting.save(...)\nmore", notebook="01_theory", number=3, id="01-02")
    monkeypatch.setattr(record, "running_cell", lambda: cell)
    desk = copy.copy(study)
    desk.out, desk.store = root / "figures" / "smoke", copy.copy(study.store)
    desk.store.reads = {}
    desk.get(desk.training("standard"))
    fig = plotting.figure(3, 2)
    fig.subplots().plot([1, 2])
    plotting.write(desk, "both", fig, "A line that rises.")
    desk.save_table(declare(pd.DataFrame({"accuracy": [0.5]}), accuracy=SHARE), "both")
    record.write_manifest(desk.out, desk.out, {}, {"01_theory": TIMES}, desk.store)
    return desk.out


def said(found: tracing.Trace) -> str:
    return tracing.layout(found, width=500).plain


def called(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["jsigr", "trace", *arguments])
    monkeypatch.setattr(cli.console, "file", sys.stderr)
    try:
        cli.main()
        code = 0
    except SystemExit as exit:
        code = exit.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def resaved(png: bytes, *, pixel: bool = False, record: bool = True) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        info, pixels = PngInfo(), np.array(image)
        if record:
            info.add_text("jsigr", image.text["jsigr"], zip=True)
    pixels[0, 0, 0] ^= pixel
    Image.fromarray(pixels).save(buffer, format="png", pnginfo=info)
    return buffer.getvalue()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", ["where it was made", "copied and renamed"])
def test_file_is_traced(repository, tmp_path, name, place):
    path = repository / name
    if place != "where it was made":
        path = Path(shutil.copy(path, tmp_path / "downloaded.bin"))
    found = trace(path)
    suffix = name.split(".")[1]
    assert found.record.name == "both"
    assert found.record.kind == ("figure" if suffix in ("png", "svg") else "table")
    assert found.altered == ""
    assert found.twin == repository / name
    assert found.times == TIMES
    assert found.artefacts == {"all": 2, "here": 2, "others": 0}
    inside = suffix in ("png", "svg")
    assert found.source == (path if inside else repository / "both.json")


@pytest.mark.parametrize("name", ["both.png", "both.svg"])
def test_picture_is_traced_without_any_repository(repository, tmp_path, monkeypatch, name):
    path = Path(shutil.copy(repository / name, tmp_path / "far-away"))
    monkeypatch.setattr(tracing, "ROOT", tmp_path / "nowhere")
    monkeypatch.setattr(tracing, "RUNS", tmp_path / "nowhere" / "runs")
    found = trace(path)
    assert (found.record.name, found.altered, found.twin, found.times) == ("both", "", None, [])
    assert found.artefacts == {"all": 2, "here": 0, "others": 0}
    assert "unchanged since it was saved, by its own account" in said(found)
    assert "no manifest here knows" in said(found) and "none in runs/" in said(found)


def test_table_is_traced_by_the_file_beside_it(repository, tmp_path, monkeypatch):
    for name in ("both.csv", "both.json"):
        shutil.copy(repository / name, tmp_path)
    monkeypatch.setattr(tracing, "ROOT", tmp_path / "nowhere")
    assert trace(tmp_path / "both.csv").source == tmp_path / "both.json"
    (tmp_path / "both.json").unlink()
    with pytest.raises(InputError, match=r"both.csv' has an unknown origin: .*; accepted: "):
        trace(tmp_path / "both.csv")


def test_picture_without_its_record_is_found_by_what_it_shows(repository, tmp_path, monkeypatch):
    """As services for chats and pictures leave it: same pixels, no text."""
    path = tmp_path / "stripped.png"
    path.write_bytes(resaved((repository / "both.png").read_bytes(), record=False))
    found = trace(path)
    assert (found.record.name, found.source, found.altered, found.twin) == ("both", repository / "both.json", "", None)
    monkeypatch.setattr(tracing, "ROOT", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"stripped.png' has an unknown origin: it holds no record, "):
        trace(path)


def test_lossless_compression_is_no_change(repository, tmp_path):
    path = tmp_path / "smaller.png"
    path.write_bytes(resaved((repository / "both.png").read_bytes()))
    found = trace(path)
    assert (found.altered, found.source, found.twin, found.times) == ("", path, None, [])


def test_edited_files_are_flagged(repository, tmp_path, monkeypatch, capsys):
    png, svg = ((repository / f"both.{kind}").read_bytes() for kind in ("png", "svg"))
    edited = {
        "pixels.png": (resaved(png, pixel=True), "its picture is not the one that was saved"),
        "lines.svg": (svg.replace(b"linejoin: round", b"linejoin: bevel"), "its picture is not the one that was saved"),
        "record.svg": (svg.replace(b"A line that rises", b"A line that falls"), "its picture is not"),
        "words.svg": (svg.replace(b'"alt":"A line that rises', b'"alt":"A line that falls'), "its record is not the"),
        "both.csv": (b"accuracy\n0.9\n", "its bytes are not those that 'both.json' names"),
    }
    shutil.copy(repository / "both.json", tmp_path)
    for name, (content, reason) in edited.items():
        (tmp_path / name).write_bytes(content)
        code, out, err = called(monkeypatch, capsys, str(tmp_path / name))
        assert code == 1
        assert err.startswith("jsigr: ") and reason in err and err.count("\n") == 1
        assert "ALTERED" in out and "both" in out
        code, out, _ = called(monkeypatch, capsys, "--json", str(tmp_path / name))
        assert code == 1 and reason in json.loads(out)["altered"]


def test_stripped_and_edited_has_an_unknown_origin(repository, tmp_path):
    path = tmp_path / "new.png"
    path.write_bytes(resaved((repository / "both.png").read_bytes(), pixel=True, record=False))
    with pytest.raises(InputError, match="unknown origin"):
        trace(path)


def hostile_svg(repository, **fields) -> bytes:
    """A picture whose record says what an attacker wants, sealed as ours are."""
    svg = (repository / "both.svg").read_bytes()
    changed = {**embedding.extract(svg).record, **fields}
    start, end = svg.index(embedding.OPEN), svg.index(embedding.CLOSE) + len(embedding.CLOSE)
    return embedding.embed(svg[:start] + svg[end:].removeprefix(b"\n "), changed)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"accuracy\n0.9\n",
        b"\x89PNG\r\n\x1a\n",
        b"<svg>",
        b"<svg></svg>",
        b"<svg>" + embedding.OPEN + b"[" * 100_000 + embedding.CLOSE + b"</svg>",
        b"%PDF-1.4",
    ],
)
def test_untraceable_content_is_one_line_and_exit_code_2(repository, tmp_path, monkeypatch, capsys, content):
    path = tmp_path / "some file\x1b[2J.png"
    path.write_bytes(content)
    code, out, err = called(monkeypatch, capsys, str(path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "accepted: " in err and "\x1b" not in err


@pytest.mark.parametrize(
    "fields",
    [
        {"artefacts": {"../../etc": ["0" * 16]}},
        {"artefacts": {"model": ["../../../etc/passwd"]}},
        {"profile": []},
        {"cell": {"source": 3}},
        {"alt": None},
        {"seeds": {"networks": {"deep": 1}}},
    ],
)
def test_record_of_other_types_is_refused(repository, tmp_path, fields):
    (tmp_path / "x.svg").write_bytes(hostile_svg(repository, **fields))
    with pytest.raises(InputError, match=r"x.svg' cannot be traced: its record is none of this version of jsigr; "):
        trace(tmp_path / "x.svg")


@pytest.mark.parametrize("suffix", ["", "../csv", "a/b", "c\0d"])
def test_file_beside_it_cannot_name_others(repository, tmp_path, suffix):
    shutil.copy(repository / "both.csv", tmp_path / "own.csv")
    part = json.loads((repository / "both.json").read_text())["table"]
    (repository / "both.json").unlink()
    (tmp_path / "own.json").write_text(json.dumps({"table": {**part, "sha256": {suffix: part["sha256"]["csv"]}}}))
    with pytest.raises(InputError, match=r"own.csv' has an unknown origin"):
        trace(tmp_path / "own.csv")


def test_what_a_file_says_cannot_drive_the_terminal(repository, tmp_path, monkeypatch, capsys):
    evil = "\x1b]0;owned\x07\x1b[2J\u202egnp.\x9b31m[bold red]:smile:[/] \ud800 \x00 end"
    fields = {
        "name": evil,
        "kind": evil,
        "alt": evil * 1000,
        "choices": {evil: evil},
        "profile": {"name": evil, evil: evil, "deep": [[[[]]]]},
        "changed": {evil: {"value": evil, "default": [[evil]]}},
        "seeds": {evil: 1},
        "data": {evil: evil},
        "code": {"version": evil, "commit": evil, "modified": True, "sources": evil},
        "environment": {"python": evil, "machine": evil, "packages": {"torch": evil}},
        "cell": {"source": f"{evil}\n{evil}\r{evil}\n" * 100, "notebook": evil, "number": 1, "id": evil},
    }
    path = tmp_path / "evil.svg"
    path.write_bytes(hostile_svg(repository, **fields))
    code, out, err = called(monkeypatch, capsys, str(path))
    assert (code, err) == (0, "")
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert "[bold red]:smile:[/]" in out.replace("\n", "")
    assert len(out) < 60_000
    code, out, _ = called(monkeypatch, capsys, str(path), "--json")
    assert code == 0 and out.isascii() and "\x1b" not in out
    assert json.loads(out)["record"]["kind"] == evil


def test_no_such_file_a_folder_and_a_huge_one(repository, tmp_path, monkeypatch):
    for path in (tmp_path / "nothing.png", tmp_path):
        with pytest.raises(InputError, match=r"cannot be read \(.*; accepted: a figure \(PNG, SVG\) or table"):
            trace(path)
    monkeypatch.setattr(tracing, "LARGEST", 100)
    with pytest.raises(InputError, match=r"has more than 100 bytes\); accepted: "):
        trace(repository / "both.png")


def test_artefacts_that_are_gone_or_others_are_counted(repository, study, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    spec = study.training("standard")
    for one in (spec, study.data):
        (runs / one.kind).mkdir(parents=True)
        shutil.copy(study.store.path(one), runs / one.kind)
    monkeypatch.setattr(tracing, "RUNS", runs)
    assert trace(repository / "both.csv").artefacts == {"all": 2, "here": 2, "others": 0}
    other = study.training("jsigr")
    found = study.get(other)
    write(runs / "model" / f"{spec.digest}.safetensors", found.tensors, found.facts)
    assert trace(repository / "both.csv").artefacts == {"all": 2, "here": 2, "others": 1}
    assert "1 changed since" in said(trace(repository / "both.csv"))
    (runs / "data" / f"{study.data.digest}.safetensors").unlink()
    assert trace(repository / "both.csv").artefacts == {"all": 2, "here": 1, "others": 1}
    (repository / "manifest.json").unlink()
    assert trace(repository / "both.csv").artefacts == {"all": 2, "here": 1, "others": None}


def test_layout_is_for_a_person(repository):
    text = said(trace(repository / "both.png"))
    for expected in (
        "Figure     both\n",
        "inside the file; unchanged since it was saved",
        "A line that rises.",
        "epochs 1 (it ships with ",
        "networks 0, surrogates 1000, split 20220713",
        "1 data, 1 model; all in runs/, unchanged",
        "library the same as here",
        f"Python {platform.python_version()}",
        "2022-07-27 09:00:00 to 2022-07-27 09:01:00 UTC",
        "01_theory, cell 3 (01-02)",
        "plotting.save(...)\n",
    ):
        assert expected in text, expected
    narrow = tracing.layout(trace(repository / "both.png"), width=60).plain.splitlines()
    assert max(map(len, narrow)) <= 60
    assert not any(len(word) > 40 for word in text.split())  # no hashes in full


def test_json_holds_everything(repository, monkeypatch, capsys):
    code, out, err = called(monkeypatch, capsys, "--json", str(repository / "both.csv"))
    assert (code, err) == (0, "")
    found = json.loads(out)
    part = json.loads((repository / "both.json").read_text())["table"]
    assert found["record"] == part
    assert (found["times"], found["altered"]) == (TIMES, "")


@pytest.mark.slow
def test_pictures_of_executed_notebooks_are_traced(smoke_run, tmp_path, monkeypatch):
    """What a reader saves from the notebook or the site by a right click."""
    monkeypatch.setattr(tracing, "ROOT", tmp_path)
    for path in sorted(smoke_run.notebooks.glob("*.ipynb")):
        executed, source = (nbformat.read(one, as_version=4) for one in (path, NOTEBOOKS / path.name))
        seen = set()
        for cell in executed.cells:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    (tmp_path / "clip").write_bytes(base64.b64decode(output.data["image/png"]))
                    found = trace(tmp_path / "clip")
                    where = found.record.cell
                    assert (found.altered, where.notebook, where.source) == ("", path.stem, cell.source)
                    assert source.cells[where.number - 1].id == where.id == cell.id
                    seen.add(found.record.name)
        assert seen == set(executed.metadata["jsigr"]["figures"])


@pytest.mark.slow
def test_everything_a_run_publishes_is_traced(smoke_run, monkeypatch):
    monkeypatch.setattr(tracing, "ROOT", smoke_run.figures.parent.parent)
    manifest = record.load_manifest(smoke_run.figures)
    for path in sorted(smoke_run.figures.iterdir()):
        if path.suffix == ".json":
            continue
        found = trace(path)
        assert (found.record.name, found.altered, found.twin) == (path.stem, "", path)
        assert len(found.times) == 2 and found.record.changed == {}
        assert found.record.cell.notebook in manifest.notebooks
        assert found.artefacts["here"] == found.artefacts["all"] and found.artefacts["others"] == 0
        digests = [digest for kind in found.record.artefacts.values() for digest in kind]
        assert record.root_hash({digest: manifest.artefacts[digest] for digest in digests}) == found.record.root
