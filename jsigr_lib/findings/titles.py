"""What each figure found, in one line: its title, which whoever looks at the figure alone reads first. "" where a run
has too little to say it; then the figure has no title."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.claims import VERDICTS
from jsigr_lib.findings.training import at_the_end
from jsigr_lib.findings.transfer import from_undefended
from jsigr_lib.findings.words import Labels, begin, count, listed, number, percent, points

BOTH = ("standard", "jsigr")


def name(defence: str, labels: Labels) -> str:
    """Its label as it is: a figure knows no Markdown."""
    return f"the {labels[defence]} network" if defence == "standard" else labels[defence]


def _each(values: Mapping[str, float], labels: Labels, shown=percent) -> str:
    """ "J-SIGR 71 %, the standard network 31 %"."""
    return listed(f"{name(one, labels)} {shown(value)}" for one, value in values.items())


def _beside(found: Mapping[str, float]) -> dict[str, float]:
    """J-SIGR, the standard network and the best of all, if that is a third."""
    best = max(found, key=found.get)
    return {one: found[one] for one in dict.fromkeys([*BOTH[::-1], best])}


def _of(found: dict[str, pd.Series], column: str) -> dict[str, float]:
    return {one: float(row[column]) for one, row in found.items()}


# notebook 1


def projection(samples: Mapping[str, np.ndarray]) -> str:
    """Estimates over the exact norm, per defence [draws, images]."""
    drawn = np.concatenate(list(samples.values()), -1)
    mean = number(100 * np.abs(drawn.mean(0) - 1).max(), 1)
    return f"One projection is off by {percent(np.median(drawn.std(0)))}, the mean of {len(drawn):,} by {mean} %"


def coin(least: Mapping[str, float], spread: float, fair: float) -> str:
    """The coin with the least spread, by defence; of J-SIGR the spread at the profile's coin and at a fair one."""
    best = words.span(least.values())
    return f"A coin of {best} is the least noisy; a fair one is {number(fair / spread, 1)} times as noisy as this run's"


def penalty(gradients: Iterable[tuple[np.ndarray, np.ndarray]], level: np.ndarray, mean: float) -> str:
    """Both sides of each network's gradients, the mean penalty by coin, and what all halves count, the batch = 1."""
    same = [np.allclose(*both, rtol=1e-6, atol=1e-9) for both in gradients]
    right = sum((all(same), np.ptp(level) < 1e-6 * np.abs(level).max(), abs(mean - 1) < 1e-6))
    return f"{begin(words.of_all(right, 3, 'shortcut'))} of the penalty {_verb(right, 'count')} what it should"


def _verb(n: int, what: str) -> str:
    return f"{what}s" if n == 1 else what


def linearised(table: pd.DataFrame) -> str:
    own = words.known(words.rows(words.first(table), quantity="robustness"), "mean")
    found = _of(words.keyed(own), "mean")
    if not set(BOTH) <= found.keys() or found["standard"] <= 0:
        return ""
    far = number(found["jsigr"] / found["standard"], 1)
    return f"By the tangent, J-SIGR's boundary is {far} times as far away as the standard network's"


def tangent_error(radii: Iterable[float], errors: Mapping[str, Iterable[np.ndarray]], size: float, labels) -> str:
    """Errors relative to the change [radii, images], the first of each network's two."""
    place = int(np.abs(np.log(np.array(radii) / size)).argmin())
    off = {one: float(np.median(next(iter(both))[place])) for one, both in errors.items()}
    return f"At the attack's size the tangent errs by this share of the change: {_each(off, labels)}" if off else ""


def tangent_limits(shares: np.ndarray, ways: Mapping[str, Mapping[str, np.ndarray]], labels: Labels) -> str:
    at = int(np.abs(shares - 1).argmin())
    changed = {one: 1 - way["same"][at].mean() for one, way in ways.items()}
    return f"Where the tangent changes every decision, these have changed: {_each(changed, labels)}" if changed else ""


def boundary(table: pd.DataFrame, labels: Labels) -> str:
    found = _of(words.keyed(words.known(words.first(table), "ratio")), "ratio")
    if not set(BOTH) <= found.keys():
        return ""
    worst = max(found, key=found.get)
    shown = {one: found[one] for one in dict.fromkeys([*BOTH[::-1], worst])}
    return f"The tangent promises so many times the distance found: {_each(shown, labels, number)}"


