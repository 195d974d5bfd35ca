"""The attacks that are timed, as settings that every library is given, and the check that it kept to them.

Needs torch alone, as it also runs in a peer's own environment.
"""

from dataclasses import dataclass

from torch import Tensor

EPS = 0.1  # of the pixel range


@dataclass(frozen=True)
class Threat:
    """An L-infinity attack of radius EPS within [0, 1]."""

    name: str
    steps: int
    step_size: float
    momentum: float
    random_start: bool


PGD = Threat("PGD-20", steps=20, step_size=2.5 * EPS / 20, momentum=0.0, random_start=True)
MI_FGSM = Threat("MI-FGSM", steps=10, step_size=EPS / 10, momentum=1.0, random_start=False)
THREATS = {threat.name: threat for threat in (PGD, MI_FGSM)}


def check(library: str, attacked: Tensor, x: Tensor) -> None:
    """Raise RuntimeError unless `attacked` is another batch within the budget: what is timed is the same attack."""
    if attacked.shape != x.shape:
        raise RuntimeError(f"{library} gave {tuple(attacked.shape)} for images of {tuple(x.shape)}")
    change = (attacked.to(x) - x).abs().max().item()
    if not 0 < change <= EPS + 1e-6 or attacked.min() < 0 or attacked.max() > 1:
        raise RuntimeError(f"{library} changed images by {change:g}; the budget is {EPS:g}, within [0, 1]")
