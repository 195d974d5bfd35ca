import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from operator import attrgetter
from typing import ClassVar

import psutil
import pytest
import torch
from joblib import Parallel, delayed

from jsigr_lib.method.errors import InputError
from jsigr_lib.networks.zoo import Training
from jsigr_lib.store import specs
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.files import alone
from jsigr_lib.store.hardware import one_thread
from jsigr_lib.store.keys import Code
from jsigr_lib.store.paths import ROOT
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tensor_files import read, write
from tests.strangers import each_stranger, promptly


class Toy(Spec):
    """Its tensor is `n` plus those of its parents."""

    kind: ClassVar[str] = "toy"
    computed: ClassVar[list[str]] = []
    name: str
    n: float = 1.0
    parents: tuple["Toy", ...] = ()

    def needs(self):
        return list(self.parents)

    def work(self):
        return self.n

    def compute(self, store, device):
        self.computed.append(self.name)
        if self.n < 0:
            raise KeyboardInterrupt
        inherited = sum(store.get(parent).tensors["x"] for parent in self.parents)
        return {"x": torch.full((2,), self.n) + inherited}, {"name": self.name}


class Other(Toy):
    kind: ClassVar[str] = "other"


@pytest.fixture(autouse=True)
def nothing_computed():
    Toy.computed.clear()


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


# digests


def test_digest_is_what_it_always_was(monkeypatch):
    """The same in every process, whatever Python's hash seed; a change here discards everything ever trained."""
    monkeypatch.setattr(specs, "_code", lambda *_: Code("code", {}, {"torch": "2"}))
    assert Toy(name="a", n=2, parents=(Toy(name="p"),)).digest == "5f5e9cea2d273897"


def test_digest_counts_kind_fields_nested_specs_and_order():
    base = Toy(name="a")
    changed = [
        Other(name="a"),
        Toy(name="b"),
        Toy(name="a", n=2),
        Toy(name="a", parents=(Toy(name="p"),)),
        Toy(name="a", parents=(Toy(name="q"),)),
        Toy(name="a", parents=(Toy(name="p"), Toy(name="q"))),
        Toy(name="a", parents=(Toy(name="q"), Toy(name="p"))),
        Toy(name="a", parents=(Toy(name="p", parents=(Toy(name="q"),)),)),
    ]
    digests = {spec.digest for spec in [base, *changed]}
    assert len(digests) == len(changed) + 1
    assert Toy(name="a", n=1.0, parents=()).digest == base.digest


def test_digest_counts_code_and_libraries(monkeypatch):
    def digest(code="a", torch="1"):
        monkeypatch.setattr(specs, "_code", lambda *_: Code(code, {}, {"torch": torch}))
        return Toy(name="x").digest

    assert digest() == digest()
    assert len({digest(), digest(code="b"), digest(torch="2")}) == 3


def test_digest_counts_what_is_needed_and_no_field():
    class Hidden(Toy):
        def needs(self):
            return [Toy(name="p", n=self.n)]

    class Alike(Toy):
        def needs(self):
            return [Toy(name="q", n=self.n)]

    assert Hidden(name="a").parts["needs.0"].name == "p"
    assert Hidden(name="a").digest != Alike(name="a").digest


# the store


def test_get_computes_once_and_says_how(store):
    spec = Toy(name="a", n=3, parents=(Toy(name="p", n=2),))
    assert spec not in store
    first = store.get(spec)
    assert first.tensors["x"].tolist() == [5, 5]
    assert spec in store and spec.parents[0] in store
    assert Toy.computed == ["a", "p"]
    assert torch.equal(store.get(spec).tensors["x"], first.tensors["x"])
    assert Toy.computed == ["a", "p"]
    assert first.facts["spec"] == json.loads(spec.model_dump_json())
    assert first.facts["code"] == {"": spec.code.files, "parents.0": spec.code.files}
    assert first.facts["libraries"] == {"torch": torch.__version__}
    assert first.facts["work"] == 3
    assert first.facts["cpu_seconds"] >= 0
    assert (first.facts["name"], first.facts["torch"]) == ("a", torch.__version__)
    assert first.facts["seconds"] >= 0
    assert str(os.cpu_count()) in first.facts["machine"]


