"""What the notebook about image quality found: whether the model is one, what an attack does to its scores, what norm
regularisation buys, and whether J-SIGR's penalties buy as much."""

import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.words import Text, interval, listed, number, paragraph
from jsigr_lib.networks.quality import LOSS

PLAIN, NT, OURS = "no defence", "NT", ("Jacobian", "J-SIGR")
MOVED, CLEAN, PUSHED = "moved by PGD", "clean SRCC", "SRCC under PGD"
SRCC = {"of": "srcc", "low": "srcc_low", "high": "srcc_high"}


def _agreement(table: pd.DataFrame, attack: str) -> dict[str, pd.Series]:
    """Training -> its row, under the attack at the largest level."""
    found = words.known(words.rows(table, attack=attack), "level", "srcc", "srcc_low", "srcc_high", "moved")
    return words.keyed(found[found.level == found.level.max()] if len(found) else found, "training")


def _gains(table: pd.DataFrame, quantity: str, against: str) -> dict[str, pd.Series]:
    """Training -> it minus the other."""
    found = words.known(words.rows(table, quantity=quantity, b=against), "difference", "low", "high")
    return words.keyed(found, "a")


def model(table: pd.DataFrame, distortions: pd.DataFrame) -> Text:
    """Of `agreement_table` and `distortions_table`: does the undefended model see quality, and in which distortions?"""
    clean = _agreement(table, "").get(PLAIN)
    found = words.known(words.rows(distortions, training=PLAIN), "srcc", "srcc_low", "srcc_high")
    each = words.keyed(found, "distortion")
    if clean is None or not each:
        return paragraph()
    unseen = [name for name, row in each.items() if row.srcc_low <= 0]
    return paragraph(
        f"Without a defence the clean scores have a rank correlation of {interval(clean, **SRCC)} with the labels, "
        f"over {clean.images:.0f} pictures of sources that it never saw (RMSE {number(clean.rmse, 3)}).",
        f"Within one distortion it is {listed(f'{number(row.srcc)} ({name})' for name, row in each.items())}.",
        f"It does not clearly see {listed(unseen)}: what is said below is of a model with that gap." if unseen else "",
        lead="The model.",
    )


def attacks_title(table: pd.DataFrame) -> str:
    clean, pushed = _agreement(table, ""), _agreement(table, "PGD")
    if PLAIN not in pushed:
        return ""
    best = max(pushed, key=lambda one: pushed[one].srcc)
    return (
        f"PGD takes the undefended model's rank correlation from {number(clean[PLAIN].srcc)} to "
        f"{number(pushed[PLAIN].srcc)}; best then is {best}, {number(pushed[best].srcc)}"
    )


def norm_regularisation(gains: pd.DataFrame) -> Text:
    """Of `gains_table`: what NT buys over no defence, and what it costs."""
    moved, clean, pushed = (_gains(gains, one, PLAIN).get(NT) for one in (MOVED, CLEAN, PUSHED))
    if moved is None or clean is None or pushed is None:
        return paragraph()
    buys = {-1: "clearly less", 0: "not clearly less or more", 1: "clearly *more*"}[words.sign(moved)]
    keeps = {-1: "clearly worse", 0: "not clearly better or worse", 1: "clearly better"}[words.sign(pushed)]
    costs = {-1: "is clearly lower", 0: "does not clearly differ", 1: "is clearly higher"}[words.sign(clean)]
    return paragraph(
        f"With NT, PGD moves scores {buys} than without ({interval(moved, digits=3)}), and the model ranks pictures "
        f"{keeps} under it ({interval(pushed)}).",
        f"Its clean rank correlation {costs} ({interval(clean)}).",
        "" if words.sign(moved) < 0 else "Its claim is not reproduced at this scale.",
    )


def rivals(gains: pd.DataFrame) -> Text:
    """Of `gains_table`: which trainings clearly hold the scores, and which pay for it with clean correlation."""
    moved, clean = _gains(gains, MOVED, PLAIN), _gains(gains, CLEAN, PLAIN)
    if not moved:
        return paragraph()
    holds = [name for name, row in moved.items() if words.sign(row) < 0]
    pays = [name for name in holds if name in clean and words.sign(clean[name]) < 0]
    least = min(moved, key=lambda one: moved[one].difference)
    return paragraph(
        f"{words.begin(words.of_all(len(holds), len(moved), 'training'))} clearly "
        f"{'hold' if len(holds) != 1 else 'holds'} scores under PGD better than no defence"
        + (f", most of all {least} ({interval(moved[least], digits=3)})." if holds else "."),
        f"Of them {listed(pays)} {'pay' if len(pays) > 1 else 'pays'} with clearly less clean correlation."
        if pays
        else "None of them clearly pays with clean correlation."
        if holds
        else "",
    )