def region(table: pd.DataFrame) -> str:
    own = words.known(words.first(table), "share_of_rho", "flipped")
    if not len(own):
        return ""
    far = own.share_of_rho.max()
    reach = "after less than a hundredth" if far < 0.01 else f"after at most {percent(far)}"
    return f"The linear region ends {reach} of the way; {words.span(own.flipped, percent)} of the ReLUs flip"


def in_training(history: pd.DataFrame) -> str:
    end = at_the_end(history, "jacobian_norm", "margin")
    if not set(BOTH) <= set(end.index):
        return ""
    norm, margin = (
        f"{words.brief(end[column]['standard'])} to {words.brief(end[column]['jsigr'])}"
        for column in ("jacobian_norm", "margin")
    )
    return f"From the standard network to J-SIGR: squared norm {norm}, margin {margin}"


def breaking(holds: Iterable[bool]) -> str:
    """Whether each of the settings shown holds at the grey line."""
    holds = list(holds)
    n = len(holds) - sum(holds)
    return f"{begin(words.of_all(n, len(holds), 'setting'))} {_verb(n, 'break')} a statement: red ground"


# notebook 2


def curves(history: pd.DataFrame) -> str:
    end = at_the_end(history, "jacobian_norm", "validation_accuracy")
    if not set(BOTH) <= set(end.index):
        return ""
    smaller = end.jacobian_norm["standard"] / end.jacobian_norm["jsigr"]
    price = words.lost([end.validation_accuracy["standard"] - end.validation_accuracy["jsigr"]])
    return f"J-SIGR ends with {_factor(smaller)} Jacobian norm, for {price} of accuracy"


def _factor(smaller: float) -> str:
    return f"a {number(smaller, 0 if smaller >= 10 else 1)} times smaller" if smaller > 1 else "no smaller"


def frontier(found: pd.DataFrame, counting: list[str], labels: Labels) -> str:
    test = words.rows(found, split="test")
    chosen = test[test.chosen.astype(str) == "True"] if len(test) else test
    rows = words.known(words.rows(chosen, threat="transfer", source=counting), "accuracy")
    if not set(BOTH) <= set(rows.defence):
        return ""
    left = rows.groupby("defence", sort=False).accuracy.mean()
    return f"At the chosen weights transferred attacks leave: {_each(_beside(left.to_dict()), labels)}"


def grid(found: pd.DataFrame, counting: list[str]) -> str:
    own = words.rows(found, split="validation", defence="jsigr", threat="transfer", source=counting)
    if not len(own):
        return ""
    left = own.groupby("weights", sort=False).accuracy.mean()
    return f"The most is left with {left.idxmax()}: {percent(left.max())}, at least {percent(left.min())}"


# notebook 3


def strength(table: pd.DataFrame) -> str:
    if not len(table):
        return ""
    left = table.groupby(["attack", "steps"], sort=False).accuracy.mean()
    attack, steps = left.idxmin()
    return f"{attack.upper()} with {steps} steps hurts the undefended network most: {percent(left.min())} left"


def accuracy(table: pd.DataFrame, attack: str, eps: float, labels: Labels) -> str:
    found = _of(from_undefended(words.known(words.first(table), "eps", "accuracy"), attack, eps), "accuracy")
    if not set(BOTH) <= found.keys():
        return ""
    return f"Transferred attacks leave {_each(_beside(found), labels)} right"


def judges(table: pd.DataFrame, labels: Labels) -> str:
    judge = next((one for one in ("AutoAttack", "PGD, restarts") if len(words.rows(table, judge=one))), "")
    found = _of(words.keyed(words.rows(table, judge=judge)), "accuracy")
    if "jsigr" not in found:
        return ""
    best = max(found, key=found.get)
    return f"{judge} leaves {_each({one: found[one] for one in dict.fromkeys(['jsigr', best])}, labels)} right"


def ranking(left: pd.DataFrame, labels: Labels) -> str:
    """Accuracy left, a row per attack, a column per defence that is shown."""
    if len(left) < 2:
        return ""
    said = [
        f"{name(one, labels)} {left[one].idxmin().upper()} (all within {points(left[one].max() - left[one].min())})"
        for one in BOTH
        if one in left
    ]
    return f"What hurts most: {listed(said)}"


def matrix(left: pd.DataFrame, labels: Labels) -> str:
    """Accuracy left, a row per source, a column per defence that is shown."""
    if "jsigr" not in left or not left["jsigr"].notna().any():
        return ""
    return f"J-SIGR is hurt most by attacks from {left['jsigr'].idxmin()}: {percent(left['jsigr'].min())} left"


