"""The attacks that are compared, as settings that every library is given, and the check that it kept to them.

Needs torch alone, as it also runs in a peer's own environment.
"""

from dataclasses import asdict, dataclass

from torch import Tensor

EPS, EPS_L2 = 0.1, 1.5  # of the pixel range; the length of the whole change
ROUNDING = 1e-6  # what float32 may add to a change
DRAWS = 3


@dataclass(frozen=True)
class Threat:
    """An attack of radius eps within [0, 1]; the fields from `steps` on are those of `attack_loop.Settings`."""

    name: str
    steps: int
    step_size: float
    eps: float = EPS
    norm: str = "linf"
    momentum: float = 0.0
    random_start: bool = False
    nesterov: bool = False
    diversity: float = 0.0
    translation: float = 0.0
    scales: int = 1
    variance: int = 0

    @property
    def settings(self) -> dict:
        return {name: value for name, value in asdict(self).items() if name != "name"}

    @property
    def plain(self) -> bool:
        """Whether its gradient is that of the image itself, as in every library."""
        return not (self.nesterov or self.diversity or self.translation or self.scales > 1 or self.variance)


def _momentum(name: str, **settings) -> Threat:
    return Threat(name, steps=10, step_size=EPS / 10, momentum=1.0, **settings)


PGD = Threat("PGD-20", steps=20, step_size=2.5 * EPS / 20, random_start=True)
MI_FGSM = _momentum("MI-FGSM")
TIMED = (PGD, MI_FGSM)
FAMILY = {
    "fgsm": Threat("FGSM", steps=1, step_size=EPS),
    "bim": Threat("BIM", steps=10, step_size=EPS / 10),
    "pgd": PGD,
    "mi-fgsm": MI_FGSM,
    "ni-fgsm": _momentum("NI-FGSM", nesterov=True),
    "di-fgsm": _momentum("DI-FGSM", diversity=0.5),
    "ti-fgsm": _momentum("TI-FGSM", translation=1.0),
    "si-fgsm": _momentum("SI-FGSM", nesterov=True, scales=5),
    "vt-fgsm": _momentum("VT-FGSM", variance=20),
}
"""Those of jsigr_lib.method.attacks.ATTACKS that follow gradients, with their defaults."""
PGD_L2 = Threat("PGD-20, L2", steps=20, step_size=2.5 * EPS_L2 / 20, eps=EPS_L2, norm="l2", random_start=True)
STRENGTH = (*FAMILY.values(), PGD_L2)


def repeats(threat: Threat) -> int:
    """How often an attack is made: several times where a start or a size is drawn, once where none is or many are."""
    return DRAWS if threat.random_start or threat.diversity else 1


def check(library: str, attacked: Tensor, x: Tensor, threat: Threat = PGD) -> None:
    """Raise RuntimeError unless `attacked` is another batch within the budget: what is timed is the same attack."""
    wrong = violation(attacked, x, threat)
    if wrong:
        raise RuntimeError(f"{library} {wrong}")


def violation(attacked: Tensor, x: Tensor, threat: Threat) -> str:
    """What makes `attacked` no attack on x within the threat's budget, or nothing."""
    if attacked.shape != x.shape:
        return f"gave {tuple(attacked.shape)} for images of {tuple(x.shape)}"
    change = (attacked.to(x) - x).flatten(1)
    size = (change.abs().amax(1) if threat.norm == "linf" else change.norm(dim=1)).max().item()
    if not 0 < size <= threat.eps + ROUNDING * (1 if threat.norm == "linf" else 10):
        return f"changed images by {size:g}; the budget is {threat.eps:g}, within [0, 1]"
    if attacked.min() < 0 or attacked.max() > 1:
        return f"gave values from {attacked.min():g} to {attacked.max():g}; accepted: 0 to 1"
    return ""
