"""What notebook 2 found: the Jacobian in training, the price of robustness, and defences at equal clean accuracy."""

import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.words import Labels, Text, name, names, number, paragraph, percent, points, share


def at_the_end(history: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The last epoch of each defence that has numbers in these columns, by defence."""
    last = words.known(history.groupby("defence", sort=False).tail(1) if len(history) else history, *columns)
    return last.set_index("defence") if len(last) else pd.DataFrame(columns=columns)


def curves(history: pd.DataFrame, labels: Labels) -> Text:
    """Of `history_table`: what happens to the Jacobian norm, and what it costs in accuracy."""
    end = at_the_end(history, "jacobian_norm", "validation_accuracy")
    if "standard" not in end.index or len(end) < 2:
        return paragraph()
    own, norm = words.rows(history, defence="standard"), end.jacobian_norm
    first, last = own.iloc[0], own.iloc[-1]
    grows, gained = last.jacobian_norm / first.jacobian_norm, last.validation_accuracy - first.validation_accuracy
    ratio = norm["standard"] / norm.drop("standard")
    lower, others = ratio[ratio >= 10].index, ratio[ratio < 10].index
    return paragraph(
        f"Without a penalty the squared Jacobian norm goes from {number(first.jacobian_norm, 0)} to "
        f"{number(last.jacobian_norm, 0)} ({number(grows, 1)} times) in {last.epoch - first.epoch + 1} epochs, for "
        f"{_gain(gained)}."
        if len(own) > 1
        else "",
        f"At the end it is at least ten times smaller for {_all(lower, ratio.index, labels)}." if len(lower) else "",
        f"It is {words.span(ratio[others], lambda value: number(value, 1))} times smaller for {names(others, labels)}."
        if len(others) and ratio[others].min() > 1
        else "",
        f"It is *not* smaller for {names(ratio[ratio <= 1].index, labels)}." if ratio.min() <= 1 else "",
    )


def _gain(difference: float) -> str:
    return f"{points(difference)} {'more' if difference >= 0 else '*less*'} validation accuracy"


def _all(some: pd.Index, every: pd.Index, labels: Labels) -> str:
    return "every other defence, whether or not it asks for it" if len(some) == len(every) > 2 else names(some, labels)


def frontier(found: pd.DataFrame, counting: list[str], labels: Labels) -> Text:
    """Of `weights.table`: what the rule chose on validation images, and what that costs and buys on the test images."""
    table = words.known(words.rows(found, split="test"), "accuracy")
    chosen = table[table.chosen.astype(str) == "True"] if len(table) else table
    clean = words.rows(chosen, threat="clean").drop_duplicates("defence") if len(chosen) else chosen
    if set(table.get("defence", ["standard"])) == {"standard"}:
        return paragraph("This profile tries no weights, so there is no choice to show.")
    if len(clean) < 2 or "standard" not in set(clean.defence):
        return paragraph()
    clean = clean.set_index("defence").accuracy
    left = words.rows(chosen, threat="transfer", source=counting).groupby("defence", sort=False).accuracy.mean()
    tried = table.drop_duplicates(["defence", "weights"]).groupby("defence", sort=False).size().drop("standard")
    defended = left.drop("standard").sort_values(ascending=False)
    price = clean["standard"] - clean.drop("standard")
    whose = f"each of {words.count(len(defended), 'defence')}" if len(defended) > 1 else names(defended.index, labels)
    return paragraph(
        f"Robustness is traded for clean accuracy: of {tried.sum()} candidates, the rule's choice for {whose} gives up "
        f"{words.lost(price)} of clean accuracy on the test images "
        f"and keeps {words.span(defended, percent)} of transferred attacks right, where the standard network keeps "
        f"{percent(left['standard'])}.",
        f"The most is kept by {name(defended.index[0], labels)}." if len(defended) > 1 else "",
        "So a comparison of two defences says little unless their clean accuracy is said beside it. One seed per "
        "candidate: differences of a point or two between neighbours mean nothing.",
    )


def grid(found: pd.DataFrame, counting: list[str]) -> Text:
    """Of the same table: what either weight of J-SIGR buys alone, on validation images, beside none and both."""
    own = words.rows(found, split="validation", defence="jsigr", threat="transfer", source=counting)
    own = words.known(own, "accuracy")
    parts = own.weights.str.extract(r"^lambda_j (\S+), lambda_s (\S+)$").astype(float) if len(own) else own
    if not len(own) or parts.isna().any(axis=None):
        return paragraph()
    left = own.groupby([parts[0], parts[1]]).accuracy.mean()
    j, s = (left.index.get_level_values(level) for level in (0, 1))
    regions = {"both weights": (j > 0) & (s > 0), "λ_J alone": (j > 0) & (s == 0), "λ_S alone": (j == 0) & (s > 0)}
    best = {what: left[mask].max() for what, mask in regions.items() if mask.any()}
    none = left[(j == 0) & (s == 0)]
    if not len(none) or len(best) < 2:
        return paragraph()
    most = max(best, key=best.get)
    said = words.listed(f"{what} {percent(value)}" for what, value in best.items())
    behind = min(best.values()) - none.iloc[0]
    verdict = f"is {points(behind)} behind the least of them" if behind > 0.05 else "is *not* far behind"
    return paragraph(
        f"Of transferred attacks on validation images the best choice leaves right with {said}; most is left by "
        f"{most}.",
        f"The corner of no penalty, {percent(none.iloc[0])}, {verdict}.",
        "The weights differ in their clean accuracy too: 2.4 compares at the same one.",
    )


def matched(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `matching.table`: J-SIGR beside each defence at the same clean accuracy."""
    found = words.keyed(words.known(table, "clean", "attacked", "low", "high") if len(table) else table)
    if len(table) and not {"clean", "attacked"} <= set(table):
        return paragraph()
    if "jsigr" not in found:
        return paragraph("This profile does not search J-SIGR's weights, so there is nothing at equal clean accuracy.")
    own = found.pop("jsigr")
    near = {one: row for one, row in found.items() if abs(row.clean - own.clean) <= 0.01}
    if not near:
        return paragraph(
            f"J-SIGR keeps {share(own, 'attacked')} at {percent(own.clean)} clean; no other defence is matched with it."
        )
    groups = {
        "less": [one for one, row in near.items() if row.high < own.attacked],
        "more": [one for one, row in near.items() if row.low > own.attacked],
    }
    level = [one for one in near if one not in groups["less"] + groups["more"]]
    far = [one for one in found if one not in near]
    return paragraph(
        f"At {percent(own.clean)} clean accuracy J-SIGR keeps {share(own, 'attacked')} of attacked images right.",
        f"{words.begin(_keep(near, groups['less'], labels))} less." if groups["less"] else "",
        f"{words.begin(_keep(near, groups['more'], labels))} more." if groups["more"] else "",
        f"{words.begin(_keep(near, level, labels))} about as much: "
        f"{'their intervals hold' if len(level) > 1 else 'its interval holds'} J-SIGR's number."
        if level
        else "",
        f"Not within a point of that accuracy on the test images: {names(far, labels)}." if far else "",
        "One seed; the paired differences are in notebook 5.",
    )


def _keep(found: dict[str, pd.Series], some: list[str], labels: Labels) -> str:
    each = words.listed(f"{name(one, labels)} ({percent(found[one].attacked)})" for one in some)
    return f"{each} {'keeps' if len(some) == 1 else 'keep'}"
