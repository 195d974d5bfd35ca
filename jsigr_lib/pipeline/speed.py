"""How long artefacts and notebooks take on this machine: as it measured, or else as the authors' did, scaled to it.

    header of an artefact           its work and its seconds
    runs/speed/<profile>.json       seconds of notebooks in the last run, of artefacts by family, of a fixed calculation
    jsigr_lib/study/profiles/speed/       the same files, of the authors'

Seconds are the processor's where the clock counted more, so that whatever else kept the machine busy does not count.
"""

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from jsigr_lib.method.errors import InputError
from jsigr_lib.store.artefacts import Spec, Store, machine, one_thread
from jsigr_lib.store.paths import PROFILES
from jsigr_lib.store.tensor_files import read_facts

CLOSE = math.log(4)  # work that differs by a larger factor says less: small computations are mostly overhead
NEAREST = 5
GUESS = 5e-11  # calculations per work, where nothing of a kind was ever timed
NOTEBOOK = 5e11  # work of a notebook, for the same case


class Timed(NamedTuple):
    """What an artefact took. `family` is its kind and the words among its fields, such as an attack's name."""

    family: tuple[str, ...]
    work: float
    seconds: float

    @classmethod
    def of(cls, kind: str, facts: dict[str, Any]) -> "Timed":
        seconds = min(facts["seconds"], facts.get("cpu_seconds", math.inf))
        return cls(_family(kind, facts["spec"]), facts["work"], seconds)


Headers = dict[str, dict[str, dict[str, Any]]]
"""kind -> digest -> facts, the latest first."""


def read_headers(root: Path) -> tuple[Headers, list[Path]]:
    """The headers of a store's artefacts, and the files that cannot be artefacts."""
    headers, unreadable = defaultdict(dict), []
    paths = [path for path in root.glob("*/*.safetensors") if path.parent.name != "checkpoints"]
    for path in sorted(paths, key=lambda path: (-path.stat().st_mtime, path)):
        try:
            headers[path.parent.name][path.stem] = read_facts(path)
        except InputError:
            unreadable.append(path)
    return headers, unreadable


class Speed:
    """What was timed: `here` on this machine, in seconds, and as `published`, in units of the fixed calculation."""

    def __init__(self, here: list[Timed], published: list[Timed], profile: str, device: torch.device):
        self.here, self.published, self.profile, self.device = here, published, profile, device
        self._known: dict[tuple, float] = {}

    @classmethod
    def of(cls, store: Store, headers: Headers, profile: str) -> "Speed":
        """From the headers of a store and the files beside them."""
        made = [(kind, facts) for kind, some in headers.items() for facts in some.values() if facts.get("work")]
        here = [Timed.of(kind, facts) for kind, facts in made if facts.get("machine") == machine(store.device)]
        executed = [row for path in _files(store.root) for row in _rows(path) if row.work == NOTEBOOK]
        published = [row for path in _files(PROFILES) for row in _rows(path, calibrated=True)]
        return cls([*here, *executed], published, profile, store.device)

    @cached_property
    def unit(self) -> float:
        """Seconds that the fixed calculation takes here."""
        return calibrate(self.device)

    @property
    def basis(self) -> str:
        """What the predictions rest on, in words."""
        if self.here:
            return f"by {len(self.here)} artefacts that this machine made"
        return "by a published run, scaled to this machine" if self.published else "a guess, as nothing was timed yet"

    def seconds(self, spec: Spec) -> float:
        """How long it takes to compute one artefact."""
        return self._predict(_family(spec.kind, spec.model_dump(mode="json")), max(spec.work(), 1.0))

    def notebook(self, name: str) -> float:
        """How long it takes to execute a notebook whose artefacts exist."""
        return self._predict(("notebook", self.profile, name), NOTEBOOK)

    def _predict(self, family: tuple[str, ...], work: float) -> float:
        """In proportion to the nearest in work of those that are most alike: of the same family before the same kind,
        of about as much work before others, made here before published."""
        if (family, work) not in self._known:
            alike = defaultdict(list)
            for published, rows in enumerate((self.here, self.published)):
                for row in (row for row in rows if row.family[0] == family[0]):
                    distance = abs(math.log(row.work / work))
                    alike[row.family != family, distance > CLOSE, published].append((distance, row))
            best = min(alike, default=(True, True, 1))
            nearest = [row for _, row in sorted(alike[best])[:NEAREST]]
            rate = sum(row.seconds for row in nearest) / sum(row.work for row in nearest) if nearest else GUESS
            self._known[family, work] = work * rate * (self.unit if best[2] else 1)
        return self._known[family, work]

    def makespan(self, waves: list[list[Spec]], store: Store) -> float:
        """Seconds from the first artefact to the last: within a wave, whichever process is free takes the next."""
        total = 0.0
        for wave in waves:
            busy = [0.0] * (store.jobs if store.in_parallel(wave) else 1)
            for spec in wave:
                busy[busy.index(min(busy))] += self.seconds(spec)
            total += max(busy)
        return total


