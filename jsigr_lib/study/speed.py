"""How long artefacts and notebooks take on this machine: in proportion to the most alike of what was timed here, in the
headers of artefacts and in runs/speed/<profile>.json, and of what the authors timed (jsigr_lib/study/profiles/speed/),
scaled by a fixed calculation. Seconds are the processor's where the clock counted more, so that whatever else kept the
machine busy does not count."""

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from jsigr_lib.method.errors import InputError
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.files import contents, replace
from jsigr_lib.store.hardware import machine, one_thread
from jsigr_lib.store.paths import PROFILES
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tensor_files import read_facts

CLOSE = math.log(4)  # work that differs by a larger factor says less: small computations are mostly overhead
GUESS = 5e-11  # calculations per work, where nothing of a kind was ever timed
NOTEBOOK = 5e11  # work of a notebook, for the same case


class Timed(NamedTuple):
    """What an artefact took: seconds if it was made `here`, else fixed calculations. `family` is its kind and the words
    among its fields, such as an attack's name."""

    family: tuple[str, ...]
    work: float
    seconds: float
    here: bool = True

    @classmethod
    def of(cls, kind: str, facts: dict[str, Any]) -> "Timed":
        seconds = min(facts["seconds"], facts.get("cpu_seconds", math.inf))
        return cls(_family(kind, facts["spec"]), facts["work"], seconds)


def _family(kind: str, fields: dict[str, Any]) -> tuple[str, ...]:
    return (kind, *(value for _, value in sorted(fields.items()) if isinstance(value, str)))


Headers = dict[str, dict[str, dict[str, Any]]]
"""kind -> digest -> facts, the latest first."""


def read_headers(root: Path) -> tuple[Headers, list[Path]]:
    """The headers of a store's artefacts, and the files that cannot be artefacts."""
    headers, unreadable = defaultdict(dict), []
    paths = [path for path in root.glob("*/*.safetensors") if path.parent.name != "checkpoints"]
    for path in sorted(paths, key=lambda path: (-path.lstat().st_mtime, path)):  # a link may lead nowhere
        try:
            headers[path.parent.name][path.stem] = read_facts(path)
        except InputError:
            unreadable.append(path)
    return headers, unreadable


class Speed:
    """What was timed, and what it foretells."""

    def __init__(self, rows: list[Timed], profile: str, device: torch.device):
        self.profile, self.device, alike = profile, device, defaultdict(list)
        for family, work, seconds, here in rows:
            alike[family, work, here].append(seconds)
        self.rows = [Timed(family, work, sum(s) / len(s), here) for (family, work, here), s in alike.items()]

    @classmethod
    def of(cls, store: Store, headers: Headers, profile: str) -> "Speed":
        """From the headers of a store and the files beside them."""
        made = [(kind, facts) for kind, some in headers.items() for facts in some.values() if facts.get("work")]
        rows = [Timed.of(kind, facts) for kind, facts in made if facts.get("machine") == machine(store.device)]
        rows += [row for path in _files(store.root) for row in _rows(path) if row.work == NOTEBOOK]
        rows += [row._replace(here=False) for path in _files(PROFILES) for row in _rows(path, calibrated=True)]
        return cls(rows, profile, store.device)

    @cached_property
    def unit(self) -> float:
        """Seconds that the fixed calculation takes here."""
        return calibrate(self.device)

    @property
    def basis(self) -> str:
        """What the predictions rest on, in words."""
        if here := sum(row.here for row in self.rows):
            return f"by {here} computations that this machine timed"
        return "by a published run, scaled to this machine" if self.rows else "a guess, as nothing was timed yet"

    def seconds(self, spec: Spec) -> float:
        """How long it takes to compute one artefact."""
        return self._predict(_family(spec.kind, spec.model_dump(mode="json")), max(spec.work(), 1.0))

    def notebook(self, name: str) -> float:
        """How long it takes to execute a notebook whose artefacts exist."""
        return self._predict(("notebook", self.profile, name), NOTEBOOK)

    def _predict(self, family: tuple[str, ...], work: float) -> float:
        """In proportion to the one of the kind that is most alike: of the same family before others, of about as much
        work before others, made here before published."""

        def unlike(row: Timed) -> tuple[bool, bool, bool, float]:
            distance = abs(math.log(row.work / work))
            return row.family != family, distance > CLOSE, not row.here, distance

        rows = [row for row in self.rows if row.family[0] == family[0]]
        nearest = min(rows, key=unlike, default=Timed(family, 1, GUESS, here=False))
        return work * nearest.seconds / nearest.work * (1 if nearest.here else self.unit)


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
        content = json.loads(contents(path))
        unit = content["calibration"] if calibrated else 1
        return [Timed((*map(str, row["family"]),), row["work"], row["seconds"] / unit) for row in content["rows"]]
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return []  # there is none, or it is something else; the next run writes it anew


def record(store: Store, profile: str, specs: Iterable[Spec], notebooks: dict[str, float]) -> None:
    """Write runs/speed/<profile>.json: mean work and seconds of each family of artefacts among `specs` and what they
    need; and what notebooks took, those that did not run now as the file had it."""
    path, families = store.root / "speed" / f"{profile}.json", defaultdict(list)
    took = {row.family: row for row in _rows(path) if row.work == NOTEBOOK}
    took |= {("notebook", profile, name): Timed((), NOTEBOOK, seconds) for name, seconds in notebooks.items()}
    families |= {family: [row] for family, row in took.items()}
    for spec in {part.digest: part for one in specs for part in one.parts.values()}.values():
        with suppress(InputError):  # of one that is gone
            row = Timed.of(spec.kind, {**read_facts(store.path(spec)), **spec.made_from})
            families[row.family].append(row)
    rows = []
    for family, some in sorted(families.items()):
        work, seconds = (sum(values) / len(some) for values in list(zip(*some, strict=True))[1:3])
        rows.append({"family": family, "count": len(some), "work": work, "seconds": seconds})
    content = {"calibration": calibrate(store.device), "machine": machine(store.device), "rows": rows}
    with suppress(OSError):  # where nothing can be written, the next run predicts from something else
        replace(path, f"{json.dumps(content, indent=1)}\n".encode())
