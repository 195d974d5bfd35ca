"""Related work, rerun: J-SIGR's four neighbours side by side, each by what its own notebook measured. Every number is
from the tables of one run."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.quality import MOVED
from jsigr_lib.study.distillation import MEASURES

RUN = "neighbours"  # the profile whose run this is
Tables = Callable[[str], pd.DataFrame]
"""Name of a table -> the table, empty if the run has none."""
AGREE, TRUTH = MEASURES["agreement|gradient|greydanus"], MEASURES["share|gradient"]
ABOUT = (
    "Four methods that share J-SIGR's ideas, each reimplemented and run on a task of its own. A step's cost is in "
    "counted operations, without the method = 1. Differences have 95 % intervals, over seeds too; none is the authors'."
)
COLUMNS = ["difference", "low", "high"]
ENDS = {"difference_low": "low", "difference_high": "high"}  # in some tables


@dataclass(frozen=True)
class Difference:
    """One thing minus another, a row of a table that has intervals: what is measured, and in words what is subtracted;
    `flip` for b minus a."""

    table: str
    what: str
    minus: str
    row: dict[str, str]
    flip: bool = False

    def __call__(self, of: Tables) -> str:
        found = words.rows(of(self.table), **self.row).rename(columns=ENDS)
        for row in words.known(found, *COLUMNS).reindex(columns=COLUMNS).to_numpy()[:1]:
            value, low, high = -row[[0, 2, 1]] if self.flip else row
            shown = words.interval({"difference": value, "low": low, "high": high})
            return f"{self.what}, {self.minus}: {'+' if value > 0 else ''}{shown}"
        return ""


@dataclass(frozen=True)
class Neighbour:
    """A method: whose it is, its notebook, what it is about, what it adds to a loss; where its cost stands; and what
    the notebook found of it and of J-SIGR in its place."""

    work: str
    notebook: str
    task: str
    adds: str
    cost: tuple[str, dict[str, str]]
    buys: tuple[Difference, ...]
    ours: tuple[Difference, ...]


def _distilled(a: str, b: str, minus: str, *measures: str) -> tuple[Difference, ...]:
    said = {AGREE: "gradient map's agreement with the perturbation map"}
    return tuple(
        Difference("distillation_gains", said.get(one, one), minus, {"a": a, "b": b, "measure": one})
        for one in measures
    )


NEIGHBOURS = (
    Neighbour(
        work="DIGR (Xing et al. 2022)",
        notebook="06_distillation",
        task="policies of MiniGrid's Fetch",
        adds="the input gradient of the action's logit, outside what a perturbation map selects",
        cost=("distillation_matched", {"student": "digr"}),
        buys=(
            *_distilled("digr", "kl", "minus distillation alone", "return under PGD", AGREE),
            *_distilled("digr", "input-gradient", "minus input-gradient regularisation", TRUTH),
        ),
        ours=_distilled("j-digr", "digr", "with the Jacobian norm minus without", "return under PGD", AGREE),
    ),
    Neighbour(
        work="Scaleable input gradient (Finlay & Oberman 2019)",
        notebook="07_bounds",
        task="Fashion-MNIST",
        adds="the loss's input gradient, by finite differences",
        cost=("bounds_training", {"defence": "scaleable-l2"}),
        buys=(
            Difference(
                "bounds_gains", "accuracy under PGD", "minus no defence", {"a": "scaleable-l2", "b": "standard"}
            ),
        ),
        ours=(
            Difference("bounds_gains", "accuracy under PGD", "J-SIGR minus it", {"a": "jsigr", "b": "scaleable-l2"}),
            Difference(
                "bounds_tightness",
                "share of the distance that the curvature bound promises",
                "J-SIGR minus it",
                {"a": "jsigr", "b": "scaleable-l2", "bound": "curvature"},
            ),
        ),
    ),
    Neighbour(
        work="OTJR (Le, Tariq & Woo 2024)",
        notebook="08_transport",
        task="Fashion-MNIST",
        adds="attacked images, transport from their logits to the clean ones, the Jacobian along it",
        cost=("transport", {"training": "OTJR-7"}),
        buys=(
            Difference("transport_differences", "accuracy under PGD", "minus no defence", {"b": "standard"}),
            Difference("transport_differences", "accuracy under PGD", "minus PGD training", {"b": "PGD-7 training"}),
        ),
        ours=(
            Difference("transport_differences", "accuracy under PGD", "J-SIGR minus it", {"b": "J-SIGR"}, flip=True),
        ),
    ),
    Neighbour(
        work="NT (Liu et al. 2024)",
        notebook="09_quality",
        task="how good a photograph looks",
        adds="the L1 norm of the score's input gradient, by finite differences",
        cost=("quality_strengths", {"training": "NT"}),
        buys=(
            Difference(
                "quality_gains",
                "how far PGD moves a score",
                "minus no defence",
                {"quantity": MOVED, "a": "NT", "b": "no defence"},
            ),
        ),
        ours=(
            Difference(
                "quality_gains",
                "how far PGD moves a score",
                "J-SIGR minus NT",
                {"quantity": MOVED, "a": "J-SIGR", "b": "NT"},
            ),
        ),
    ),
)


def table(of: Tables) -> pd.DataFrame:
    """One row per neighbour: what it adds to the loss, what a step costs in counted operations, without it = 1, what it
    buys, and what J-SIGR has beside it."""
    rows = []
    for one in NEIGHBOURS:
        name, key = one.cost
        cost = words.rows(of(name), **key)
        rows.append(
            {
                "method": one.work,
                "task": one.task,
                "adds to the loss": one.adds,
                "a step costs": words.number(float(cost.cost.iloc[0]), 1) if "cost" in cost and len(cost) else "",
                "what it buys": "; ".join(filter(None, (said(of) for said in one.buys))),
                "J-SIGR beside it": "; ".join(filter(None, (said(of) for said in one.ours))),
            }
        )
    return pd.DataFrame(rows)


def markdown(of: Tables, folder: str = "") -> str:
    """The table, each method with its task and a link to its notebook in a folder, below what its columns mean."""
    found = table(of).drop(columns="task")
    found["method"] = [f"[{one.work}]({folder}{one.notebook}.ipynb): {one.task}" for one in NEIGHBOURS]
    rows = [list(found), ["---"] * found.shape[1], *found.to_numpy().tolist()]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{ABOUT}\n\n{lines}"