def _family(kind: str, fields: dict[str, Any]) -> tuple[str, ...]:
    return (kind, *(value for _, value in sorted(fields.items()) if isinstance(value, str)))


def calibrate(device: torch.device) -> float:
    """Seconds of a fixed calculation, the least of several tries: steps of a small convolutional network."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(128, 8, 28, 28, generator=generator).to(device)
    kernel = torch.rand(32, 8, 3, 3, generator=generator).to(device).requires_grad_()
    seconds = []
    with one_thread():
        for _ in range(5):
            with stopwatch() as took:
                for _ in range(10):
                    value = torch.nn.functional.conv2d(x, kernel).relu().square().mean()
                    torch.autograd.grad(value, kernel)[0].sum().item()  # waits for a GPU
            seconds.append(took["seconds"])
    return min(seconds)


@contextmanager
def stopwatch(children: bool = False) -> Iterator[dict[str, float]]:
    """Seconds of the block, once it is left: of this process, or of the children that it starts and waits for."""

    def busy() -> float:
        times = os.times()
        return times.children_user + times.children_system if children else time.process_time()

    took, clock, before = {}, time.perf_counter(), busy()
    yield took
    wall, processor = time.perf_counter() - clock, busy() - before
    took["seconds"] = min(wall, processor) if processor else wall  # children are not counted everywhere


def _files(root: Path) -> list[Path]:
    return sorted((root / "speed").glob("*.json"))


def _rows(path: Path, *, calibrated: bool = False) -> list[Timed]:
    """The rows of a file, if it can be read; in seconds, or in units of its calibration."""
    try:
        content = json.loads(path.read_text())
        unit = content["calibration"] if calibrated else 1
        return [Timed(tuple(row["family"]), row["work"], row["seconds"] / unit) for row in content["rows"]]
    except (ValueError, KeyError, TypeError):
        return []  # cut off by a kill; the next run writes it anew


def record(store: Store, profile: str, specs: Iterable[Spec], notebooks: dict[str, float]) -> None:
    """Write runs/speed/<profile>.json: mean work and seconds of each family of artefacts among `specs` and what they
    need; and what notebooks took, those that did not run now as the file had it."""
    path = store.root / "speed" / f"{profile}.json"
    families = {row.family: [row] for row in _rows(path) if row.work == NOTEBOOK} if path.exists() else {}
    for name, seconds in notebooks.items():
        row = Timed(("notebook", profile, name), NOTEBOOK, seconds)
        families[row.family] = [row]
    for spec in _closure(specs):
        if spec in store:
            row = Timed.of(spec.kind, {**read_facts(store.path(spec)), **spec.made_from})
            families.setdefault(row.family, []).append(row)
    means = [
        {
            "family": family,
            "count": len(rows),
            "work": sum(row.work for row in rows) / len(rows),
            "seconds": sum(row.seconds for row in rows) / len(rows),
        }
        for family, rows in sorted(families.items())
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"calibration": calibrate(store.device), "machine": machine(store.device), "rows": means}
    path.write_text(json.dumps(content, indent=1) + "\n")


def _closure(specs: Iterable[Spec]) -> list[Spec]:
    """Specs, what they need, what that needs and so on."""
    found: dict[str, Spec] = {}
    left = list(specs)
    while left:
        spec = left.pop()
        if spec.digest not in found:
            found[spec.digest] = spec
            left += spec.needs()
    return list(found.values())
