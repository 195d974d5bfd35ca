"""The `jsigr` command. Bad input ends with one line and exit code 2, a failed run with one line and exit code 1, an
interrupted one with one line and 128 + the number of the signal. Each command imports what it needs when it is called:
`--help` or a mistyped option wait for no heavy library.
"""

import json
import logging
import signal
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from jsigr_lib.method.errors import InputError, one_line, one_of, printable, shown
from jsigr_lib.options import (
    Device,
    Group,
    Jobs,
    Json,
    Notebooks,
    Profile,
    ProfileOrGroup,
    Settings,
    asked,
    number,
    path_of,
)
from jsigr_lib.store.paths import PRETRAINED, ROOT

if TYPE_CHECKING:
    from jsigr_lib.store.artefacts import Progress
    from jsigr_lib.store.engines import Engine
    from jsigr_lib.store.specs import Spec

BENCHMARKS = "steps, attacks, strength, maps, costs, workers, scaling, fidelity, frontier, ablations, explorer, kills"
JACOBIAN_REGULARIZER = "github.com/facebookresearch/jacobian_regularizer"

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
UsageError = typer.BadParameter.__base__  # for an unknown option or a missing value


def say(line: str) -> None:
    """Print a line on the error stream, as it is: brackets are no markup. Nobody may be there to read it, as after a
    terminal was closed."""
    with suppress(OSError):
        console.print(line, markup=False)


@app.callback()
def jsigr() -> None:
    """The J-SIGR companion: every figure and table of the study, regenerated."""


@app.command()
def run(
    profile: ProfileOrGroup = None,
    group: Group = None,
    notebook: Notebooks = None,
    set_: Settings = None,
    out: Annotated[str | None, typer.Option(help="where figures/ and notebooks/ go; the repository by default")] = None,
    device: Device = "auto",
    jobs: Jobs = 0,
    timeout: Annotated[float | None, number(float, "minutes that a notebook cell may take; none by default")] = None,
    download: Annotated[bool, typer.Option("--download", help="fetch a data set that is missing")] = False,
    engine: Annotated[str, typer.Option(help="local or ray: what makes artefacts, see docs/cluster.md")] = "local",
    address: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="of the Ray cluster")] = None,
    gpus_per_task: Annotated[float, number(float, "of the cluster's GPUs; a task without one has a CPU core")] = 0.0,
    retries: Annotated[int, number(int, "of a task whose process or node in the cluster died")] = 3,
) -> None:
    """Execute the notebooks and publish their figures and tables, once all of them are made and verified."""
    from jsigr_lib.pipeline import pipeline

    chosen = {"notebooks": notebook, **asked(profile, group, set_ or []), "device": device, "jobs": jobs}
    limits = {"out": path_of("out", out), "timeout": timeout, "download": download}
    limits |= {"engine": engine_of(engine, address, gpus_per_task, retries)}
    summary = pipeline.run(**chosen, **limits, progress=progress_lines(), report=say)
    say(f"{summary.outputs} files in {summary.figures} and the notebooks in {summary.notebooks}")
    memory = f"peak memory {summary.peak_memory_gb:.1f} GB"
    say(f"{summary.seconds / 60:.1f} minutes, {summary.made} artefacts made, {memory}, {summary.machine}")
    for line in summary.agreement:
        say(line)


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(help="a folder of tables, or one with figures/<profile>, as a run leaves it")],
    b: Annotated[Path | None, typer.Argument(help="another one; the published run by default")] = None,
    profile: Annotated[str | None, typer.Option(help="which, if a folder holds several")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="agree only if every table has the same bytes")] = False,
    as_json: Json = False,
) -> None:
    """Compare two runs, table by table: exit code 0 if they agree within tolerance, 1 if they do not."""
    from jsigr_lib.records import comparison, results

    folder = results.find_results(a, profile)
    known = results.published_run(profile or folder.resolve().name) if b is None else nullcontext((b, str(b)))
    with known as (other, name):
        found = comparison.compare(folder, results.find_results(other, profile))
    everything = {"a": str(a), "b": name, "agrees": found.agrees, "exact": found.exact, **asdict(found)}
    typer.echo(json.dumps(everything) if as_json else "\n".join(comparison.lines(found, str(a), name)))
    raise typer.Exit(0 if (found.exact if exact else found.agrees) else 1)


@app.command("plan")
def show_plan(
    profile: ProfileOrGroup = None,
    group: Group = None,
    notebook: Notebooks = None,
    set_: Settings = None,
    device: Device = "auto",
    jobs: Jobs = 0,
    each: Annotated[bool, typer.Option("--all", help="one line per artefact")] = False,
    as_json: Json = False,
) -> None:
    """Say what jsigr run would find and what it would make, why, and in how many minutes. Writes nothing."""
    from jsigr_lib.pipeline import plan

    chosen = {"notebooks": notebook, **asked(profile, group, set_ or []), "device": device, "jobs": jobs}
    planned = plan.plan(**chosen, start=time.process_time())
    typer.echo(json.dumps(planned.as_dict(), indent=1) if as_json else "\n".join(planned.lines(each=each)))


