"""Each kind of change is named, whether it is the artefact's own or that of what it is made from."""

import json

import pytest
import torch

from jsigr_lib.pipeline.plan import explain
from jsigr_lib.store.specs import within
from jsigr_lib.study.attacked import Outcomes
from tests.specs import ATTACKED, DATA, NETWORK, changed


def header(spec) -> dict:
    """As it comes from a file."""
    return json.loads(json.dumps(spec.made_from))


def reason(spec, *orphans) -> str:
    return explain([spec], [header(orphan) for orphan in orphans])[0]


def test_never_made():
    assert reason(NETWORK) == ""


NETWORK_CHANGES = {
    "epochs 3 -> 2": {"epochs": 3},
    "options.lambda_j 0.02 -> 0.01": {"options": (("lambda_j", 0.02), ("lambda_s", 3.0))},
    "options.coin 0.2 -> nothing": {"options": (("coin", 0.2), ("lambda_j", 0.01), ("lambda_s", 3.0))},
    "width 8 -> null": {"width": 8},
    "epochs 3 -> 2, seed 1 -> 0": {"epochs": 3, "seed": 1},
    "its data's content ffffffff... -> 01234567...": {"data": changed(DATA, content="f" * 64)},
    "its data's train_images 8 -> 9": {"data": changed(DATA, train_images=8)},
}


@pytest.mark.parametrize("said", NETWORK_CHANGES)
def test_fields_that_changed(said):
    assert reason(NETWORK, changed(NETWORK, **NETWORK_CHANGES[said])) == said


def test_a_change_counts_once_on_however_many_ways_it_arrives():
    old = changed(NETWORK, epochs=3)
    outcomes = Outcomes(target=NETWORK, attacked=ATTACKED)
    before = Outcomes(target=old, attacked=changed(ATTACKED, sources=old))
    assert reason(outcomes, before) == "its model's epochs 3 -> 2"
    assert reason(outcomes, changed(outcomes, attacked=changed(ATTACKED, eps=0.2))) == "its attacked's eps 0.2 -> 0.1"


def test_with_more_than_a_few_changes_it_is_another_artefact():
    others = {"epochs": 3, "batch_size": 5, "learning_rate": 0.2}
    assert reason(NETWORK, changed(NETWORK, **others))
    assert reason(NETWORK, changed(NETWORK, **others, seed=1)) == ""


def test_the_nearest_explains_and_the_latest_of_equals():
    far, near = changed(NETWORK, epochs=3, seed=1), changed(NETWORK, seed=2)
    assert reason(NETWORK, far, near) == "seed 2 -> 0"
    assert reason(NETWORK, changed(NETWORK, seed=3), near) == "seed 3 -> 0"
    assert explain([NETWORK, changed(NETWORK, epochs=4)], [header(near), header(changed(NETWORK, epochs=5))]) == [
        "seed 2 -> 0",
        "epochs 5 -> 4",
    ]


@pytest.mark.parametrize(
    ("spec", "modules", "said"),
    [
        (NETWORK, ["training"], "code of training.py changed"),
        (NETWORK, ["attacks", "zoo"], "code of attacks.py, zoo.py changed"),
        (NETWORK, ["data"], "code of data.py changed"),
        (ATTACKED, ["attacked"], "code of attacked.py changed"),
        (ATTACKED, ["training"], "its model's code of training.py changed"),
        (ATTACKED, ["attacks"], "code of attacks.py changed"),  # its own too
        (ATTACKED, ["attacked", "training"], "code of attacked.py changed, its model's code of training.py changed"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_code_that_changed(edited, spec, modules, said):
    old = header(spec)
    edited(*modules)
    assert explain([type(spec)(**spec.model_dump())], [old]) == [said]


def test_a_library_that_changed():
    old = header(NETWORK)
    old["libraries"]["torch"] = "2.13.0"
    assert explain([NETWORK], [old]) == [f"torch 2.13.0 -> {torch.__version__}"]


def test_headers_of_older_versions_say_less():
    old = header(NETWORK)
    del old["code"], old["libraries"]
    assert explain([NETWORK], [old]) == ["made by an older version"]
    assert explain([changed(NETWORK, epochs=3)], [old]) == ["epochs 2 -> 3"]


def test_many_at_once_find_their_own():
    specs = [changed(NETWORK, seed=i) for i in range(50)]
    orphans = [header(changed(NETWORK, seed=i, epochs=3)) for i in reversed(range(50))]
    assert explain(specs, orphans) == ["epochs 3 -> 2"] * 50


def test_nested_specs_have_paths():
    found = within(Outcomes(target=NETWORK, attacked=ATTACKED))
    assert {path: part.kind for path, part in found.items()} == {
        "": "outcomes",
        "target": "model",
        "target.data": "data",
        "attacked": "attacked",
        "attacked.sources.0": "model",
        "attacked.sources.0.data": "data",
    }
