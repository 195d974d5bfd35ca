"""The tests of `tests/gpu` on a device that is made of software, so that they need no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.software_device import NAME

FOLDER = Path(__file__).parent / "gpu"


@pytest.mark.slow
def test_on_the_software_device(study, tmp_path):
    """In a process of its own, as such a device cannot be taken out of torch again."""
    own = {"JSIGR_TEST_DEVICE": NAME, "JSIGR_TEST_RUNS": str(study.store.root)}
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")} | own
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}", "-rs"]
    command = [sys.executable, "-m", "pytest", *options, str(FOLDER), "--ignore", str(FOLDER / "test_cuda.py")]
    ended = subprocess.run(command, env=env, cwd=FOLDER.parents[1], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
