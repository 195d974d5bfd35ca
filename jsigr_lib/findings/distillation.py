"""What the notebook about policy distillation found: whether the students still do their task, what their maps show,
what an attack on their observations leaves, and what J-SIGR's Jacobian norm adds to DIGR."""

from collections.abc import Mapping

import pandas as pd

from jsigr_lib.findings import words
from jsigr_lib.findings.words import Labels, Text, interval, listed, name, names, number, paragraph, percent
from jsigr_lib.study.distillation import MEASURES
from jsigr_lib.study.distilled import THREATS

OWN, TRUTH = MEASURES["agreement|gradient|greydanus"], MEASURES["share|gradient"]
MAPS = {
    OWN: "its own perturbation map",
    MEASURES["agreement|gradient|sarfa"]: "its own SARFA map",
    MEASURES["agreement|gradient|teacher"]: "the teacher's perturbation map",
}
ENDS = ("difference_low", "difference_high")
Times = Mapping[str, Mapping[str, float]]
"""States at a time -> map -> milliseconds per state; the perturbation maps by their grids."""


def _compared(table: pd.DataFrame, **values) -> dict[str, pd.Series]:
    """Student -> its row, of those that are compared and of the teacher."""
    if not {"student", "matched"} <= set(table):
        return {}
    kept = table[table.matched.isin([True, "True"]) | (table.student == "teacher")]
    return words.keyed(words.rows(kept, **values), "student")


def _clearly(rows: Mapping[str, pd.Series]) -> tuple[list[str], list[str]]:
    """Whose difference is clearly above 0, and whose is clearly below."""
    signs = {one: words.sign(row, *ENDS) for one, row in rows.items()}
    return [one for one, sign in signs.items() if sign > 0], [one for one, sign in signs.items() if sign < 0]


def _difference(row: pd.Series) -> str:
    return interval(row, "difference", *ENDS, digits=3)


# the teacher and its students


def task(table: pd.DataFrame, labels: Labels) -> Text:
    """Of `returns_table`: whether teacher and students do the task."""
    rows = _compared(table, threat="clean")
    if not {"teacher", "kl"} <= rows.keys():
        return paragraph()
    own = {one: interval(rows[one], "return", "return_low", "return_high") for one in ("teacher", "kl")}
    teacher, seeds = rows["teacher"], int(rows["teacher"].seeds)
    return paragraph(
        f"The teachers fetch the right object in {percent(teacher.success)} of {int(teacher.n):,} test episodes, with "
        f"a return of {own['teacher']} over {words.count(seeds, 'seed')}; {name('kl', labels)} has {own['kl']}.",
        lead="The task.",
    )


def matched(table: pd.DataFrame, labels: Labels, within: float) -> Text:
    """Of `matched_table`: which weights are compared, and whether they are at about the return of KL alone."""
    rows = words.keyed(table, "student")
    weighed = {one: row for one, row in rows.items() if one != "kl"}
    if not weighed or "kl" not in rows:
        return paragraph()
    kept = [one for one, row in weighed.items() if str(row.kept) == "True"]
    lost = [one for one in weighed if one not in kept]
    chosen = [f"{name(one, labels)} at {float(row.lambda_s):g}" for one, row in weighed.items()]
    return paragraph(
        f"Compared are {listed(chosen)}: of each the strongest weight whose validation return is at most "
        f"{number(within)} below that of {name('kl', labels)}, {number(float(rows['kl'].validation), 3)}.",
        f"No weight of {names(lost, labels)} is that close, so that its weakest stands here, at a lower return."
        if lost
        else "",
        lead="At matched return.",
    )


# under attack


def robustness_title(table: pd.DataFrame, labels: Labels, level: int) -> str:
    """The threat that takes most from KL alone, and what it takes."""
    clean = _compared(table, threat="clean")["kl"]["return"]
    left = {threat: _compared(table, threat=threat, level=level)["kl"]["return"] for threat in THREATS}
    worst = min(left, key=left.get)
    taken = number(clean - left[worst])
    return f"{words.begin(worst)} at {level}/255 takes most from {name('kl', labels)}: {taken} of its return"


def gains_title(gains: pd.DataFrame, labels: Labels) -> str:
    """Who gains most over KL alone under PGD, if somebody clearly does."""
    rows = words.keyed(words.rows(gains, b="kl", measure="return under PGD"), "a")
    best = max(rows, key=lambda one: rows[one].difference)
    if not _clearly(rows)[0]:
        return f"Under PGD no student keeps clearly more return than {name('kl', labels)}"
    gain = number(rows[best].difference)
    return f"Under PGD {name(best, labels)} keeps most: {gain} of return more than {name('kl', labels)}"


