"""Tiny models in float64 whose Jacobians can be written down, a tiny study, and how tests share one machine.

`make test` runs in two processes and leaves out the tests marked `torture`; `make torture` runs everything.
"""

import fcntl
import json
import os
import pickle
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor, nn

from jsigr_lib.measure import boundary as distances
from jsigr_lib.pipeline import pipeline
from jsigr_lib.records import record
from jsigr_lib.site import site
from jsigr_lib.store import keys, specs
from jsigr_lib.store.files import sha256
from jsigr_lib.study import (
    estimators,
    known_truth,
    linearised_tables,
    map_tables,
    robustness,
    sources,
    verdicts,
    weights,
)
from jsigr_lib.study.cells import robustness_cells
from jsigr_lib.study.claims import load_claims
from jsigr_lib.study.study import Study

torch.set_num_threads(1)

BATCH, CHANNELS, HEIGHT, WIDTH, CLASSES = 4, 2, 4, 5, 3
PIXELS = CHANNELS * HEIGHT * WIDTH


def pytest_addoption(parser):
    parser.addoption("--torture", action="store_true", help="every test at full size, as `make torture` does")


def pytest_collection_modifyitems(config, items):
    """Leave out torture unless it is asked for, and order the rest for two processes, which take a half each.

    What is slow comes first, and what shares a slow fixture stays together: one process begins with the smoke run and
    the faults, the other with servers and browser.
    """
    if not config.option.torture:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("torture")])
        items[:] = [item for item in items if not item.get_closest_marker("torture")]
    shown = [item for item in items if {"served", "browser"} & set(item.fixturenames)]
    slow = [item for item in items if item.get_closest_marker("slow") and item not in shown]
    quick = [item for item in items if not item.get_closest_marker("slow") and item not in shown]
    slow.sort(key=lambda item: item.path.name)  # the smoke run, the faults, and last what is taken over without loss
    half = max(0, len(items) // 2 - len(slow))
    items[:] = slow + quick[:half] + shown + quick[half:]


def common_folder(config) -> Path | None:
    """What the processes of pytest-xdist have in common; None where there is one process."""
    return Path(config.option.basetemp).parent if hasattr(config, "workerinput") else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test marked `alone` waits until no other process runs a test, and others wait for it."""
    folder, alone = common_folder(item.config), item.get_closest_marker("alone")
    if folder is None:
        return (yield)
    with locked(folder / "room", fcntl.LOCK_EX if alone else fcntl.LOCK_SH, door=folder / "door"):
        return (yield)


@contextmanager
def locked(path: Path, how: int, *, door: Path):
    """Whoever waits for the room stands in the door, so that no one else slips in before."""
    with open(path, "w") as room:
        with open(door, "w") as entrance:
            fcntl.flock(entrance, fcntl.LOCK_EX)
            fcntl.flock(room, how)
        yield


class Linear(nn.Module):
    """z = W x, hence J = W."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, PIXELS, dtype=torch.double))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T

    def jacobian(self, x: Tensor) -> Tensor:
        return self.weight.expand(len(x), -1, -1)


class Quadratic(nn.Module):
    """z_k = 1/2 x^T A_k x, hence row k of J is (A_k + A_k^T) x / 2."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, PIXELS, PIXELS, dtype=torch.double) / PIXELS**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bn,knm,bm->bk", x.flatten(1), self.weight, x.flatten(1)) / 2

    def jacobian(self, x: Tensor) -> Tensor:
        return torch.einsum("knm,bm->bkn", self.weight + self.weight.mT, x.flatten(1)) / 2


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def x(fixed_seed) -> Tensor:
    return torch.rand(BATCH, CHANNELS, HEIGHT, WIDTH, dtype=torch.double)


@pytest.fixture
def y() -> Tensor:
    return torch.tensor([0, 2, 1, 0])


@pytest.fixture
def linear(fixed_seed) -> Linear:
    return Linear()


@pytest.fixture
def quadratic(fixed_seed) -> Quadratic:
    return Quadratic()


@pytest.fixture(params=[Linear, Quadratic])
def analytic(request, fixed_seed) -> nn.Module:
    """A model with its Jacobian [batch, classes, pixels] as a formula, `model.jacobian(x)`."""
    return request.param()


@pytest.fixture
def net(fixed_seed) -> nn.Module:
    """Smooth and nonlinear."""
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4), nn.Tanh(), nn.Linear(4, CLASSES)).double()


@pytest.fixture
def batch_norm_net(fixed_seed) -> nn.Module:
    """In training mode, except for its dropout, which is in evaluation mode."""
    model = nn.Sequential(
        nn.Conv2d(CHANNELS, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(3 * HEIGHT * WIDTH, CLASSES),
    ).double()
    model[4].eval()
    return model


@pytest.fixture
def publish():
    """publish(folder): a manifest that names its tables, as a run leaves it."""

    def call(folder: Path) -> None:
        tables = {path.name: sha256(path.read_bytes()) for path in folder.glob("*.csv")}
        (folder / record.MANIFEST).write_text(json.dumps({"sha256": tables}))

    return call


@pytest.fixture
def seeded():
    """seeded(n): a generator with seed n."""
    return lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.fixture
def edited(monkeypatch):
    """edited("training", ...): from here on, the code of these files is another one."""
    code = specs._code

    def edit(*files: str) -> None:
        def changed(*things) -> keys.Code:
            found = code(*things)
            now = {name: "another" if name in files else value for name, value in found.files.items()}
            return found if now == found.files else found._replace(digest=f"another {found.digest}", files=now)

        monkeypatch.setattr(specs, "_code", changed)

    return edit


@pytest.fixture(scope="session")
def shared(request, tmp_path_factory) -> Callable:
    """shared(name, make): what make(folder) returns, made once for all processes of this session."""
    top = common_folder(request.config) or tmp_path_factory.getbasetemp()

    def get(name: str, make: Callable):
        folder, kept = top / f"shared-{name}", top / f"shared-{name}.pickle"
        with FileLock(top / f"shared-{name}.lock"):
            if not kept.exists():
                folder.mkdir(exist_ok=True)
                kept.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(kept.read_bytes())

    return get


@pytest.fixture(scope="session")
def smoke_run(shared) -> pipeline.Summary:
    """All five notebooks, executed once through the real pipeline."""
    return shared("smoke", lambda folder: pipeline.run(profile="smoke", out=folder))


@pytest.fixture(scope="session")
def full_site(shared) -> Path:
    """The pages of the published full run."""
    return shared("site", lambda folder: site.build("full", out=folder / "site"))


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[Callable]:
    """served(kind): address, folder and token of what `make lab` or `make voila` serves, each started once, for a user
    whose own configuration lets everyone in."""
    from benchmarks import explorer  # not there where mutants are tested

    with ExitStack() as running:

        @cache
        def started(kind: str) -> tuple[str, Path, str]:
            folder = tmp_path_factory.mktemp(kind) / "root"
            for place in ("", ".jupyter", "config", "more"):  # Voila looks where it starts, too
                open_to_all(folder / place)
            with pytest.MonkeyPatch.context() as patch:
                users = {"HOME": folder, "JUPYTER_CONFIG_PATH": folder / "more", "JUPYTER_TOKEN_FILE": os.devnull}
                for name, value in users.items():
                    patch.setenv(name, str(value))
                url = running.enter_context(explorer.served(kind, folder, token=""))
            return url, folder, own_token(folder / "server.log")

        yield started


def open_to_all(folder: Path) -> None:
    """A configuration of Jupyter's servers without a token, in the files that they look for."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "ServerApp": {"allow_origin": "*", "disable_check_xsrf": True, "allow_remote_access": True},
        "IdentityProvider": {"token": ""},
        "PasswordIdentityProvider": {"password_required": False, "hashed_password": ""},
        "Voila": {"token": "", "tornado_settings": {"allow_origin": "*", "disable_check_xsrf": True}},
    }
    for name in ("jupyter_config", "jupyter_server_config", "jupyter_lab_config", "voila"):
        (folder / f"{name}.json").write_text(json.dumps(settings))
        lines = [f"c.{one}.{key} = {value!r}\n" for one, given in settings.items() for key, value in given.items()]
        (folder / f"{name}.py").write_text("".join(lines))