def test_on_a_cuda_device_sums_have_one_order(tmp_path, monkeypatch):
    """And TF32 is off, from the moment that a store is opened for it; for the CPU, nothing is set."""
    matmul, cudnn, name = torch.backends.cuda.matmul, torch.backends.cudnn, "CUBLAS_WORKSPACE_CONFIG"
    monkeypatch.setenv(name, "")
    monkeypatch.delenv(name)
    flags = ((matmul, "allow_tf32"), (cudnn, "allow_tf32"), (cudnn, "benchmark"))
    before = [getattr(*one) for one in flags]
    try:
        for one in flags:
            setattr(*one, True)
        Store(tmp_path)
        assert matmul.allow_tf32 and name not in os.environ and not torch.are_deterministic_algorithms_enabled()
        Store(tmp_path, "cuda")
        assert not (matmul.allow_tf32 or cudnn.allow_tf32 or cudnn.benchmark)
        assert os.environ[name] == ":4096:8" and torch.are_deterministic_algorithms_enabled()
    finally:
        for one, value in zip(flags, before, strict=True):
            setattr(*one, value)
        torch.use_deterministic_algorithms(False)


def test_path_is_kind_and_digest(store):
    spec = Other(name="a")
    assert store.path(spec) == store.root / "other" / f"{spec.digest}.safetensors"
    assert store.checkpoint(spec).parent == store.root / "checkpoints"


@pytest.mark.parametrize("place", ["path", "checkpoint"])
def test_damaged_file_of_a_store_is_set_aside(store, place):
    spec = Toy(name="a")
    path = getattr(store, place)(spec)
    write(path, {"x": torch.zeros(3)}, {})
    path.write_bytes(path.read_bytes()[:-3])
    damaged = path.read_bytes()
    with pytest.raises(InputError, match=rf"^{path} is no .*set aside as {spec.digest}.damaged; the same command"):
        read(path)
    assert os.listdir(path.parent) == [f"{spec.digest}.damaged"]
    assert path.with_suffix(".damaged").read_bytes() == damaged
    assert store.get(spec).tensors["x"].tolist() == [1, 1]


class Finite(Toy):
    kind: ClassVar[str] = "finite"
    finite: ClassVar[bool] = True


def test_values_that_are_not_finite_are_set_aside_and_made_again(store):
    spec = Finite(name="a")
    write(store.path(spec), {"x": torch.tensor([1.0, math.nan])}, store.get(spec).facts)  # all sums are right
    with pytest.raises(InputError, match=rf"^{store.path(spec)} has values .* not finite; set aside as {spec.digest}"):
        store.get(spec)
    assert store.get(spec).tensors["x"].tolist() == [1, 1]
    assert store.get(Toy(name="b", n=math.inf)).tensors["x"].tolist() == [math.inf, math.inf]  # distances may be


def test_what_runs_off_to_infinity_is_not_kept(store):
    """Nor is the state that the next run would go on from."""
    spec = Finite(name="a", n=math.inf)
    write(store.checkpoint(spec), {}, {})
    with pytest.raises(InputError, match="no longer finite; accepted: "):
        store.get(spec)
    assert spec not in store and not store.checkpoint(spec).exists()


@each_stranger
def test_a_stranger_in_the_place_of_an_artefact_stops_no_run_twice(store, stranger):
    spec = Toy(name="a")
    store.path(spec).parent.mkdir(parents=True)
    stranger(store.path(spec))
    with promptly():
        if spec in store:  # a link that leads nowhere is not
            with pytest.raises(InputError, match="set aside as"):
                store.get(spec)
        assert store.get(spec).tensors["x"].tolist() == [1, 1]


