"""What notebook 5 found: verdicts, what they rest on, and what robustness costs."""

import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.words import (
    Labels,
    Text,
    count,
    interval,
    listed,
    name,
    names,
    number,
    paragraph,
    percent,
    plain,
    share,
)

VERDICTS = ("supported", "refuted", "inconclusive", "not tested")
"""The words of a scorecard, best first; a published one of an earlier version has others."""
OPEN = {
    "not tested": "no attack bites, or this run lacks what the test needs",
    "inconclusive": "an interval spans its margin",
}


def verdicts(card: pd.DataFrame) -> Text:
    """Of `verdicts.scorecard`: a sentence per data set, which claims are supported, refuted and open."""
    if not len(card):
        return paragraph()
    return paragraph(*(_verdicts(data, own) for data, own in card.groupby("data", sort=False)))


def _verdicts(data: str, own: pd.DataFrame) -> str:
    found = {said: own[own.verdict == said].claim for said in dict.fromkeys([*VERDICTS, *own.verdict])}
    said = [
        f"{count(len(claims))} {verdict} ({listed(claims)}{'; ' + OPEN[verdict] if verdict in OPEN else ''})"
        for verdict, claims in found.items()
        if len(claims)
    ]
    return f"On {plain(data)}, of {count(len(own), 'claim')}, {listed(said)}."


def deciding(card: pd.DataFrame, contrasts: pd.DataFrame, labels: Labels) -> Text:
    """Of scorecard and contrasts: each claim that transferred attacks, the parts or the known truth decide, on every
    data set, with the least of the differences behind it."""
    asked = [claim for claim in ("transfer", "adaptive", "parts", "truth") if len(words.rows(card, claim=claim))]
    each = [_claim(words.rows(card, claim=claim), words.rows(contrasts, claim=claim), labels) for claim in asked]
    return paragraph(*each, lead="The claims that a user asks about.")


def _claim(card: pd.DataFrame, contrasts: pd.DataFrame, labels: Labels) -> str:
    said = []
    for row in card.itertuples():
        own = words.rows(contrasts, data=row.data)
        own = words.rows(own, role="decides") if "role" in own else own
        evidence = f" ({_least(own, labels)})" if len(own) else ""
        said.append(f"*{row.verdict}* on {plain(row.data)}{evidence}")
    return f"“{plain(card.statement.iloc[0]).rstrip('.')}” is {listed(said)}."


def _least(rows: pd.DataFrame, labels: Labels) -> str:
    """The smallest of several differences, in words."""
    least = rows.iloc[rows.difference.astype(float).argmin()]
    said = f"{name(least.a, labels)} minus {name(least.b, labels)}: {interval(least)}"
    return f"{said}, the least of {count(len(rows))}" if len(rows) > 1 else said


def gains(contrasts: pd.DataFrame) -> Text:
    """Of `verdicts.contrasts`: what J-SIGR gains source by source, from those that bite and those that do not, on this
    run's own data and first architecture."""
    own = words.rows(contrasts, claim="transfer", role=["shown", "does not bite"])
    own = words.rows(own, data=contrasts.data.iloc[0]) if len(own) else own
    own = own[own.context.str.startswith("from ") & ~own.context.str.contains("+", regex=False)] if len(own) else own
    if not len(own):
        return paragraph()
    bite, weak = (own[own.role == role] for role in ("shown", "does not bite"))
    return paragraph(
        f"From the sources whose attack bites, J-SIGR {_gained(bite)}."
        if len(bite)
        else "No undefended source tried here bites, so nothing here decides.",
        f"From those whose attack does not bite it {_gained(weak)}: where little is lost, little can be won."
        if len(weak)
        else "",
    )


def _gained(rows: pd.DataFrame) -> str:
    signs = [words.sign(row) for _, row in rows.iterrows()]
    won, lost = signs.count(1), signs.count(-1)
    said = f"clearly gains on {words.of_all(won, len(rows), 'source')}"
    return (
        said
        + (f", loses on {count(lost)}" if lost else "")
        + f" (difference {words.span(rows.difference.astype(float))})"
    )


def trade_offs(paid: pd.DataFrame, labels: Labels) -> Text:
    """Of `verdicts.trade_offs`: what J-SIGR buys, and who buys more for no more."""
    found = words.keyed(words.known(paid, "cost", "clean", "transferred", "white_box", "agreement"))
    if not {"standard", "jsigr"} <= found.keys():
        return paragraph()
    own, standard = found["jsigr"], found["standard"]
    more = [one for one, row in found.items() if row.transferred_low > own.transferred_high]
    cheaper = [one for one in more if found[one].cost <= own.cost]
    clean = 100 * (standard.clean - own.clean)
    return paragraph(
        f"J-SIGR's step costs {number(own.cost)} times a standard one. Transferred attacks leave "
        f"{share(own, 'transferred', 'transferred_low', 'transferred_high')} right instead of "
        f"{percent(standard.transferred)}, white-box ones "
        f"{share(own, 'white_box', 'white_box_low', 'white_box_high')} instead of {percent(standard.white_box)}, for "
        f"{number(clean, 0)} points of clean accuracy.",
        "Clearly more of the transferred ones is left by "
        f"{listed(f'{name(one, labels)} ({number(found[one].cost)} times)' for one in more)}."
        if more
        else "By these intervals, which also cover the choice of sources, no other defence leaves clearly more of the "
        "transferred ones.",
        f"{words.begin(names(cheaper, labels))} {'costs' if len(cheaper) == 1 else 'cost'} no more than J-SIGR."
        if cheaper
        else "",
        f"Its maps on attacked images agree at {interval(own, 'agreement', 'agreement_low', 'agreement_high')}, the "
        f"standard network's at {number(standard.agreement)}.",
    )
