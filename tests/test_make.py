"""How make sets up .venv: one at a time, whatever was killed before, and with the true reason where it cannot."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults import wait
from jsigr_lib.store.paths import ROOT

PYTHON = f"""#!/bin/sh
case "$2" in
venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
pip) [ ! -e in-pip ] || touch two-at-a-time
    touch in-pip
    until [ -e go ]; do sleep 0.05; done
    rm in-pip ;;
*) exec {sys.executable} "$@" ;;
esac
"""
"""Stands in for Python: it makes no environment, and its pip waits for a file."""


@pytest.fixture
def checkout(tmp_path):
    """checkout(name): a folder with what the set-up reads."""

    def call(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(ROOT / "Makefile", folder)
        for file in ("requirements.lock", "pyproject.toml"):
            (folder / file).touch()
        (folder / "python").write_text(PYTHON)
        (folder / "python").chmod(0o755)
        return folder

    return call


def make(folder: Path, python: str = "./python") -> subprocess.Popen:
    command = ["make", "--silent", ".venv/.stamp", f"PYTHON={python}"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_set_up_that_a_killed_make_left_behind_is_waited_for(checkout):
    folder = checkout("repository")
    first = make(folder)
    assert wait((folder / "in-pip").exists, 20, every=0.02)
    first.send_signal(signal.SIGKILL)
    second = make(folder)
    assert wait(lambda: second.poll() is not None, 1) is False
    (folder / "go").touch()
    said = second.communicate(timeout=20)[0]
    assert second.returncode == 0 and said == "make: waiting for another set-up of .venv to end\n"
    assert (folder / ".venv" / ".stamp").exists() and not (folder / "two-at-a-time").exists()
    first.communicate()


def test_a_set_up_without_another_waits_for_none(checkout):
    folder = checkout("repository")
    (folder / "go").touch()
    said = make(folder).communicate(timeout=20)[0]
    assert said.startswith("Setting up .venv with Python 3.") and "waiting" not in said
    assert (folder / ".venv" / ".stamp").exists()


def test_the_reason_is_that_of_venv(checkout):
    """It makes none where the path would be two in PATH; no other package would help."""
    run = make(checkout("a:b"), sys.executable)
    said = run.communicate(timeout=60)[0]
    assert run.returncode == 2
    assert f"make: '{sys.executable} -m venv' failed; Error: Refusing to create a venv in " in said
    assert "PATH separator" in said and "apt" not in said
