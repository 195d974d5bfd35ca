"""The `jsigr` command. Bad input ends with one line and exit code 2, a failed run with one line and exit code 1, an
interrupted one with one line and 128 + the number of the signal."""

import importlib
import logging
import signal
import sys
import time
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer
from rich.console import Console

from jsigr_lib import pipeline, pretrained
from jsigr_lib.artefacts import Spec
from jsigr_lib.errors import InputError, one_line
from jsigr_lib.paths import PRETRAINED, ROOT
from jsigr_lib.study import Study

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)
console = Console(stderr=True, highlight=False, soft_wrap=True)


@app.callback()
def jsigr() -> None:
    """The J-SIGR companion: every figure and table of the study, regenerated."""


@app.command()
def run(
    profile: Annotated[str, typer.Option(help="smoke, quick or paper, or a TOML file like theirs")] = "quick",
    notebook: Annotated[list[str] | None, typer.Option(help="01 to 05; all by default; repeatable")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a notebook parameter; repeatable")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="where figures/ and notebooks/ go; the repository by default")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    jobs: Annotated[int, typer.Option(help="processes at a time; 0 is one per core")] = 0,
    timeout: Annotated[
        float | None, typer.Option(help="minutes that a notebook cell may take; no limit by default")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="fetch a data set that is missing")] = False,
) -> None:
    """Execute the notebooks and publish their figures and tables, once all of them are made and verified."""
    summary = pipeline.run(
        profile=profile,
        notebooks=notebook,
        settings=parse_settings(set_ or []),
        out=out,
        device=device,
        jobs=jobs,
        timeout=timeout,
        download=download,
        progress=progress_lines(),
        report=lambda line: console.print(line),
    )
    console.print(
        f"{summary.outputs} files in {summary.figures} and the notebooks in {summary.notebooks}\n"
        f"{summary.seconds / 60:.1f} minutes, {summary.made} artefacts made, "
        f"peak memory {summary.peak_memory_gb:.1f} GB, {summary.machine}"
    )


@app.command()
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="steps, attacks, strength, maps, workers, fidelity, frontier, ablations, explorer, kills; "
            "all by default; repeatable"
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="of interleaved timing; 2 or 3 for a first look")] = 10,
    threads: Annotated[int, typer.Option(help="of the CPU")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    jacobian_regularizer: Annotated[
        Path | None, typer.Option(help="a clone of github.com/facebookresearch/jacobian_regularizer")
    ] = None,
    torchattacks: Annotated[
        Path | None, typer.Option(help="the Python of an environment with torchattacks and torch")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="where the tables go; benchmarks/results by default")] = None,
) -> None:
    """Measure speed against named peers, as ratios from interleaved runs; see benchmarks/README.md."""
    folder = benchmarks().main(
        only,
        rounds=rounds,
        threads=threads,
        device=device,
        jacobian_regularizer=jacobian_regularizer,
        torchattacks=torchattacks,
        out=out,
        progress=progress_lines(),
        report=lambda line: console.print(line, markup=False),
    )
    console.print(f"tables in {folder}")


@app.command("pretrained")
def export_pretrained(
    profile: Annotated[str, typer.Option(help="whose networks: smoke, quick or paper, or a TOML file")] = "quick",
) -> None:
    """Write data/pretrained anew: trained networks of the main defences in half precision, with a model card each."""
    pretrained.export(Study(profile, progress=progress_lines()))
    console.print(f"{PRETRAINED} is complete; its table, for data/README.md:\n\n{pretrained.table()}", markup=False)


@app.command()
def site(
    profile: Annotated[str, typer.Option(help="one that jsigr run has executed")] = "quick",
    out: Annotated[Path, typer.Option(help="where the pages go; a folder that is new, empty or a site")] = Path("site"),
) -> None:
    """Turn the executed notebooks into pages to read without a kernel and without a network."""
    from jsigr_lib import site as pages  # nbconvert takes a second to import

    console.print(f"open {pages.build(profile, out=out) / 'index.html'}", markup=False)


def benchmarks() -> ModuleType:
    """benchmarks/run.py, which lies beside jsigr_lib in the repository and is no part of an installed wheel."""
    if not (ROOT / "benchmarks" / "run.py").is_file():
        raise InputError(
            f"no benchmarks/ in {ROOT}; accepted: the repository, with jsigr installed by pip install -e ."
        )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module("benchmarks.run")


def parse_settings(pairs: list[str]) -> dict:
    """["eps=0.1", "seeds=[0, 1]", "dataset=mnist"] -> values; whatever is no TOML value is a string."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise InputError(f"--set {pair!r}; accepted: KEY=VALUE")
        try:
            settings[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key.strip()] = value
    return settings


def progress_lines():
    """A progress callback: one line per trained network or twentieth of the work, with the time that is left."""
    start, last = time.perf_counter(), 0.0

    def progress(spec: Spec, done: float, total: float) -> None:
        nonlocal last
        if spec.kind != "model" and done < total and done - last < total / 20:
            return
        last, elapsed = done, time.perf_counter() - start
        left = (
            f"about {elapsed * (total - done) / done / 60:.1f} min left"
            if done > total / 6
            else "estimating what is left"
        )
        what = f"{spec.architecture}, {spec.objective}" if spec.kind == "model" else spec.kind
        console.print(f"{done / total:4.0%}  {elapsed / 60:5.1f} min, {left}   {what}")

    return progress


class Stopped(SystemExit):
    """By a signal. A SystemExit, as typer ends a KeyboardInterrupt in ways of its own."""


def stop(number: int, frame: object) -> None:
    raise Stopped(128 + number)


def main() -> None:
    """Entry point of `jsigr` and of `python -m jsigr_lib`."""
    logging.getLogger("papermill").addHandler(logging.NullHandler())  # a failure is said once, in our line
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        app()
    except (InputError, RuntimeError, OSError) as error:
        console.print(f"jsigr: {one_line(error)}", markup=False)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except Stopped as stopped:
        console.print("jsigr: interrupted; what was complete is kept, and the same command continues from there")
        sys.exit(stopped.code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
