"""pyproject.toml, requirements.lock, environment.yml and CITATION.cff tell one story."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import jsigr_lib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED_EXTRAS = ("measure", "study", "companion", "neighbours", "dev")
DECLARED = PROJECT["dependencies"] + [line for extra in LOCKED_EXTRAS for line in EXTRAS[extra]]
DEPENDENCIES = [Requirement(line) for line in DECLARED if not line.startswith("jsigr[")]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
ENTRIES = [line for line in LOCK.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
LOCKED = [Requirement(entry.split(" --hash")[0]) for entry in ENTRIES]
PYTHONS = ["3.11", "3.12", "3.13"]


def locked_versions(name: str, python: str, platform: str) -> list[Version]:
    """What the lock installs of `name` there: one version, if all is well."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform}
    environment["os_name"] = "nt" if platform == "win32" else "posix"
    return [
        Version(str(requirement.specifier).removeprefix("=="))
        for requirement in LOCKED
        if canonicalize_name(requirement.name) == canonicalize_name(name)
        and (requirement.marker is None or requirement.marker.evaluate(environment))
    ]


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_every_dependency(python, platform):
    versions = {dependency: locked_versions(dependency.name, python, platform) for dependency in DEPENDENCIES}
    assert DEPENDENCIES
    assert {str(d): v for d, v in versions.items() if len(v) != 1 or v[0] not in d.specifier} == {}


@pytest.mark.parametrize("name", ["torch", "torchvision"])
def test_lock_has_one_torch_for_all_systems(name):
    """Another release may change the tables."""
    (locked,) = (str(requirement.specifier) for requirement in LOCKED if requirement.name == name)
    assert re.fullmatch(r"==[\d.]+", locked)


def test_each_extra_has_what_the_one_before_it_has():
    assert [line for line in PROJECT["dependencies"] if not line.startswith("torch>=")] == []
    own = {extra: [line for line in lines if line.startswith("jsigr[")] for extra, lines in EXTRAS.items()}
    assert own == {
        "measure": [],
        "study": ["jsigr[measure]"],
        "companion": ["jsigr[study]"],
        "cluster": ["jsigr[companion]"],
        "dev": ["jsigr[companion,neighbours]"],
        "neighbours": ["jsigr[companion]"],
        "bench": ["jsigr[companion]"],
    }


def test_lock_is_made_of_the_last_of_them():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"--extra (\w+)", makefile) == [LOCKED_EXTRAS[-1]]


def test_lock_is_pinned_and_hashed_and_names_no_host():
    pinned = re.compile(r"[\w.-]+==[\w.]+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+")
    assert ENTRIES
    assert [entry for entry in ENTRIES if not pinned.fullmatch(entry)] == []
    assert "://" not in LOCK


def test_environment_installs_this_lock_on_an_accepted_python():
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert pip == {"pip": ["--require-hashes", "-r requirements.lock"]}
    python = Requirement(next(spec for spec in conda if spec.startswith("python=")).replace("=", "==", 1))
    assert str(python.specifier).removeprefix("==") in PYTHONS


def test_every_python_we_lock_for_is_the_range_we_declare():
    accepted = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(9, 20) if f"3.{minor}.5" in accepted] == PYTHONS


def test_one_version_number():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == jsigr_lib.__version__
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT  # read from jsigr_lib/__init__.py
