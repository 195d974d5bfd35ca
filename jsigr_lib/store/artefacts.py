"""Heavy work as artefacts: each is a function of its spec, kept in one safetensors file named by the spec's hash.

    runs/<kind>/<digest>.safetensors      tensors; spec, code and facts (seconds, versions) as JSON in the header

The digest covers the spec's fields, the artefacts it needs, and the code that makes it (see `keys`). A file appears
only when it is complete, so a second run is the resume. A damaged one is set aside as <digest>.damaged.
"""

import platform
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from jsigr_lib.store import sources
from jsigr_lib.store.engines import Engine, Here, Local, Made
from jsigr_lib.store.files import alone, opened
from jsigr_lib.store.hardware import equal_bytes
from jsigr_lib.store.queue import Queue
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tasks import Task, compute
from jsigr_lib.store.tensor_files import Artefact, read, read_finite, write

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
        return read_finite(self.path(spec)) if spec.finite else read(self.path(spec))

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
        running: dict[Any, list[Spec]] = {}
        while queue or running:
            while queue and len(running) < engine.slots():
                specs = queue.pop(engine.slots())
                if specs[0].here:
                    yield from self._ended(queue, specs, [compute(spec, self) for spec in specs])
                else:
                    running[engine.submit([Task.of(spec) for spec in specs], self)] = specs
            for ended in engine.wait(running) if running else ():
                yield from self._ended(queue, running.pop(ended), engine.result(ended))

    @staticmethod
    def _ended(queue: Queue, specs: list[Spec], made: list[Made]) -> Iterator[tuple[Spec, Made]]:
        for spec, one in zip(specs, made, strict=True):
            yield spec, one
            queue.done(spec)
