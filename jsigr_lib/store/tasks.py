"""Making one artefact: in this process, `compute`, or in another one, a `Task` that is sent to it."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from jsigr_lib.method.errors import InputError
from jsigr_lib.store import sources
from jsigr_lib.store.engines import Made
from jsigr_lib.store.hardware import machine, one_thread
from jsigr_lib.store.keys import Code
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tensor_files import finite, read


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

    def __call__(self, store: Any) -> Made:
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


def compute(spec: Spec, store: Any) -> Made:
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
    if spec.finite and not finite(tensors):
        store.checkpoint(spec).unlink(missing_ok=True)  # or the next run would go on from there
        raise InputError(f"{spec.kind}/{spec.digest} is no longer finite; accepted: a lower learning_rate, for one")
    facts = {**facts, "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - busy}
    facts |= {"torch": torch.__version__, "machine": machine(store.device)}
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, facts
