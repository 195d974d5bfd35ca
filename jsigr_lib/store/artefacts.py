"""Heavy work as artefacts: each is a function of its spec, kept in one safetensors file named by the spec's hash.

    runs/<kind>/<digest>.safetensors      tensors; spec, code and facts (seconds, versions) as JSON in the header

The digest covers the spec's fields, the artefacts it needs, and the code that makes it (see `keys`). A file appears
only when it is complete, so a second run is the resume. A damaged one is set aside as <digest>.damaged.
"""

import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import psutil
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from jsigr_lib.method.errors import InputError
from jsigr_lib.store import sources
from jsigr_lib.store.engines import Engine, Here, Local, Made
from jsigr_lib.store.files import alone, opened
from jsigr_lib.store.keys import Code, Keyed, code_of, methods_of
from jsigr_lib.store.queue import Queue
from jsigr_lib.store.tensor_files import Artefact, read, set_aside, write


class Spec(Keyed, BaseModel):
    """What an artefact is made from. Subclasses add fields and define `compute`, `needs` and `uses`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[str]
    finite: ClassVar[bool] = False  # whether no value of its tensors may be infinite or NaN
    here: ClassVar[bool] = False  # whether it reads files of this machine, and is made by no other one

    def needs(self) -> list["Spec"]:
        """Artefacts that `compute` loads."""
        return []

    def uses(self) -> list[Any]:
        """Entries of registries that `compute` calls by their names."""
        return []

    def work(self) -> float:
        """Rough size of the computation (any unit, the same for all kinds), for progress and order."""
        return 1.0

    def compute(self, store: "Store", device: torch.device) -> tuple[dict[str, Tensor], dict]:
        """The artefact: its tensors (on the CPU) and facts about it for the header."""
        raise NotImplementedError

    def confirm(self) -> None:
        """Called after `compute`. Raises InputError if what it read from outside is not what the spec names."""

    def __getstate__(self) -> dict[Any, Any]:
        """Without what was worked out: another process has to find its own code and key."""
        state = super().__getstate__()
        return state | {"__dict__": {name: state["__dict__"][name] for name in type(self).model_fields}}

    @cached_property
    def code(self) -> Code:
        """The code that decides the result, without that of the artefacts which it needs."""
        return _code(type(self), *self.uses())

    @cached_property
    def digest(self) -> str:
        kept = (name for name, field in type(self).model_fields.items() if not field.exclude)
        fields = {name: _plain(getattr(self, name)) for name in kept}
        content = {"kind": self.kind, "fields": fields, "needs": [need.digest for need in self.needs()]}
        content |= {"code": self.code.digest, "libraries": self.code.libraries}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def parts(self) -> dict[str, "Spec"]:
        """This spec, the specs among its fields and what they need, each by its path ("sources.0.teacher")."""
        found = within(self)
        for path, one in list(found.items()):
            for i, need in enumerate(one.needs()):
                if need not in found.values():
                    found[f"{path}.needs.{i}".removeprefix(".")] = need
        return found

    @property
    def made_from(self) -> dict[str, Any]:
        """All that the digest covers, spelt out for whoever asks why it is another one, and how much work it is."""
        code = {path: part.code.files for path, part in self.parts.items()}
        libraries = {name: version for part in self.parts.values() for name, version in part.code.libraries.items()}
        return {"spec": json.loads(self.model_dump_json()), "code": code, "libraries": libraries, "work": self.work()}


@cache
def _code(kind: type[Spec], *uses: Any) -> Code:
    return code_of(*methods_of(kind, "compute"), *uses)


def within(value: Any, path: str = "") -> dict[str, Spec]:
    """A spec, the specs among its fields, those among theirs and so on, each by its path."""
    found = {path: value} if isinstance(value, Spec) else {}
    parts = value if isinstance(value, Spec) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, part in parts:
        found |= within(part, f"{path}.{name}" if path else str(name))
    return found


def _plain(value: Any) -> Any:
    """A field as JSON: a spec inside a spec counts by its own digest."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.digest if isinstance(value, Spec) else value


