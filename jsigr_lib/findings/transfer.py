"""What notebook 3 found: which attacks bite, who survives them, and how far the numbers can be trusted."""

import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.words import Labels, Text, count, listed, name, names, number, paragraph, percent, points, share

TRAINED_ON_ATTACKS = ["pgd", "fast"]
ENSEMBLE = "+"  # in the name of one


def sources(told: pd.DataFrame) -> Text:
    """Of `sources_table`: which sources vote, and what the others lack; a sentence per architecture."""
    if not {"bites", "votes", "share_left"} <= set(told):
        return paragraph()
    return paragraph(*(_voting(architecture, own) for architecture, own in told.groupby("architecture", sort=False)))


def _voting(architecture: str, told: pd.DataFrame) -> str:
    single = words.rows(told, source_defence="standard")
    single = single[~single.source.str.contains(ENSEMBLE, regex=False)]
    if not len(single):
        return ""
    yes, bites = (single[of].astype(str) == "True" for of in ("votes", "bites"))
    found = single.assign(said=single.source + " (" + single.share_left.map(percent) + " left)")
    text = f"Against the {architecture}, {words.of_all(yes.sum(), len(single), 'undefended source')} "
    text += f"{'votes' if yes.sum() == 1 else 'vote'}"
    text += f": {listed(found[yes].said)}." if yes.any() else ", so that no transferred attack can decide a claim here."
    weak, poor = found[~bites].said, found[bites & ~yes].source
    text += f" The attack does not bite from {listed(weak)}." if len(weak) else ""
    return text + (f" Less competent than the target by more than five points: {listed(poor)}." if len(poor) else "")


def strength(table: pd.DataFrame, headline: str) -> Text:
    """Of `strength_table`: is the headline attack the one that leaves least, and do more steps leave less?"""
    if not len(table):
        return paragraph("This profile tries no other attacks or steps.")
    left = table.groupby(["attack", "steps"], sort=False).accuracy.mean()
    least, steps = left.idxmin()
    if headline not in set(table.attack):
        own = f"The headline attack, {headline}, is not among those tried here."
    elif least == headline:
        own = f"The headline attack, {headline}, is the strongest tried" + (
            "." if table.attack.nunique() > 1 else ", and the only one."
        )
    else:
        behind = left[headline].min() - left.min()
        own = (
            f"The headline attack, {headline}, is *not* the strongest tried: at its best it leaves {points(behind)} "
            f"more than {least}."
        )
    return paragraph(
        own,
        f"The least is left by {least} with {steps} steps, {percent(left.min())} of the undefended network's "
        "validation images in the mean "
        f"over {count(table.source.nunique(), 'source')}; the weakest setting leaves {percent(left.max())}.",
    )


def accuracy(table: pd.DataFrame, attack: str, eps: float, labels: Labels) -> Text:
    """Of `accuracy_table`: clean, at the headline budget from the headline source, and at twice that."""
    of = words.first(table)
    clean = words.keyed(words.rows(of, threat="clean"))
    headline = from_undefended(of, attack, eps)
    if "standard" not in headline or len(headline) < 2:
        return paragraph()
    standard, source = headline.pop("standard"), headline[next(iter(headline))].source
    above = [one for one, row in headline.items() if row.low > standard.high]
    below = [one for one, row in headline.items() if row.high < standard.low]
    level = [one for one in headline if one not in above + below]
    ranked = sorted(headline, key=lambda one: -headline[one].accuracy)
    fell = clean["standard"].accuracy - standard.accuracy if "standard" in clean else 0
    lost = [clean["standard"].accuracy - clean[one].accuracy for one in above if {one, "standard"} <= clean.keys()]
    price = f", for {words.lost(lost)} of clean accuracy" if lost else ""
    return paragraph(
        f"Attacks made on the {source} leave {share(standard)} of the images right for the standard network"
        + (f", {points(fell)} less than clean." if fell > 0 else "."),
        f"{words.begin(words.of_all(len(above), len(headline), 'defence'))} "
        f"{'leaves' if len(above) == 1 else 'leave'} clearly more, "
        f"{words.span((headline[one].accuracy for one in above), percent)}{price}."
        if above
        else "",
        f"Not to be told from it: {names(level, labels)}." if level else "",
        f"Clearly *less* is left by {names(below, labels)}." if below else "",
        f"The most is left by {name(ranked[0], labels)}, {share(headline[ranked[0]])}"
        + (f"; by J-SIGR {share(headline['jsigr'])}." if "jsigr" in headline and ranked[0] != "jsigr" else "."),
        _twice(from_undefended(of, attack, 2 * eps), headline, labels),
    )


