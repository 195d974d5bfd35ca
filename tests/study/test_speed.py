"""Predictions come from the nearest of what was timed."""

import json
import math
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.hardware import machine
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tensor_files import write
from jsigr_lib.study import speed
from jsigr_lib.study.speed import NOTEBOOK, Speed, Timed, calibrate, read_headers, record, stopwatch
from tests.strangers import each_stranger, promptly

CPU = torch.device("cpu")


class Job(Spec):
    kind: ClassVar[str] = "job"
    name: str = "a"
    size: float = 1.0
    parents: tuple["Job", ...] = ()

    def needs(self):
        return list(self.parents)

    def work(self):
        return self.size

    def compute(self, store, device):
        return {"x": torch.zeros(2)}, {}


def of(here=(), published=()) -> Speed:
    both = ((here, True), (published, False))
    rows = [Timed(("job", name), work, seconds, own) for some, own in both for name, work, seconds in some]
    made = Speed(rows, "smoke", CPU)
    made.unit = 3.0  # seconds of the fixed calculation
    return made


@pytest.mark.parametrize(
    ("here", "published", "seconds"),
    [
        ([("a", 10, 5)], [], 5),  # the very same
        ([("a", 20, 10)], [], 5),  # in proportion
        ([("a", 10, 5), ("b", 10, 100)], [], 5),  # its family before its kind
        ([("b", 10, 7)], [], 7),  # its kind before a guess
        ([("a", 10, 4), ("a", 10, 6)], [], 5),  # the mean of equals
        ([("a", 10, 5)], [("a", 10, 1)], 5),  # this machine before another
        ([("a", 1, 5)], [("a", 10, 1)], 3),  # but nearly as much work before far less
        ([("b", 10, 5)], [("a", 10, 1)], 3),  # and its family before its kind
        ([("a", 1, 5)], [("a", 1000, 1)], 50),  # this machine again if both are far
        ([], [("a", 5, 1)], 6),
        ([], [], 10 * speed.GUESS * 3),
    ],
)
def test_nearest_of_what_was_timed(here, published, seconds):
    assert of(here, published).seconds(Job(size=10)) == pytest.approx(seconds)


def test_only_the_nearest_in_work_count():
    assert of([("a", 10.1, 5.0), ("a", 35, 1000.0)]).seconds(Job(size=10)) == pytest.approx(5, rel=0.1)


def test_other_kinds_and_other_machines_say_nothing(tmp_path):
    store = Store(tmp_path)
    facts = {"spec": {"name": "a"}, "work": 10.0, "seconds": 5.0}
    headers = {
        "other": {"0": {**facts, "machine": machine(CPU)}},
        "job": {"1": {**facts, "machine": "a far faster one"}, "2": {"spec": {"name": "a"}, "machine": machine(CPU)}},
    }
    assert [row.family for row in Speed.of(store, headers, "smoke").rows if row.here] == [("other", "a")]


def test_seconds_are_the_processors_where_the_clock_counted_more():
    facts = {"spec": {"name": "a", "size": 3}, "work": 3.0, "seconds": 9.0}
    assert Timed.of("job", facts) == (("job", "a"), 3, 9, True)
    assert Timed.of("job", {**facts, "cpu_seconds": 4.0}).seconds == 4
    with stopwatch() as took:
        time.sleep(0.2)
    assert took["seconds"] < 0.2


def test_headers_are_read_without_tensors_and_strangers_named(tmp_path):
    store = Store(tmp_path)
    store.make([Job(name="a"), Job(name="b")])
    whole, cut = store.path(Job(name="a")), store.path(Job(name="b"))
    cut.write_bytes(cut.read_bytes()[:-1])
    (tmp_path / "job" / "notes.safetensors").write_text("not what it says it is")
    (tmp_path / "job" / "huge.safetensors").write_bytes(b"\xff" * 64)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "0.safetensors").write_bytes(b"")
    headers, strangers = read_headers(tmp_path)
    assert list(headers) == ["job"] and list(headers["job"]) == [whole.stem]
    assert {path.name for path in strangers} == {cut.name, "notes.safetensors", "huge.safetensors"}
    assert headers["job"][whole.stem]["work"] == 1
    assert read_headers(tmp_path / "nowhere") == ({}, [])


