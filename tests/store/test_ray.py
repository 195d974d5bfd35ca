"""Two nodes of one core each, as far apart as one machine allows: each with a folder of its own, and neither with the
folder of the run or the modules of its user."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from jsigr_lib.store.paths import ROOT
from jsigr_lib.store.tensor_files import read

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

TOYS = '''
import os, signal, time
from pathlib import Path
from typing import ClassVar

import torch
from jsigr_lib.method.errors import InputError
from jsigr_lib.store.specs import Spec


class Source(Spec):
    """What a file of the run's machine says."""

    kind: ClassVar[str] = "source"
    here: ClassVar[bool] = True
    file: str

    def compute(self, store, device):
        return {"x": torch.tensor(list(Path(self.file).read_bytes()), dtype=torch.uint8)}, {}


class Drawn(Spec):
    kind: ClassVar[str] = "drawn"
    finite: ClassVar[bool] = True
    source: Source
    seed: int

    def needs(self):
        return [self.source]

    def work(self):
        return 5.0 + self.seed

    def compute(self, store, device):
        draws = torch.randn(50, 40, generator=torch.Generator().manual_seed(self.seed))
        draws = draws + store.get(self.source).tensors["x"].sum()
        return {"z": draws, "half": draws.half(), "sign": draws > 0, "order": draws.argsort()}, {"seed": self.seed}


class Product(Spec):
    kind: ClassVar[str] = "product"
    a: Drawn
    b: Drawn

    def needs(self):
        return [self.a, self.b]

    def compute(self, store, device):
        a, b = (store.get(one).tensors["z"] for one in (self.a, self.b))
        return {"ab": a @ b.T}, {}


class Note(Spec):
    kind: ClassVar[str] = "note"
    of: Product
    seconds: float

    def needs(self):
        return [self.of]

    def compute(self, store, device):
        time.sleep(self.seconds)
        return {}, {"mean": store.get(self.of).tensors["ab"].mean().item()}


