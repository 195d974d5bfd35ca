"""Runs that are killed at random moments, again and again in one place: what is left of each, and whether the last one,
left alone, ends with the tables of a run that nothing disturbed."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import pandas as pd

from benchmarks.faults import TARGETS, Sandbox

ANEW = 0.2  # share of the artefacts that are deleted before every other run, so that workers have something to do
RUN = ("--notebook", "02")  # from training to publication, in the fewest seconds
LATEST = 1.1  # kills fall evenly into a run's length so far, and a little beyond


def table(*, kills: int, seed: int = 0, report: Callable[[str], None] = lambda line: None) -> pd.DataFrame:
    """One row per kill. Raises RuntimeError if the tables differ in the end."""
    with tempfile.TemporaryDirectory() as folder:
        reference, sandbox = Sandbox(Path(folder, "reference")), Sandbox(Path(folder, "killed"))
        seconds = undisturbed(reference, *RUN)
        shutil.copytree(reference.out, sandbox.out, dirs_exist_ok=True)
        rows = []
        for row in campaign(sandbox, *RUN, kills=kills, seconds=seconds, seed=seed):
            rows.append(row)
            report(", ".join(f"{name} {value}" for name, value in row.items()))
        undisturbed(sandbox, *RUN)
        if sandbox.tables() != reference.tables() or sandbox.temporaries():
            raise RuntimeError(f"after {kills} kills the tables differ, or {sandbox.temporaries()} are left")
        return pd.DataFrame(rows)


def undisturbed(sandbox: Sandbox, *arguments: str) -> float:
    """A run that nobody kills, which has to succeed; its seconds."""
    start = perf_counter()
    code, said = sandbox.start(*arguments).end(within=3600)
    if code or not sandbox.whole():
        raise RuntimeError(f"a run that was left alone ended with {code}: {said}")
    return perf_counter() - start


def campaign(
    sandbox: Sandbox, *arguments: str, kills: int, seconds: float, seed: int = 0, targets: tuple[str, ...] = TARGETS
) -> Iterator[dict[str, object]]:
    """Start runs and kill a process of each: which and when, what it was doing, how the run ended, and what is left.

    `seconds` is how long a run from nothing takes; `intact` says that what is published is of one run, to the byte, or
    will be once the next command has finished what was committed to.
    """
    chance, done = random.Random(seed), 0
    while done < kills:
        target = targets[done % len(targets)]
        if target == "worker" or chance.random() < 0.3:
            sandbox.forget(lambda: chance.random() < ANEW)
        start, run = perf_counter(), sandbox.start(*arguments)
        delay = chance.uniform(0, LATEST * seconds) if target == "runner" else chance.uniform(0, seconds / 5)
        killed, moment, doing = run.strike(target, delay), perf_counter() - start, run.doing()
        code, said = run.end()
        if not killed:  # there was none any more
            seconds = min(seconds, perf_counter() - start)
            continue
        done += 1
        orphans = sandbox.orphans()
        yield {
            "kill": done,
            "target": target,
            "seconds": round(moment, 1),
            "doing": doing,
            "exit": code,
            "said": said if target != "runner" else "",
            "intact": sandbox.whole() or sandbox.committed(),
            "temporaries": len(sandbox.temporaries()),
            "orphans": len(orphans),
        }