def slopes_title(table: pd.DataFrame) -> str:
    found = words.keyed(words.known(table, "predicted", "fgsm"), "training")
    if not found:
        return ""
    ratios = [row.fgsm / row.predicted for row in found.values() if row.predicted > 0]
    return f"One FGSM step moves scores by {words.span(ratios)} times the prediction ε‖g‖₁"


def slopes(table: pd.DataFrame) -> Text:
    """Of `slopes_table`: does the length of the gradient say how far a score moves, and does quality itself move?"""
    found = words.keyed(words.known(table, "slope", "predicted", "fgsm", "pgd", "lost"), "training")
    if PLAIN not in found:
        return paragraph()
    order = sorted(found, key=lambda one: found[one].predicted)
    same = order == sorted(found, key=lambda one: found[one].pgd)
    plain = found[PLAIN]
    changed = f"{'lowers' if plain.lost >= 0 else 'raises'} HaarPSI by {number(abs(plain.lost), 3)}"
    return paragraph(
        f"ε‖g‖₁ predicts {words.span((row.predicted for row in found.values()), words.brief)}, one FGSM step does "
        f"{words.span((row.fgsm for row in found.values()), words.brief)} and PGD "
        f"{words.span((row.pgd for row in found.values()), words.brief)}.",
        f"The trainings stand in the same order by ε‖g‖₁ and by what PGD does, from {order[0]} to {order[-1]}."
        if same
        else "The trainings stand in another order by ε‖g‖₁ than by what PGD does.",
        f"The attack hardly changes quality itself: PGD {changed} where it moves the "
        f"undefended score by {number(plain.pgd, 3)}."
        if abs(plain.lost) < plain.pgd / 2
        else f"The attack changes quality itself, too: PGD {changed} where it moves "
        f"the undefended score by {number(plain.pgd, 3)}, so that a part of the move is right.",
    )


def strengths(table: pd.DataFrame) -> Text:
    """Of `strengths_table`: what was chosen, and where something stronger might fit, too, or nothing that was tried
    does."""
    found = words.known(table, "strength", "srcc", "moved")
    chosen = words.keyed(words.rows(found, chosen="yes"), "training")
    if not chosen:
        return paragraph()
    strongest, floor = found.groupby("training").strength.max(), found.srcc[found.training == PLAIN].max() - LOSS
    ends = [name for name, row in chosen.items() if row.strength == strongest[name] and row.srcc >= floor]
    lost = [name for name, row in chosen.items() if row.srcc < floor]
    return paragraph(
        f"Chosen: {listed(f'{name} {row.strength:g}' for name, row in chosen.items())}.",
        f"The strongest that was tried: {listed(ends)}; another search might find better." if ends else "",
        f"No strength that was tried costs less than {number(LOSS)} of clean correlation, so that the weakest stands "
        f"here: {listed(lost)}."
        if lost
        else "",
        lead="Strengths.",
    )


def answer(gains: pd.DataFrame, table: pd.DataFrame) -> Text:
    """Of `gains_table` and `agreement_table`: J-SIGR's penalties beside NT's."""
    said, pushed = [], _agreement(table, "PGD")
    for name in OURS:
        moved, clean = _gains(gains, MOVED, NT).get(name), _gains(gains, CLEAN, NT).get(name)
        if moved is not None and clean is not None:
            how = {-1: "clearly less far than", 0: "not clearly less or more far than", 1: "clearly *farther* than"}
            what = {-1: "clearly lower", 0: "not clearly other", 1: "clearly higher"}
            said.append(
                f"With {name}, scores move {how[words.sign(moved)]} with NT ({interval(moved, digits=3)}), at a clean "
                f"rank correlation that is {what[words.sign(clean)]} ({interval(clean)})."
            )
    ours = [f"{name} {interval(pushed[name], **SRCC)}" for name in (NT, *OURS) if name in pushed]
    return paragraph(
        *said,
        f"Rank correlation under PGD: {listed(ours)}." if said and ours else "",
        lead="What J-SIGR adds or lacks here.",
    )
