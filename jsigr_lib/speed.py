"""How long artefacts and notebooks take on this machine: as it measured, or else as a published run did, scaled to it.

The header of each artefact says its work and its seconds; figures/<profile>/speed.json says those of the run that made
these figures, and what one fixed calculation took there. Seconds are the processor's where the clock counted more:
whatever else the machine was busy with does not count.
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

from jsigr_lib.artefacts import Spec, Store, machine, one_thread, read_facts
from jsigr_lib.errors import InputError
from jsigr_lib.paths import ROOT

FILE = "speed.json"
CLOSE = 4  # times more or less work; beyond, seconds per work differ, since small computations are mostly overhead
NEAREST = 5
ENOUGH = 20  # seconds of artefacts made here that say more of this machine than a calibration does
GUESS = {"work": 5e-11, "notebook": 40.0}  # in calibrations, where nothing like it was ever timed


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
    """What the artefacts of a store say of themselves; and the files that cannot be artefacts."""
    headers, unreadable = defaultdict(dict), []
    paths = [path for path in root.glob("*/*.safetensors") if path.parent.name != "checkpoints"]
    for path in sorted(paths, key=lambda path: (-path.stat().st_mtime, path)):
        try:
            headers[path.parent.name][path.stem] = read_facts(path)
        except InputError:
            unreadable.append(path)
    return headers, unreadable


class Speed:
    """What is known: `here` of artefacts that this machine made; `published`, and `notebooks` by name, of other runs,
    in units of what the fixed calculation took them."""

    def __init__(self, here: list[Timed], published: list[Timed], notebooks: dict[str, float], device: torch.device):
        self.here, self.published, self.notebooks, self.device = here, published, notebooks, device
        self._known: dict[tuple, float] = {}

    @classmethod
    def of(cls, store: Store, headers: Headers, profile: str) -> "Speed":
        """From a store's headers; notebooks of other profiles count if `profile` was never published."""
        all_ = [(kind, facts) for kind, some in headers.items() for facts in some.values() if facts.get("work")]
        here = [Timed.of(kind, facts) for kind, facts in all_ if facts.get("machine") == machine(store.device)]
        published, notebooks = [], {}
        paths = sorted((ROOT / "figures").glob(f"*/{FILE}"), key=lambda path: path.parent.name == profile)
        for path in paths:
            run = json.loads(path.read_text())
            published += [Timed(tuple(names), work, s / run["calibration"]) for names, _, work, s in run["artefacts"]]
            notebooks |= {name: seconds / run["calibration"] for name, seconds in run["notebooks"].items()}
        return cls(here, published, notebooks, store.device)

    @cached_property
    def unit(self) -> float:
        """Seconds that the fixed calculation takes here, by what artefacts took or, if there are few, by doing it."""
        pairs = [(timed.seconds, _near(self.published, timed, CLOSE)) for timed in self.here]
        known = [(seconds, units) for seconds, units in pairs if units is not None]
        if sum(seconds for seconds, _ in known) > ENOUGH:
            return sum(seconds for seconds, _ in known) / sum(units for _, units in known)
        return calibrate(self.device)

    @property
    def basis(self) -> str:
        """In words."""
        if self.here:
            return f"by {len(self.here)} artefacts that this machine made"
        return "by a published run, scaled to this machine" if self.published else "a guess, as nothing was timed yet"

    def seconds(self, spec: Spec) -> float:
        """Of computing one artefact."""
        wanted = Timed(_family(spec.kind, spec.model_dump(mode="json")), spec.work(), math.nan)
        if wanted[:2] not in self._known:
            self._known[wanted[:2]] = self._predict(wanted)
        return self._known[wanted[:2]]

    def notebook(self, name: str) -> float:
        """Seconds of executing a notebook whose artefacts exist."""
        return self.notebooks.get(name, GUESS["notebook"]) * self.unit

    def _predict(self, wanted: Timed) -> float:
        for limit in (CLOSE, math.inf):
            if (seconds := _near(self.here, wanted, limit)) is not None:
                return seconds
            if (units := _near(self.published, wanted, limit)) is not None:
                return units * self.unit
        return wanted.work * GUESS["work"] * self.unit

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


def _near(known: list[Timed], wanted: Timed, limit: float) -> float | None:
    """Seconds, from the nearest of a kind: those of its family if there are any, and of about as much work."""
    kind = [timed for timed in known if timed.family[0] == wanted.family[0]]
    same = [timed for timed in kind if timed.family == wanted.family] or kind
    near = sorted((abs(math.log(timed.work / wanted.work)), *timed[1:]) for timed in same)[:NEAREST]
    near = [timed for timed in near if timed[0] <= math.log(limit)]
    return wanted.work * sum(s for *_, s in near) / sum(work for _, work, _ in near) if near else None


def calibrate(device: torch.device) -> float:
    """Seconds of a fixed calculation, the least of several: steps of a small convolutional network."""
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


def record(store: Store, specs: Iterable[Spec], notebooks: dict[str, float], folder: Path) -> None:
    """Write speed.json: of each family of artefacts how many, and their mean work and seconds; the seconds of the
    notebooks that ran, and what the file said of the others."""
    families = defaultdict(list)
    for spec in {spec.digest: spec for spec in specs if spec in store}.values():
        timed = Timed.of(spec.kind, {**read_facts(store.path(spec)), **spec.made_from})
        families[timed.family].append(timed)
    rows = [
        [names, len(some), *(sum(column) / len(some) for column in list(zip(*some, strict=True))[1:])]
        for names, some in sorted(families.items())
    ]
    path, calibration = folder / FILE, calibrate(store.device)
    if path.exists():
        before = json.loads(path.read_text())
        unit = calibration / before["calibration"]
        notebooks = {**{name: seconds * unit for name, seconds in before["notebooks"].items()}, **notebooks}
    content = {"calibration": calibration, "notebooks": notebooks, "artefacts": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")
