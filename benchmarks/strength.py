"""Whether our attacks are as strong as other libraries': the same trained networks, images, budgets and settings."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.libraries import IN_PROCESS, ours
from benchmarks.peers import Peers, run_elsewhere
from benchmarks.threats import STRENGTH, Threat, repeats, violation
from jsigr_lib.measure import statistics
from jsigr_lib.networks.zoo import Training
from jsigr_lib.study.study import Study

IMAGES = 1000  # test images, or as many as there are
BATCH = 100  # what is drawn for a whole batch, such as a size, is drawn for so many images
SEED = 0
OURS = "jsigr_lib"

RESIZED = "shrinks the image to 25, 26 or 27 of 28 pixels and never looks at it whole (randint leaves its high end out)"
NOTES = {
    ("Foolbox", "MI-FGSM"): "adds up signs, not normalised gradients: LinfBaseGradientDescent.normalize comes first",
    ("Foolbox", "PGD-20, L2"): "starts at a uniform point of the ball, and so on its surface",
    ("ART", "PGD-20, L2"): "starts so too; cuts to [0, 1] before it shrinks the change to eps, not after",
    ("torchattacks", "DI-FGSM"): RESIZED,
    ("torchattacks", "TI-FGSM"): "takes three channels only (groups=3): two idle ones added; zeros beyond the border",
    ("torchattacks", "VT-FGSM"): "looks at neighbours outside [0, 1] too",
}
"""Where a library's algorithm is another than ours, whatever it is set to."""


def table(study: Study, peers: Peers) -> pd.DataFrame:
    """Accuracy left by every attack of every library, and by how much it is above what ours leaves on the same images,
    with a paired interval: ours is stronger or weaker where that excludes 0. Intervals are over images (Wilson's for
    an accuracy), and over draws too where there are several.

    The networks are the study's; those that are missing are trained first.
    """
    networks = {
        "standard": study.training("standard"),
        "J-SIGR": study.training("jsigr"),
        study.profile.surrogates[0]: study.surrogate(study.profile.surrogates[0]),
    }
    study.make(list(networks.values()))
    x, y = study.batch("test", IMAGES)
    rows = []
    for source, targets in routes(*networks).items():
        found = attacked(study, networks[source], peers, x, y)
        for target in targets:
            labels = {"network": target, "made_on": "itself" if source == target else source}
            rows += [{**labels, **row} for row in compared(study.model(networks[target]), found, x, y)]
    return pd.DataFrame(rows)


def routes(standard: str, defended: str, surrogate: str) -> dict[str, tuple[str, ...]]:
    """Where attacked images are made -> which networks see them."""
    return {standard: (standard, surrogate), defended: (defended,), surrogate: (standard, defended)}


def attacked(study: Study, network: Training, peers: Peers, x: Tensor, y: Tensor) -> dict[tuple[str, str], Tensor]:
    """(library, attack) -> attacked images, ours first."""
    model, found = study.model(network), {}
    for threat in STRENGTH:
        found[OURS, threat.name] = by_batch(ours, threat, model, x, y, generator=study.generator(SEED))
    for package, (name, library) in IN_PROCESS.items():
        for threat in STRENGTH:
            if package in peers and threat.plain:
                found[name, threat.name] = by_batch(library, threat, model, x, y)
    if peers.torchattacks:
        found |= elsewhere(study, network, peers.torchattacks, x, y)
    return found


def by_batch(
    library: Callable[..., Callable[[], Tensor]], threat: Threat, model: nn.Module, x: Tensor, y: Tensor, **options
) -> Tensor:
    """Attacked images [draws * images, ...]: all images, then all of them again."""
    with seeded():
        parts = [*zip(x.split(BATCH), y.split(BATCH), strict=True)] * repeats(threat)
        return torch.cat([library(threat, model, images, labels, **options)() for images, labels in parts])


@contextmanager
def seeded() -> Iterator[None]:
    """torch's and NumPy's global generators, which libraries draw from, at a seed and afterwards where they were."""
    state = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        np.random.seed(SEED)
        try:
            yield
        finally:
            np.random.set_state(state)


def elsewhere(study: Study, network: Training, python: Path, x: Tensor, y: Tensor) -> dict[tuple[str, str], Tensor]:
    """torchattacks' images, from an environment of its own."""
    built = {"architecture": network.architecture, "width": network.width, "seed": SEED, **study.dataset.shape}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: str(Path(folder) / f"{name}.npz") for name in ("given", "found")}
        given = {**study.get(network).tensors, "x": x.cpu(), "y": y.cpu()}
        np.savez(files["given"], **{name: tensor.numpy() for name, tensor in given.items()})
        arguments = {
            "network": built,
            "threats": [asdict(threat) for threat in STRENGTH],
            "batch": BATCH,
            "seed": SEED,
            "device": str(x.device),
            "threads": torch.get_num_threads(),
            **files,
        }
        run_elsewhere(python, "benchmarks.torchattacks_images", arguments)
        found = np.load(files["found"], allow_pickle=False)
        return {("torchattacks", name): torch.from_numpy(found[name]).to(x) for name in found}


def compared(model: nn.Module, found: dict[tuple[str, str], Tensor], x: Tensor, y: Tensor) -> list[dict]:
    """A row per attack and library. A note says where images are outside the budget, or made by another algorithm."""
    right = {case: correct(model, images, y) for case, images in found.items()}
    rows = []
    for threat in STRENGTH:
        for library, name in [case for case in found if case[1] == threat.name]:
            row = {"attack": name, "library": library}
            row["draws"] = len(right[library, name])
            row |= interval("accuracy", statistics.proportion(right[library, name]))
            if library != OURS:
                more = statistics.mean(right[library, name].astype(float) - right[OURS, name])
                row |= {**interval("difference", more), "ours": verdict(*more)}
            notes = (
                violation(found[library, name], x.repeat(repeats(threat), 1, 1, 1), threat),
                NOTES.get((library, name), ""),
            )
            rows.append({**row, "note": "; ".join(filter(None, notes))})
    return rows


def correct(model: nn.Module, images: Tensor, y: Tensor) -> np.ndarray:
    """[draws, images]"""
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in images.split(BATCH)])
    return predicted.view(-1, len(y)).eq(y).cpu().numpy()


def interval(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def verdict(difference: float, low: float, high: float) -> str:
    """What accuracy left by another library minus that left by ours says of ours."""
    return "stronger" if low > 0 else "weaker" if high < 0 else "equal"
