"""The table of hostile tries names tests that exist."""

import ast
import re

import pytest

from jsigr_lib.store.paths import ROOT

NAMED = re.findall(r"`(tests/[^`]+)`", (ROOT / "docs" / "trust.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("named", NAMED)
def test_a_named_test_exists(named):
    file, _, function = named.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert not function or function in {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}
