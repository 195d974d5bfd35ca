"""What is running: its code, its environment, and the notebook cell that is being executed."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field

import jsigr_lib
from jsigr_lib.method.errors import InputError
from jsigr_lib.store import sources
from jsigr_lib.store.files import sha256
from jsigr_lib.store.hardware import machine
from jsigr_lib.store.paths import NOTEBOOKS, ROOT

SOURCES = (
    "jsigr_lib",
    "data",
    ":(glob)notebooks/*.ipynb",
    ":(glob)notebooks/neighbours/*.ipynb",
    ":(glob)*.toml",
    "DEVIATIONS.md",
)
"""What results depend on, as git's pathspecs: a new figure does not make the tree a modified one."""
OPTIONAL = ("dev", "bench", "cluster", "neighbours")  # extras whose packages no table of the study needs


class Facts(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Code(Facts):
    version: str
    commit: str | None
    modified: bool | None  # None without git
    sources: str
    own: dict[str, str] = Field(default_factory=dict)  # the modules that a profile imports, and the hash of each


class Environment(Facts):
    python: str
    machine: str
    packages: dict[str, str]


class NotebookCell(Facts):
    """A cell of a source notebook, counted from 1 with the Markdown cells; only the source if it is in none of them."""

    source: str
    notebook: str | None = None
    number: int | None = None
    id: str | None = None


def running_code() -> Code:
    """The library and the user's modules that this process runs. Raises InputError if one was edited meanwhile."""
    sources.unedited()
    own = {name: sha256(path.read_bytes()) for name, path in sources.OWN.items()}
    return _library().model_copy(update={"own": own})


@cache
def _library() -> Code:
    """No commit is known without git, or where the package lies in a repository that is not its own."""
    commit = modified = None
    if (ROOT / ".git").exists():
        with suppress(OSError, subprocess.SubprocessError):
            commit = git(ROOT, "rev-parse", "HEAD").decode().strip()
            modified = bool(git(ROOT, "status", "--porcelain", "--", *SOURCES))
    return Code(version=jsigr_lib.__version__, commit=commit, modified=modified, sources=sources.library_sha256())


def git(root: Path, *arguments: str) -> bytes:
    """What git says of the repository at `root`. Raises OSError or SubprocessError."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}  # as a hook has them
    variables["GIT_OPTIONAL_LOCKS"] = "0"
    command = ["git", "-C", root, *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=30, env=variables).stdout


def environment(device: torch.device) -> Environment:
    hardware = f"{machine(device)}, {platform.system()}"
    return Environment(python=platform.python_version(), machine=hardware, packages=_packages())


@cache
def _packages() -> dict[str, str]:
    """The versions of the packages that a run asks for: those of every extra but the developers'. Raises InputError if
    one of them, or jsigr itself, was copied here and not installed."""
    try:
        lines = importlib.metadata.requires("jsigr") or []
        found = (re.match(r"""([\w.-]+)(?:.*extra == ['"](\w+))?""", line).groups() for line in lines)
        names = {name for name, extra in found if extra not in OPTIONAL and name != "jsigr"}
        return {name: importlib.metadata.version(name) for name in sorted(names)}
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"no metadata of the package {error.name}; accepted: an installed one, pip install -e ."
        ) from None


def running_cell() -> NotebookCell | None:
    """The notebook cell that is being executed; None in a script."""
    from IPython import get_ipython  # here, as it is slow to import and not always needed

    shell = get_ipython()
    if shell is None or not shell.history_manager.input_hist_raw:
        return None
    source = shell.history_manager.input_hist_raw[-1]
    for path in sorted([*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("neighbours/*.ipynb")]):
        with suppress(ValueError, KeyError, TypeError):  # another notebook is in the midst of a merge
            for number, one in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"], 1):
                if one["cell_type"] == "code" and "".join(one["source"]).rstrip("\n") == source:
                    return NotebookCell(source=source, notebook=path.stem, number=number, id=one.get("id"))
    return NotebookCell(source=source)
