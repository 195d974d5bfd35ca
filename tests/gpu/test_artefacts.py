"""Every kind of artefact, computed on the device from what the CPU made, is what the CPU makes of it."""

import json

import pytest

from jsigr_lib.pipeline import order, pipeline
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.tasks import compute

TIMED = {"seconds", "cpu_seconds", "machine"}
KINDS = ("data", "model", "bank", "attacked", "outcomes", "probe", "linearised", "distance", "scatter")
KINDS += ("maps", "sanity", "glyphs", "located", "snapshot")
ROUNDED = {"scatter": (1e-12, False)}  # its double precision is summed in another order
SLOW = {"snapshot": [pytest.mark.torture]}  # as long in the making as all others


@pytest.fixture(scope="module")
def smallest(study) -> dict:
    """Kind -> its artefact with the least work."""
    wanted = [spec for name in order.select(None) for spec in pipeline.specs(study, name)]
    wanted = [part for spec in wanted for part in spec.parts.values()]
    return {spec.kind: spec for spec in sorted(wanted, key=lambda spec: (-spec.work(), spec.digest))}


def test_kinds(smallest):
    assert smallest.keys() == {*KINDS}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=SLOW.get(kind, [])) for kind in KINDS])
def test_artefact(kind, smallest, study, device, agree):
    spec = smallest[kind]
    expected = study.store.get(spec)
    tensors, facts = compute(spec, Store(study.store.root, device))
    how = ROUNDED.get(kind, ()) if device.type != "cuda" else ()
    agree(tensors, expected.tensors, *how)
    told = {name: fact for name, fact in json.loads(json.dumps(facts)).items() if name not in TIMED}
    agree(told, {name: expected.facts[name] for name in told}, *how)
