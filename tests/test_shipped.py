"""Artefacts that come with the repository are those that a run would make, or nothing would use them."""

import pytest

from jsigr_lib import boundary, estimators, explanations, outcomes, snapshot, tensor_files, theory, zoo
from jsigr_lib.artefacts import Spec
from jsigr_lib.paths import ROOT

MODULES = (boundary, estimators, explanations, outcomes, snapshot, theory, zoo)
SHIPPED = sorted((ROOT / "data" / "artefacts").glob("*/*.safetensors"))
SPECS = (one for module in MODULES for one in vars(module).values() if isinstance(one, type) and issubclass(one, Spec))
KINDS = {spec.kind: spec for spec in SPECS if hasattr(spec, "kind")}


@pytest.mark.parametrize("path", SHIPPED, ids=[f"{path.parent.name}-{path.stem}" for path in SHIPPED])
def test_its_name_is_that_of_its_specification_and_of_todays_code(path):
    facts = tensor_files.read(path).facts
    spec = KINDS[path.parent.name].model_validate(facts["spec"])
    assert spec.digest == path.stem
    assert facts["code"] == spec.made_from["code"]
