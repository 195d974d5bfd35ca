"""One notebook: execute, verify, tidy.

Nothing that papermill writes is believed: a notebook counts when every one of its cells ran without an error and every
output that it declares lies in the staging folder.
"""

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

from jsigr_lib.explorer.widgets import PROGRESS
from jsigr_lib.method.errors import InputError, one_line
from jsigr_lib.pipeline.order import declared_outputs, place
from jsigr_lib.records.record import parts, vouched
from jsigr_lib.records.running import running_code
from jsigr_lib.store.paths import ROOT, RUNS

LONGEST_TMPDIR = 70  # bytes: a socket's path has 103 at most, of which the folder and the file take 29
HELD = "held-by-a-run"


def execute(name: str, output: Path, parameters: dict[str, Any], *, timeout: float | None = None) -> None:
    """Run one clean source notebook through papermill, each cell for at most `timeout` minutes. Raises RuntimeError,
    naming the cell and the failed copy, if it fails, and InputError if the notebook did."""
    source = place(name)
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
