"""What is made when, by whom, and what is left if something fails: for an engine whose tasks end as a test says, and
for processes of this machine."""

import pickle
import platform
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from jsigr_lib.method.errors import InputError
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.keys import Code
from jsigr_lib.store.paths import ROOT
from jsigr_lib.store.queue import makespan
from jsigr_lib.store.ray_engine import RayEngine, Received
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tasks import Task


class Step(Spec):
    """Its tensor is `n` and those of its parents. With `waits_for`, it ends only after an artefact of that name. It
    shares what a parent named "x" has made."""

    kind: ClassVar[str] = "step"
    name: str
    n: float = 1.0
    parents: tuple["Step", ...] = ()
    waits_for: str = ""

    def needs(self):
        return list(self.parents)

    @property
    def shares(self):
        return next((one.digest for one in self.parents if one.name == "x"), "")

    def work(self):
        return self.n

    def compute(self, store, device):
        if self.name == "wrong":
            raise InputError("eps = 2")
        until = time.monotonic() + 60
        while self.waits_for and not (store.root / self.waits_for).exists():
            if time.monotonic() > until:
                raise TimeoutError(self.waits_for)
            time.sleep(0.01)
        return {"x": torch.full((2,), self.n) + sum(store.get(one).tensors["x"] for one in self.parents)}, {}


class Source(Step):
    kind: ClassVar[str] = "source"
    here: ClassVar[bool] = True


class Script:
    """An engine whose tasks end in the order of `ends`, or as they began; it keeps the names of those that began
    together, and of those that run at each moment."""

    def __init__(self, slots: int, ends: str = ""):
        self.number, self.ends, self.running, self.begun, self.seen, self.closed = slots, list(ends), {}, [], [], 0

    def slots(self):
        return self.number

    def submit(self, tasks, store):
        names = "".join(task.spec.name for task in tasks)
        self.running[names] = lambda: [task(store) for task in tasks]
        self.begun.append(names)
        return names

    def wait(self, running):
        assert set(running) == self.running.keys()
        self.seen.append("".join(self.running))
        return [self.ends.pop(0) if self.ends else next(iter(self.running))]

    def result(self, ended):
        return self.running.pop(ended)()

    def close(self):
        self.closed += 1


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


def graph(**work: float) -> dict[str, Step]:
    """b - d - e is a chain, and f needs a and c."""
    made: dict[str, Step] = {}
    for name, parents in {"a": "", "b": "", "c": "", "d": "b", "e": "d", "f": "ac"}.items():
        size = {"a": 1.5, "c": 1.2, **work}.get(name, 1)
        made[name] = Step(name=name, n=size, parents=tuple(made[one] for one in parents))
    return made


@pytest.mark.parametrize(("work", "order"), [({}, "bacdfe"), ({"f": 9}, "acfbde"), ({"e": 9}, "bdeacf")])
def test_the_longest_chain_comes_first(store, work, order):
    """Of two of one length that one which was ready first."""
    engine = Script(slots=1)
    store.make(graph(**work).values(), engine=engine)
    assert "".join(engine.seen) == order
    assert engine.closed == 1


def test_nothing_waits_for_what_it_does_not_need(store):
    engine, specs = Script(slots=2, ends="bcdeaf"), graph()
    store.make(specs.values(), engine=engine)
    assert engine.seen == ["ba", "ac", "ad", "ae", "a", "f"]
    assert store.get(specs["e"]).tensors["x"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("slots", "work", "seconds"),
    [
        (1, {}, 6.7),
        (2, {}, 3.5),  # b and a, c, d, f, e
        (3, {}, 3),  # b d e is the longest chain
        (99, {}, 3),
        (2, {"e": 9}, 11),
        (2, {"b": 4}, 6),
        (1, {"f": 9}, 14.7),
    ],
)
def test_the_makespan_is_worked_out_as_it_would_go(slots, work, seconds):
    assert makespan(graph(**work).values(), Step.work, slots) == pytest.approx(seconds)


def test_the_makespan_has_the_order_of_a_run():
    """Chains of work come first, whatever they take. By chains of seconds it would begin with a and c, and take 6."""
    assert makespan(graph(c=0.5).values(), lambda one: 5 if one.name == "f" else 1, 2) == 7


def test_nothing_takes_no_time():
    assert makespan([], Step.work, 1) == 0


def test_an_engine_may_grow(store):
    engine = Script(slots=1)
    store.make(graph().values(), lambda *_: setattr(engine, "number", 3), engine=engine)
    assert engine.seen[:2] == ["b", "acd"]


def test_what_reads_files_of_this_machine_is_made_here(store):
    source = Source(name="s")
    engine, specs = Script(slots=2), [source, Step(name="t", parents=(source,))]
    store.make(specs, engine=engine)
    assert engine.seen == ["t"] and all(spec in store for spec in specs)


X = Step(name="x", n=20)
USERS = [Step(name=name, n=2, parents=(X,)) for name in "abcdefghij"]


@pytest.mark.parametrize(("slots", "sizes"), [(1, [8, 2]), (3, [3, 2, 1, 1, 1, 1, 1]), (10, [1] * 10)])
def test_what_shares_what_it_reads_is_one_task(store, slots, sizes):
    """Of eight at most, and of fewer where some slots would be idle."""
    engine = Script(slots=slots)
    store.make([*USERS, Step(name="z")], engine=engine)
    assert [len(names) for names in engine.begun if set(names) & set("abcdefghij")] == sizes
    assert [engine.begun[0], engine.begun[-1]] == ["x", "z"] or slots > 1
    assert all(store.get(one).tensors["x"].tolist() == [22, 22] for one in USERS)


