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
DECLARED = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
DEPENDENCIES = [Requirement(line) for line in DECLARED]
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
def test_torch_is_pinned_exactly_and_identically(name):
    declared, locked = ([r.specifier for r in source if r.name == name] for source in (DEPENDENCIES, LOCKED))
    assert declared == locked
    assert [bool(re.fullmatch(r"==[\d.]+", str(specifier))) for specifier in declared] == [True]


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
    assert citation["version"] == PROJECT["version"] == jsigr_lib.__version__