def robustness(gains: pd.DataFrame, returns: pd.DataFrame, labels: Labels) -> Text:
    """Of `gains_table` and `returns_table`: who keeps clearly more return than KL alone under each threat."""
    said, own = [], words.rows(returns, student="kl")
    for threat in reversed(THREATS):  # the strongest first
        rows = words.keyed(words.rows(gains, b="kl", measure=f"return under {threat}"), "a")
        if not rows:
            continue
        level, more, less = int(next(iter(rows.values())).level), *_clearly(rows)
        clean, left = (
            words.rows(own, threat=one, level=at)["return"].mean() for one, at in (("clean", 0), (threat, level))
        )
        best = max(rows, key=lambda one: rows[one].difference)
        gain = f"clearly more, most {name(best, labels)}: {_difference(rows[best])}"
        parts = [f"{names(more, labels)} {gain}"] if more else []
        parts += [f"{names(less, labels)} clearly less"] if less else []
        kept = listed(parts or ["no student clearly more or less"])
        what = f"{words.begin(threat)} at {level}/255 leaves {name('kl', labels)} {number(left)} of its {number(clean)}"
        said.append(f"{what}{', so that little can be gained' if left > 0.9 * clean else ''}; {kept}.")
    return paragraph(*said)


# the maps


def maps_title(table: pd.DataFrame, labels: Labels) -> str:
    rows = _compared(table, measure=TRUTH)
    shares = [f"{percent(rows[one]['mean'])} ({name(one, labels)})" for one in ("kl", "input-gradient", "digr")]
    return f"On the tiles that decide lie {listed(shares)} of the gradient map"


def maps(gains: pd.DataFrame, table: pd.DataFrame, labels: Labels) -> Text:
    """Of `gains_table` and `maps_table`: DIGR's maps beside those of KL alone and of plain input-gradient
    regularisation."""
    truth = words.keyed(words.rows(gains, a="digr", measure=TRUTH), "b")
    rows = _compared(table, measure=TRUTH)
    if not {"kl", "input-gradient"} <= truth.keys() or "digr" not in rows:
        return paragraph()
    how = {1: "clearly more", -1: "clearly less", 0: "not clearly more or less"}
    compared = [
        f"{how[words.sign(row, *ENDS)]} than {name(other, labels)} ({_difference(row)})" for other, row in truth.items()
    ]
    agree = words.keyed(words.rows(gains, a="digr", b="kl", measure=list(MAPS)), "measure")
    more, less = _clearly(agree)
    parts = [f"clearly more with {listed(MAPS[one] for one in more)}" if more else ""]
    parts += [f"clearly less with {listed(MAPS[one] for one in less)}" if less else ""]
    told = listed(filter(None, parts)) if more or less else "neither clearly more nor clearly less with any map"
    return paragraph(
        f"Of {name('digr', labels)}'s gradient map {percent(rows['digr']['mean'])} lies on the tiles that decide, "
        f"{listed(compared)}.",
        f"It agrees {told} than that of {name('kl', labels)} does.",
    )


def sarfa(gains: pd.DataFrame, labels: Labels) -> Text:
    """Of `gains_table`: whether it matters by which score the selection is made."""
    rows = words.keyed(words.rows(gains, a="digr-sarfa", b="digr"), "measure")
    asked = [one for one in ("return", "return under PGD", OWN, TRUTH) if one in rows]
    if not asked:
        return paragraph()
    apart = [f"{one} {_difference(rows[one])}" for one in asked if words.sign(rows[one], *ENDS)]
    return paragraph(
        f"Selecting by SARFA's score in the place of Greydanus et al.'s changes {listed(apart)}."
        if apart
        else "Whether SARFA's score selects or Greydanus et al.'s makes no clear difference to return, robustness, "
        "agreement or the share on the tiles that decide.",
        lead="The score.",
    )


# the cost of a map


def cost_title(times: Times) -> str:
    alone = times["1"]
    grid = max((one for one in alone if one != "gradient"), key=int)
    ratio = words.times(alone[grid] / alone["gradient"])
    return f"A perturbation map of {int(grid) ** 2} masks takes {ratio} a gradient map's time"


def cost(times: Times) -> Text:
    """Of `milliseconds`: how much cheaper a gradient map is, for one state and in a batch."""
    said = []
    for batch, took in times.items():
        ratios = [value / took["gradient"] for grid, value in took.items() if grid != "gradient"]
        what = "For one state" if batch == "1" else f"Per state of {batch}"
        span = words.span(ratios, lambda value: number(value, 1))
        said.append(f"{what} the perturbation map takes {span} times as long as the gradient map, by its masks.")
    return paragraph(*said, lead="What it costs.")


# what J-SIGR adds


def jacobian(gains: pd.DataFrame, labels: Labels) -> Text:
    """Of `gains_table`: J-DIGR minus DIGR in everything that is measured."""
    rows = words.keyed(words.rows(gains, a="j-digr", b="digr"), "measure")
    if not rows:
        return paragraph()
    more, less = _clearly(rows)
    who, other = name("j-digr", labels), name("digr", labels)
    gained = [f"{one} {_difference(rows[one])}" for one in more]
    lost = [f"{one} {_difference(rows[one])}" for one in less]
    return paragraph(
        f"{who} has clearly more than {other} of: {listed(gained)}." if gained else "",
        f"It has clearly less of: {listed(lost)}." if lost else "",
        _alike(len(rows), len(rows) - len(more) - len(less)),
        lead="What J-SIGR adds or lacks here.",
    )


def _alike(all_: int, alike: int) -> str:
    """In how many of the measures two students cannot be told apart."""
    if alike == all_:
        return f"In none of the {words.count(all_, 'measure')} can they be told apart."
    return f"In the other {words.count(alike)} they cannot be told apart." if alike else ""
