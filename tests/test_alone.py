"""The method alone: the wheel, installed where there is nothing but torch, does what docs/use.md shows."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from jsigr_lib.store.paths import ROOT

OLDEST = "2.3.1"  # of the releases that pyproject.toml accepts
ABSENT = ("captum", "jaxtyping", "numpy", "pandas", "pyautoattack", "pydantic", "scipy", "torchvision", "typer")
USE = (ROOT / "docs" / "use.md").read_text(encoding="utf-8")
(SNIPPET,) = (block for block in re.findall(r"```python\n(.*?)```", USE, re.DOTALL) if "JSIGR(lambda_j" in block)

MORE = """
from jsigr_lib import Objective, Selection
from jsigr_lib.method import attacks, defences
assert mask.shape == maps.shape == (32, 1, 28, 28)
assert set(objective.terms) == {"cross_entropy", "jacobian", "selective"}

net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))
for name in attacks.ATTACKS:
    if name not in ("square", "autoattack"):
        change = (attacks.run(name, net, x, y, eps=0.1) - x).abs().max()
        assert 0.05 < change < 0.1 + 1e-6, name
options = [{"estimator": "exact"}, {"estimator": "double-backprop"}, {"norm": "l1"}, {"fraction": 1.0}]
objectives = [JSIGR(0.01, 1.0, **one) for one in options]
objectives += [defences.build(name, eps=0.1) for name in ("adversarial", "trades", "otjr")]
objectives += [defences.build("scaleable-input-gradient", lambda_s=1.0)]
for objective in objectives:
    net.zero_grad()
    objective(net, x, y).backward()
    assert all(weight.grad.isfinite().all() for weight in net.parameters()), objective
linearised = perturbation_saliency(net, x, y, method="linearised")
assert linearised.shape == maps.shape and selection_mask(linearised, share=0.2).mean().round(decimals=1) == 0.2
print("torch", torch.__version__)
"""


def output(*command: str | Path, code: int = 0, **options) -> str:
    """What a command prints, on either stream; it has to end with that exit code."""
    ended = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    assert ended.returncode == code, ended.stdout
    return ended.stdout


def pip(python: Path, *arguments: str | Path, **options) -> None:
    """Our pip at work on that environment."""
    output(sys.executable, "-m", "pip", "--python", python, "--quiet", "install", *arguments, **options)


def pip_offline(python: Path, wheel: Path) -> None:
    """The wheel, and no other file: whatever it asks for has to be there."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    pip(python, "--no-index", wheel, env={**settings, "PIP_CONFIG_FILE": os.devnull})


def environment(folder: Path) -> Path:
    """The Python of a new environment, in which nothing is installed."""
    venv.create(folder, symlinks=True)
    return folder / "bin" / "python"


def needed_by(package: str) -> set[str]:
    """The package and all that it asks for, directly or not, with the extras that it asks for."""
    found, left = set(), [Requirement(package)]
    while left:
        one = left.pop()
        if str(one) not in found:
            found.add(str(one))
            asked = map(Requirement, importlib.metadata.requires(one.name) or [])
            chosen = [{"extra": extra} for extra in ("", *one.extras)]
            left += [other for other in asked if other.marker is None or any(map(other.marker.evaluate, chosen))]
    return {Requirement(one).name for one in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    output(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=ROOT)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def alone(wheel, tmp_path_factory) -> Path:
    """The Python of an environment that has the wheel, and sees torch as this one has it and what torch asks for. Those
    are links in a folder outside the environment: what lies there counts for pip, and it never touches it."""
    python, seen = environment(tmp_path_factory.mktemp("alone")), tmp_path_factory.mktemp("seen")
    for name in needed_by("torch"):
        about = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in about.files} - {"..", "__pycache__"}:
            if not (seen / top).exists():
                (seen / top).symlink_to(about.locate_file(top))
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    (packages / "seen.pth").write_text(f"{seen}\n")
    pip_offline(python, wheel)
    return python


def test_oldest_torch_is_the_one_that_is_tested():
    (declared,) = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert OLDEST.startswith(declared.removeprefix("torch>="))


def test_method_works_with_torch_alone(alone, tmp_path):
    missing = f"import importlib.util\nassert not any(map(importlib.util.find_spec, {ABSENT}))\n"
    assert f"torch {torch.__version__}" in output(alone, "-c", missing + SNIPPET + MORE, cwd=tmp_path)


LACKING = {
    "from jsigr_lib import pretrained": r"jsigr_lib.pretrained needs the package \w+; pip install 'jsigr\[study]'",
    "attacks.run('square', model, x, y, eps=0.1)": (
        r"AutoAttack needs the package pyautoattack; pip install 'jsigr\[measure]'"
    ),
    "attributions.saliency_map('grad-cam', model, x, y)": (
        r"the map 'grad-cam' needs the package captum; pip install 'jsigr\[measure]'"
    ),
}


def test_what_an_extra_is_missing_for_is_said(alone, tmp_path):
    code = "import jsigr_lib, torch; from jsigr_lib import attacks, attributions\n"
    code += "x, y, model = torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), torch.nn.Flatten()\n"
    for line in LACKING:
        code += f"try: {line}\nexcept jsigr_lib.InputError as error: print(error)\n"
    said = output(alone, "-c", code, cwd=tmp_path).splitlines()[-len(LACKING) :]
    assert all(map(re.fullmatch, LACKING.values(), said)), said


def test_the_command_says_in_one_line_what_it_needs(alone, tmp_path):
    said = output(alone.with_name("jsigr"), "plan", code=2, cwd=tmp_path).splitlines()[-1]
    assert re.fullmatch(r"the command jsigr needs the package \w+; pip install 'jsigr\[companion]'", said)


def test_networks_of_the_repository_are_not_in_the_wheel(wheel, tmp_path):
    """Installed with all extras."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "from jsigr_lib import pretrained\ntry: pretrained.load('jsigr')\nexcept ValueError as error: print(error)"
    said = output(sys.executable, "-c", code, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    reason = "the networks are in the repository and not in the installed package"
    remedy = "give pretrained.load the folder data/pretrained of a checkout"
    assert said == f"{tmp_path}/data/pretrained/fashion-mnist does not exist; {reason}: {remedy}\n"


@pytest.mark.torture
def test_method_works_with_the_oldest_torch(wheel, tmp_path):
    """Three gigabytes to download, on Linux."""
    python = environment(tmp_path / "oldest")
    try:
        pip(python, f"torch=={OLDEST}", "packaging", timeout=900)  # which torch 2.3 forgets to ask for
    except (AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"torch {OLDEST} cannot be installed here: {str(error).splitlines()[-1]}")
    pip_offline(python, wheel)
    assert f"torch {OLDEST}" in output(python, "-c", SNIPPET + MORE, cwd=tmp_path)
