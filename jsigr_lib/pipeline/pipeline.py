"""The notebooks, end to end: check everything first, make what is missing, execute, verify, publish.

Only when all of them are verified do figures, tables and notebooks replace the published ones, all together, so that
what is published is always one complete run.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil

from jsigr_lib.explorer.snapshot import specs
from jsigr_lib.explorer.widgets import PARAMETERS
from jsigr_lib.method.errors import between, one_line
from jsigr_lib.pipeline.notebooks import execute, same_code, tidy, verify
from jsigr_lib.pipeline.order import Order, declared_outputs, from_root, order, source
from jsigr_lib.records.comparison import against_published
from jsigr_lib.records.publishing import replacing, sole_run, writable
from jsigr_lib.records.record import now, write_manifest
from jsigr_lib.store.artefacts import Progress
from jsigr_lib.store.engines import Engine
from jsigr_lib.store.hardware import machine
from jsigr_lib.store.paths import ROOT
from jsigr_lib.study.speed import Speed, read_headers, record, stopwatch


@dataclass(frozen=True)
class Summary:
    """What a finished run reports about itself; `agreement` with the published run, in lines for people."""

    figures: Path
    notebooks: Path
    outputs: int
    seconds: float
    made: int
    peak_memory_gb: float
    machine: str
    agreement: list[str]


class PeakMemory:
    """Samples the memory of this process and its children, each shared page counted once where the system tells."""

    def __init__(self, interval: float = 1.0):
        self.peak, self._interval, self._done = 0, interval, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        me = psutil.Process()
        while not self._done.wait(self._interval):
            self.peak = max(self.peak, sum(map(_memory, [me, *me.children(recursive=True)])))


def _memory(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
        return getattr(memory, "pss", 0) or memory.rss
    except psutil.Error:
        return 0  # it has just ended


@contextmanager
def _saying_how_to_go_on() -> Iterator[None]:
    """Whatever stops a run from outside, such as a full disk, ends in one line."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        raise RuntimeError(f"{one_line(error)}; the same command continues where this one stopped") from error


@_saying_how_to_go_on()
def run(
    *,
    profile: str = "quick",
    notebooks: list[str] | None = None,
    settings: dict[str, Any] | None = None,
    out: Path | None = None,
    device: str = "auto",
    jobs: int = 0,
    timeout: float | None = None,
    download: bool = False,
    engine: Engine | None = None,
    progress: Progress | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Execute notebooks and publish what they made below `out`: figures/<profile>/ and notebooks/executed/<profile>/.

    `out` is the repository by default, or with `settings` a folder of their own in runs/custom; what goes to the
    repository is compared with what is published. `timeout` is in minutes, of one notebook cell. `engine` makes the
    artefacts, by default processes of this machine. Raises InputError before anything is computed if an argument is
    wrong or another run publishes there, and RuntimeError, with nothing published, if anything fails.
    """
    start = time.perf_counter()
    options = {"device": device, "jobs": jobs, "download": download, "progress": progress}
    asked = order(profile, notebooks, settings, out=out, **options)
    if timeout is not None:
        between("timeout", timeout, 0.01, 1e6)
    study, chosen, settings, targets = asked.study, asked.notebooks, asked.settings, asked.targets
    images = len(study.dataset.train)  # whatever is wrong with the data is found before a folder is made
    for target in targets:
        writable(target.parent)
    report(f"{study.profile.name} profile: {images:,} training images, {study.store.jobs} processes")
    for line in study.notes:
        report(line)
    with sole_run(asked.out), PeakMemory() as memory:
        study.store.sweep()
        needed = [spec for name in chosen for spec in specs(study, name)]
        made = sum(map(len, study.store.missing(needed)))
        speed, took, times = Speed.of(study.store, read_headers(study.store.root)[0], study.profile.name), {}, {}
        study.store.make(needed, progress, cost=speed.seconds, engine=engine)
        with replacing(*targets, keep=not asked.whole) as (figures, executed):
            for declared in (file for name in chosen for file in declared_outputs(source(name))):
                (figures / declared).unlink(missing_ok=True)  # or what an earlier run made would pass for this one's
            file = from_root(Path(profile)) if profile.endswith(".toml") else profile  # notebooks run in the root
            own = {key: value for key, value in settings.items() if key in PARAMETERS}
            others = {key: value for key, value in settings.items() if key not in own}
            common = {"profile": file, "device": device, "out": from_root(figures), **own}
            common |= {"settings": others} if others else {}
            static = {name: {"live": False} for name in ("01_theory", "04_saliency")}
            for i, name in enumerate(chosen, 1):
                report(f"notebook {i} of {len(chosen)}: {name}")
                path, started, given = executed / f"{name}.ipynb", now(), {**common, **static.get(name, {})}
                with stopwatch(children=True) as watch:
                    execute(name, path, given, timeout=timeout)
                took[name], times[name] = watch["seconds"], [started, now()]
                verify(path, figures)
                same_code(path, figures)
                tidy(path, {**given, "out": from_root(targets[0])})
            outputs, seconds, peak = len(list(figures.iterdir())), time.perf_counter() - start, memory.peak / 1e9
            where = machine(study.store.device)
            account = {"minutes": round(seconds / 60, 1), "artefacts_made": made, "peak_memory_gb": round(peak, 2)}
            write_manifest(figures, executed, {**account, "machine": where}, times, study.store)
            compared = asked.out.resolve() == ROOT and not settings
            agreement = _agreement(figures, executed, asked) if compared else []
        if not settings:
            record(study.store, study.profile.name, needed, took)
    return Summary(*targets, outputs, seconds, made, peak, where, agreement)


def _agreement(figures: Path, executed: Path, asked: Order) -> list[str]:
    """How the staged tables agree with the published ones. If only some notebooks ran, only their tables count."""
    notebooks = [nbformat.read(executed / f"{name}.ipynb", as_version=4) for name in asked.notebooks]
    target = asked.targets[0]
    tables = {name for notebook in notebooks for name in notebook.metadata["jsigr"]["tables"]}
    return against_published(figures, target.name, replaced=target, only=None if asked.whole else tables)
