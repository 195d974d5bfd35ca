"""The `jsigr` command. Bad input ends with one line and exit code 2, a failed run with one line and exit code 1, an
interrupted one with one line and 128 + the number of the signal."""

import importlib
import json
import logging
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer
from rich.console import Console

from jsigr_lib import comparison, pipeline, plan, pretrained, results, toml, tracing
from jsigr_lib.artefacts import Spec
from jsigr_lib.errors import InputError, one_line, printable, shown
from jsigr_lib.paths import PRETRAINED, ROOT
from jsigr_lib.study import Study

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
UsageError = typer.BadParameter.__base__  # an option that is unknown, a value that is missing


def number(kind: type, help: str):
    """An option whose complaint names the value, which typer's own leaves out."""

    def parse(value: str) -> int | float:
        try:
            return kind(value)
        except ValueError:
            raise typer.BadParameter(f"{shown(value)} is no {'whole ' * (kind is int)}number") from None

    return typer.Option(help=help, parser=parse, metavar=f"<{kind.__name__}>")


@app.callback()
def jsigr() -> None:
    """The J-SIGR companion: every figure and table of the study, regenerated."""


@app.command()
def run(
    profile: Annotated[str, typer.Option(help="smoke, quick, full or paper, or a TOML file like theirs")] = "quick",
    notebook: Annotated[list[str] | None, typer.Option(help="01 to 05; all by default; repeatable")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a notebook parameter; repeatable")
    ] = None,
    out: Annotated[str | None, typer.Option(help="where figures/ and notebooks/ go; the repository by default")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    jobs: Annotated[int, number(int, "processes at a time; 0 is one per core")] = 0,
    timeout: Annotated[float | None, number(float, "minutes that a notebook cell may take; none by default")] = None,
    download: Annotated[bool, typer.Option("--download", help="fetch a data set that is missing")] = False,
) -> None:
    """Execute the notebooks and publish their figures and tables, once all of them are made and verified."""
    summary = pipeline.run(
        profile=profile,
        notebooks=notebook,
        settings=parse_settings(set_ or []),
        out=path_of("out", out),
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
    for line in summary.agreement:
        console.print(line, markup=False)


@app.command()
def diff(
    a: Annotated[
        Path, typer.Argument(help="a folder of tables, or one with figures/<profile>, as jsigr run leaves it")
    ],
    b: Annotated[Path | None, typer.Argument(help="another one; the published run by default")] = None,
    profile: Annotated[str | None, typer.Option(help="which, if a folder holds several")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="agree only if every table has the same bytes")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="every difference, for programs")] = False,
) -> None:
    """Compare two runs, table by table: exit code 0 if they agree within tolerance, 1 if they do not."""
    folder = results.find_results(a, profile)
    known = results.published_run(profile or folder.resolve().name) if b is None else nullcontext((b, str(b)))
    with known as (other, name):
        found = comparison.compare(folder, results.find_results(other, profile))
    if as_json:
        typer.echo(json.dumps({"a": str(a), "b": name, "agrees": found.agrees, "exact": found.exact, **asdict(found)}))
    else:
        typer.echo("\n".join(comparison.lines(found, str(a), name)))
    raise typer.Exit(0 if (found.exact if exact else found.agrees) else 1)


@app.command("plan")
def show_plan(
    profile: Annotated[str, typer.Option(help="smoke, quick, full or paper, or a TOML file like theirs")] = "quick",
    notebook: Annotated[list[str] | None, typer.Option(help="01 to 05; all by default; repeatable")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a notebook parameter; repeatable")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    jobs: Annotated[int, number(int, "processes at a time; 0 is one per core")] = 0,
    each: Annotated[bool, typer.Option("--all", help="one line per artefact")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="everything, for programs")] = False,
) -> None:
    """Say what jsigr run would find and what it would make, why, and in how many minutes. Writes nothing."""
    planned = plan.plan(
        profile=profile,
        notebooks=notebook,
        settings=parse_settings(set_ or []),
        device=device,
        jobs=jobs,
        start=time.process_time(),
    )
    typer.echo(json.dumps(planned.as_dict(), indent=1) if as_json else "\n".join(planned.lines(each=each)))


