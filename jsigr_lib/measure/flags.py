"""Trust flags: signs that a robustness number says less than it seems to. Each is computed, never judged by eye, and is
shown beside the number it concerns. After Carlini et al. 2019 ("On Evaluating Adversarial Robustness") and AutoAttack's
own checks. A flag is a reason to look, not a verdict; what it means is in FLAGS.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from jsigr_lib.method.attacks import pgd
from jsigr_lib.method.balls import ROUNDING
from jsigr_lib.method.checks import are_probabilities
from jsigr_lib.method.jacobian import evaluation_mode, loss_gradient
from jsigr_lib.method.shapes import Images

POINT = 0.01  # of accuracy: what a comparison has to exceed
ZERO_SHARE = 0.01  # of the images that may have no gradient
HALF_WIDTH = 0.05  # of a 95 % interval
STEPS = 20


@dataclass(frozen=True)
class Flag:
    """`concerns`: whose fault it would be, the "network" that is judged, the "source" whose gradients were followed
    (itself under white-box attack), or this one "number"."""

    concerns: str
    raised_if: str
    means: str


FLAGS = {
    "budget exceeded": Flag(
        "number",
        f"an attacked image is farther than eps + {ROUNDING:g} from the original",
        "the attack was stronger than stated",
    ),
    "eps 0 matters": Flag(
        "network",
        "PGD at eps = 0 changes the prediction of an image",
        "the attack alters what it should not, or the output is random",
    ),
    "not monotone": Flag(
        "number",
        "a smaller eps of the same attack leaves over 1 point less accuracy",
        "the attack is stuck at the larger eps",
    ),
    "unbounded survives": Flag(
        "source",
        f"PGD with {STEPS} steps at eps = 1, where every image is allowed, leaves accuracy",
        "its gradients mislead: masked, or too weak to follow",
    ),
    "beaten without gradients": Flag(
        "number",
        "a black-box or transferred attack at the same eps leaves over 1 point less",
        "the white-box attack is not the worst case: gradients are masked, or too few steps were made",
    ),
    "zero gradients": Flag(
        "source",
        "the loss has gradient 0 for over 1 % of the images",
        "sign steps stand still there: saturation masks the gradient",
    ),
    "non-finite": Flag("network", "a logit or gradient is NaN or infinite", "comparisons with NaN count as robust"),
    "more effort helps": Flag(
        "number",
        "more steps or restarts, or AutoAttack, at the same eps leave over 1 point less",
        "an upper bound: read the stronger attack's row",
    ),
    "random output": Flag(
        "network", "two passes of the same images differ", "one gradient is not the gradient of the expectation"
    ),
    "softmax output": Flag(
        "network", "outputs are probabilities", "cross-entropy takes another softmax: the gradient nearly vanishes"
    ),
    "few images": Flag(
        "number", "the 95 % interval is over 5 points wide on either side", "no ranking by this number alone"
    ),
}


def probe(model: nn.Module, x: Images, y: Tensor, *, generator: torch.Generator | None = None) -> dict[str, float]:
    """Evidence about a network: the share of the images that speaks for each flag; NaN where it cannot be asked."""
    with evaluation_mode(model), torch.no_grad():
        z, again = model(x), model(x)
    gradient = loss_gradient(model, x, y)
    size = gradient.abs().flatten(1).amax(1)
    finite = z.isfinite().all(1) & size.isfinite()
    softmax = bool(finite.all()) and are_probabilities(z)
    evidence = {
        "zero gradients": _share(size == 0),
        "non-finite": _share(~finite),
        "random output": _share((z != again).any(1) & finite),
        "softmax output": float(softmax),
        "eps 0 matters": float("nan"),
        "unbounded survives": float("nan"),
    }
    if finite.all() and not softmax:  # else an attack refuses the network
        evidence["eps 0 matters"] = _share(
            _predicted(model, pgd(model, x, y, eps=0.0, steps=1, generator=generator)) != z.argmax(1)
        )
        x_adv = pgd(model, x, y, eps=1.0, steps=STEPS, generator=generator)
        evidence["unbounded survives"] = _share(_predicted(model, x_adv) == y)
    return evidence


def of_network(evidence: dict[str, float], concerns: str) -> set[str]:
    """The flags that a probe raises, of those that concern the network as it is judged or as a source."""
    limits = {"zero gradients": ZERO_SHARE}
    return {
        name for name, share in evidence.items() if FLAGS[name].concerns == concerns and share > limits.get(name, 0.0)
    }


def of_number(low: float, high: float, excess: float) -> set[str]:
    """The flags of one accuracy: its interval, and by how much its images exceed their budget."""
    raised = {"few images"} if high - low > 2 * HALF_WIDTH else set()
    return raised | ({"budget exceeded"} if excess > ROUNDING else set())


def of_comparison(rows: list[dict], correct: list[np.ndarray]) -> list[set[str]]:
    """The flags that a table's rows raise against each other. `rows` say what each is (threat, attack, eps, ...), the
    arrays hold 0/1 per seed and image; two rows are compared on the images and seeds that both have."""
    table = pd.DataFrame(rows)
    what = [name for name in table if name not in ("threat", "source", "source_defence", "attack", "norm", "eps")]
    raised: list[set[str]] = [set() for _ in rows]
    for _, group in table.groupby(what, dropna=False) if what else [((), table)]:
        members = [(i, rows[i]) for i in group.index]
        for i, one in members:
            others = {j: other for j, other in members if j != i and correct[j].shape[0] == correct[i].shape[0]}
            for name, weaker in COMPARISONS.items():
                if any(weaker(one, other) and _below(correct[j], correct[i]) for j, other in others.items()):
                    raised[i].add(name)
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


def _below(other: np.ndarray, one: np.ndarray) -> bool:
    n = min(other.shape[1], one.shape[1])
    return other[:, :n].mean() < one[:, :n].mean() - POINT


def shown(raised: set[str]) -> str:
    """Flags in the order of FLAGS, as a cell of a table."""
    return "; ".join(name for name in FLAGS if name in raised) or "none"


def numbered(cell: str) -> str:
    """A cell of `shown` as the flags' numbers in FLAGS, from 1."""
    return ", ".join(str(i) for i, name in enumerate(FLAGS, 1) if name in cell.split("; "))


def _share(which: Tensor) -> float:
    return which.double().mean().item()


def _predicted(model: nn.Module, x: Images) -> Tensor:
    with evaluation_mode(model), torch.no_grad():
        return model(x).argmax(1)
