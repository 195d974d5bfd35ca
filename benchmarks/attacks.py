"""PGD-20 and MI-FGSM(10) against the bare gradient passes that they need, and the same attacks by other libraries."""

from collections.abc import Callable
from dataclasses import asdict

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks import tables
from benchmarks.floors import frozen, gradient_passes
from benchmarks.peers import Peers, run_elsewhere
from benchmarks.threats import EPS, THREATS, Threat, check
from benchmarks.workloads import CLASSES, EVALUATION, Workload
from jsigr_lib import attacks

BASELINE = "bare passes"


def table(peers: Peers, *, rounds: int, device: torch.device) -> pd.DataFrame:
    """Both attacks on both networks, by every library that is there."""
    parts = []
    for workload in EVALUATION:
        for threat in THREATS.values():
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
    libraries = {"foolbox": ("Foolbox", foolbox), "adversarial-robustness-toolbox": ("ART", art)}
    for package, (name, library) in libraries.items():
        if package in peers:
            found[name] = library(threat, workload.model(device), x, y)
            found[f"{name}, frozen parameters"] = library(threat, frozen(workload.model(device)), x, y)
    for name, attack in found.items():
        check(name, attack(), x)
    floor = frozen(workload.model(device))
    return {BASELINE: lambda: gradient_passes(floor, x, y, threat.steps), **found}


def ours(threat: Threat, model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    if threat.momentum:
        return lambda: attacks.mi_fgsm(model, x, y, eps=EPS, steps=threat.steps, momentum=threat.momentum)
    return lambda: attacks.pgd(model, x, y, eps=EPS, steps=threat.steps, step_size=threat.step_size)


def foolbox(threat: Threat, model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    import foolbox

    settings = {"abs_stepsize": threat.step_size, "steps": threat.steps, "random_start": threat.random_start}
    if threat.momentum:
        kind = foolbox.attacks.LinfMomentumIterativeFastGradientMethod
        attack = kind(momentum=threat.momentum, **settings)
    else:
        attack = foolbox.attacks.LinfPGD(**settings)
    wrapped = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device=x.device)
    return lambda: attack(wrapped, x, y, epsilons=EPS)[1]  # raw, clipped, whether it succeeded


def art(threat: Threat, model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """ART takes and gives arrays: their conversion is part of its time."""
    from art.attacks.evasion import MomentumIterativeMethod, ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model=model.eval(),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=CLASSES,
        clip_values=(0.0, 1.0),
        device_type="gpu" if x.is_cuda else "cpu",
    )
    settings = {"eps": EPS, "eps_step": threat.step_size, "max_iter": threat.steps, "batch_size": len(x)}
    if threat.momentum:
        attack = MomentumIterativeMethod(classifier, decay=threat.momentum, verbose=False, **settings)
    else:
        starts = int(threat.random_start)
        attack = ProjectedGradientDescentPyTorch(classifier, num_random_init=starts, verbose=False, **settings)
    images, labels = x.cpu().numpy(), y.cpu().numpy()
    return lambda: torch.from_numpy(attack.generate(images, labels))


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
