"""Runs the parts that are asked for, and keeps each as soon as it is complete."""

import os
import platform
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch

from benchmarks import (
    ablations,
    attacks,
    explorer,
    fidelity,
    frontier,
    kills,
    maps,
    scaling,
    steps,
    strength,
    tables,
    workers,
)
from benchmarks.peers import Peers, find
from jsigr_lib.figures import plotting
from jsigr_lib.method.errors import InputError, between, one_of
from jsigr_lib.store.artefacts import Progress
from jsigr_lib.store.hardware import machine
from jsigr_lib.study.config import resolve_device
from jsigr_lib.study.study import Study

RESULTS = Path(__file__).parent / "results"
PARTS = {
    "steps": ("jacobian_regularizer",),
    "attacks": ("foolbox", "adversarial-robustness-toolbox", "torchattacks"),
    "strength": ("foolbox", "adversarial-robustness-toolbox", "torchattacks"),
    "maps": ("captum",),
    "costs": (),
    "workers": (),
    "scaling": (),
    "fidelity": (),
    "frontier": (),
    "ablations": (),
    "explorer": (),
    "kills": (),
}
"""Each part and the peers that it is measured against."""


def main(
    only: list[str] | None = None,
    *,
    rounds: int = 10,
    threads: int = 2,
    device: str = "auto",
    jacobian_regularizer: Path | None = None,
    torchattacks: Path | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Measure, and write <part>.csv, <part>.md and environment.json to `out`; gives that folder.

    Args:
        only: parts, all by default.
        rounds: of interleaved timing; `workers`, which trains networks, has a third of them, `explorer` its own counts,
            `kills` ten runs for each.
        threads: of the CPU.
        jacobian_regularizer, torchattacks: a clone, and the Python of an environment; see `peers`.
        out: benchmarks/results by default, or cuda/ below it for what was measured on a GPU.
        progress: called after each network that had to be trained.
        report: called with each line that a user should read.

    Raises InputError, before anything is measured, for an argument that is wrong.
    """
    for part in only or ():
        one_of("part", part, PARTS)
    between("rounds", rounds, 1, 10_000)
    between("threads", threads, 1, os.cpu_count() or 1)
    chosen = [part for part in PARTS if part in (only or PARTS)]
    where = resolve_device(device)
    if where.type == "cuda" and "workers" in chosen:
        chosen.remove("workers")
        report("left out: workers, which compares processes on a CPU; to include it: --device cpu")
    if "explorer" in chosen:
        try:
            explorer.find()
        except InputError as error:
            if only:
                raise
            chosen.remove("explorer")
            report(f"left out: explorer; {error}")
    peers = find(jacobian_regularizer, torchattacks)
    out = _writable(out or (RESULTS if where.type == "cpu" else RESULTS / where.type))
    study = Study(str(frontier.PROFILE), device=device, out=out, progress=progress)

    run: dict[str, Callable[[], pd.DataFrame]] = {
        "steps": lambda: steps.table(jacobian_reg=peers.jacobian_reg, rounds=rounds, device=where),
        "attacks": lambda: attacks.table(peers, rounds=rounds, device=where),
        "strength": lambda: strength.table(study, peers),
        "maps": lambda: maps.table(peers, rounds=rounds, device=where),
        "costs": lambda: steps.costs(rounds=rounds, device=where),
        "workers": lambda: workers.table(threads=threads, rounds=max(1, rounds // 3)),
        "scaling": lambda: scaling.table(device),
        "fidelity": lambda: fidelity.table(study),
        "frontier": lambda: frontier.table(study, rounds),
        "ablations": lambda: ablations.table(ablations.study(device=device, progress=progress)),
        "explorer": lambda: explorer.table(Study("quick", device="cpu", progress=progress), rounds=rounds),
        "kills": lambda: kills.table(kills=10 * rounds, report=report),
    }
    with _threads(threads):
        for part in chosen:
            about = environment(part, peers, where, threads)
            report(f"{part}: {', '.join(f'{name} {value}' for name, value in about.items())}")
            for name in PARTS[part]:
                if name not in peers:
                    report(f"left out: {name}; to include it: {peers.missing[name]}")
            table = run[part]()
            tables.write(out, part, table)
            tables.write_environment(out, part, about)
            report(table.round(3).to_string(index=False))
            if part == "frontier":
                plotting.write(study, "frontier", *frontier.draw(study, table))
                plotting.write(study, "norms", *frontier.draw_norms(study, table))
            if part == "scaling":
                plotting.write(study, "scaling", *scaling.draw(table), footer="predicted, for slots like one core here")
    return out


def environment(part: str, peers: Peers, device: torch.device, threads: int) -> dict[str, str | int]:
    """What the numbers of a part depend on: the machine, its threads, and the version of all that was compared."""
    own = {"machine": machine(device), "threads": threads, "python": platform.python_version()}
    compared = {name: peers.versions[name] for name in PARTS[part] if name in peers}
    return {**own, "torch": torch.__version__, **compared, **(explorer.versions() if part == "explorer" else {})}


@contextmanager
def _threads(number: int):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _writable(folder: Path) -> Path:
    """The folder, made if it is missing. Raises InputError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}); accepted: a writable folder") from None
    return folder
