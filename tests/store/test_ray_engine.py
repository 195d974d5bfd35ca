"""What goes to a node and what comes back, through a Ray in this process: no package and no cluster is needed."""

import pickle
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from jsigr_lib.method.errors import InputError
from jsigr_lib.store import ray_engine
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.engines import AHEAD
from jsigr_lib.store.ray_engine import RayEngine
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tensor_files import read, write


class Grain(Spec):
    kind: ClassVar[str] = "grain"
    n: int
    parents: tuple["Grain", ...] = ()

    def needs(self):
        return list(self.parents)

    def compute(self, store, device):
        if self.n < 0:
            raise InputError("n < 0")
        drawn = torch.randn(30, generator=torch.Generator().manual_seed(self.n))
        drawn = drawn + sum(store.get(one).tensors["x"] for one in self.parents)
        write(store.checkpoint(self), {}, {})  # as a long computation leaves it
        return {"x": drawn, "half": drawn.half(), "sign": drawn > 0}, {"n": self.n}


class Careless(Grain):
    """It loads what it does not say that it needs."""

    kind: ClassVar[str] = "careless"

    def compute(self, store, device):
        return dict(store.get(Grain(n=99)).tensors), {}


class TaskError(Exception):
    @property
    def cause(self):
        return self.__cause__


class Ray:
    """Each call on another side of a wall that only bytes pass. `sent` counts what was put, `fetched` what was read."""

    def __init__(self):
        self.objects, self.sent, self.fetched, self.settings = [], 0, 0, {}
        self.exceptions = SimpleNamespace(RayTaskError=TaskError, RayError=ConnectionError)

    def init(self, address, **settings):
        self.settings, self.shipped = settings, settings["runtime_env"]["py_modules"]

    def is_initialized(self):
        return bool(self.settings)

    def shutdown(self):
        self.settings = {}

    def cluster_resources(self):
        return {"CPU": 8.0, "GPU": 0.5}

    def get_runtime_context(self):
        return SimpleNamespace(get_node_id=lambda: "0123456789ab")

    def put(self, content):
        self.objects.append(content)
        self.sent += 1
        return len(self.objects) - 1

    def get(self, reference):
        if isinstance(reference, int):
            self.fetched += 1
            return self.objects[reference]
        try:
            function, arguments = pickle.loads(reference)
            return pickle.loads(pickle.dumps(function(*arguments)))
        except (InputError, RuntimeError) as error:
            raise TaskError from error

    def remote(self, **options):
        self.options = options
        return lambda function: SimpleNamespace(remote=lambda *arguments: pickle.dumps((function, arguments)))

    def wait(self, references, num_returns):
        return references[-num_returns:], references[:-num_returns]


@pytest.fixture
def ray(monkeypatch, tmp_path) -> Ray:
    made = Ray()
    monkeypatch.setitem(sys.modules, "ray", made)
    monkeypatch.setattr(ray_engine, "_resources", lambda address: made.cluster_resources())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    return made


ROOTS = tuple(Grain(n=n) for n in range(3))
SPECS = [Grain(n=n, parents=ROOTS[: 1 + n % 3]) for n in range(10, 16)]


def kept(root: Path) -> dict[str, tuple[dict, bytes]]:
    """Artefacts by name: the facts that are not of the moment and the place, and the bytes of the tensors."""
    found = {}
    for path in root.rglob("*.safetensors"):
        content, facts = path.read_bytes(), read(path).facts
        for name in ("seconds", "cpu_seconds", "node"):
            facts.pop(name, None)
        found[str(path.relative_to(root))] = facts, content[8 + int.from_bytes(content[:8], "little") :]
    return found


def test_what_comes_back_has_the_bytes_of_a_local_run(ray, tmp_path):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    here.make(SPECS)
    there.make(SPECS, engine=RayEngine("head:1"))
    assert len(kept(here.root)) == 9 and kept(here.root) == kept(there.root)
    assert there.get(SPECS[0]).facts["node"].endswith(", 01234567")
    assert not ray.is_initialized()


def test_a_node_keeps_what_it_was_sent_once_and_nothing_else(ray, tmp_path):
    Store(tmp_path / "runs").make(SPECS, engine=RayEngine("head:1"))
    (cache,) = (tmp_path / "node").iterdir()
    assert sorted(path.stem for path in cache.glob("*/*")) == sorted(one.digest for one in ROOTS)
    assert cache.stat().st_mode & 0o77 == 0
    assert ray.sent == ray.fetched == len(ROOTS)


def test_memory_of_the_run_is_bounded(ray, tmp_path, monkeypatch):
    """What was let go is sent to the memory again, but not to a node that has it."""
    monkeypatch.setattr(ray_engine, "HELD", 1)
    Store(tmp_path / "runs").make(SPECS, engine=RayEngine("head:1"))
    assert ray.sent > len(ROOTS) and ray.fetched == len(ROOTS)


def test_a_task_is_what_was_asked_for(ray, tmp_path, monkeypatch):
    engine = RayEngine("head:1", gpus=0.25, retries=5)
    assert engine.slots() == 2 * AHEAD
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^torch finds no GPU on .*; accepted: a torch with CUDA"):
        Store(tmp_path / "runs").make(ROOTS, engine=engine)
    assert ray.options == {"num_cpus": 1, "num_gpus": 0.25, "max_retries": 5, "scheduling_strategy": "SPREAD"}
    assert [Path(one).name for one in ray.shipped] == ["jsigr_lib"]
    with pytest.raises(InputError, match=r"^the cluster at 'head:1' has not 0.75 of a GPU for a task; accepted: "):
        RayEngine("head:1", gpus=0.75)


def test_bad_input_on_a_node_is_its_one_line(ray, tmp_path):
    with pytest.raises(InputError, match=r"^n < 0$"):
        Store(tmp_path / "runs").make([Grain(n=-1)], engine=RayEngine("head:1"))


def test_a_node_does_not_make_what_a_task_did_not_say_that_it_needs(ray, tmp_path):
    with pytest.raises(RuntimeError, match=rf"^grain/{Grain(n=99).digest} was not sent to "):
        Store(tmp_path / "runs").make([Careless(n=1)], engine=RayEngine("head:1"))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_damaged_artefact_is_set_aside_before_it_is_sent(ray, tmp_path):
    store = Store(tmp_path / "runs")
    store.make(ROOTS)
    path = store.path(ROOTS[0])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"^{path} is no complete artefact .*; set aside as "):
        store.make(SPECS, engine=RayEngine("head:1"))
    store.make(SPECS, engine=RayEngine("head:1"))


def test_lost_tasks_are_one_line(ray, tmp_path, monkeypatch):
    def lost(reference):
        raise ConnectionError("the node died\nand more")

    monkeypatch.setattr(ray, "get", lost)
    with pytest.raises(RuntimeError, match=r"^a task was lost, with all its retries: the node died and more$"):
        Store(tmp_path / "runs").make([Grain(n=1)], engine=RayEngine("head:1"))
