"""What notebook 1 found: estimators, the tangent and how far it is right."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.training import at_the_end
from jsigr_lib.findings.words import (
    Labels,
    Text,
    brief,
    count,
    interval,
    listed,
    name,
    names,
    number,
    paragraph,
    percent,
)

NEARLY_RIGHT = 1.25  # the tangent, if it promises at most so many times the measured distance
APART = 1.25  # ratios that far apart turn a ranking
ERRORS = 4  # standard errors, from which on a mean is not put down to chance


def projection(samples: Mapping[str, np.ndarray], predicted: Mapping[str, np.ndarray]) -> Text:
    """Estimates over the exact norm, per defence [draws, images], and their predicted relative spreads [images]."""
    drawn, said = (np.concatenate([one[name] for name in samples], -1) for one in (samples, predicted))
    draws, off = len(drawn), np.abs(drawn.mean(0) - 1).max()
    ratio = np.median(drawn.std(0) / said)
    fits = 0.9 <= ratio <= 1.1
    return paragraph(
        f"A single projection is off by {percent(np.median(drawn.std(0)))} of the norm on the median image, and the "
        f"mean of {draws:,} by {number(100 * off, 1)} % at most.",
        f"Its error {'is' if fits else '*is not*'} what the formula predicts: {number(ratio)} times that on the "
        "median image.",
        "Over a mini-batch and an epoch it averages out, which is why one projection per image suffices."
        if fits
        else "",
    )


def estimators(scatter: pd.DataFrame) -> Text:
    """Of `estimators.scatter_table`: are they right on average, and how noisy is a draw?"""
    scatter = words.known(scatter, "deviation", "spread")
    if not len(scatter):
        return paragraph()
    wrong = scatter[scatter.deviation > ERRORS]
    if len(wrong):
        right = (
            f"*Not every estimator is right on average:* {count(len(wrong))} of {len(scatter)} means are more than "
            f"{ERRORS} "
        )
        right += f"standard errors from the exact gradient ({listed(dict.fromkeys(wrong.estimator))})."
    else:
        right = (
            f"Every estimator is right on average, with either mask: of {len(scatter)} means of many draws the "
            "farthest is "
        )
        right += f"{number(scatter.deviation.max(), 1)} standard errors from the exact gradient."
    coins = words.rows(scatter, estimator="single pass")
    spreads = scatter[pd.to_numeric(scatter.predicted, errors="coerce").isna()].groupby("estimator", sort=False).spread
    noise = listed(f"{number(spread)} ({kind})" for kind, spread in spreads.median().items()) if len(coins) else ""
    return paragraph(
        right,
        f"One draw on eight images is noisy all the same; its spread, relative to the exact gradient, is {noise}."
        if noise
        else "",
        "Gradient descent averages over steps, and `benchmarks/` shows what is left of the robustness.",
    )


def coin(scatter: pd.DataFrame, labels: Labels, default: float = 0.1) -> Text:
    """Of the same table: which coin is least noisy, and what a fair one costs."""
    tossed, said = words.known(scatter, "predicted", "spread", "coin"), []
    for defence in dict.fromkeys(tossed.get("defence", [])):
        spread = words.rows(tossed, defence=defence).set_index("coin").spread
        if {default, 0.5} <= set(spread.index):
            ratio = spread[0.5] / spread[default]
            fair = f"a fair coin is {number(ratio, 1)} times as noisy as the default of {default:g}"
            said.append(
                f"for {name(defence, labels)} {fair}, and {spread.idxmin():g} is the least noisy of those tried"
            )
    return paragraph(words.begin(f"{'; '.join(said)}.") if said else "")


def linearised(table: pd.DataFrame, closest: pd.Series, labels: Labels) -> Text:
    """Of `linearised_table`, and the largest bound / robustness of each defence."""
    above = closest[closest > 1 + 1e-6]
    if len(above):
        bound = f"*S6 fails:* the bound exceeds ρ̃ for {listed(above.index)}."
    else:
        bound = "S6 holds image by image: no dot lies below the line, and the closest comes to "
        bound += f"{number(closest.max())} of it."
    found = words.keyed(words.known(words.rows(words.first(table), quantity="robustness"), "mean", "low", "high"))
    return paragraph(bound, _raised(found, labels), "A misclassified image counts as 0.")


def _raised(found: dict[str, pd.Series], labels: Labels) -> str:
    standard = found.pop("standard", None)
    if standard is None or not found:
        return ""
    above = [one for one, row in found.items() if row.low > standard.high]
    others = [one for one in found if one not in above]
    ranked = sorted(found, key=lambda one: -found[one]["mean"])
    said = f"Linearised robustness is {interval(standard, 'mean')} for {name('standard', labels)}"
    said += f", most for {name(ranked[0], labels)}, {interval(found[ranked[0]], 'mean')}"
    said += f", and for J-SIGR {interval(found['jsigr'], 'mean')}" if "jsigr" in found and ranked[0] != "jsigr" else ""
    if not others:
        return f"{said}. Every defence clearly raises it."
    return f"{said}. {words.begin(names(others, labels))} {'does' if len(others) == 1 else 'do'} not clearly raise it."


def tangent_error(errors: pd.DataFrame, attack_size: float) -> Text:
    """Of `error_table`: the error at the size of the headline attack, and which network leaves its tangent sooner."""
    columns = [f"{one}, relative to the {kind}" for kind in ("change", "margin") for one in ("standard", "jsigr")]
    errors = words.known(errors, *columns)
    if not len(errors):
        return paragraph()
    old, new, old_margin, new_margin = errors.iloc[(errors.radius / attack_size).map(np.log).abs().argmin()][columns]
    near = errors[errors.radius <= attack_size]
    sooner = (near["jsigr, relative to the change"] > near["standard, relative to the change"]).mean()
    wrong = min(old, new) > 0.2
    return paragraph(
        f"At the size of a real attack (dotted line) the tangent {'is wrong' if wrong else 'is not far off'}: the "
        f"error of its prediction is {percent(old)} of the change of the logits for the standard network and "
        f"{percent(new)} for J-SIGR, at the median.",
        "Relative to the change of its logits J-SIGR's network leaves its tangent "
        f"{'*sooner*' if sooner > 0.5 else 'no sooner'} on the way there ({'larger' if sooner > 0.5 else 'smaller'} "
        f"error at {percent(max(sooner, 1 - sooner))} of the radii)."
        if len(near)
        else "",
        f"Relative to the margin its error is the {'smaller' if new_margin < old_margin else 'larger'} one, "
        f"{number(new_margin)} against {number(old_margin)}.",
        "So the inequality of 1.4 speaks about the tangent; it is no certificate at real budgets." if wrong else "",
    )


def tangent_limits(shares: np.ndarray, ways: Mapping[str, Mapping[str, np.ndarray]], labels: Labels) -> Text:
    """Of `breaking.towards_boundary`: which share of decisions has changed at ρ̃, and farther."""
    said = []
    for defence, way in ways.items():
        changed = 1 - way["same"].mean(1)
        at, end = (changed[np.abs(shares - share).argmin()] for share in (1, shares.max()))
        said.append(f"{percent(at)} there and {percent(end)} by {number(shares.max(), 1)} ρ̃ ({name(defence, labels)})")
    if not said:
        return paragraph()
    images = next(iter(ways.values()))["same"].shape[1]
    early = any(way["same"][shares < 1].min() < 1 for way in ways.values())
    return paragraph(
        "Straight at the tangent's boundary the tangent changes every decision at ρ̃. Of the networks' own decisions "
        f"have changed {listed(said)}.",
        "Some change before it, so no certificate can be read off ρ̃." if early else "None has changed before it here.",
        lead=f"What it shows ({images} images, first seed).",
    )


def boundary(table: pd.DataFrame, paired: pd.DataFrame, labels: Labels) -> Text:
    """Of `boundary_table` and `contrast_table`: how many times the measured distance the tangent promises."""
    found = words.keyed(words.known(words.first(table), "ratio", "correlation"))
    sure = words.known(paired, "difference", "low", "high")
    right = [one for one, row in found.items() if row.ratio <= NEARLY_RIGHT]
    wrong = [one for one in found if one not in right]
    apart = right and wrong and min(found[one].ratio for one in wrong) > APART * max(found[one].ratio for one in right)
    return paragraph(
        f"ρ̃ is {_ratios(found, right)} the measured distance for {names(right, labels)}: there the tangent is right "
        "to within a quarter, and its rank correlation with the measurement is at least "
        f"{number(min(found[one].correlation for one in right))}."
        if right
        else "",
        f"For {names(wrong, labels)} it promises {_ratios(found, wrong)} what is there." if wrong else "",
        "So ρ̃ must not rank the ones against the others." if apart else "",
        *(_against(words.keyed(words.rows(sure, b=one), "measure"), one, labels) for one in ("pgd", "standard")),
    )


def _ratios(found: dict[str, pd.Series], defences: list[str]) -> str:
    """ "1.06 to 1.15 times", with the interval if it is of one."""
    if len(defences) == 1:
        return f"{interval(found[defences[0]], 'ratio', 'ratio_low', 'ratio_high')} times"
    said = f"{words.span(found[one].ratio for one in defences)} times"
    own = interval(found["jsigr"], "ratio", "ratio_low", "ratio_high") if "jsigr" in defences else ""
    return f"{said} (J-SIGR {own})" if own else said


def _against(found: dict[str, pd.Series], other: str, labels: Labels) -> str:
    """J-SIGR beside another defence, by ρ̃ and by the measured distance."""
    if not {"robustness", "distance"} <= found.keys():
        return ""
    said = {1: "ahead of", -1: "behind", 0: "level with"}
    by_rho, by_distance = (words.sign(found[one]) for one in ("robustness", "distance"))
    same = (
        "and so it is by"
        if by_rho == by_distance
        else f"*but* {said[by_distance].removesuffix(' of').removesuffix(' with')} by"
    )
    text = f"By ρ̃ J-SIGR is {said[by_rho]} {name(other, labels)} ({interval(found['robustness'])}), {same}"
    return f"{text} the measured distance, on the same images ({interval(found['distance'])})."


def region(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `region_table`: how far the linear region reaches, beside ρ̃ and the size of the headline attack."""
    table, said = words.known(table, "reach_random", "reach_towards", "share_of_rho", "attack", "flipped"), []
    if not len(table):
        return paragraph()
    for architecture, own in table.groupby("architecture", sort=False):
        reach = own[["reach_random", "reach_towards"]].max(axis=None)
        far = f", and the headline attack goes at least {own.attack.min() / reach:,.0f} times as far" if reach else ""
        said.append(f"on the {architecture} {_at_most(own.share_of_rho.max())} of ρ̃{far}")
    own = words.first(table).set_index("defence")
    widest, flips = own.reach_towards.idxmax(), words.span(own.flipped, percent)
    tiny = table.share_of_rho.max() < 0.1
    return paragraph(
        f"The strictly linear region {'is tiny' if tiny else 'is not tiny everywhere'}: its median reach towards the "
        f"error is, {'; '.join(said)}.",
        f"At the nearest error {flips} of the ReLUs have flipped, so where ρ̃ is nearly right it is not because the "
        "network is affine up to the boundary; what the flips change must largely cancel."
        if tiny
        else "",
        f"On the {table.architecture.iloc[0]} it is widest for {name(widest, labels)}.",
    )


