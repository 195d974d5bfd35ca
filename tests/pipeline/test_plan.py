"""The plan of a tiny study, before, while and after its artefacts exist; nothing is computed and nothing is written."""

import json

import pytest

from jsigr_lib.method.errors import InputError
from jsigr_lib.pipeline import order, plan
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.tensor_files import read, write
from jsigr_lib.study import speed, study


@pytest.fixture(autouse=True)
def only_networks(monkeypatch):
    """Plans of two networks each and what these need; what is timed here is nobody's measurement."""
    monkeypatch.setattr(plan, "specs", lambda study, notebook: [study.training("jsigr"), study.training("pgd")])
    monkeypatch.setattr(speed, "calibrate", lambda device: 1.0)


@pytest.fixture
def planned(tiny, monkeypatch, tmp_path):
    """planned(**settings): the plan of the tiny study in a folder of its own."""

    def made(runs=tmp_path / "runs", **settings):
        monkeypatch.setattr(order, "Study", lambda profile, device, jobs, settings, runs: tiny(runs, **settings))
        return plan.plan(profile="smoke", notebooks=["02"], settings=settings, runs=runs)

    return made


def statuses(planned) -> dict[str, list[str]]:
    kinds = {}
    for entry in planned.artefacts:
        kinds.setdefault(entry.kind, []).append(str(entry))
    return kinds


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def made(tiny, tmp_path) -> study.Study:
    one = tiny(tmp_path / "runs")
    one.make([one.training("jsigr"), one.training("pgd")])
    return one


def test_nothing_is_there(planned, tmp_path):
    found = planned()
    assert statuses(found) == {"model": ["missing", "missing"], "data": ["missing"]}
    assert found.artefact_minutes > 0
    assert not (tmp_path / "runs").exists()


def test_everything_is_there(planned, made, tmp_path):
    before = files(tmp_path)
    found = planned()
    assert statuses(found) == {"model": ["cached", "cached"]}  # nobody needs to load the data
    assert found.artefact_minutes == 0
    assert not any(line.startswith("work: ") for line in found.lines())
    assert files(tmp_path) == before


def test_a_setting_makes_stale_what_depends_on_it(planned, made):
    assert statuses(planned(epochs=2)) == {"model": ["stale: epochs 1 -> 2"] * 2, "data": ["cached"]}
    assert statuses(planned(train_images=500)) == {
        "model": ["stale: its data's train_images 512 -> 500"] * 2,
        "data": ["stale: train_images 512 -> 500"],
    }


def test_code_makes_stale(planned, made, edited):
    edited("training")
    found = planned()
    assert statuses(found) == {"model": ["stale: code of training.py changed"] * 2, "data": ["cached"]}
    assert "  model       2 stale: code of training.py changed" in found.lines()


def test_what_a_stale_artefact_took_predicts_it(planned, made):
    headers, _ = speed.read_headers(made.store.root)
    took = sum(min(facts["seconds"], facts["cpu_seconds"]) for facts in headers["model"].values())
    assert planned(learning_rate=0.1).artefact_minutes * 60 == pytest.approx(took, rel=1e-6)
    assert planned(epochs=2).artefact_minutes * 60 == pytest.approx(2 * took, rel=1e-6)


def test_damaged_files_are_named_and_counted(planned, made):
    path = made.store.path(made.training("pgd"))
    path.write_bytes(path.read_bytes()[:-1])
    found = planned()
    assert statuses(found)["model"] == ["cached", "damaged: its file is not whole"]
    assert found.strangers == [str(path)]
    assert f"  no artefact: {path}" in found.lines()
    assert found.artefact_minutes > 0


def test_checkpoint_is_noticed(planned, made):
    spec = made.training("pgd")
    made.store.path(spec).unlink()
    write(made.store.checkpoint(spec), {}, {})
    assert statuses(planned())["model"] == ["cached", "missing: goes on from a checkpoint"]


def test_headers_of_older_versions(planned, made):
    """They have neither code nor work."""
    for path in made.store.root.glob("*/*.safetensors"):
        artefact = read(path)
        facts = {key: value for key, value in artefact.facts.items() if key not in ("code", "work", "cpu_seconds")}
        write(path, artefact.tensors, facts)
    assert statuses(planned()) == {"model": ["cached", "cached"]}
    assert statuses(planned(epochs=2))["model"] == ["stale: epochs 1 -> 2"] * 2


def test_a_schedule_for_any_number_of_slots(planned, monkeypatch):
    """The data, then two networks that both need them."""
    monkeypatch.setattr(plan.Speed, "seconds", lambda self, spec: 4 * 3600 if spec.kind == "model" else 1800)
    found = planned()
    assert found.slot_minutes == {1: 510, 4: 270, 16: 270, 64: 270}
    assert found.chain_minutes == 270
    lines = found.lines()[-6:-2]
    assert lines == [
        "work: 8.5 hours on 1 core",
        "with more of them, here or in a cluster: 4.5 hours on 4, 4.5 hours on 16, 4.5 hours on 64",
        "longest chain, each needing the one before it: 4.5 hours, on any number",
        f"largest task: {found.largest}",
    ]


def test_durations_have_the_unit_that_suits_them():
    assert [plan.duration(minutes) for minutes in (0.5, 89, 90, 2879, 2880)] == [
        "0.5 minutes",
        "89.0 minutes",
        "1.5 hours",
        "48.0 hours",
        "2.0 days",
    ]


def test_a_process_starts_before_it_works(planned, tiny, tmp_path, monkeypatch):
    alone = planned().artefact_minutes
    monkeypatch.setattr(order, "Study", lambda *args, jobs, runs, **chosen: tiny(runs, jobs=2))
    arguments = {"profile": "smoke", "notebooks": ["02"], "runs": tmp_path / "runs"}
    without, started = (plan.plan(**arguments, start=start).artefact_minutes for start in (0, 30))
    assert without < alone  # two networks side by side
    assert started == pytest.approx(without + 2 * 30 / 60)  # the run, then both of its workers at once


def test_summary_stays_short(planned):
    entries = [plan.Entry("model", str(i), "stale", f"seed {i} -> 0") for i in range(9)]
    assert plan._summary([*entries, plan.Entry("model", "x", "cached")]).endswith("6 more (see --all)")
    assert len(planned().lines(each=True)) == len(planned().lines()) + 1


def test_json_says_everything(planned):
    found = planned()
    content = json.loads(json.dumps(found.as_dict()))
    assert content["minutes"] == pytest.approx(content["artefact_minutes"] + sum(content["notebook_minutes"].values()))
    assert [entry["status"] for entry in content["artefacts"]] == ["missing"] * 3


def test_bad_input_is_refused_as_a_run_refuses_it():
    for bad in ({"profile": "quik"}, {"notebooks": ["06"]}, {"settings": {"epz": 1}}, {"jobs": -1}):
        with pytest.raises(InputError):
            plan.plan(**{"profile": "smoke", **bad})


def test_plan_agrees_with_what_a_run_makes(planned, tiny, tmp_path):
    one = tiny(tmp_path / "runs")
    expected = {entry.digest for entry in planned().artefacts if entry.status != "cached"}
    seen = []
    Store(tmp_path / "runs").make(
        [one.training("jsigr"), one.training("pgd")], lambda spec, done, total: seen.append(spec.digest)
    )
    assert set(seen) == expected
