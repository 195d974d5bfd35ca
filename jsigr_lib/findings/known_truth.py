"""What notebook 4 found on pictures whose evidence is known: how much of a map lies on it."""

import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.words import Labels, Text, listed, name, number, paragraph, percent


def on_the_truth(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `known_truth.table`: do maps point at the evidence that decides the label, clean and attacked?"""
    if not len(table):
        return paragraph("This profile has no pictures with a known truth.")
    shares = words.rows(table, pictures="glyphs", measure="share on the truth")
    said = [
        _truth(words.rows(shares, map=kind, input=given), kind, given, labels)
        for kind in ("gradient", "perturbation")
        for given in ("clean", "attacked")
    ]
    clean = words.keyed(words.rows(shares, map="gradient", input="clean"))
    learnt = pd.to_numeric(pd.Series({one: row.clean_accuracy for one, row in clean.items()}), errors="coerce").dropna()
    return paragraph(
        *said,
        f"They have learnt the glyphs: clean accuracy {words.span(learnt, percent)}."
        if len(learnt) and learnt.min() > 0.9
        else "",
        f"Read them with the clean accuracy, {words.span(learnt, percent)}: a network that has not learnt the glyphs "
        "cannot point at them."
        if len(learnt) and learnt.min() <= 0.9
        else "",
        lead="Do the maps point at the evidence?",
    )


def _truth(rows: pd.DataFrame, kind: str, given: str, labels: Labels) -> str:
    """J-SIGR's map beside the standard network's, and the paired gain."""
    found = words.keyed(rows)
    if not {"standard", "jsigr"} <= found.keys():
        return ""
    own, standard = found["jsigr"], found["standard"]
    how = {1: "clearly more", 0: "not clearly more", -1: "clearly *less*"}[words.sign(own, "gain_low", "gain_high")]
    best = max(found, key=lambda one: found[one]["mean"])
    most = (
        f"; the most for {name(best, labels)}, {percent(found[best]['mean'])}"
        if best not in ("jsigr", "standard")
        else ""
    )
    gain = f"[{number(100 * float(own.gain_low), 0)}, {number(100 * float(own.gain_high), 0)}] points"
    return (
        f"On {given} images J-SIGR puts {how} of its {kind} map on the deciding glyph than the standard network: "
        f"{percent(own['mean'])} against "
        f"{percent(standard['mean'])} (gain {gain}){most}."
    )


def controls(table: pd.DataFrame) -> Text:
    """Of the same table: do the networks' maps beat those that know no network?"""
    shares = words.rows(table, pictures="glyphs", measure="share on the truth", input="clean")
    blind = words.keyed(words.rows(shares, defence="none"), "map")
    mine = words.rows(shares, defence="jsigr", map=["gradient", "perturbation"])
    if not blind or not len(mine):
        return paragraph(lead="Controls.")
    best = max(blind, key=lambda one: blind[one]["mean"])
    said = []
    for row in mine.itertuples():
        how = (
            "more than"
            if row.low > blind[best].high
            else "*less* than"
            if row.high < blind[best].low
            else "about as much as"
        )
        said.append(f"the {row.map} map {how}")
    return paragraph(
        f"Of J-SIGR's maps, {listed(said)} the best map that knows no network, {best} "
        f"({percent(blind[best]['mean'])} on the truth).",
        lead="Controls.",
    )


def cue(table: pd.DataFrame, labels: Labels) -> Text:
    """Of the same table: who has learnt the cue in the corner, by the clean accuracy that is left without it."""
    own = words.rows(table, pictures="glyphs and a cue", map="gradient", input="clean", measure="share on the cue")
    found = words.keyed(own)
    accuracy = pd.to_numeric(
        pd.Series({one: row.clean_accuracy for one, row in found.items()}), errors="coerce"
    ).dropna()
    if "standard" not in accuracy or "jsigr" not in accuracy:
        return paragraph(lead="The cue.")
    difference = accuracy["jsigr"] - accuracy["standard"]
    how = "less" if difference > 0.01 else "more" if difference < -0.01 else "about as much"
    than = "as" if how.startswith("about") else "than"
    return paragraph(
        "Trained with a cue that the test images lack, the standard network is right on "
        f"{percent(accuracy['standard'])} of them and J-SIGR's on "
        f"{percent(accuracy['jsigr'])}: J-SIGR relies on the cue {how} {than} the standard network.",
        f"The most accurate without it is {name(accuracy.idxmax(), labels)}, {percent(accuracy.max())}."
        if accuracy.idxmax() not in ("jsigr", "standard")
        else "",
        lead="The cue.",
    )