Progress = Callable[[Spec, float, float], None]
"""Called after each artefact with its spec, the cost of what is done and of all."""


class Store:
    """A folder of artefacts, which are computed on `device`. `get` loads or makes one, `make` many, in `jobs` processes
    at a time. On the CPU each process has one thread, so that their number changes no result; for a CUDA device, see
    `equal_bytes`."""

    def __init__(self, root: Path, device: torch.device | str = "cpu", jobs: int = 1):
        self.root, self.device, self.jobs = Path(root), torch.device(device), jobs
        if self.device.type == "cuda":
            equal_bytes()
        self.reads: dict[str, str] = {}  # digest -> kind of what was asked for, not of what making it took

    def path(self, spec: Spec) -> Path:
        return self.root / spec.kind / f"{spec.digest}.safetensors"

    def checkpoint(self, spec: Spec) -> Path:
        """Where a long computation may leave its state; removed when the artefact is complete."""
        return self.root / "checkpoints" / f"{spec.digest}.safetensors"

    def __contains__(self, spec: Spec) -> bool:
        return self.path(spec).exists()

    def sweep(self) -> None:
        """Remove the temporary files of processes that were killed on this machine. One that is locked belongs to a
        process that lives, perhaps in a container, where it has another number."""
        for left in self.root.glob("*/*.tmp"):
            owner = re.fullmatch(rf".+\.{re.escape(platform.node())}\.(\d+)\.tmp", left.name)
            if owner and not psutil.pid_exists(int(owner[1])):
                with suppress(OSError, ValueError), opened(left) as file:
                    if alone(file):
                        left.unlink()

    def get(self, spec: Spec) -> Artefact:
        if spec not in self:
            self.save(spec, *compute(spec, self))
        self.reads[spec.digest] = spec.kind
        found = read(self.path(spec))
        if spec.finite and not _finite(found.tensors):
            raise InputError(f"{self.path(spec)} has values that are not finite; {set_aside(self.path(spec))}")
        return found

    def save(self, spec: Spec, tensors: dict[str, Tensor], facts: dict) -> None:
        sources.unedited()
        write(self.path(spec), tensors, {**facts, **spec.made_from})
        self.checkpoint(spec).unlink(missing_ok=True)

    def missing(self, specs: Iterable[Spec]) -> list[list[Spec]]:
        """What has to be made for `specs`, in waves: each wave needs only what the ones before it make."""
        found: dict[str, tuple[int, Spec]] = {}

        def wave(spec: Spec) -> int:
            """The number of its wave, 0 if it exists."""
            if spec.digest not in found:
                found[spec.digest] = 0 if spec in self else 1 + max(map(wave, spec.needs()), default=0), spec
            return found[spec.digest][0]

        last = max(map(wave, specs), default=0)
        order = sorted(found.values(), key=lambda entry: (-entry[1].work(), entry[1].digest))
        return [[spec for number, spec in order if number == one] for one in range(1, last + 1)]

    def make(
        self,
        specs: Iterable[Spec],
        progress: Progress | None = None,
        *,
        cost: Callable[[Spec], float] | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Compute whatever is missing of `specs` and of what they need, the longest chain first; `progress` counts by
        `cost`, the work by default. The engine, by default processes of this machine, is closed at the end."""
        waves, cost = self.missing(specs), cost or (lambda spec: spec.work())
        total, done = sum(cost(spec) for wave in waves for spec in wave), 0.0
        processes = self.processes(waves)
        engine = engine or (Local(processes) if processes > 1 else Here())
        try:
            for spec, (tensors, facts) in self._made(Queue(spec for wave in waves for spec in wave), engine):
                self.save(spec, tensors, facts)
                done += cost(spec)
                if progress:
                    progress(spec, done, total)
        finally:
            engine.close()

    def processes(self, waves: list[list[Spec]]) -> int:
        """How many make these waves at a time."""
        return self.jobs if self.device.type == "cpu" and any(len(wave) > 1 for wave in waves) else 1

    def _made(self, queue: Queue, engine: Engine) -> Iterator[tuple[Spec, Made]]:
        """What is in the queue, in the order in which it ends. Each has to be kept before the next is asked for."""
        running: dict[Any, Spec] = {}
        while queue or running:
            while queue and len(running) < engine.slots():
                spec = queue.pop()
                if spec.here:
                    yield spec, compute(spec, self)
                    queue.done(spec)
                else:
                    running[engine.submit(Task.of(spec), self)] = spec
            for ended in engine.wait(running) if running else ():
                spec = running.pop(ended)
                yield spec, engine.result(ended)
                queue.done(spec)


@dataclass(frozen=True)
class Task:
    """An artefact that another process makes, the key that it has in this one, the code of all its parts by which that
    process can say what differs, and modules to import first."""

    spec: Spec
    digest: str
    code: dict[str, Code]
    own: tuple[str, ...]

    @classmethod
    def of(cls, spec: Spec) -> "Task":
        return cls(spec, spec.digest, {path: part.code for path, part in spec.parts.items()}, tuple(sources.OWN))

    def __call__(self, store: Store) -> Made:
        """Compute it. Raises InputError if this process has another key for it, by other code or libraries."""
        for module in self.own:
            sources.take_in(module)
        if self.spec.digest != self.digest:
            raise InputError(
                f"a worker has other code than the run, in {', '.join(self._others()) or 'its parts'}; accepted: files "
                "that stay as they are, and in the profile, as `imports`, the modules that register something"
            )
        return compute(self.spec, store)

    def _others(self) -> dict[str, None]:
        """Files, and libraries with their releases, that are other ones here."""
        here, named = {path: part.code for path, part in self.spec.parts.items()}, {}
        for path, theirs in self.code.items():
            ours = here.get(path, theirs)
            named |= dict.fromkeys(sorted(name for name, _ in theirs.files.items() ^ ours.files.items()))
            changed = sorted(ours.libraries.items() - theirs.libraries.items())
            named |= dict.fromkeys(f"{name} {ours} (the run: {theirs.libraries.get(name)})" for name, ours in changed)
        return named


def compute(spec: Spec, store: Store) -> Made:
    """The artefact, and how it was made. Raises InputError if it cannot be made as it is asked for."""
    start, busy = time.perf_counter(), time.process_time()
    try:
        with one_thread():
            tensors, facts = spec.compute(type(store)(store.root, store.device, store.jobs), store.device)
        spec.confirm()
    except InputError:
        if spec not in store:
            raise
        made = read(store.path(spec))  # by another run, just before this one would have read its checkpoint
        return made.tensors, made.facts
    if spec.finite and not _finite(tensors):
        store.checkpoint(spec).unlink(missing_ok=True)  # or the next run would go on from there
        raise InputError(f"{spec.kind}/{spec.digest} is no longer finite; accepted: a lower learning_rate, for one")
    facts = {**facts, "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - busy}
    facts |= {"torch": torch.__version__, "machine": machine(store.device)}
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, facts


def _finite(tensors: dict[str, Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())


@contextmanager
def one_thread():
    """One CPU thread: faster than sharing where processes run side by side, and the same bytes for any of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def equal_bytes() -> None:
    """From here on, this process computes the same bytes at each time on one CUDA device: sums in one order, and single
    precision that is not cut to TF32. torch warns of an operation that it has in no such form."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product of matrices
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def machine(device: torch.device) -> str:
    """The hardware, in words, with the instruction set: on another one, sums round differently."""
    cores = f"{os.cpu_count()} CPU cores ({platform.machine()})"
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else cores
    return f"{what}, {torch.backends.cpu.get_cpu_capability()}"