def test_the_makespan_knows_of_them():
    assert [makespan([X, *USERS], Step.work, slots) for slots in (1, 2, 10)] == [40, 30, 22]


def test_nothing_is_begun_if_nothing_is_missing(store):
    specs = graph().values()
    store.make(specs)
    engine = Script(slots=0)
    store.make(specs, lambda *_: pytest.fail("nothing was missing"), engine=engine)
    assert engine.seen == [] and engine.closed == 1


def test_a_failure_keeps_what_was_made_before_it(store):
    good = Step(name="g", n=9)
    wrong, later = Step(name="wrong", n=5, parents=(good,)), Step(name="l", n=2, parents=(good,))
    engine = Script(slots=1)
    with pytest.raises(InputError, match=r"^eps = 2$"):
        store.make([wrong, later], engine=engine)
    assert engine.seen == ["g", "wrong"] and engine.closed == 1
    assert [spec in store for spec in (good, wrong, later)] == [True, False, False]


def test_processes_of_this_machine_do_not_wait_for_each_other(store):
    """`slow` ends after what comes behind its neighbour."""
    store.jobs, first = 2, Step(name="first")
    last = Step(name="last", parents=(first,))
    slow = Step(name="slow", n=5, waits_for=str(store.path(last).relative_to(store.root)))
    store.make([slow, last])
    assert slow in store and last in store


def test_a_failure_in_a_process_of_this_machine_keeps_what_was_made_before_it(store):
    store.jobs, good = 2, Step(name="good", n=9)
    wrong, endless = Step(name="wrong", parents=(good,)), Step(name="endless", n=5, waits_for="nothing")
    with pytest.raises(InputError, match=r"^eps = 2$"):
        store.make([wrong, endless])
    assert [spec in store for spec in (good, wrong, endless)] == [True, False, False]


def test_a_key_does_not_travel():
    """Or other code would file its result under the key of the run."""
    spec = Step(name="a", parents=(Step(name="p"),))
    assert spec.digest and spec.parts
    sent = pickle.loads(pickle.dumps(spec))
    assert vars(sent).keys() == vars(sent.parents[0]).keys() == {"name", "n", "parents", "waits_for"}
    assert sent == spec and sent.digest == spec.digest


def test_a_cluster_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"^--engine ray needs the package ray; pip install 'jsigr\[cluster\]'$"):
        RayEngine("127.0.0.1:1")


def test_a_node_makes_nothing_that_it_was_not_sent(tmp_path):
    spec = Step(name="a")
    with pytest.raises(RuntimeError, match=f"^step/{spec.digest} was not sent to "):
        Received(tmp_path).get(spec)
    assert not list(tmp_path.iterdir())


def test_other_code_and_other_libraries_are_refused_by_name(store):
    task = Task.of(Step(name="a"))
    assert task(store)[0]["x"].tolist() == [1, 1]
    other = replace(task, digest="0" * 16, code={"": Code("", {"test_engines": "other"}, {"torch": "1.0"})})
    said = f"in test_engines, torch {torch.__version__} (the run: 1.0); accepted: "
    with pytest.raises(InputError, match=f"^a worker has other code than the run, {re.escape(said)}") as refused:
        other(store)
    assert "\n" not in str(refused.value)


HEARING = """
import re, signal
from pathlib import Path
from joblib.externals.loky.backend.resource_tracker import _resource_tracker
from jsigr_lib.store.engines import Local
local = Local(1)
blocked = int(re.search("SigBlk:\\s*(\\w+)", Path(f"/proc/{_resource_tracker._pid}/status").read_text())[1], 16)
print(bool(blocked >> signal.SIGHUP - 1 & 1))
local.close()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux which signals a process hears")
def test_the_process_behind_the_locks_of_workers_hears_no_hang_up():
    """It would die, and its successor print a traceback for each lock."""
    found = subprocess.run([sys.executable, "-c", HEARING], capture_output=True, text=True)
    assert found.stdout == "True\n", found.stderr


REUSING = """
import resource, sys
import torch
from jsigr_lib.store.engines import Local

def faults(store):
    x, w = torch.rand(64, 16, 32, 32), torch.rand(16, 16, 3, 3, requires_grad=True)
    counted = []
    for _ in range(20):
        h = x
        for _ in range(8):
            h = torch.relu(torch.nn.functional.conv2d(h, w, padding=1) * 0.1)
        h.sum().backward()
        counted.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return {}, {"faults": counted[-1] - counted[9]}

if __name__ == "__main__":
    local = Local(1)
    print(local.result(local.submit([faults], None))[0][1]["faults"])
    local.close()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_a_worker_uses_the_memory_of_tensors_again(tmp_path):
    """In ten steps of training the kernel clears hardly a page; if all were given back, it would be over 100,000."""
    (tmp_path / "reusing.py").write_text(REUSING)
    found = subprocess.run([sys.executable, tmp_path / "reusing.py"], capture_output=True, text=True, cwd=ROOT)
    assert int(found.stdout) < 1000, found.stderr
