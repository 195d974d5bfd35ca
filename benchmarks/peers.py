"""Other people's code: where it is found, which version it is, and how to get it. None of it is in this repository."""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from jsigr_lib.method.errors import InputError
from jsigr_lib.store.paths import ROOT

PACKAGES = ("foolbox", "adversarial-robustness-toolbox", "captum")
"""Those of the `bench` extra."""


@dataclass(frozen=True)
class Peers:
    """What a run has at hand. `versions` names every peer that is there, `missing` how to get every other."""

    jacobian_reg: type | None
    torchattacks: Path | None
    versions: dict[str, str]
    missing: dict[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.versions


def find(jacobian_regularizer: Path | None, torchattacks: Path | None) -> Peers:
    """Look for every peer. Raises InputError for a path that was given and holds none."""
    versions, missing = {}, {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            missing[name] = "pip install -e '.[bench]'"
    jacobian_reg = None
    if jacobian_regularizer:
        jacobian_reg, versions["jacobian_regularizer"] = load_jacobian_reg(jacobian_regularizer)
    else:
        missing["jacobian_regularizer"] = (
            "git clone https://github.com/facebookresearch/jacobian_regularizer, then --jacobian-regularizer PATH"
        )
    if torchattacks:
        torchattacks = Path(torchattacks).absolute()  # and no further: a venv's Python is a link
        versions["torchattacks"] = torchattacks_version(torchattacks)
    else:
        missing["torchattacks"] = "a venv of its own with torchattacks and torch, then --torchattacks PATH/bin/python"
    return Peers(jacobian_reg, torchattacks, versions, missing)


def load_jacobian_reg(repository: Path) -> tuple[type, str]:
    """Hoffman's JacobianReg from a clone of its repository, and the hash of the file as its version."""
    path = Path(repository) / "jacobian" / "jacobian.py"
    spec = spec_from_file_location("jacobian_regularizer", path)
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        regulariser = module.JacobianReg
    except Exception as error:  # of someone else's code
        raise InputError(
            f"--jacobian-regularizer {repository}: no jacobian/jacobian.py in it that can be used "
            f"({type(error).__name__}); accepted: a clone of https://github.com/facebookresearch/jacobian_regularizer"
        ) from None
    return regulariser, f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def torchattacks_version(python: Path) -> str:
    """The version in that interpreter's environment, and that of its torch."""
    accepted = "accepted: the Python of an environment with torchattacks and torch"
    code = "import torch, torchattacks; print(torchattacks.__version__, 'with torch', torch.__version__)"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=300)
    except OSError as error:
        raise InputError(f"--torchattacks {python}: {error.strerror}; {accepted}") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"--torchattacks {python}: it does not end; {accepted}") from None
    if done.returncode or not done.stdout.strip():
        raise InputError(f"--torchattacks {python}: {_last_line(done.stderr)}; {accepted}")
    return done.stdout.strip()


def run_elsewhere(python: Path, module: str, arguments: dict) -> object:
    """What `python -m module` prints for some arguments, both as JSON. Raises RuntimeError if it fails."""
    command = [python, "-m", module, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{module} failed in {python}: {_last_line(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
