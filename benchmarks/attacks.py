"""PGD-20 and MI-FGSM(10) against the bare gradient passes that they need, and the same attacks by other libraries."""

from collections.abc import Callable
from dataclasses import asdict

import pandas as pd
import torch

from benchmarks import tables
from benchmarks.floors import frozen, gradient_passes
from benchmarks.libraries import IN_PROCESS, ours
from benchmarks.peers import Peers, run_elsewhere
from benchmarks.threats import TIMED, Threat, check
from benchmarks.workloads import EVALUATION, Workload

BASELINE = "bare passes"


def table(peers: Peers, *, rounds: int, device: torch.device) -> pd.DataFrame:
    """Both attacks on both networks, by every library that is there."""
    parts = []
    for workload in EVALUATION:
        for threat in TIMED:
            found = cases(threat, workload, peers, device)
            part = tables.compare(found, baseline=BASELINE, rounds=rounds, device=device)
            if peers.torchattacks:
                part = pd.concat([part, elsewhere(threat, workload, peers, rounds, device)])
            parts.append(tables.labelled(part, network=workload.architecture, attack=threat.name))
    return pd.concat(parts)


def cases(
    threat: Threat, workload: Workload, peers: Peers, device: torch.device | str = "cpu"
) -> dict[str, Callable[[], object]]:
    """The bare passes, ours, and the peers', each with a network of its own. Every attack is checked first.

    Foolbox and ART call backward() and so compute the parameters' gradients too, unless whoever uses them freezes the
    parameters; they are timed both ways. Ours is given the network as it is, unfrozen.
    """
    x, y = workload.images(device)
    found = {"jsigr_lib": ours(threat, workload.model(device), x, y)}
    for package, (name, library) in IN_PROCESS.items():
        if package in peers:
            found[name] = library(threat, workload.model(device), x, y)
            found[f"{name}, frozen parameters"] = library(threat, frozen(workload.model(device)), x, y)
    for name, attack in found.items():
        check(name, attack(), x, threat)
    floor = frozen(workload.model(device))
    return {BASELINE: lambda: gradient_passes(floor, x, y, threat.steps), **found}


def elsewhere(
    threat: Threat, workload: Workload, peers: Peers, rounds: int, device: torch.device | str
) -> pd.DataFrame:
    """torchattacks in an environment of its own, against the bare passes of that environment."""
    arguments = {
        "workload": asdict(workload),
        "threat": asdict(threat),
        "rounds": rounds,
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
    measured = run_elsewhere(peers.torchattacks, "benchmarks.torchattacks_worker", arguments)
    table = tables.tabulate(**measured, baseline=BASELINE, device=device)
    return table[table["case"] != BASELINE]