@app.command()
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="steps, attacks, strength, maps, workers, fidelity, frontier, ablations, explorer, kills; "
            "all by default; repeatable"
        ),
    ] = None,
    rounds: Annotated[int, number(int, "of interleaved timing; 2 or 3 for a first look")] = 10,
    threads: Annotated[int, number(int, "of the CPU")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    jacobian_regularizer: Annotated[
        str | None, typer.Option(help="a clone of github.com/facebookresearch/jacobian_regularizer")
    ] = None,
    torchattacks: Annotated[
        str | None, typer.Option(help="the Python of an environment with torchattacks and torch")
    ] = None,
    out: Annotated[str | None, typer.Option(help="where the tables go; benchmarks/results by default")] = None,
) -> None:
    """Measure speed against named peers, as ratios from interleaved runs; see benchmarks/README.md."""
    folder = benchmarks().main(
        only,
        rounds=rounds,
        threads=threads,
        device=device,
        jacobian_regularizer=path_of("jacobian-regularizer", jacobian_regularizer),
        torchattacks=path_of("torchattacks", torchattacks),
        out=path_of("out", out),
        progress=progress_lines(),
        report=lambda line: console.print(line, markup=False),
    )
    console.print(f"tables in {folder}")


@app.command("pretrained")
def export_pretrained(
    profile: Annotated[str, typer.Option(help="whose networks: smoke, quick, full or paper, or a TOML file")] = "quick",
) -> None:
    """Write data/pretrained anew: trained networks of the main defences in half precision, with a model card each."""
    pretrained.export(Study(profile, progress=progress_lines()))
    console.print(f"{PRETRAINED} is complete; its table, for data/README.md:\n\n{pretrained.table()}", markup=False)


@app.command()
def site(
    profile: Annotated[str, typer.Option(help="one that jsigr run has executed")] = "full",
    out: Annotated[str, typer.Option(help="where the pages go; a folder that is new, empty or a site")] = "site",
) -> None:
    """Turn the executed notebooks into pages to read without a kernel and without a network."""
    from jsigr_lib import site as pages  # nbconvert takes a second to import

    built = pages.build(profile, out=path_of("out", out))
    console.print(f"open {built / 'index.html'}", markup=False)


@app.command()
def trace(
    file: Annotated[Path, typer.Argument(help="PNG, SVG, CSV or Markdown, wherever it is and whatever it is called")],
    as_json: Annotated[bool, typer.Option("--json", help="print all of the record, as JSON")] = False,
) -> None:
    """Tell what made a figure or table: settings, data, code, notebook cell. Exit code 1 if it was altered since."""
    found = tracing.trace(file)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
    else:
        out = Console(highlight=False, soft_wrap=True)
        out.print(tracing.layout(found, width=min(out.width, 120)), end="")
    if found.altered:
        raise RuntimeError(f"{str(file)!r} was altered since it was saved: {found.altered}")


def benchmarks() -> ModuleType:
    """benchmarks/run.py, which lies beside jsigr_lib in the repository and is no part of an installed wheel."""
    if not (ROOT / "benchmarks" / "run.py").is_file():
        raise InputError(
            f"no benchmarks/ in {ROOT}; accepted: the repository, with jsigr installed by pip install -e ."
        )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module("benchmarks.run")


def path_of(option: str, path: str | None) -> Path | None:
    """The path given for an option. Raises InputError for an empty one, which would be the folder one is in."""
    if path is not None and not (path.strip() and path.isprintable()):
        raise InputError(f"--{option} {shown(path)}; accepted: a path of printable characters")
    return path and Path(path)


def parse_settings(pairs: list[str]) -> dict:
    """["eps=0.1", "seeds=[0, 1]", "dataset=mnist"] -> values; whatever is no TOML value is a string."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not (key and equals):
            raise InputError(f"--set {shown(pair)}; accepted: KEY=VALUE")
        if key in settings:
            raise InputError(f"--set {shown(key)} stands there twice; accepted: once")
        try:
            settings[key] = toml.parse(f"value = {value}")["value"] if value.isprintable() else value
        except ValueError:
            settings[key] = value
    return settings


def progress_lines():
    """A progress callback: one line per trained network or twentieth of the cost, with the time that is left."""
    start, last = time.perf_counter(), 0.0

    def progress(spec: Spec, done: float, total: float) -> None:
        nonlocal last
        if spec.kind != "model" and done < total and done - last < total / 20:
            return
        last, elapsed = done, time.perf_counter() - start
        left = (
            f"about {max(0, elapsed * (total - done) / done) / 60:.1f} min left"
            if done > total / 20
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
        sys.exit(app(sys.argv[1:] or ["--help"], prog_name="jsigr", standalone_mode=False))
    except (InputError, RuntimeError, OSError) as error:
        console.print(f"jsigr: {printable(one_line(error))}", markup=False)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "jsigr <command>"
        what = f"{error.format_message().rstrip('.')}; accepted: what `{command} --help` lists"
        console.print(f"jsigr: {printable(what)}", markup=False)
        sys.exit(2)
    except Stopped as stopped:
        console.print("jsigr: interrupted; what was complete is kept, and the same command continues from there")
        sys.exit(stopped.code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