@each_stranger
def test_strangers_among_artefacts_and_speeds_are_skipped(tmp_path, monkeypatch, stranger):
    """And a header without seconds. What is written takes the place of a stranger."""
    monkeypatch.setattr(speed, "calibrate", lambda device: 0.5)
    store = Store(tmp_path)
    store.make([Job()])
    write(tmp_path / "job" / f"{'0' * 16}.safetensors", {}, {"spec": {}, "work": 1})
    (tmp_path / "speed").mkdir()
    for path in (tmp_path / "job" / "notes.safetensors", tmp_path / "speed" / "b.json", tmp_path / "speed" / "a.json"):
        stranger(path)
    with promptly():
        headers, strangers = read_headers(tmp_path)
        assert list(headers["job"]) == [Job().digest] and len(strangers) == 2
        assert Speed.of(store, headers, "a").rows
        record(store, "a", [Job()], {"01_theory": 8.0})
    if stranger is not Path.mkdir:
        assert Speed.of(store, {}, "a").notebook("01_theory") == 8


@pytest.mark.parametrize("row", [1, {}, {"family": [["a"]], "work": 1, "seconds": "1"}, {"family": 1}])
def test_a_file_of_speeds_that_is_another_one_is_skipped(tmp_path, row):
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "a.json").write_text(json.dumps({"rows": [row]}))
    assert not any(one.here for one in Speed.of(Store(tmp_path), {}, "a").rows)


def test_speeds_that_cannot_be_written_fail_no_run(tmp_path, monkeypatch):
    """As in a checkout that is read-only, or if an artefact is gone."""
    monkeypatch.setattr(speed, "calibrate", lambda device: 0.5)
    (tmp_path / "speed").write_text("no folder")
    record(Store(tmp_path), "smoke", [Job()], {"01_theory": 8.0})


def test_record_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "calibrate", lambda device: 0.5)
    store, child = Store(tmp_path), Job(name="b", parents=(Job(name="a", size=3), Job(name="a", size=5)))
    store.make([child])
    record(store, "smoke", [child], {"01_theory": 8.0, "02_training": 9.0})
    record(store, "smoke", [child], {"01_theory": 6.0})  # one of them again
    content = json.loads((tmp_path / "speed" / "smoke.json").read_text())
    rows = {tuple(row["family"]): row for row in content["rows"]}
    assert (rows["job", "a"]["count"], rows["job", "a"]["work"], rows["job", "b"]["count"]) == (2, 4, 1)
    again = Speed.of(store, {}, "smoke")
    assert (again.notebook("01_theory"), again.notebook("02_training")) == (6, 9)
    monkeypatch.setattr(speed, "PROFILES", tmp_path)
    published = Speed.of(Store(tmp_path / "fresh"), {}, "smoke")
    published.unit = 2.0
    assert published.notebook("01_theory") == 6 / 0.5 * 2
    (tmp_path / "speed" / "smoke.json").write_text('{"calibration": 1, "rows": [{')
    assert not any(row.here for row in Speed.of(store, {}, "smoke").rows)


def test_a_run_is_no_failure_where_its_times_cannot_be_written(tmp_path):
    (tmp_path / "speed").write_text("in the way")
    record(Store(tmp_path), "smoke", [], {"01_theory": 8.0})
    assert (tmp_path / "speed").read_text() == "in the way"


def test_notebooks_of_another_profile_are_better_than_none():
    made = Speed([Timed(("notebook", "quick", "01_theory"), NOTEBOOK, 12.0)], "smoke", CPU)
    assert made.notebook("05_claims") == 12


@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_authors_speeds_come_with_the_package(profile):
    content = json.loads((speed.PROFILES / "speed" / f"{profile}.json").read_text())
    kinds = {row["family"][0] for row in content["rows"]}
    assert {"model", "attacked", "outcomes", "maps", "snapshot", "notebook"} <= kinds
    assert all(row["seconds"] > 0 and row["work"] > 0 for row in content["rows"])
    assert content["calibration"] > 0


def test_calibration_is_a_time():
    assert 0 < calibrate(CPU) < math.inf
