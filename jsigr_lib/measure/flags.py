"""Trust flags: signs that a robustness number says less than it seems to, shown beside it. After Carlini et al. 2019
("On Evaluating Adversarial Robustness") and AutoAttack's own checks. A flag is a reason to look, not a verdict."""

from collections.abc import Callable, Hashable
from itertools import permutations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from jsigr_lib.measure.linearised import predict
from jsigr_lib.method.attacks import pgd
from jsigr_lib.method.balls import ROUNDING
from jsigr_lib.method.checks import are_probabilities
from jsigr_lib.method.jacobian import loss_gradient
from jsigr_lib.method.shapes import Images

POINT = 0.01  # of accuracy: what a comparison has to exceed
ZERO_SHARE = 0.01  # of the images that may have no gradient
HALF_WIDTH = 0.05  # of a 95 % interval
STEPS = 20


class Flag(NamedTuple):
    """`concerns`: whose fault it would be, the "network" that is judged, the "source" whose gradients were followed
    (itself under white-box attack), or this one "number"."""

    concerns: str
    raised_if: str
    means: str


TABLE = f"""\
budget exceeded | number | an attacked image is farther than eps + {ROUNDING:g} from the original
    | the attack was stronger than stated
eps 0 matters | network | PGD at eps = 0 changes the prediction of an image
    | the attack alters what it should not, or the output is random
not monotone | number | a smaller eps of the same attack leaves over 1 point less accuracy
    | the attack is stuck at the larger eps
unbounded survives | source | PGD with {STEPS} steps at eps = 1, where every image is allowed, leaves accuracy
    | its gradients mislead: masked, or too weak to follow
beaten without gradients | number | a black-box or transferred attack at the same eps leaves over 1 point less
    | the white-box attack is not the worst case: gradients are masked, or too few steps were made
zero gradients | source | the loss has gradient 0 for over 1 % of the images
    | sign steps stand still there: saturation masks the gradient
non-finite | network | a logit or gradient is NaN or infinite
    | comparisons with NaN count as robust
more effort helps | number | more steps or restarts, or AutoAttack, at the same eps leave over 1 point less
    | an upper bound: read the stronger attack's row
random output | network | two passes of the same images differ
    | one gradient is not the gradient of the expectation
softmax output | network | outputs are probabilities
    | cross-entropy takes another softmax: the gradient nearly vanishes
few images | number | the 95 % interval is over 5 points wide on either side
    | no ranking by this number alone"""
ROWS = (row.split(" | ") for row in TABLE.replace("\n    ", " ").splitlines())
FLAGS = {name: Flag(*cells) for name, *cells in ROWS}


def probe(model: nn.Module, x: Images, y: Tensor, *, generator: torch.Generator | None = None) -> dict[str, float]:
    """Evidence about a network: the share of the images that speaks for each flag; NaN where it cannot be asked."""
    z, again = predict(model, x), predict(model, x)
    size = loss_gradient(model, x, y).abs().flatten(1).amax(1)
    finite = z.isfinite().all(1) & size.isfinite()
    softmax = bool(finite.all()) and are_probabilities(z)
    evidence = {
        "zero gradients": _share(size == 0),
        "non-finite": _share(~finite),
        "random output": _share((z != again).any(1) & finite),
        "softmax output": float(softmax),
        **dict.fromkeys(("eps 0 matters", "unbounded survives"), float("nan")),
    }
    if finite.all() and not softmax:  # else an attack refuses the network
        same = pgd(model, x, y, eps=0.0, steps=1, generator=generator)
        evidence["eps 0 matters"] = _share(predict(model, same).argmax(1) != z.argmax(1))
        anywhere = pgd(model, x, y, eps=1.0, steps=STEPS, generator=generator)
        evidence["unbounded survives"] = _share(predict(model, anywhere).argmax(1) == y)
    return evidence


def of_network(evidence: dict[str, float], concerns: str) -> set[str]:
    """The flags that a probe raises, of those that concern the network as it is judged or as a source."""
    raised = {name for name, share in evidence.items() if share > (ZERO_SHARE if name == "zero gradients" else 0)}
    return {name for name in raised if FLAGS[name].concerns == concerns}


def of_number(low: float, high: float, excess: float) -> set[str]:
    """The flags of one accuracy: its interval, and by how much its images exceed their budget."""
    raised = {"few images"} if high - low > 2 * HALF_WIDTH else set()
    return raised | ({"budget exceeded"} if excess > ROUNDING else set())


def of_comparison(rows: list[dict], correct: list[dict[Hashable, np.ndarray]]) -> list[set[str]]:
    """The flags that a table's rows raise against each other. `rows` say what each is (threat, attack, eps, ...),
    `correct` holds 0/1 per image for each of a row's networks. Two rows are compared on the networks and images that
    both have: AutoAttack on one seed with PGD on that seed."""
    table = pd.DataFrame(rows)
    what = [name for name in table if name not in ("threat", "source", "source_defence", "attack", "norm", "eps")]
    raised: list[set[str]] = [set() for _ in rows]
    for _, group in table.groupby(what, dropna=False) if what else [((), table)]:
        for i, j in permutations(group.index, 2):
            if _below(correct[j], correct[i]):
                raised[i] |= {name for name, weaker in COMPARISONS.items() if weaker(rows[i], rows[j])}
    return raised


def _same(one: dict, other: dict, *names: str) -> bool:
    return all(one.get(name) == other.get(name) for name in names)


COMPARISONS: dict[str, Callable[[dict, dict], bool]] = {
    "not monotone": lambda one, other: (
        other["eps"] < one["eps"]
        and (other["threat"] == "clean" or _same(one, other, "threat", "source", "source_defence", "attack", "norm"))
    ),
    "beaten without gradients": lambda one, other: (
        one["threat"] == "white-box"
        and other["threat"] in ("black-box", "transfer")
        and _same(one, other, "eps", "norm")
    ),
    "more effort helps": lambda one, other: (
        one["threat"] == other["threat"] == "white-box" and _same(one, other, "eps", "norm")
    ),
}
"""Flag -> whether a row `other` that leaves less accuracy than `one` raises it."""


def _below(other: dict[Hashable, np.ndarray], one: dict[Hashable, np.ndarray]) -> bool:
    """Whether `other` leaves over a point less on what both have."""
    pairs = [(other[network], one[network]) for network in other.keys() & one.keys()]
    n = min((len(values) for pair in pairs for values in pair), default=0)
    return n > 0 and np.mean([a[:n] for a, _ in pairs]) < np.mean([b[:n] for _, b in pairs]) - POINT


def shown(raised: set[str]) -> str:
    """Flags in the order of FLAGS, as a cell of a table."""
    return "; ".join(name for name in FLAGS if name in raised) or "none"


def numbered(cell: str) -> str:
    """A cell of `shown` as the flags' numbers in FLAGS, from 1."""
    return ", ".join(str(i) for i, name in enumerate(FLAGS, 1) if name in cell.split("; "))


def _share(which: Tensor) -> float:
    return which.double().mean().item()
