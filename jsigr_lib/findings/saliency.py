"""What notebook 4 found: how faithful, stable and true the maps are."""

import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.words import Labels, Text, interval, listed, name, names, number, paragraph

CURVES = {"deletion gain": "deletion", "insertion gain": "insertion"}
CONTROLS = ["random", "energy", "centre"]  # maps that know no network
KEPT = 0.8  # rank correlation with the trained network's map, above which a map shows the image
FORGOTTEN = 0.2


def _of(table: pd.DataFrame, measure: str, given: str, kind: str = "gradient") -> dict[str, pd.Series]:
    """Defence -> its row, of one kind of map on the first architecture."""
    return words.keyed(words.rows(words.first(table), measure=measure, input=given, map=kind))


def faithfulness(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `measures_table`: whose gradient map is more faithful than the standard network's, clean and attacked."""
    said = []
    for measure, given in ((measure, given) for given in ("clean", "attacked") for measure in CURVES):
        found = _of(table, measure, given)
        if "standard" in found and len(found) > 1:
            above = sum(row.low > found["standard"].high for row in found.values())
            said.append(f"{words.of_all(above, len(found) - 1, 'defence')} under {CURVES[measure]} of {given} images")
    at = _of(table, "deletion gain", "attacked").get("standard")
    words_ = {1: "better than", 0: "not to be told from", -1: "*worse* than"}
    return paragraph(
        f"The gradient map is more faithful than the standard network's, clearly, for {listed(said)}." if said else "",
        f"Under deletion of attacked images the standard network's own is {words_[words.sign(at)]} a random order "
        f"(gain {interval(at, 'mean')})."
        if at is not None
        else "",
        _sparse(_of(table, "sparseness", "clean"), labels),
    )


def _sparse(found: dict[str, pd.Series], labels: Labels) -> str:
    if len(found) < 2:
        return ""
    *_, least = ranked = sorted(found, key=lambda one: -found[one]["mean"])
    most = f"{name(ranked[0], labels)} (Gini {number(found[ranked[0]]['mean'])})"
    return (
        f"The sparsest gradients are those of {most}, the most even those of {name(least, labels)} "
        f"({number(found[least]['mean'])})."
    )


def agreement(table: pd.DataFrame, labels: Labels) -> Text:
    """Of the same table: how well each network's gradient map agrees with its own perturbation map."""
    found = _of(table, "agreement", "clean")
    if not {"standard", "jsigr"} <= found.keys():
        return paragraph()
    own, standard = found.pop("jsigr"), found.pop("standard")
    how = "about as well as"
    if own.low > standard.high:
        ratio = own["mean"] / standard["mean"] if standard["mean"] > 0 else 0
        how = "more than twice as well as" if ratio > 2 else "better than"
    elif own.high < standard.low:
        how = "*less* well than"
    groups = {
        "Clearly better still": [one for one, row in found.items() if row.low > own.high],
        "Not to be told from it by these intervals": [
            one for one, row in found.items() if row.low <= own.high and row.high >= own.low
        ],
        "Clearly less well": [one for one, row in found.items() if row.high < own.low],
    }
    return paragraph(
        f"J-SIGR's gradient map agrees with its perturbation map {how} the standard network's does with its own: "
        "rank correlation "
        f"{interval(own, 'mean')} against {interval(standard, 'mean')} on clean images.",
        *(f"{what}: {names(some, labels)}." for what, some in groups.items() if some),
    )


def best_map(table: pd.DataFrame) -> Text:
    """Of the same table: which map of the J-SIGR network is the most faithful one, on clean images."""
    own = words.rows(words.first(table), defence="jsigr", input="clean")
    best = {}
    for measure, curve in CURVES.items():
        rows = words.rows(own, measure=measure)
        rows = rows[~rows["map"].isin(CONTROLS)] if len(rows) else rows
        if len(rows) > 1:
            best[curve] = rows.iloc[rows["mean"].astype(float).argmax()]
    close = words.keyed(words.rows(own, measure="agreement"), "map").get("perturbation-linearised")
    which = (
        "depends on the question" if len({row["map"] for row in best.values()}) > 1 else "is the same by both curves"
    )
    leads = listed(f"under {curve} {row['map']} (gain {interval(row, 'mean')})" for curve, row in best.items())
    return paragraph(
        f"Which *map* of the J-SIGR network is best {which}: {leads}." if len(best) == 2 else "",
        "The linearised perturbation map, for a fraction of the cost, agrees with the exact one at "
        f"{interval(close, 'mean')}."
        if close is not None
        else "",
    )


def cheap_for_costly(answers: pd.DataFrame) -> Text:
    """Of `questions_table`: J-SIGR's gradient map against the perturbation maps, the standard network's and its own."""
    both = words.rows(answers, a="jsigr, gradient", b="standard, perturbation")
    own = words.rows(answers, a="jsigr, gradient", b="jsigr, perturbation")
    return paragraph(
        f"{_verdict(both)}: it {_score(both)}." if len(both) else "",
        f"It is better by {listed(_won(both, 'a'))}." if _won(both, "a") else "",
        f"It is worse by {listed(_won(both, 'b'))}." if _won(both, "b") else "",
        f"Against the J-SIGR network's *own* perturbation map it {_score(own)}." if len(own) else "",
        lead="Is the cheap gradient map of a J-SIGR network as good as the costly perturbation map of a standard one?",
    )


def adversarial(answers: pd.DataFrame, labels: Labels) -> Text:
    """Of the same table: gradient maps of networks trained on attacks, against the standard network's and J-SIGR's."""
    said, trained = [], ("pgd", "fast")
    perturbed = words.rows(
        answers, b="standard, gradient", input=["attacked", "both"], a=[f"{one}, gradient" for one in trained]
    )
    if len(perturbed):
        verdict = {"Yes": "No", "No": "Yes"}.get(
            _verdict(perturbed), _verdict(perturbed)
        )  # better is not less interpretable
        each = [
            f"those of {name(defence.partition(',')[0], labels)} {_score(rows, 's')}"
            for defence, rows in perturbed.groupby("a", sort=False)
        ]
        said.append(
            f"{verdict}. By the measures on attacked images, of their gradient maps against the standard network's, "
            f"{listed(each)}."
        )
    for one in trained:
        rows = words.rows(answers, a="jsigr, gradient", b=f"{one}, gradient")
        if len(rows):
            said.append(f"Against {name(one, labels)}, clean and attacked, J-SIGR's map {_score(rows)}{_lost(rows)}.")
    return paragraph(*said, lead="Is adversarial training really less interpretable on perturbed inputs?")


def _won(rows: pd.DataFrame, side: str) -> list[str]:
    """The rows on which a side is better, such as "stability" or "infidelity (clean)"."""
    own = rows[rows.better == side] if len(rows) else rows
    return [row.measure if row.input == "both" else f"{row.measure} ({row.input})" for row in own.itertuples()]


def _verdict(rows: pd.DataFrame) -> str:
    won, lost = (bool(_won(rows, side)) for side in ("a", "b"))
    return {(True, False): "Yes", (False, True): "No", (True, True): "Partly"}.get((won, lost), "Not to be told apart")


def _score(rows: pd.DataFrame, plural: str = "") -> str:
    """ "wins 4 of 9 rows and loses 5"."""
    win, lose = ("win", "lose") if plural else ("wins", "loses")
    won, lost = (len(_won(rows, side)) for side in ("a", "b"))
    return f"{win} {won or 'none'} of {len(rows)} {'row' if len(rows) == 1 else 'rows'} and {lose} {lost or 'none'}"


def _lost(rows: pd.DataFrame) -> str:
    return f" ({listed(_won(rows, 'b'))})" if 0 < len(_won(rows, "b")) < 4 else ""


def cascade(table: pd.DataFrame) -> Text:
    """Of `cascade_table`: which maps forget the trained network when its layers are drawn anew, and which do not."""
    if not len(table):
        return paragraph()
    end = table[table.layers == table.layers.max()].groupby("map", sort=False).correlation
    low, high = end.min(), end.max()
    groups = {
        "forget the trained network: what they draw is what it learnt": high[high < FORGOTTEN].index,
        "hardly change when nothing is left of it: they draw the image": low[low > KEPT].index,
    }
    between = [one for one in low.index if not any(one in some for some in groups.values())]
    return paragraph(
        f"With all layers drawn anew, rank correlations with the trained network's map lie from {number(low.min())} "
        f"to {number(high.max())}.",
        *(
            f"{words.begin(listed(some))} {what}." if len(some) > 1 else f"Of the maps {some[0]} alone {_alone(what)}."
            for what, some in groups.items()
            if len(some)
        ),
        f"Between them, or apart from network to network: {listed(between)}." if between else "",
        "So agreement with a map that does not forget is partly agreement with where the object is, for every "
        "defence alike."
        if len(groups["hardly change when nothing is left of it: they draw the image"])
        else "",
    )


def _alone(what: str) -> str:
    return (
        what.replace("forget ", "forgets ", 1)
        .replace("hardly change ", "hardly changes ", 1)
        .replace("they draw", "it draws")
    )
