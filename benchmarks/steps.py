"""One training step of every defence, against a standard step: gradients cleared, loss, backward pass, AdamW; and the
default step of J-SIGR on networks that are not the library's."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import tables
from benchmarks.timing import measure
from benchmarks.workloads import COSTS, STEPS, Usual, Workload
from jsigr_lib.method.adversarial_training import AdversarialTraining
from jsigr_lib.method.defences import input_gradient
from jsigr_lib.method.jsigr import JSIGR
from jsigr_lib.method.objective import Objective
from jsigr_lib.method.saliency import selection_mask

LAMBDA_J, LAMBDA_S, EPS = 0.01, 3.0, 0.1  # of no influence on time
SHARES = (1.0, 0.5, 0.25, 0.1, 0.05)
BASELINE = "standard"


def table(*, jacobian_reg: type | None, rounds: int, device: torch.device) -> pd.DataFrame:
    """Every case on every network; `jacobian_reg` is Hoffman's class, or None to leave the naive composition out."""
    return pd.concat(
        tables.labelled(
            tables.compare(cases(workload, jacobian_reg, device), baseline=BASELINE, rounds=rounds, device=device),
            network=workload.architecture,
        )
        for workload in STEPS
    )


def cases(
    workload: Workload, jacobian_reg: type | None, device: torch.device | str = "cpu"
) -> dict[str, Callable[[], None]]:
    """A step per objective, each with a network and an optimiser of its own."""
    x, y = workload.images(device)
    chosen = objectives()
    if jacobian_reg:
        mask = selection_mask(torch.rand_like(x[:, :1]))
        chosen["naive J-SIGR (jacobian_regularizer + double backprop)"] = NaiveJSIGR(jacobian_reg(n=1), mask)
    return {name: training_step(workload.model(device), objective, x, y) for name, objective in chosen.items()}


def objectives() -> dict[str, Objective]:
    """What needs no peer's code, by name. J-SIGR makes its mask itself: the mask is part of its step."""
    default = JSIGR(LAMBDA_J, LAMBDA_S)
    shares = sorted({*SHARES, default.fraction}, reverse=True)
    marks = {default.fraction: " (default)"}
    return {
        BASELINE: JSIGR(0, 0),
        **{f"J-SIGR, q = {q:g}{marks.get(q, '')}": JSIGR(LAMBDA_J, LAMBDA_S, fraction=q) for q in shares},
        "J-SIGR, double backprop, q = 1": JSIGR(LAMBDA_J, LAMBDA_S, estimator="double-backprop", fraction=1),
        "Jacobian": JSIGR(LAMBDA_J, 0),
        "input gradient": input_gradient(lambda_s=LAMBDA_S),
        "tulip, finite difference": Tulip(),
        "fast adv. training": AdversarialTraining(EPS, steps=1),
        "PGD-7 training": AdversarialTraining(EPS, steps=7),
        "PGD-10 training": AdversarialTraining(EPS, steps=10),
    }


def costs(*, rounds: int, device: torch.device, workloads: Sequence[Usual] = COSTS) -> pd.DataFrame:
    """J-SIGR's default step and the same by plain double backprop, in steps of torch alone; a row per network."""
    return pd.DataFrame([cost(workload, rounds, device) for workload in workloads])


