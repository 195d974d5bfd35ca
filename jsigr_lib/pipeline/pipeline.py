"""The notebooks, end to end: check everything first, make what is missing, execute, verify, publish.

Nothing that papermill writes is believed: a notebook counts when every one of its cells ran without an error and every
output that it declares lies in the staging folder. Only then do figures, tables and notebooks replace the published
ones, all together, so that what is published is always one complete run.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from filelock import FileLock, Timeout
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from papermill.translators import translate_parameters
from traitlets.config import Config

from jsigr_lib.explorer.snapshot import snapshot
from jsigr_lib.explorer.widgets import PROGRESS
from jsigr_lib.method.errors import InputError, between, file_name, one_line, one_of, within
from jsigr_lib.pipeline.speed import Speed, read_headers, record, stopwatch
from jsigr_lib.records.comparison import against_published
from jsigr_lib.records.publishing import places, replacing, sole_run, writable
from jsigr_lib.records.record import environment, now, parts, running_code, vouched, write_manifest
from jsigr_lib.store.artefacts import Progress, Spec, machine
from jsigr_lib.store.paths import NOTEBOOKS, ROOT, RUNS
from jsigr_lib.study.needs import NEEDS
from jsigr_lib.study.study import Study

NAMES = tuple(NEEDS)
LONGEST_TMPDIR = 70  # bytes: a socket's path has 103 at most, of which the folder and the file take 29
HELD = "held-by-a-run"
OWN_PARAMETERS = ("profile", "device", "out", "download")  # of every notebook, with options of their own


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


def select(names: list[str] | None) -> list[str]:
    """Notebooks by number ("03") or name; all of them for None. Raises InputError for an unknown one."""
    for name in names or []:
        one_of("notebook", name, [*(known[:2] for known in NAMES), *NAMES])
    return [name for name in NAMES if not names or name in names or name[:2] in names]


def source(name: str) -> nbformat.NotebookNode:
    """A clean notebook. Raises InputError unless it says what it makes, and which cell holds its parameters: without
    one, papermill would put them where the notebook's own overrule them."""
    path = NOTEBOOKS / f"{name}.ipynb"
    try:
        notebook = nbformat.from_dict(json.loads(path.read_text(encoding="utf-8")))
        outputs = declared_outputs(notebook)
        tagged = sum("parameters" in cell.metadata.get("tags", ()) for cell in notebook.cells)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{path} is no notebook of a run ({reason}); accepted: the repository's JSON") from None
    if tagged != 1:
        raise InputError(f"{path} has {tagged} cells tagged 'parameters'; accepted: one")
    with within(str(path)):
        for output in outputs:
            file_name("name of an output", output)
    return notebook


def check_settings(notebooks: list[str], settings: dict[str, Any]) -> None:
    """Every setting has to be a parameter of every chosen notebook: papermill would only warn."""
    for name in notebooks:
        source(name)
        known = papermill.inspect_notebook(str(NOTEBOOKS / f"{name}.ipynb"))
        for key in settings:
            one_of("setting", key, [parameter for parameter in known if parameter not in OWN_PARAMETERS])


