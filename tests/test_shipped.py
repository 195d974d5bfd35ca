"""Artefacts that come with the repository are those that a run would make, or nothing would use them."""

import pytest

from jsigr_lib import tensor_files
from jsigr_lib.outcomes import Outcomes, Probe
from jsigr_lib.paths import ROOT
from jsigr_lib.zoo import Training

SHIPPED = sorted((ROOT / "data" / "artefacts").glob("*/*.safetensors"))
KINDS = {kind.kind: kind for kind in (Training, Outcomes, Probe)}


@pytest.mark.parametrize("path", SHIPPED, ids=[f"{path.parent.name}-{path.stem}" for path in SHIPPED])
def test_its_name_is_that_of_its_specification_and_of_todays_code(path):
    facts = tensor_files.read(path).facts
    spec = KINDS[path.parent.name].model_validate(facts["spec"])
    assert spec.digest == path.stem
    assert facts["code"] == spec.made_from["code"]