def test_file_that_cannot_be_read_is_left_alone(monkeypatch, store):
    """It may be whole: a permission, a network folder that is away."""
    spec = Toy(name="a")
    store.get(spec)
    monkeypatch.setattr("builtins.open", lambda *args: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(InputError, match=r"^cannot read .* \(Permission denied\)"):
        store.get(spec)
    monkeypatch.undo()
    assert os.listdir(store.path(spec).parent) == [f"{spec.digest}.safetensors"]


def test_artefact_that_another_run_completes_meanwhile_is_taken(store):
    """It removed the checkpoint that this run was about to read."""

    class Shared(Toy):
        def compute(self, store, device):
            write(store.path(self), {"x": torch.full((2,), 7.0)}, {"name": "another run's"})
            return {"x": read(store.checkpoint(self)).tensors["x"]}, {}

    assert store.get(Shared(name="a")).tensors["x"].tolist() == [7, 7]
    assert store.get(Shared(name="a")).facts["name"] == "another run's"


def test_make_begins_with_the_longest_chain(store):
    roots = [Toy(name="small", n=1), Toy(name="large", n=9), Toy(name="middle", n=5)]
    child = Toy(name="child", n=100, parents=tuple(roots))
    grandchild = Toy(name="grandchild", n=2, parents=(child, roots[0]))
    lone = Toy(name="lone", n=7)
    assert [[spec.name for spec in wave] for wave in store.missing([grandchild, lone, grandchild])] == [
        ["large", "lone", "middle", "small"],
        ["child"],
        ["grandchild"],
    ]
    store.make([grandchild, lone, grandchild])
    assert Toy.computed == ["large", "middle", "small", "child", "lone", "grandchild"]
    assert store.missing([grandchild, lone, child, *roots]) == []
    assert store.get(grandchild).tensors["x"].tolist() == [118, 118]


def test_make_skips_what_exists(store):
    parent = Toy(name="parent")
    child, new = Toy(name="child", parents=(parent,)), Toy(name="new", parents=(parent,))
    store.make([child])
    Toy.computed.clear()
    store.path(parent).unlink()
    store.make([child])
    assert Toy.computed == []  # a parent is made for a child that is missing, and for no other reason
    store.make([child, new])
    assert Toy.computed == ["parent", "new"]


def test_progress_reaches_the_total(store):
    made = []
    parent = Toy(name="parent", n=4)
    specs = [Toy(name="a", n=1, parents=(parent,)), Toy(name="b", n=3, parents=(parent,))]
    store.make(specs, lambda spec, done, total: made.append((spec.name, done, total)))
    assert made == [("parent", 4, 8), ("b", 7, 8), ("a", 8, 8)]
    store.make(specs, lambda *args: pytest.fail("nothing was missing"))


def test_progress_counts_by_any_cost(store):
    seen = []
    store.make(
        [Toy(name="a", n=1), Toy(name="b", n=3)],
        lambda spec, done, total: seen.append((done, total)),
        cost=lambda spec: 10 - spec.n,
    )
    assert seen == [(7, 16), (16, 16)]


def test_killed_computation_leaves_no_artefact(store):
    specs = [Toy(name="first", n=2), Toy(name="killed", n=-1), Toy(name="never", n=-2)]
    with pytest.raises(KeyboardInterrupt):
        store.make(specs)
    assert Toy.computed == ["first", "killed"]
    assert [path.name for path in store.root.rglob("*") if path.is_file()] == [f"{specs[0].digest}.safetensors"]
    assert [spec in store for spec in specs] == [True, False, False]


def test_leftovers_of_a_killed_run_are_harmless_and_swept(monkeypatch, store):
    """But not those of processes that live, or that are on another machine and cannot be asked."""
    monkeypatch.setattr(platform, "node", lambda: "this.machine")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    spec = Toy(name="a")
    path = store.path(spec)
    path.parent.mkdir(parents=True)
    swept = path.with_suffix(f".this.machine.{gone.pid}.tmp")
    kept = [path.with_suffix(f".{owner}.tmp") for owner in (f"this.machine.{os.getpid()}", f"other.{gone.pid}")]
    for left in (swept, *kept):
        left.write_bytes(b"half")
    assert store.missing([spec]) == [[spec]]
    with open(swept, "ab") as file:  # by a process that has another number here
        assert alone(file)
        store.sweep()
        assert swept.exists()
    store.sweep()
    assert sorted(path.parent.iterdir()) == sorted(kept)
    assert store.get(spec).tensors["x"].tolist() == [1, 1]


@each_stranger
def test_a_stranger_that_is_called_like_a_temporary_file_is_no_obstacle(monkeypatch, store, stranger):
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: False)
    (store.root / "toy").mkdir(parents=True)
    stranger(store.root / "toy" / f"a.{platform.node()}.1.tmp")
    with promptly():
        store.sweep()


