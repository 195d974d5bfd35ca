"""What the notebook about OTJR found: whether it beats the other trainings on attacked images, what its parts are for,
and how much of the Jacobian its direction sees."""

import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.words import Labels, Text, interval, listed, number, paragraph, points, share

RIVALS = ("pgd", "trades")
OTJR = "OTJR, "  # how the name of one with a plainer idea begins


def _under(table: pd.DataFrame, attack: str) -> dict[str, pd.Series]:
    """Training -> its row."""
    found = words.known(words.rows(table, attack=attack), "accuracy", "low", "high", "cost")
    return words.keyed(found, "training")


def _differences(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Training -> OTJR minus it."""
    return words.keyed(words.known(table, "difference", "low", "high"), "b")


def trainings_title(table: pd.DataFrame, labels: Labels) -> str:
    under = _under(table, "pgd")
    best = max(under, key=lambda one: under[one].accuracy)
    return f"Under PGD {best} keeps most: {words.percent(under[best].accuracy)}"


def rivals(table: pd.DataFrame, differences: pd.DataFrame, labels: Labels) -> Text:
    """Of `accuracy_table` and `difference_table`: OTJR beside PGD training and TRADES, under PGD and AutoAttack."""
    under, apart = _under(table, "pgd"), _differences(differences)
    own, others = labels.get("otjr", ""), [labels[one] for one in RIVALS if one in labels]
    others = [one for one in others if one in apart]
    if own not in under or not others:
        return paragraph()
    how = {1: "clearly more than", 0: "not clearly more or less than", -1: "clearly *less* than"}
    said = [f"{how[words.sign(apart[one])]} {one} ({share(under[one])})" for one in others]
    judged = _under(table, "autoattack")
    costs = listed(f"{number(under[one].cost, 1)} ({one})" for one in [own, *others])
    auto = listed(f"{one} {share(judged[one])}" for one in [own, *others] if one in judged)
    few = min((row.images for row in judged.values()), default=0)
    return paragraph(
        f"Under PGD {own} keeps {share(under[own])} of the images: {listed(said)}.",
        f"Under AutoAttack ({few:.0f} images, first seed): {auto}." if own in judged else "",
        f"A step costs, in counted operations, {costs} times a standard one.",
        "" if any(words.sign(apart[one]) > 0 for one in others) else "Its claim is not reproduced at this scale.",
    )


def parts(differences: pd.DataFrame, plainer: list[str]) -> Text:
    """Of `difference_table`: which of OTJR's ideas its accuracy under PGD needs."""
    apart = {name.removeprefix(OTJR): row for name, row in _differences(differences).items() if name in plainer}
    if not apart:
        return paragraph()
    needed = [name for name, row in apart.items() if words.sign(row) > 0]
    better = [name for name, row in apart.items() if words.sign(row) < 0]
    others = [name for name in apart if name not in needed + better]
    said = listed(f"{name} {interval(apart[name])}" for name in needed)
    return paragraph(
        f"OTJR keeps clearly more under PGD than it does with {said} (OTJR minus the other)." if needed else "",
        f"With {listed(f'{name} {interval(apart[name])}' for name in better)} it keeps clearly *more* than as it is."
        if better
        else "",
        f"No clear difference with {listed(others)}." if others else "",
        "So none of its ideas is needed for what it keeps here." if not needed else "",
    )


def directions_title(table: pd.DataFrame) -> str:
    means = _means(table)
    ahead = sum(one["transport"] > one["pairs"] for one in means.values())
    return "The transport's direction sees more of the Jacobian than the pair's for " + (
        words.of_all(ahead, len(means), "training")
    )


def _means(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Training -> quantity -> its mean."""
    table = words.known(table, "mean", "low", "high")
    return {
        name: dict(zip(rows.quantity, rows["mean"], strict=True))
        for name, rows in table.groupby("training", sort=False)
    }


def directions(table: pd.DataFrame) -> Text:
    """Of `directions_table`: is the informative direction informative, and does it take transport?"""
    means = _means(table)
    if not means:
        return paragraph()
    spans = {name: words.span(one[name] for one in means.values()) for name in ("transport", "pairs", "best")}
    ahead = sum(one["transport"] > one["pairs"] for one in means.values())
    informed = sum(one["transport"] > 1 for one in means.values())
    return paragraph(
        f"The transport's direction sees {spans['transport']} times what a random one does, by training, and more than "
        f"that for {words.of_all(informed, len(means), 'training')}; the best direction {spans['best']} times.",
        f"The plain direction of the pair sees {spans['pairs']} times, "
        + ("and never less: transport adds nothing to pairing." if not ahead else f"less for {ahead} of {len(means)}."),
    )


def answer(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `accuracy_table`: what J-SIGR, which attacks nothing, keeps and costs beside OTJR."""
    under, clean = _under(table, "pgd"), _under(table, "")
    ours, theirs = labels.get("jsigr", ""), labels.get("otjr", "")
    if not {ours, theirs} <= under.keys():
        return paragraph(lead="What J-SIGR adds or lacks here.")
    gap = under[theirs].accuracy - under[ours].accuracy
    clear = under[theirs].low > under[ours].high or under[ours].low > under[theirs].high
    return paragraph(
        f"J-SIGR meets no attacked image in training and keeps {share(under[ours])} under PGD, {points(gap)} "
        f"{'less' if gap > 0 else 'more'} than {theirs}{'' if clear else ' (not clearly)'}, at "
        f"{number(under[ours].cost, 1)} instead of {number(under[theirs].cost, 1)} times the operations of a standard "
        f"step; of clean images it gets {share(clean[ours])} right, {theirs} {share(clean[theirs])}.",
        lead="What J-SIGR adds or lacks here.",
    )