def cost(table: pd.DataFrame, labels: Labels) -> str:
    found = words.keyed(words.known(table, "cost", "accuracy"))
    if not set(BOTH) <= found.keys():
        return ""
    shown = _beside(_of(found, "accuracy"))
    said = listed(f"{name(one, labels)} {percent(of)} at {number(found[one].cost)} times" for one, of in shown.items())
    return f"What is left, at which cost of a step: {said}"


# notebook 4


def agreement(table: pd.DataFrame, labels: Labels) -> str:
    own = words.rows(words.first(table), measure="agreement", input="clean", map="gradient")
    found = _of(words.keyed(words.known(own, "mean")), "mean")
    if not set(BOTH) <= found.keys():
        return ""
    return f"Gradient and perturbation maps agree at: {_each(_beside(found), labels, number)} (rank correlation)"


def deletion(curves: pd.DataFrame, labels: Labels, share: float = 0.2) -> str:
    """What is left of the true class once the most salient pixels of clean images are deleted."""
    own = words.rows(curves, curve="deletion", input="clean", map="gradient", defence=list(BOTH))
    own = own[(own.share - share).abs() == (own.share - share).abs().min()] if len(own) else own
    left = _of(words.keyed(own), "probability")
    if not set(BOTH) <= left.keys():
        return ""
    return f"Without the {percent(share)} most salient pixels the true class keeps: {_each(left, labels)}"


def measures(better: Iterable[bool]) -> str:
    """For each measure and network shown, whether its perturbation map beats its gradient map."""
    better = list(better)
    said = words.of_all(sum(better), len(better), "comparison")
    return f"A network's perturbation map beats its gradient map in {said}" * bool(better)


def cascade(ends: pd.Series) -> str:
    """Map -> its rank correlation with itself when all layers are drawn anew."""
    if not len(ends):
        return ""
    most, least = ends.idxmax(), ends.idxmin()
    kept = f"{number(ends[most])} ({most}) to {number(ends[least])} ({least})"
    return f"With nothing left of what was learnt, maps keep {kept}"


def on_the_truth(table: pd.DataFrame, labels: Labels) -> str:
    shares = words.rows(table, pictures="glyphs", measure="share on the truth", input="clean")
    said = []
    for kind in ("gradient", "perturbation"):
        found = _of(words.keyed(words.known(words.rows(shares, map=kind), "mean")), "mean")
        if set(BOTH) <= found.keys():
            said.append(f"{kind} map {_each({one: found[one] for one in BOTH[::-1]}, labels)}")
    return f"Share on the evidence: {'; '.join(said)}" * bool(said)


def under_attack(right: Mapping[str, list[bool]], labels: Labels) -> str:
    """Defence -> whether it is right about each of the attacked images shown."""
    if not set(BOTH) <= right.keys():
        return ""
    said = listed(
        f"{name(one, labels)} is right on {count(sum(right[one])) if any(right[one]) else 'none'}" for one in BOTH
    )
    return f"Of {count(len(right['jsigr']), 'attacked image')} {said}"


# notebook 5


def verdicts(card: pd.DataFrame) -> str:
    said = []
    for data, own in card.groupby("data", sort=False):
        counts = {what: int((own.verdict == what).sum()) for what in dict.fromkeys([*VERDICTS, *own.verdict])}
        said.append(f"{data}: {', '.join(f'{n} {what}' for what, n in counts.items() if n)}")
    return "; ".join(said)


def clear(decides: pd.DataFrame) -> str:
    holds = (decides.outcome == "holds").sum()
    return f"{begin(words.of_all(holds, len(decides), 'difference'))} {_verb(holds, 'clear')} the margin"


def gains(found: pd.DataFrame) -> str:
    """Of the sources shown: what J-SIGR gains, and whether the attack bites."""
    bite = found[found.bites]
    if not len(bite):
        return "No attack bites here, so that no gain could be seen"
    return f"Where the attack bites, J-SIGR gains {words.span(bite.difference, lambda value: f'{value:+.2f}')}"


def trade_offs(paid: pd.DataFrame) -> str:
    found = words.keyed(words.known(paid, "cost", "clean", "transferred"))
    if not set(BOTH) <= found.keys():
        return ""
    own, standard = found["jsigr"], found["standard"]
    gain, price = own.transferred - standard.transferred, words.lost([standard.clean - own.clean])
    what = f"gains {points(gain)}" if gain > 0 else f"loses {points(gain)}"
    return f"J-SIGR {what} under transferred attack, for {price} clean and {number(own.cost)} times the cost"