def from_undefended(table: pd.DataFrame, attack: str, eps: float, source: str | None = None) -> dict[str, pd.Series]:
    """Defence -> its row under an attack from an undefended source, by default the headline one, the table's first."""
    of = words.rows(table, threat="transfer", source_defence="standard", attack=attack, norm="linf")
    of = of[(of.eps.astype(float) - eps).abs() < 1e-4] if len(of) else of
    return words.keyed(words.rows(of, source=source or of.source.iloc[0])) if len(of) else {}


def _twice(found: dict[str, pd.Series], before: dict[str, pd.Series], labels: Labels) -> str:
    """J-SIGR beside training on attacks, at the headline budget and at twice that."""
    others = [one for one in TRAINED_ON_ATTACKS if one in found and one in before]
    if "jsigr" not in found or "jsigr" not in before or not others:
        return ""
    best = [max(at[one].accuracy for one in others) - at["jsigr"].accuracy for at in (before, found)]
    turned = " the order turns" if best[0] * best[1] < 0 else " the order stays"
    said = listed(f"{name(one, labels)} {percent(found[one].accuracy)}" for one in others)
    text = "training on attacks ahead of J-SIGR" if best[1] > 0 else "J-SIGR ahead of training on attacks"
    return f"At twice the budget{turned}, with {text}: J-SIGR leaves {percent(found['jsigr'].accuracy)}, {said}."


