"""What the notebook about lower bounds found: what training by finite differences buys, how much of the measured
distance the bounds promise, and whether a J-SIGR network has tighter ones."""

import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.words import Labels, Text, count, interval, name, names, number, paragraph, percent, share

SCALEABLE = ("scaleable-l2", "scaleable-l1")
RISING = 1.1  # a constant that grows so much with the last images is not settled


def _under(table: pd.DataFrame, threat: str) -> dict[str, pd.Series]:
    return words.keyed(words.known(words.rows(table, threat=threat), "accuracy", "low", "high"))


def training_title(table: pd.DataFrame, labels: Labels) -> str:
    found = _under(table, "white-box")
    best = max(found, key=lambda one: found[one].accuracy)
    return f"Under PGD {name(best, labels)} keeps most: {percent(found[best].accuracy)}"


def training(table: pd.DataFrame, differences: pd.DataFrame, labels: Labels) -> Text:
    """Of `accuracy_table` and `gains_table`: the two finite-difference penalties under PGD beside no defence and beside
    J-SIGR."""
    under, clean = _under(table, "white-box"), _under(table, "clean")
    own = [one for one in SCALEABLE if one in under]
    if not own or not {"standard", "jsigr"} <= under.keys():
        return paragraph()
    said = [f"{name(one, labels)} {share(under[one])} (clean {percent(clean[one].accuracy)})" for one in own]
    over = words.keyed(words.rows(differences, b="standard"), "a")
    jsigr = words.keyed(words.rows(differences, a="jsigr"), "b")
    gains = [one for one in own if one in over and words.sign(over[one]) > 0]
    ahead = [one for one in own if one in jsigr and words.sign(jsigr[one]) < 0]
    behind = [one for one in own if one in jsigr and words.sign(jsigr[one]) > 0]
    compared = [
        f"clearly more than J-SIGR: {names(ahead, labels)}" if ahead else "",
        f"clearly less: {names(behind, labels)}" if behind else "",
    ]
    return paragraph(
        f"Under PGD {words.listed(said)} of images stay right; without a defence {share(under['standard'])}, with "
        f"J-SIGR {share(under['jsigr'])} (clean {percent(clean['jsigr'].accuracy)}).",
        f"{words.of_all(len(gains), len(own), 'finite-difference penalty', 'finite-difference penalties').capitalize()}"
        f" clearly {'gains' if len(gains) == 1 else 'gain'} over no defence"
        f"{'; ' + ', '.join(filter(None, compared)) if any(compared) else ', and none differs clearly from J-SIGR'}.",
    )


def tight_title(table: pd.DataFrame, labels: Labels) -> str:
    own = words.keyed(words.rows(words.first(table), bound="curvature"))
    best = max(own, key=lambda one: own[one].median_share)
    return (
        f"At the median the curvature bound promises {percent(own[best].median_share)} of the distance at most, for "
        + (f"{name(best, labels)}")
    )


def bounds(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `bounds_table`: how much of the measured distance each bound promises, whether images have less than it says,
    and whether it ranks images."""
    found = {bound: words.keyed(words.rows(words.first(table), bound=bound)) for bound in ("gradient", "curvature")}
    if not all(found.values()):
        return paragraph()
    spans = [f"{words.span(row.median_share for row in own.values())} ({bound})" for bound, own in found.items()]
    worst = max((row.exceeds, bound, one) for bound, own in found.items() for one, row in own.items())
    ranks = words.span(row.correlation for row in found["curvature"].values())
    least = min(row.images for own in found.values() for row in own.values())
    broken = (
        f"Up to {percent(worst[0])} of the images (the {worst[1]} bound of {name(worst[2], labels)}) have an error "
        "nearer than their bound: its constant is a maximum over the images at hand, so it is an estimate and no "
        "certificate."
        if worst[0] > 0
        else "No image has an error nearer than its bound. That is no proof: the constants are maxima over the images "
        "at hand."
    )
    return paragraph(
        f"The bounds promise {words.listed(spans)} of the distance to the nearest error found, at the median, by "
        "defence.",
        broken,
        f"The curvature bound's rank correlation with the distance, over images, is {ranks} ({least} images or more).",
    )


def tightness(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `tightness_table`: for which other defences J-SIGR's bounds are clearly tighter, or looser."""
    said = []
    for bound in ("gradient", "curvature"):
        rows = words.keyed(words.known(words.rows(table, bound=bound), "difference", "low", "high"), "b")
        groups = {
            "tighter": [one for one, row in rows.items() if words.sign(row) > 0],
            "looser": [one for one, row in rows.items() if words.sign(row) < 0],
        }
        parts = [f"clearly {how} than that of {names(ones, labels)}" for how, ones in groups.items() if ones]
        if rows:
            told = words.listed(parts) if parts else "not to be told from any other's"
            against = f" (minus the standard network's: {interval(rows['standard'])})" if "standard" in rows else ""
            said.append(f"J-SIGR's {bound} bound is {told}{against}.")
    return paragraph(*said, lead="What J-SIGR adds or lacks here.")


def constants_title(table: pd.DataFrame) -> str:
    grown = _growth(table)
    rising = sum(value > RISING for value in grown.values())
    return f"The constants still rise with more images for {words.of_all(rising, len(grown), 'defence')}"


def _growth(table: pd.DataFrame) -> dict[str, float]:
    """Defence -> how many times larger L is over all images than over the next smaller number of them."""
    most = sorted(table.images.unique())[-2:]
    by = table[table.images.isin(most)].sort_values("images").groupby("defence", sort=False).slope
    return dict(by.last() / by.first())


def constants(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `constants_table`: whose largest slope has not settled."""
    table = words.known(table, "slope", "curvature", "images")
    if table.images.nunique() < 2:
        return paragraph()
    grown, (few, all_) = _growth(table), sorted(table.images.unique())[-2:]
    most = max(grown, key=grown.get)
    rising = [one for one in grown if grown[one] > RISING]
    return paragraph(
        f"From {few:,.0f} to {all_:,.0f} images L grows most for {name(most, labels)}, {number(grown[most])} times.",
        f"It has not settled for {names(rising, labels)}: a bound made of it promises too much."
        if rising
        else "It has settled for all of them, on these images.",
    )


def promised(table: pd.DataFrame, labels: Labels, budget: str) -> Text:
    """Of `promised_table`: what the L-infinity bound promises at the headline budget beside what PGD leaves."""
    found = words.keyed(words.known(table, "promised", "survives_pgd", "largest_bound", "broken"))
    if not found:
        return paragraph()
    best = max(found, key=lambda one: (found[one].promised, found[one].largest_bound))
    broken = int(sum(row.broken for row in found.values()))
    return paragraph(
        f"At {budget} the L-infinity bound says of {percent(found[best].promised)} of the images at most that they "
        f"hold ({name(best, labels)}; its largest bound is {number(found[best].largest_bound, 3)}), where PGD leaves "
        f"{percent(found[best].survives_pgd)}.",
        f"PGD takes {count(broken, 'image')} of those promised." if found[best].promised > 0 else "",
    )
