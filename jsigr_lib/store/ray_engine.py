"""Artefacts made on the nodes of a Ray cluster, which share no disk with this machine. The code travels with the run,
each artefact that a task needs once to each node, and what was made comes back and is kept here.

Whatever is wrong with the cluster is said before anything is made. A task whose process or node dies begins anew."""

import importlib.util
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from jsigr_lib.method.errors import InputError, between, needs_extra, one_line, shown
from jsigr_lib.store import sources
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.engines import AHEAD, Made
from jsigr_lib.store.files import opened, replace
from jsigr_lib.store.paths import PACKAGE
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tasks import Task
from jsigr_lib.store.tensor_files import Artefact, read

HELD = 2**31  # bytes of artefacts that stay in Ray's memory here, for the next task that needs them
PATIENCE = 22  # seconds that a cluster has to answer
ASK = """
import json, logging, sys, ray
try:
    ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
    print(json.dumps(ray.cluster_resources()))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class RayEngine:
    """Tasks of one CPU core, and of `gpus` of a GPU if they need one, on the cluster at `address` ("10.0.0.1:6379"),
    which it joins with the first task. A task is begun anew up to `retries` times. Raises InputError unless the cluster
    answers and can run such a task."""

    def __init__(self, address: str, *, gpus: float = 0.0, retries: int = 3):
        between("gpus-per-task", gpus, 0, 1)
        between("retries", retries, 0, 1000)
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # or it prints a paragraph for each process that died
        with needs_extra("--engine ray", "cluster"):
            import ray
        self.address, self._gpus, self._retries, self._ray = address, gpus, retries, ray
        self.at_a_time = self._at_a_time(_resources(address))
        if not self.at_a_time:
            what = f"{gpus:g} of a GPU" if gpus else "a CPU core"
            raise InputError(f"the cluster at {shown(address)} has not {what} for a task; accepted: nodes that have it")
        self._refs: OrderedDict[str, tuple[Any, int]] = OrderedDict()  # digest -> reference and bytes, the latest last

    @cached_property
    def _begin(self) -> Callable[..., Any]:
        """Begins a task. Joins the cluster, to which it sends the code of this process."""
        modules = [str(PACKAGE), *map(str, {_shipped(name, path) for name, path in sources.OWN.items()})]
        settings = {"log_to_driver": False, "logging_level": "CRITICAL", "runtime_env": {"py_modules": modules}}
        with _signals_kept():
            self._ray.init(self.address, **settings)
        options = {"num_cpus": 1, "num_gpus": self._gpus, "max_retries": self._retries}
        return self._ray.remote(**options, scheduling_strategy="SPREAD")(on_a_node).remote

    def _at_a_time(self, resources: dict[str, float]) -> int:
        """How many tasks such resources run at a time."""
        cores = resources.get("CPU", 0)
        return int(min(cores, resources.get("GPU", 0) / self._gpus) if self._gpus else cores)

    def slots(self) -> int:
        joined = self._ray.is_initialized()
        return AHEAD * max(1, self._at_a_time(self._ray.cluster_resources()) if joined else self.at_a_time)

    def submit(self, tasks: list[Task], store: Store) -> Any:
        begin, needs = self._begin, [need for task in tasks for need in task.spec.needs()]
        sent = {str(store.path(need).relative_to(store.root)): self._sent(need, store) for need in needs}
        return begin(tasks, sent, "cuda" if self._gpus else "cpu")

    def _sent(self, need: Spec, store: Store) -> Any:
        """A reference to the bytes of an artefact. Raises InputError if it is damaged, as `Store.get` does."""
        if need.digest not in self._refs:
            with opened(store.path(need)) as file:
                content = file.read()
            read(store.path(need), content)
            self._refs[need.digest] = self._ray.put(content), len(content)
            while len(self._refs) > 1 and sum(size for _, size in self._refs.values()) > HELD:
                self._refs.popitem(last=False)  # tasks that were submitted keep it
        self._refs.move_to_end(need.digest)
        return self._refs[need.digest][0]

    def wait(self, running: Collection[Any]) -> Collection[Any]:
        return self._ray.wait(list(running), num_returns=1)[0]

    def result(self, ended: Any) -> list[Made]:
        try:
            made = self._ray.get(ended)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise RuntimeError(f"a task was lost, with all its retries: {one_line(error)[:300]}") from None
        return [(load(tensors), facts) for tensors, facts in made]

    def close(self) -> None:
        self._refs.clear()
        self._ray.shutdown()


def on_a_node(tasks: list[Task], needs: dict[str, Any], device: str) -> list[tuple[bytes, dict[str, Any]]]:
    """Compute tasks in a process of a cluster. Artefacts that they need are kept in a folder of the node, whose name
    nobody could know before. Raises RuntimeError if one of them was not sent."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    store = Received(Path(tempfile.gettempdir()) / f"jsigr-{node}", device)
    store.root.mkdir(mode=0o700, exist_ok=True)
    for name, reference in needs.items():
        if not (store.root / name).exists():
            replace(store.root / name, ray.get(reference))
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(f"torch finds no GPU on {platform.node()}; accepted: a torch with CUDA where Ray has a GPU")
    made = []
    for task in tasks:
        tensors, facts = task(store)
        store.checkpoint(task.spec).unlink(missing_ok=True)
        made.append((save(tensors), {**facts, "node": f"{platform.node()}, {node[:8]}"}))
    return made


class Received(Store):
    """What a node was sent. It makes nothing: that would be a second network under the key of the first."""

    def get(self, spec: Spec) -> Artefact:
        if spec not in self:
            raise RuntimeError(f"{spec.kind}/{spec.digest} was not sent to {platform.node()}")
        return super().get(spec)


def _resources(address: str) -> dict[str, float]:
    """What a cluster has, asked by another process, as Ray can wait for minutes and writes whole pages. Raises
    InputError if it does not answer, or refuses."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise InputError(f"--engine ray with --address {shown(address)}; accepted: HOST:PORT of a Ray cluster")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE / 4).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no cluster at {shown(address)} ({one_line(error)}); accepted: HOST:PORT of one") from None
    environment = {**os.environ, "RAY_gcs_server_port_wait_time_s": "3"}
    try:
        asked = subprocess.run(
            [sys.executable, "-c", ASK, address], env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        accepted = "HOST:PORT of a Ray cluster"
        raise InputError(f"{shown(address)} does not answer like a Ray cluster; accepted: {accepted}") from None
    if asked.returncode == 0:
        return json.loads(asked.stdout.splitlines()[-1])
    if "AuthToken" in asked.stderr or "AuthenticationError" in asked.stderr:
        raise InputError(f"the cluster at {shown(address)} refuses this token; accepted: its own, in RAY_AUTH_TOKEN")
    said = " ".join(asked.stderr.split())[-300:]
    raise InputError(
        f"cannot join the cluster at {shown(address)} ({said}); accepted: the same Ray and Python"
    ) from None


def _shipped(name: str, path: Path) -> Path:
    """The file of a user's module, or the folder of the package that it is in."""
    top = importlib.util.find_spec(name.partition(".")[0])
    return Path(top.submodule_search_locations[0]) if top and top.submodule_search_locations else path


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