def judges(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `judges_table`: how much less the stronger judges leave, and whether any gradient is masked."""
    if not len(table):
        return paragraph()
    left = table.pivot(index="defence", columns="judge", values="accuracy")
    strongest = next((one for one in ("AutoAttack", "PGD, restarts") if one in left and left[one].notna().any()), None)
    weak = "PGD, restarts" if "PGD, restarts" in left else "PGD"
    text = []
    if strongest and "PGD" in left and strongest != "PGD":
        gap = (left["PGD"] - left[strongest]).dropna()
        most = gap.idxmax()
        text.append(
            f"{strongest} leaves up to {points(gap.max())} less than one start of PGD ({name(most, labels)})."
            if gap.max() > 0.005
            else f"{strongest} leaves no less than one start of PGD."
        )
        defended = left[strongest].dropna()
        text.append(
            f"Under it the most is left by {name(defended.idxmax(), labels)}, {percent(defended.max())}"
            + _own(defended)
            + "."
        )
    if "Square" in left and weak in left:
        masked = left.index[left["Square"] < left[weak] - 0.01]
        text.append(
            f"Square, which sees no gradient, leaves *less* than {weak} for {names(masked, labels)}: there gradients "
            "are masked or too few "
            "steps were made."
            if len(masked)
            else f"Square, which sees no gradient, is no stronger than {weak} for any defence: no sign of masked "
            "gradients."
        )
    half = (table.high - table.low).max() / 2
    text.append(f"The intervals reach {points(half)} to either side, but the judges judge the same images.")
    images = words.span(table.images, lambda n: f"{n:,}")
    return paragraph(*text, lead=f"What it shows ({images} images, first seed).")


def _own(left: pd.Series) -> str:
    return f", by J-SIGR {percent(left['jsigr'])}" if "jsigr" in left and left.idxmax() != "jsigr" else ""


def ranking(table: pd.DataFrame, eps: float, labels: Labels) -> Text:
    """Of `accuracy_table`: which transferred attack hurts most, defended and undefended, from the headline source."""
    of = words.rows(words.first(table), threat="transfer", source_defence="standard", norm="linf")
    of = of[(of.eps.astype(float) - eps).abs() < 1e-4] if len(of) else of
    if not len(of):
        return paragraph()
    of = words.rows(of, source=of.source.iloc[0])
    left = of.pivot_table(index="attack", columns="defence", values="accuracy", sort=False).dropna()
    if len(left) < 2 or "standard" not in left or left.shape[1] < 2:
        return paragraph("This profile has one transferred attack, so there is nothing to rank.")
    defended = left.drop(columns="standard")
    spread, mean = defended.max() - defended.min(), defended.mean(axis=1).sort_values()
    own = left["standard"].sort_values()
    return paragraph(
        f"On a defended target the {len(left)} attacks lie within {points(spread.max())} of each other, on the "
        "undefended one within "
        f"{points(own.iloc[-1] - own.iloc[0])}.",
        f"Defended targets lose most to {mean.index[0]} ({percent(mean.iloc[0])} left in the mean) and least to "
        f"{mean.index[-1]} "
        f"({percent(mean.iloc[-1])}); the undefended one loses most to {own.index[0]} ({percent(own.iloc[0])}) and "
        f"least to {own.index[-1]} "
        f"({percent(own.iloc[-1])}).",
        "So the attack that is strongest on the undefended network is "
        f"{'also' if mean.index[0] == own.index[0] else 'not'} the strongest "
        "on the defended ones.",
        lead=f"What it shows (the {of.architecture.iloc[0]}, attacked from the {of.source.iloc[0]}).",
    )


def matrix(table: pd.DataFrame, attack: str, eps: float, labels: Labels) -> Text:
    """Of `accuracy_table`: which source hurts J-SIGR most, and whether an attacker gains by training with it."""
    of = words.rows(words.first(table), threat="transfer", attack=attack, norm="linf", defence="jsigr")
    of = of[(of.eps.astype(float) - eps).abs() < 1e-4] if len(of) else of
    undefended = words.rows(of, source_defence="standard")
    if not len(undefended) or len(of) < 2:
        return paragraph()
    headline, worst = undefended.iloc[0], of.iloc[of.accuracy.argmin()]
    better = worst.low > headline.low or worst.high >= headline.low
    made = f"{worst.source}, {name(worst.source_defence, labels)}"
    text = (
        f"The source that hurts J-SIGR most is {made}: {share(worst)} left, beside {share(headline)} from the "
        "headline source."
    )
    if (worst.source, worst.source_defence) == (headline.source, headline.source_defence):
        text = (
            f"No source tried hurts J-SIGR more than the headline one, the undefended {headline.source}: "
            f"{share(headline)} left."
        )
    elif better:
        text += " Their intervals overlap."
    else:
        text += " So the headline source is not the worst that an attacker could train: read 3.3 with this matrix."
    return paragraph(text, *(_beside(of, headline, kind, labels) for kind in ("jsigr", *TRAINED_ON_ATTACKS)))


def _beside(of: pd.DataFrame, headline: pd.Series, defence: str, labels: Labels) -> str:
    """A defended source, of another architecture if there is one, beside the undefended headline source."""
    own = words.rows(of, source_defence=defence)
    if not len(own):
        return ""
    other = own[own.source != headline.architecture]
    row = (other if len(other) else own).iloc[0]
    how = "more than" if row.accuracy < headline.accuracy else "no more than"
    return (
        f"Attacks made on a {row.source} with {name(defence, labels)} hurt it {how} those of the headline source: "
        f"{share(row)} left."
    )


MASKING = [
    "unbounded survives",
    "zero gradients",
    "non-finite",
    "random output",
    "softmax output",
    "beaten without gradients",
    "not monotone",
]


def flags(raised: pd.DataFrame) -> Text:
    """Of `flags_table`: signs of masked gradients, and the other flags."""
    found = words.keyed(raised, "flag")
    if not found:
        return paragraph()
    on = {flag: row for flag, row in found.items() if row["raised by"] > 0}
    masking = [flag for flag in MASKING if flag in on]
    total = next(iter(found.values()))["of"]
    return paragraph(
        f"*Signs that a gradient misleads:* {'; '.join(_raised(flag, on[flag]) for flag in masking)}."
        if masking
        else f"No network shows a sign of masked gradients: of {total:,} numbers none raises any of the flags for "
        "that. So no penalty here wins by "
        "hiding its gradient, the usual way in which gradient regularisers fool their authors.",
        f"{_raised('more effort helps', on['more effort helps'])}: those are upper bounds, and 3.5 has the stronger "
        "judges."
        if "more effort helps" in on
        else "",
        f"{_raised('few images', on['few images'])}: their intervals are wider than five points to either side."
        if "few images" in on
        else "",
        *(
            f"{_raised(flag, row)}."
            for flag, row in on.items()
            if flag not in (*MASKING, "more effort helps", "few images")
        ),
        "No transferred number, on which the claims rest, raises a flag."
        if not any("transfer" in str(row.threats) for row in on.values())
        else "Transferred numbers, on which the claims rest, raise flags too.",
        lead="What the flags say.",
    )


def _raised(flag: str, row: pd.Series) -> str:
    return (
        f"*{words.begin(flag)}* is raised by {row['raised by']:,} of {row['of']:,} numbers ({row.threats}; "
        f"{row.defences})"
    )


def cost(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `cost_table`: what a training step costs, standard = 1, and what it buys."""
    found = words.keyed(table)
    if not {"standard", "jsigr"} <= found.keys():
        return paragraph()
    own, standard = found["jsigr"], found["standard"]
    above = {one: row for one, row in found.items() if row.low > own.high}
    each = [f"{name(one, labels)} ({percent(row.accuracy)} at {number(row.cost)} times)" for one, row in above.items()]
    cheaper = [one for one, row in above.items() if row.cost <= own.cost]
    gain = own.accuracy - standard.accuracy
    sure = "" if own.low > standard.high else ", though not clearly"
    return paragraph(
        f"A training step of J-SIGR costs {number(own.cost)} times a standard one in counted operations, and of "
        "transferred attacks it leaves "
        f"{share(own)} right, {points(gain)} {'more' if gain > 0 else '*less*'} than the standard network{sure}.",
        f"Clearly more is left by {listed(each)}." if above else "No defence leaves clearly more.",
        f"Of these {names(cheaper, labels)} {'costs' if len(cheaper) == 1 else 'cost'} no more than J-SIGR."
        if cheaper
        else "",
    )