@app.command()
def bench(
    only: Annotated[list[str] | None, typer.Option(help=f"{BENCHMARKS}; all by default; repeatable")] = None,
    rounds: Annotated[int, number(int, "of interleaved timing; 2 or 3 for a first look")] = 10,
    threads: Annotated[int, number(int, "of the CPU")] = 2,
    device: Device = "auto",
    jacobian_regularizer: Annotated[str | None, typer.Option(help=f"a clone of {JACOBIAN_REGULARIZER}")] = None,
    torchattacks: Annotated[str | None, typer.Option(help="the Python of an environment with torchattacks")] = None,
    out: Annotated[str | None, typer.Option(help="where the tables go; benchmarks/results by default")] = None,
) -> None:
    """Measure speed against named peers, as ratios from interleaved runs; see benchmarks/README.md."""
    if not (ROOT / "benchmarks" / "run.py").is_file():  # which is no part of an installed wheel
        raise InputError(f"no benchmarks/ in {ROOT}; accepted: the repository, installed by pip install -e .")
    sys.path.insert(0, str(ROOT))
    from benchmarks import run as benchmarks

    peers = {"jacobian_regularizer": path_of("jacobian-regularizer", jacobian_regularizer)}
    peers |= {"torchattacks": path_of("torchattacks", torchattacks), "out": path_of("out", out)}
    how = {"rounds": rounds, "threads": threads, "device": device}
    folder = benchmarks.main(only, **how, **peers, progress=progress_lines(), report=say)
    say(f"tables in {folder}")


@app.command("pretrained")
def export_pretrained(
    profile: Profile = "quick",
    of: Annotated[str, typer.Option(help="the set to write: fashion-mnist or cifar10")] = "fashion-mnist",
) -> None:
    """Write a set of data/pretrained anew: a profile's main networks in half precision, each with a model card."""
    from jsigr_lib.explorer import pretrained
    from jsigr_lib.study.study import Study

    pretrained.export(Study(profile, progress=progress_lines()), of)
    say(f"{PRETRAINED / of} is complete; its table, for data/README.md:\n\n{pretrained.table(of)}")


@app.command()
def site(
    profile: Annotated[str, typer.Option(help="one that jsigr run has executed")] = "full",
    out: Annotated[str, typer.Option(help="where the pages go; a folder that is new, empty or a site")] = "site",
) -> None:
    """Turn the executed notebooks into pages to read without a kernel and without a network."""
    from jsigr_lib.site import site as pages

    say(f"open {pages.build(profile, out=path_of('out', out)) / 'index.html'}")


@app.command()
def trace(
    file: Annotated[Path, typer.Argument(help="PNG, SVG, CSV or Markdown, wherever it is and whatever it is called")],
    as_json: Json = False,
) -> None:
    """Tell what made a figure or table: settings, data, code, notebook cell. Exit code 1 if it was altered since."""
    from jsigr_lib.records import tracing

    found = tracing.trace(file)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
    else:
        out = Console(highlight=False, soft_wrap=True)
        out.print(tracing.layout(found, width=min(out.width, 120)), end="")
    if found.altered:
        raise RuntimeError(f"{str(file)!r} was altered since it was saved: {found.altered}")


def engine_of(name: str, address: str | None, gpus: float, retries: int) -> "Engine | None":
    """A cluster that has answered; None for the processes of this machine."""
    one_of("engine", name, ("local", "ray"))
    if name == "local":
        if address is not None:
            raise InputError(f"--address {shown(address)} without a cluster; accepted: with --engine ray")
        return None
    from jsigr_lib.store.ray_engine import RayEngine

    found = RayEngine(address or "", gpus=gpus, retries=retries)
    say(f"the cluster at {found.address} runs {found.at_a_time} tasks at a time")
    return found


def progress_lines() -> "Progress":
    """A progress callback: a line for each trained network and each twentieth of the cost, with the time left."""
    start, last = time.perf_counter(), 0.0

    def progress(spec: "Spec", done: float, total: float) -> None:
        nonlocal last
        if spec.kind != "model" and done < total and done - last < total / 20:
            return
        last, elapsed = done, time.perf_counter() - start
        rest = max(0, elapsed * (total - done) / done) / 60 if done else 0
        left = f"about {rest:.1f} min left" if done > total / 20 else "estimating what is left"
        what = f"{spec.architecture}, {spec.objective}" if spec.kind == "model" else spec.kind
        say(f"{done / total:4.0%}  {elapsed / 60:5.1f} min, {left}   {what}")

    return progress


def stop(signum: int, frame: object) -> None:
    """End the run at a signal, undisturbed by further ones. No KeyboardInterrupt, which typer ends in its own way."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + signum)


def main() -> None:
    """Entry point of `jsigr` and of `python -m jsigr_lib`."""
    logging.getLogger("papermill").addHandler(logging.NullHandler())  # a failure is said once, in our line
    ignored = [signum for signum in SIGNALS[2:] if signal.getsignal(signum) == signal.SIG_IGN]  # by nohup
    before = {signum: signal.signal(signum, stop) for signum in SIGNALS if signum not in ignored}
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="jsigr", standalone_mode=False)
    except (InputError, RuntimeError, OSError, MemoryError, ImportError) as error:  # a library without memory: either
        say(f"jsigr: {printable(one_line(error))}")
        code = 2 if isinstance(error, InputError) else 1
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "jsigr <command>"
        said = f"jsigr: {error.format_message().rstrip('.')}; accepted: what `{command} --help` lists"
        say(printable(said))
        code = 2
    except SystemExit as stopped:
        say("jsigr: interrupted; what was complete is kept, and the same command continues from there")
        sys.exit(stopped.code)  # with further signals still ignored
    for signum, handler in before.items():
        signal.signal(signum, handler)
    sys.exit(code)