class Fatal(Toy):
    """Its worker is killed, as by a system that is out of memory; or its fault is one of input."""

    def compute(self, store, device):
        if self.name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.name == "wrong":
            raise InputError("eps = 2")
        time.sleep(self.n)
        return {"x": torch.ones(2)}, {}


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [("killed", RuntimeError, r"^a worker process was killed, .*--jobs 1"), ("wrong", InputError, "^eps = 2$")],
)
def test_failure_in_a_worker_is_one_line_and_ends_the_others(tmp_path, name, error, said):
    store = Store(tmp_path, jobs=2)
    with pytest.raises(error, match=said) as raised:
        store.make([Fatal(name="slow", n=600), Fatal(name=name)])
    assert "\n" not in str(raised.value)
    workers = [p for p in psutil.Process().children(recursive=True) if "popen_loky" in " ".join(p.cmdline())]
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    Store(tmp_path, jobs=2).make([Fatal(name="next", n=0), Fatal(name="one", n=0.1)])


ENDLESS = """
import sys, time
from pathlib import Path
from typing import ClassVar
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec

class Endless(Spec):
    kind: ClassVar[str] = "endless"
    n: int

    def compute(self, store, device):
        (store.root / f"{self.n}.begun").touch()
        time.sleep(600)

if __name__ == "__main__":
    from endless import Endless  # by a name that its workers can import
    Store(Path(sys.argv[1]), jobs=4).make([Endless(n=1), Endless(n=2)])
"""


def test_workers_end_with_a_killed_run_those_without_a_task_too(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    run = subprocess.Popen([sys.executable, tmp_path / "endless.py", tmp_path], env=environment)
    try:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("*.begun"))) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(3)  # those that come late have begun to wait
        workers = [one for one in psutil.Process(run.pid).children() if "popen_loky" in " ".join(one.cmdline())]
    finally:
        run.kill()
        run.wait()
    _, left = psutil.wait_procs(workers, timeout=10)
    for one in left:
        one.kill()
    assert len(workers) == 4 and left == []


def test_complete_artefact_drops_its_checkpoint(store):
    spec = Toy(name="a")
    write(store.checkpoint(spec), {}, {})
    write(store.checkpoint(Toy(name="b")), {}, {})
    store.get(spec)
    assert not store.checkpoint(spec).exists()
    assert store.checkpoint(Toy(name="b")).exists()


def test_one_thread_gives_the_others_back(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    with pytest.raises(ZeroDivisionError), one_thread():
        assert calls == [1]
        raise ZeroDivisionError
    assert calls == [1, 5]


def test_other_processes_agree(tiny, study, tmp_path):
    """On every digest, whatever their hash seed, and on every byte of what they make."""
    other = tiny(tmp_path / "runs", jobs=2)
    specs = [other.training("jsigr"), other.training("pgd")]
    fresh = [Training.model_validate_json(spec.model_dump_json()) for spec in specs]
    seen = []
    digests = Parallel(n_jobs=2)(delayed(attrgetter("digest"))(spec) for spec in fresh)
    other.store.make(specs, lambda spec, done, total: seen.append(done / total))
    assert digests == [spec.digest for spec in specs]
    assert len(seen) == 3  # the data, then the two networks
    assert seen[-1] == pytest.approx(1)
    for spec in specs:
        parallel, serial = other.get(spec), study.get(spec)
        assert parallel.tensors.keys() == serial.tensors.keys()
        assert all(torch.equal(parallel.tensors[name], serial.tensors[name]) for name in serial.tensors)
        assert parallel.facts["history"] == serial.facts["history"]
