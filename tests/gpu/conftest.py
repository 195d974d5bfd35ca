"""These tests run on a CUDA device, or on the software device, where results are those of the CPU bit by bit."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jsigr_lib.study.study import Study
from tests.gpu import software_device

SOFTWARE = os.environ.get("JSIGR_TEST_DEVICE") == software_device.NAME


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("gpu")
            item.add_marker(pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation"))


@pytest.fixture(scope="session", autouse=True)
def device() -> torch.device:
    if SOFTWARE:
        return software_device.install()
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def study(tiny, tmp_path_factory) -> Study:
    """The tiny study on the CPU, whose artefacts another process may have made."""
    folder = tmp_path_factory.mktemp("study")
    return tiny(Path(os.environ.get("JSIGR_TEST_RUNS", folder)), out=folder / "figures")


@pytest.fixture(scope="session")
def agree():
    """agree(found, expected, tolerance): exactly on the software device, unless told otherwise; on CUDA, tensors by the
    norm of their difference or the share of equal entries, numbers by their difference."""

    def check(found, expected, tolerance: float = 0.02, exact: bool = SOFTWARE) -> None:
        assert type(found) is type(expected)
        if isinstance(expected, dict):
            assert found.keys() == expected.keys()
            for name in expected:
                check(found[name], expected[name], tolerance, exact)
        elif isinstance(expected, (list, tuple)):
            for one, other in zip(found, expected, strict=True):
                check(one, other, tolerance, exact)
        elif exact:
            assert torch.equal(found, expected) if isinstance(expected, Tensor) else found == expected
        elif isinstance(expected, Tensor):
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            check_tensor(found, expected, tolerance)
        elif isinstance(expected, float):
            assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)
        else:
            assert found == expected

    return check


def check_tensor(found: Tensor, expected: Tensor, tolerance: float) -> None:
    if expected.is_floating_point():
        assert torch.equal(found.isfinite(), expected.isfinite())
        apart = (found.double() - expected.double())[expected.isfinite()]
        assert apart.norm() <= tolerance * max(1.0, expected[expected.isfinite()].double().norm())
    else:
        assert (found == expected).double().mean() >= 1 - tolerance