def cost(workload: Usual, rounds: int, device: torch.device) -> dict[str, float | str]:
    """Medians over rounds, of ratios within a round. A default step is the mean of penalised and other steps, by their
    shares: both kinds are timed, as a cycle of them would take most of its time for the latter."""
    x, y = workload.images(device)
    (share, penalised), (_, other) = JSIGR(LAMBDA_J, LAMBDA_S).kinds_of_step()
    (_, twice), _ = JSIGR(LAMBDA_J, LAMBDA_S, estimator="double-backprop").kinds_of_step()
    kinds = {BASELINE: Plain(), "other": other, "penalised": penalised, "double backprop": twice}
    cases = {name: training_step(workload.model(device), kind, x, y) for name, kind in kinds.items()}
    seconds = {name: np.array(values) for name, values in measure(cases, rounds=rounds, device=device).items()}
    of = {name: values / seconds[BASELINE] for name, values in seconds.items()}
    default, doubled = (share * of[name] + (1 - share) * of["other"] for name in ("penalised", "double backprop"))
    low, high = np.quantile(default, tables.SPREAD)
    return {
        "network": workload.architecture,
        "activation": workload.activation.__name__,
        "batch": workload.batch,
        "standard_ms": 1000 * np.median(seconds[BASELINE]),
        "default": np.median(default),
        "low": low,
        "high": high,
        "double_backprop": np.median(doubled),
        **{f"{name.replace(' ', '_')}_step": np.median(of[name]) for name in ("penalised", "double backprop", "other")},
        "rounds": rounds,
    }


class Plain(Objective):
    """Cross-entropy by torch alone."""

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, guide: None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        return F.cross_entropy(model(x), y)


def training_step(
    model: nn.Module, objective: Objective, x: Tensor, y: Tensor, mask: Tensor | None = None
) -> Callable[[], None]:
    """The step as a function of nothing, as `training.fit` takes it. An objective that penalises some of its steps is
    timed over a whole number of them, of which its share is penalised: `steps` says how many."""
    # so small a learning rate that all cases keep the same network, however often each is called
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-7)
    generator = torch.Generator().manual_seed(0)
    cycle = one_in_so_many(objective)

    def step() -> None:
        for one in cycle:
            optimizer.zero_grad(set_to_none=True)
            one(model, x, y, mask, generator=generator).backward()
            optimizer.step()

    step.steps = len(cycle)
    return step


def one_in_so_many(objective: Objective) -> list[Objective]:
    """[objective] if it penalises every step or none, else a penalised step and as many others as go with it."""
    (how_often, one), *others = objective.kinds_of_step()
    return [one] + [kind for _, kind in others] * (round(1 / how_often) - 1)


class NaiveJSIGR(Objective):
    """J-SIGR as one would put it together: the reference Jacobian regulariser, and a second double backward pass for
    the input gradient. The mask is given, at no cost.

    Args:
        jacobian_reg: called as jacobian_reg(x, z), gives mean ||J||_F^2 / 2 or an estimate of it (Hoffman et al.
            2019, facebookresearch/jacobian_regularizer, jacobian/jacobian.py).
        mask: selection [batch, 1, H, W].
    """

    def __init__(self, jacobian_reg: Callable[[Tensor, Tensor], Tensor], mask: Tensor):
        self.jacobian_reg, self.mask = jacobian_reg, mask

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, guide: None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        x = x.detach().requires_grad_()
        z = model(x)
        losses = F.cross_entropy(z, y, reduction="none")
        (g,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
        r_s = ((1 - self.mask) * g).square().sum(dim=(1, 2, 3)).mean()
        r_j = 2 * self.jacobian_reg(x, z)
        return losses.mean() + LAMBDA_J * r_j + LAMBDA_S * r_s


class Tulip(Objective):
    """Input-gradient regularisation by a finite difference along the loss's gradient (Finlay & Oberman 2021).

    A transcription of cfinlay/tulip, cifar10/train.py, lines 147 to 209 (commit 92c83e7) with its default settings, L2
    and one-sided: there it is part of a script and cannot be imported.
    """

    def __init__(self, h: float = 0.01):
        self.h = h

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, guide: None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        x = x.detach().requires_grad_()
        losses = F.cross_entropy(model(x), y, reduction="none")
        (gradient,) = torch.autograd.grad(losses.mean(), x, retain_graph=True)
        norm = gradient.flatten(1).norm(2, dim=1).view(-1, 1, 1, 1)
        direction = torch.where(norm > 0, gradient / norm, gradient)
        ahead = F.cross_entropy(model(x.detach() + self.h * direction), y, reduction="none")
        slope = (ahead - losses) / self.h
        return losses.mean() + 2 * LAMBDA_S * slope.square().mean() / 2