def specs(study: Study, notebook: str) -> list[Spec]:
    """The artefacts that a notebook shows."""
    return [*NEEDS[notebook](study), *([snapshot(study)] if notebook == "04_saliency" else [])]


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
    progress: Progress | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Execute notebooks and publish what they made below `out`: figures/<profile>/ and notebooks/executed/<profile>/.

    `out` is the repository by default, or runs/custom if settings change the profile; what goes to the repository is
    compared with what is published. `timeout` is in minutes, of one notebook cell. Raises InputError before anything is
    computed if an argument is wrong or another run publishes there, and RuntimeError, with nothing published, if
    anything fails.
    """
    start, settings, chosen = time.perf_counter(), settings or {}, select(notebooks)
    check_settings(chosen, settings)
    if timeout is not None:
        between("timeout", timeout, 0.01, 1e6)
    study = Study(profile, device=device, jobs=jobs, download=download, progress=progress, **settings)
    out = Path(out) if out else (RUNS / "custom" if settings else ROOT)
    targets = places(out, study.profile.name)
    images = len(study.dataset.train)  # whatever is wrong with the data is found before a folder is made
    environment(study.store.device)  # and a package without metadata
    for target in targets:
        writable(target.parent)
    report(f"{study.profile.name} profile: {images:,} training images, {study.store.jobs} processes")
    with sole_run(out), PeakMemory() as memory:
        study.store.sweep()
        needed = [spec for name in chosen for spec in specs(study, name)]
        made = sum(map(len, study.store.missing(needed)))
        speed, took, times = Speed.of(study.store, read_headers(study.store.root)[0], study.profile.name), {}, {}
        study.store.make(needed, progress, cost=speed.seconds)
        with replacing(*targets, keep=len(chosen) < len(NAMES)) as (figures, executed):
            for declared in (file for name in chosen for file in declared_outputs(source(name))):
                (figures / declared).unlink(missing_ok=True)  # or what an earlier run made would pass for this one's
            file = _from_root(Path(profile)) if profile.endswith(".toml") else profile  # notebooks run in the root
            parameters = {"profile": file, "device": device, "out": _from_root(figures), **settings}
            static = {name: {"live": False} for name in ("01_theory", "04_saliency")}
            for i, name in enumerate(chosen, 1):
                report(f"notebook {i} of {len(chosen)}: {name}")
                path, started, given = executed / f"{name}.ipynb", now(), {**parameters, **static.get(name, {})}
                with stopwatch(children=True) as watch:
                    execute(name, path, given, timeout=timeout)
                took[name], times[name] = watch["seconds"], [started, now()]
                verify(path, figures)
                same_code(path, figures)
                tidy(path, {**given, "out": _from_root(targets[0])})
            outputs, seconds, peak = len(list(figures.iterdir())), time.perf_counter() - start, memory.peak / 1e9
            where = machine(study.store.device)
            account = {"minutes": round(seconds / 60, 1), "artefacts_made": made, "peak_memory_gb": round(peak, 2)}
            write_manifest(figures, executed, {**account, "machine": where}, times, study.store)
            compared = out.resolve() == ROOT and not settings
            agreement = _agreement(figures, executed, targets[0], chosen) if compared else []
        if not settings:
            record(study.store, study.profile.name, needed, took)
    return Summary(*targets, outputs, seconds, made, peak, where, agreement)


def execute(name: str, output: Path, parameters: dict[str, Any], *, timeout: float | None = None) -> None:
    """Run one clean source notebook through papermill, each cell for at most `timeout` minutes. Raises RuntimeError,
    naming the cell and the failed copy, if it fails, and InputError if the notebook did."""
    source = NOTEBOOKS / f"{name}.ipynb"
    try:
        with own_kernel() as config:
            papermill.execute_notebook(
                str(source),
                str(output),
                parameters,
                kernel_name="python3",
                kernel_manager_class=Kernel,
                progress_bar=False,
                cwd=str(ROOT),
                execution_timeout=timeout and math.ceil(60 * timeout),
                shutdown_kernel="immediate",  # one that hangs would be asked, in vain, and complain on the screen
                config=config,
            )
    except Exception as error:  # of the notebook's own, of the kernel's or of papermill's: all mean the same here
        if getattr(error, "ename", "") == InputError.__name__:  # such as a damaged artefact
            raise InputError(error.evalue) from error
        if isinstance(error, DeadKernelError):
            reason = "its kernel was killed, perhaps for want of memory"
        elif isinstance(error, CellTimeoutError):
            reason = f"it took longer than --timeout {timeout:g} minutes"
        elif isinstance(error, PapermillExecutionError):
            reason = f"{error.ename}: {error.evalue}"
        else:
            reason = f"{type(error).__name__}: {one_line(error)}"
        raise RuntimeError(f"notebook {name} failed{_where(output)} ({reason}){_kept(output)}") from error


class Kernel(AsyncKernelManager):
    """This interpreter with what it imports, and nothing of its user's: no kernel of their Jupyter, no start-up file of
    their IPython, no settings of their matplotlib."""

    kernel_spec = KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])

    async def start_kernel(self, **options: Any) -> None:
        own = {"IPYTHONDIR": os.path.dirname(self.connection_file), "MATPLOTLIBRC": os.devnull}
        own["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
        kept = {name: value for name, value in os.environ.items() if name not in ("MPLBACKEND", "PYTHONSTARTUP")}
        await super().start_kernel(env={**kept, **own}, **options)


@contextmanager
def own_kernel() -> Iterator[Config]:
    """Settings of a kernel that no other run and no other user can talk to: through files in a folder of its own (TCP
    ports are open to everyone on the machine). It ends with the block, also if an interrupt comes while it starts."""
    before = psutil.Process().children()
    place = "/tmp" if len(os.fsencode(tempfile.gettempdir())) > LONGEST_TMPDIR and os.name != "nt" else None
    for left in Path(place or tempfile.gettempdir()).glob(f"jsigr-*/{HELD}"):  # by killed runs: held no longer
        with suppress(OSError, Timeout), FileLock(left, timeout=0):
            shutil.rmtree(left.parent)
    with (
        tempfile.TemporaryDirectory(prefix="jsigr-", dir=place, ignore_cleanup_errors=True) as folder,
        FileLock(f"{folder}/{HELD}"),
    ):
        settings = {"connection_file": f"{folder}/kernel.json", "transport": "tcp" if os.name == "nt" else "ipc"}
        try:
            yield Config(KernelManager=settings)
        finally:
            for process in set(psutil.Process().children()) - set(before):
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def _where(failed: Path) -> str:
    """The cell that started last, by the number that Jupyter shows. (papermill says that every cell is complete, and a
    killed kernel may not have told the number.)"""
    try:
        cells = nbformat.read(failed, as_version=4).cells
    except (OSError, ValueError):  # it never started, or could not be written
        return ""
    code = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    started = sum(bool(cell.metadata.get("papermill", {}).get("start_time")) for cell in code)
    return f" in cell [{started}]" if started else ""


def _kept(failed: Path) -> str:
    """Keep a failed notebook where it disturbs no run. Returns words that say where it is."""
    copy = RUNS / "failed" / failed.name
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(failed, copy)
    except OSError:  # such as the full disk that it failed of
        return ""
    return f"; see {copy}"


def verify(executed: Path, figures: Path) -> None:
    """Raise RuntimeError unless every cell ran without error and every declared output is there and whole."""
    notebook = nbformat.read(executed, as_version=4)
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            raise RuntimeError(f"cell {i} of {executed.name} never ran")
        if any(output.output_type == "error" for output in cell.get("outputs", ())):
            raise RuntimeError(f"cell {i} of {executed.name} ended with an error")
    for name in declared_outputs(notebook):
        path = figures / name
        if not path.is_file() or not path.stat().st_size:
            raise RuntimeError(f"{executed.name} did not make {name}, which it declares")
        if path.suffix != ".json" and not vouched(path):
            raise RuntimeError(f"{name} differs from what {path.stem}.json says of it")


def same_code(executed: Path, figures: Path) -> None:
    """Raise InputError unless every file that a notebook made says that this very code made it."""
    code = running_code()
    for name in declared_outputs(nbformat.read(executed, as_version=4)):
        for part in parts((figures / name).with_suffix(".json")).values():
            if part.code.sources != code.sources or not part.code.own.items() <= code.own.items():
                raise InputError(f"other code than this run's made {name}; accepted: files that stay as they are")


def tidy(executed: Path, parameters: dict[str, Any]) -> None:
    """Drop what papermill and the kernel note of this machine and moment (times, a random id, progress, warnings with
    the process in them), so that equal runs leave equal notebooks, and let the parameters name the folder where the
    figures come to lie."""
    notebook = nbformat.read(executed, as_version=4)
    for part in (notebook, *notebook.cells):
        for key in ("papermill", "execution"):
            part.metadata.pop(key, None)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", ()):
            cell.id = "injected-parameters"
            cell.source = translate_parameters("python3", "python", parameters, "Parameters")
        if cell.cell_type == "code":
            marks = {"stderr", PROGRESS}
            cell.outputs = [
                one for one in cell.outputs if marks.isdisjoint([one.get("name"), *one.get("metadata", ())])
            ]
    nbformat.write(notebook, executed)


def declared_outputs(notebook: nbformat.NotebookNode) -> list[str]:
    """File names from the notebook's metadata: a figure is PNG and SVG, a table CSV and Markdown, and both JSON."""
    declared = notebook.metadata["jsigr"]
    figures = [f"{name}.{kind}" for name in declared["figures"] for kind in ("png", "svg", "json")]
    return figures + [f"{name}.{kind}" for name in declared["tables"] for kind in ("csv", "md", "json")]


def _agreement(figures: Path, executed: Path, target: Path, chosen: list[str]) -> list[str]:
    """How the staged tables agree with the published ones. If only some notebooks ran, only their tables count."""
    notebooks = [nbformat.read(executed / f"{name}.ipynb", as_version=4) for name in chosen]
    tables = {name for notebook in notebooks for name in notebook.metadata["jsigr"]["tables"]}
    return against_published(figures, target.name, replaced=target, only=tables if len(chosen) < len(NAMES) else None)


def _from_root(path: Path) -> str:
    """Relative to the repository, where notebooks run, if it lies inside."""
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