def _at_most(share: float) -> str:
    return "under half a percent" if share < 0.005 else f"at most {percent(share)}"


def in_training(history: pd.DataFrame, labels: Labels) -> Text:
    """Of `history_table`, after the last epoch: did norm, margin and robustness move together?"""
    end = at_the_end(history, "jacobian_norm", "margin", "robust_accuracy")
    if not {"standard", "jsigr"} <= set(end.index) or end.robust_accuracy.nunique() < 2:
        return paragraph()
    quotient, robust = end.margin / (2 * end.jacobian_norm) ** 0.5, end.robust_accuracy
    old, new = end.loc["standard"], end.loc["jsigr"]
    moved = {what: "rises" if new[what] > old[what] else "falls" for what in ("jacobian_norm", "margin")}
    by_rank = quotient.rank().corr(robust.rank())
    ranks = "ranks" if by_rank > 0.99 else "nearly ranks" if by_rank > 0.8 else "does not rank"
    leads = [names([of.idxmax()], labels) for of in (quotient, robust)]
    same = "too" if leads[0] == leads[1] else f", and {leads[1]} the most robust accuracy, {percent(robust.max())}"
    return paragraph(
        f"From the standard to the J-SIGR network the squared norm {moved['jacobian_norm']} from "
        f"{brief(old.jacobian_norm)} to {brief(new.jacobian_norm)} and the margin {moved['margin']} from "
        f"{brief(old.margin)} to {brief(new.margin)}, so that the quotient goes from {number(quotient['standard'])} "
        f"to {number(quotient['jsigr'])}, and robust accuracy from {percent(robust['standard'])} to "
        f"{percent(robust['jsigr'])}.",
        f"The quotient {ranks} the defences as robust accuracy does (rank correlation {number(by_rank)}): {leads[0]} "
        f"has the largest quotient, {number(quotient.max())}"
        + (f", and the most robust accuracy {same}." if same == "too" else f"{same}."),
        "It is a bound on the tangent in L2, and these attacks are in L∞ and go beyond the tangent. (100 images: one "
        "is a point, and the check is an upper bound.)",
        lead="What it shows (first seed).",
    )


def checks(table: pd.DataFrame) -> Text:
    """Of `checks_table`: how many hold."""
    if not len(table):
        return paragraph()
    failing = table[~table.holds.astype(str).eq("True")]
    if len(failing):
        return paragraph(
            f"*{len(failing)} of {len(table)} checks fail:* "
            f"{listed(dict.fromkeys(failing.statement.map(words.plain)))}."
        )
    equal = table[table.measure.str.startswith("relative difference of the sides")].deviation.astype(float)
    agree = (
        f" The equalities agree to {equal.max():.0e}, with trained networks as with made-up ones." if len(equal) else ""
    )
    return paragraph(f"All {len(table)} checks hold.{agree}", PLANTED)


PLANTED = (
    "`tests/theory/test_statements.py` plants errors (a wrong constant in the variance, 1 for √2, no re-weighting, a "
    "residual out of the graph, and more) and sees every one of them caught."
)