def own_token(log: Path) -> str:
    """The token that a server made and tells its user."""
    for _ in range(100):
        if found := re.search(r"[?&]token=([0-9a-f]{32,})", log.read_text(encoding="utf-8")):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """Forty small colour pictures of four classes, in the ImageFolder layout."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for label, name in enumerate(("ant", "bee", "cat", "dog")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(10):
                pixels = generator.integers(0, 80, (20 + i, 24, 3)) + 40 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


TINY = {
    "jobs": 1,
    "train_images": 512,
    "validation_images": 64,
    "test_images": 32,
    "saliency_images": 8,
    "saliency_maps": ["gradient", "integrated-gradients", "grad-cam", "perturbation"],
    "sanity_images": 3,
    "truth_images": 64,
    "epochs": 1,
    "surrogate_epochs": 1,
    "batch_size": 16,
    "eps_grid": [0.0, 0.1],
    "pgd_steps": 2,
    "pgd_restarts": 2,
    "square_queries": 5,
    "strong_images": 8,
    "autoattack_images": 8,
    "autoattack": [],
    "estimator_draws": 10,
    "widths": {"small-cnn": 8, "vgg": 4, "mlp": 32},
}


@pytest.fixture(scope="session")
def tiny():
    """tiny(runs, **overrides): a study of the smoke profile that trains a network in a tenth of a second."""
    return lambda runs, **overrides: Study("smoke", **{"runs": runs, "out": runs / "figures", **TINY, **overrides})


@pytest.fixture(scope="session")
def study(tiny, shared, tmp_path_factory) -> Study:
    """One tiny study for all tests, with the artefacts of all processes; they may add some to it, and not damage those
    it has."""
    return tiny(shared("study", lambda folder: folder), out=tmp_path_factory.getbasetemp() / "figures")


@pytest.fixture(scope="session")
def table(study):
    """table(name): a table of the tiny study, made once, with few bootstrap draws."""
    makers = {
        "history": lambda: robustness.history_table(study),
        "accuracy": lambda: robustness.accuracy_table(study, robustness_cells(study)),
        "search": lambda: weights.table(study),
        "sources": lambda: sources.sources_table(study),
        "strength": lambda: sources.strength_table(study),
        "judges": lambda: robustness.judges_table(study, robustness_cells(study), made("accuracy")),
        "cost": lambda: robustness.cost_table(study),
        "measures": lambda: map_tables.measures_table(study),
        "curves": lambda: map_tables.curves_table(study),
        "questions": lambda: map_tables.questions_table(study),
        "cascade": lambda: map_tables.cascade_table(study),
        "known truth": lambda: known_truth.table(study),
        "linearised": lambda: linearised_tables.linearised_table(study),
        "scatter": lambda: estimators.scatter_table(study),
        "trade-offs": lambda: verdicts.trade_offs(study),
        "contrasts": lambda: verdicts.contrasts(study, load_claims()),
    }

    @cache
    def made(name: str):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(distances, "DRAWS", 50)
            return makers[name]()

    return lambda name: made(name).copy()