class Fault(Spec):
    """Leaves a line with its process in a file each time that it begins. It kills the first process, or waits until
    there is a file "go", or refuses."""

    kind: ClassVar[str] = "fault"
    what: str
    file: str

    def work(self):
        return 0.5

    def compute(self, store, device):
        with open(self.file, "a") as file:
            file.write(f"{os.getpid()}\\n")
        if self.what == "killed" and len(Path(self.file).read_text().split()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "wrong":
            raise InputError("eps = 2")
        while self.what == "waits" and not Path(self.file).with_name("go").exists():
            time.sleep(0.1)
        return {"x": torch.ones(2)}, {}


def notes(file, seconds="0.2"):
    drawn = [Drawn(source=Source(file=file), seed=seed) for seed in range(5)]
    return [Note(of=Product(a=a, b=b), seconds=float(seconds)) for a in drawn for b in drawn if a.seed < b.seed]


def fault(what, file):
    return [Fault(what=what, file=file)]


def all_of(file, fault_file):
    return notes(file) + fault("waits", fault_file)
'''

DRIVER = """
import importlib, sys
from pathlib import Path
from jsigr_lib.method.errors import InputError
from jsigr_lib.store import sources
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.ray_engine import RayEngine

root, address, retries, module, name, *arguments = sys.argv[1:]
if module != "altered":  # which the nodes have, too
    sources.take_in(module)
try:
    engine = RayEngine(address, retries=int(retries)) if address else None
    Store(Path(root)).make(getattr(importlib.import_module(module), name)(*arguments), engine=engine)
except (InputError, RuntimeError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""

TOKEN = "0123456789abcdef" * 4


class Cluster:
    """A head and a node. What they keep lies below `root`, in a/ and b/."""

    def __init__(self, root: Path):
        self.root, self.processes, self.address = root, [], f"127.0.0.1:{free_port()}"
        self.joins = ("--address", self.address, "--node-ip-address", "127.0.0.2")

    def up(self) -> None:
        (self.root / "nodes").mkdir()
        (self.root / "nodes" / "altered.py").write_text(TOYS.replace("a @ b.T", "a @ b.T * 2"))
        host, port = self.address.split(":")
        here = ("--node-ip-address", host, "--port", port, "--temp-dir", str(self.root / "ray"))
        self.start("a", "--head", "--include-dashboard", "false", *here)
        self.start("b", *self.joins)

    @staticmethod
    def environment(**more: str) -> dict[str, str]:
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0", "COLUMNS": "80"}
        return {**os.environ, **own, **more}

    def start(self, name: str, *arguments: str) -> None:
        (self.root / name).mkdir(exist_ok=True)
        environment = self.environment(TMPDIR=str(self.root / name), PYTHONPATH=str(self.root / "nodes"))
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1", *arguments]
        log = self.root / f"{name}.log"
        for _ in range(3):  # Ray gives up after half a minute, as on a busy machine
            with open(log, "w") as file:
                options = {"cwd": self.root / name, "env": environment, "stdout": file, "stderr": file}
                process = subprocess.Popen(command, **options)
            while process.poll() is None and "block forever" not in log.read_text():
                time.sleep(0.5)
            if process.poll() is None:
                self.processes.append(process)
                return
        raise AssertionError(log.read_text())

    @staticmethod
    def tasks() -> list[psutil.Process]:
        """What runs a task just now."""
        named = [(one, "".join(one.info["cmdline"] or ())) for one in psutil.process_iter(["cmdline"])]
        return [one for one, name in named if name.startswith("ray::on_a_node")]

    def fall(self) -> None:
        """The second node dies at once."""
        node = self.processes.pop()
        for one in psutil.Process(node.pid).children(recursive=True):
            one.kill()
        node.kill()
        node.wait()

    def stop(self) -> None:
        every = [one for process in self.processes for one in psutil.Process(process.pid).children(recursive=True)]
        for process in self.processes[::-1]:
            process.terminate()
            process.wait(timeout=60)
        for one in psutil.wait_procs(every, timeout=10)[1]:
            one.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster():
    root = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path, as sockets lie below it
    with pytest.MonkeyPatch.context() as patch:
        for name, value in Cluster.environment().items():
            patch.setenv(name, value)
        made = Cluster(root)
        try:
            made.up()
            yield made
        finally:
            made.stop()
            shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def driver(cluster, tmp_path):
    """driver(function, *arguments): a process that makes what a function of the toys returns, in tmp_path/runs. Ray
    would let nodes on this machine import from the script's folder and the current one: the toys are in neither."""
    for folder, name, text in (("mine", "toys", TOYS), ("mine", "altered", TOYS), ("script", "driver", DRIVER)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.py").write_text(text)
    (tmp_path / "data").write_bytes(b"1 2 3")
    environment = cluster.environment(PYTHONPATH=os.pathsep.join([str(tmp_path / "mine"), str(ROOT)]))

    def call(*asked: object, runs="runs", address=cluster.address, retries=3, module="toys") -> subprocess.Popen:
        command = [sys.executable, "script/driver.py", runs, address, str(retries), module, *map(str, asked)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)

    return call


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Exit code, and all that it said."""
    said = "".join(process.communicate(timeout=300))
    return process.returncode, said


def kept(root: Path) -> dict[str, tuple[dict, bytes]]:
    """Artefacts by name: the facts that are not of the moment and the machine, and the bytes of the tensors."""
    found = {}
    for path in sorted(root.rglob("*.safetensors")):
        content, facts = path.read_bytes(), read(path).facts
        for name in ("seconds", "cpu_seconds", "machine", "node"):
            facts.pop(name, None)
        found[str(path.relative_to(root))] = facts, content[8 + int.from_bytes(content[:8], "little") :]
    return found


def test_two_nodes_make_the_bytes_that_one_machine_makes(cluster, driver, tmp_path):
    assert ended(driver("notes", tmp_path / "data", runs="local", address="")) == (0, "")
    assert ended(driver("notes", tmp_path / "data")) == (0, "")
    here, there = kept(tmp_path / "local"), kept(tmp_path / "runs")
    assert len(here) == 1 + 5 + 10 + 10 and here == there
    made = [read(path).facts.get("node") for path in (tmp_path / "runs").glob("note/*")]
    assert None not in made and len(set(made)) == 2
    for node in ("a", "b"):  # keeps what it was sent, and no more
        (cache,) = (cluster.root / node).glob("jsigr-*")
        assert {path.parent.name for path in cache.rglob("*") if path.is_file()} == {"source", "drawn", "product"}
        assert cache.stat().st_mode & 0o77 == 0


def test_a_task_whose_process_is_killed_begins_anew(driver, tmp_path):
    assert ended(driver("fault", "killed", tmp_path / "begun")) == (0, "")
    assert len((tmp_path / "begun").read_text().split()) == 2
    (tmp_path / "begun").unlink()
    code, said = ended(driver("fault", "killed", tmp_path / "begun", runs="other", retries=0))
    assert code == 1 and said.startswith("RuntimeError: a task was lost, with all its retries: ")
    assert said.count("\n") == 1 and not list((tmp_path / "other").rglob("*.safetensors"))


def test_bad_input_is_one_line_and_is_not_tried_again(driver, tmp_path):
    assert ended(driver("fault", "wrong", tmp_path / "begun")) == (1, "InputError: eps = 2\n")
    assert len((tmp_path / "begun").read_text().split()) == 1


def test_a_node_with_an_altered_module_is_refused(driver, tmp_path):
    code, said = ended(driver("notes", tmp_path / "data", module="altered"))
    assert code == 1 and said.startswith("InputError: a worker has other code than the run, in altered; accepted: ")
    assert said.count("\n") == 1
    assert {path.parent.name for path in (tmp_path / "runs").rglob("*.safetensors")} == {"source", "drawn"}


def test_a_killed_run_ends_its_tasks_and_the_next_one_goes_on(driver, tmp_path):
    run = driver("all_of", tmp_path / "data", tmp_path / "begun")
    until = time.monotonic() + 120
    while not (tmp_path / "begun").exists() and time.monotonic() < until and run.poll() is None:
        time.sleep(0.2)
    (worker,) = (psutil.Process(int(number)) for number in (tmp_path / "begun").read_text().split())
    run.send_signal(signal.SIGKILL)
    run.communicate()
    before = times(tmp_path / "runs")
    assert before and psutil.wait_procs([worker], timeout=30)[1] == []
    (tmp_path / "go").touch()
    assert ended(driver("all_of", tmp_path / "data", tmp_path / "begun")) == (0, "")
    after = times(tmp_path / "runs")
    assert len(after) == 27 and before.items() <= after.items()


@pytest.mark.torture
def test_a_study_on_two_nodes_has_the_tables_of_one_machine(cluster, smoke_run, tmp_path):
    """All five notebooks, by the command of docs/cluster.md, in a copy of the repository that has no artefacts yet."""
    copy = tmp_path / "repository"
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in kept:
        if name.startswith(("jsigr_lib/", "data/", "notebooks/0")) or (name.endswith(".toml") and "/" not in name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "jsigr_lib", "run", "--profile", "smoke", "--engine", "ray", "--out", "out"]
    environment = cluster.environment(PYTHONPATH=str(copy))
    run = {"cwd": copy, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([*command, "--address", cluster.address], timeout=3600, **run)
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = [read(path).facts.get("node") for path in (copy / "runs").rglob("*.safetensors")]
    assert len(set(nodes) - {None}) == 2
    assert nodes.count(None) < 10  # data sets, read where the run was started
    compare = [sys.executable, "-m", "jsigr_lib", "diff", "--exact", str(smoke_run.figures), str(copy / "out")]
    compared = subprocess.run(compare, **run)
    assert compared.returncode == 0, compared.stdout + compared.stderr


@pytest.mark.torture
def test_twenty_kills_lose_nothing(cluster, driver, tmp_path):
    """Of what runs a task, of a node, which joins again, and of the run itself, each while tasks run."""
    chance, asked, runs = random.Random(0), ("notes", tmp_path / "data", 0.7), tmp_path / "runs"
    assert ended(driver(*asked, runs="local", address="")) == (0, "")
    for number in range(20):
        for path in runs.rglob("*.safetensors"):
            if chance.random() < 0.6:
                path.unlink()
        before, run, until = times(runs), driver(*asked), time.monotonic() + 60
        while not cluster.tasks() and run.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 1))
        struck, tasks = ("task", "node", "run")[number % 3], cluster.tasks()
        if struck == "task" and tasks:
            chance.choice(tasks).kill()
        if struck == "node":
            cluster.fall()
        if struck == "run":
            run.kill()
        assert ended(run) in [(0, ""), *[(-signal.SIGKILL, "")] * (struck == "run")], number
        assert before.items() <= times(runs).items(), number
        if struck == "node":
            cluster.start("b", *cluster.joins)
    shutil.rmtree(runs / "note")  # or nothing would ask for a product that was removed
    assert ended(driver(*asked)) == (0, "")
    assert kept(tmp_path / "local") == kept(runs)


def times(runs: Path) -> dict[Path, int]:
    """When each artefact was written."""
    return {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (["--gpus-per-task", "0.25"], {}, "has not 0.25 of a GPU for a task; accepted: "),
        ([], {"RAY_AUTH_TOKEN": "f" * 64}, "refuses this token; accepted: "),
        ([], {"RAY_AUTH_MODE": "disabled"}, "refuses this token; accepted: "),
        (["--address", "127.0.0.1:1"], {}, "no cluster at '127.0.0.1:1' (Connection refused); accepted: "),
        (["--address", "nowhere"], {}, "--address 'nowhere'; accepted: HOST:PORT"),
    ],
)
def test_a_cluster_that_cannot_be_had_is_one_line(cluster, tmp_path, options, environment, said):
    command = [sys.executable, "-m", "jsigr_lib", "run", "--profile", "smoke", "--engine", "ray", "--out", "out"]
    command += ["--address", cluster.address, *options]
    environment = cluster.environment(PYTHONPATH=str(ROOT), **environment)
    tried = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert tried.returncode == 2 and said in tried.stderr, tried.stderr
    assert (tried.stdout + tried.stderr).count("\n") == 1 and not list(tmp_path.iterdir())
