"""Where this process stands: the library's code, the software and machine below it, the notebook cell above it."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

import jsigr_lib
from jsigr_lib.artefacts import machine
from jsigr_lib.paths import NOTEBOOKS, PACKAGE, ROOT

SOURCES = ("jsigr_lib", "data", ":(glob)notebooks/*.ipynb", ":(glob)*.toml", "DEVIATIONS.md")
"""What results depend on, as git's pathspecs: a new figure does not make the tree a modified one."""


class Facts(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Code(Facts):
    version: str
    commit: str | None
    modified: bool | None  # None without git
    sources: str


class Environment(Facts):
    python: str
    machine: str
    packages: dict[str, str]


class Cell(Facts):
    """Of a source notebook, counted from 1 with the Markdown cells; only the source where it is in none of them."""

    source: str
    notebook: str | None = None
    number: int | None = None
    id: str | None = None


@cache
def code() -> Code:
    """The library that this process runs."""
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--", *SOURCES) if commit else None
    return Code(
        version=jsigr_lib.__version__,
        commit=commit,
        modified=None if status is None else bool(status),
        sources=sources(),
    )


def sources() -> str:
    """Hash over every file of the library."""
    files = sorted(path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    lines = (f"{path.relative_to(PACKAGE).as_posix()} {sha256(path.read_bytes())}\n" for path in files)
    return sha256("".join(lines).encode())


def _git(*arguments: str) -> str | None:
    """What git says of the repository; None without git, or if the package lies in a repository that is not its own."""
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        said = [
            subprocess.run(
                ["git", *command],
                cwd=ROOT,
                env={**surroundings, "GIT_OPTIONAL_LOCKS": "0"},
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            ).stdout.strip()
            for command in (("rev-parse", "--show-toplevel"), arguments)
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return said[1] if Path(said[0]).resolve() == ROOT else None


def environment(device: torch.device) -> Environment:
    """Python, the machine, and the versions of all packages that the library asks for."""
    hardware = f"{machine(device)}, {torch.backends.cpu.get_cpu_capability()}, {platform.system()}"
    return Environment(python=platform.python_version(), machine=hardware, packages=_packages())


@cache
def _packages() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in sorted(_asked_for())}


def _asked_for() -> set[str]:
    """The packages that a run asks for: those of every extra but the developers'."""
    lines = importlib.metadata.requires("jsigr") or []
    found = (re.match(r"""([\w.-]+)(?:.*extra == ['"](\w+))?""", line).groups() for line in lines)
    return {name for name, extra in found if extra not in ("dev", "bench") and name != "jsigr"}


def cell() -> Cell | None:
    """The running cell of a notebook; None in a script."""
    from IPython import get_ipython  # here, as it is slow to import and not always needed

    shell = get_ipython()
    if shell is None or not shell.history_manager.input_hist_raw:
        return None
    source = shell.history_manager.input_hist_raw[-1]
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for number, one in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"], 1):
            if one["cell_type"] == "code" and "".join(one["source"]).rstrip("\n") == source:
                return Cell(source=source, notebook=path.stem, number=number, id=one.get("id"))
    return Cell(source=source)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
