"""Every locked package has a licence that we know, and the ledger of them is what the packages say."""

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution

import pytest

from jsigr_lib.store.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import licences

LEDGER = licences.LEDGER.read_text(encoding="utf-8")
ROWS = dict(line.strip("| ").split(" | ") for line in LEDGER.splitlines() if line.startswith("| ") and " | " in line)


def installed(package: str) -> bool:
    try:
        return bool(distribution(package))
    except PackageNotFoundError:
        return False


def test_every_locked_package_is_listed():
    assert sorted(ROWS.keys() - {"package"}) == licences.locked()
    assert len(ROWS) > 100


@pytest.mark.parametrize("package", licences.locked())
def test_licence_is_known_and_said_by_the_package(package):
    known = licences.PERMISSIVE | licences.REMARKS.keys()
    assert ROWS[package] and set(licences.parts(ROWS[package])) <= known
    if installed(package):
        assert licences.said(package) == ROWS[package]
    else:
        assert licences.ELSEWHERE[package] == ROWS[package]


@pytest.mark.parametrize("licence", licences.REMARKS)
def test_what_is_not_permissive_has_a_remark(licence):
    (line,) = [line for line in LEDGER.splitlines() if line.startswith(f"**{licence}**")]
    named = [package for package, one in ROWS.items() if licence in licences.parts(one)]
    assert f"({', '.join(named)}). {licences.REMARKS[licence]}" in line


def test_none_forbids_use_or_asks_for_our_source():
    """The LGPL asks for that of the library alone."""
    asks = [re.search(r"(?<!L)GPL|\bNC\b", licence) for licence in ROWS.values()]
    assert not any(asks)


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "UNKNOWN", "", "CC-BY-NC-4.0", "MIT AND SSPL-1.0"])
def test_another_licence_is_unknown(monkeypatch, licence):
    class About(dict):
        def get_all(self, name):
            return []

    package = type("Package", (), {"metadata": About({"License-Expression": licence})})
    monkeypatch.setattr(licences, "distribution", lambda name: package)
    assert licences.said("anything") == ""
