"""The weights of the defences, chosen on the validation images. Every defence with `tried` values is searched alike:
each combination trains one network (first seed), and one rule picks among them. The test images only report: the trade
of clean accuracy for robustness."""

from itertools import product

import pandas as pd

from jsigr_lib.networks.zoo import Training
from jsigr_lib.records.tolerances import COUNT, EXACT, SHARE, declare
from jsigr_lib.store.specs import Spec
from jsigr_lib.study import robustness, sources
from jsigr_lib.study.attacked import Attacked, Outcomes, transferred, white_box
from jsigr_lib.study.cells import Cell
from jsigr_lib.study.config import budget
from jsigr_lib.study.sources import families
from jsigr_lib.study.study import Study

LOSS = 0.06  # of clean accuracy against the standard network, that the rule's choice may have at most
SPLITS = ("validation", "test")
STANDARD = "standard"


def candidates(study: Study, defence: str) -> list[dict[str, float]]:
    """Every combination of the values that the profile tries. There are none if it tries no values."""
    tried = study.profile.defences[defence].tried
    return [dict(zip(tried, values, strict=True)) for values in product(*tried.values())] if tried else []


def searched(study: Study) -> dict[tuple[str, str], Training]:
    """(defence, its weights in words) -> the candidate; the standard network is always one."""
    found = {(STANDARD, ""): study.training(STANDARD)}
    for defence in study.profile.defences:
        for options in candidates(study, defence):
            found[defence, said(options)] = study.training(defence, **options)
    return found


def said(options: dict[str, float]) -> str:
    """{"lambda_j": 0.01, "lambda_s": 3.0} -> "lambda_j 0.01, lambda_s 3"; an eps as `budget` writes it."""
    return ", ".join(f"{name} {budget(value) if name == 'eps' else f'{value:g}'}" for name, value in options.items())


def candidate_cells(study: Study, split: str) -> list[Cell]:
    """The numbers of every candidate: clean, under the headline attack from every undefended source and, on the test
    images only, under PGD and AutoAttack."""
    p, sources, found = study.profile, families(study, study.architecture), []
    for (defence, weights), one in searched(study).items():
        asked = {("clean", ""): [Outcomes(target=one, split=split)]}
        for source in sources:
            outcomes = [transferred(study, one, origin, p.eps, split=split) for origin in source.origins]
            asked["transfer", source.architecture] = outcomes
        if split == "test":
            asked["white-box", ""] = [white_box(study, one, p.eps)]
        if split == "test" and defence in p.autoattack:
            images = min(p.autoattack_images, p.test_images)
            judged = Attacked(sources=one, attack="autoattack", eps=p.eps, images=images)
            asked["AutoAttack", ""] = [Outcomes(target=one, attacked=judged)]
        for (threat, source), outcomes in asked.items():
            eps = 0.0 if threat == "clean" else p.eps
            what = {"defence": defence, "weights": weights, "threat": threat, "source": source, "eps": eps}
            found.append(Cell(what, outcomes, len(outcomes)))
    return found


def specs(study: Study) -> list[Spec]:
    """Everything that the table reads."""
    cells = [robustness.specs(study, candidate_cells(study, split)) for split in SPLITS]
    return [*sources.specs(study), *(spec for one in cells for spec in one)]


def table(study: Study) -> pd.DataFrame:
    """One row per candidate, threat and split: n, accuracy, interval, flags (see `robustness.accuracy_table`), and the
    choice that the rule makes of it on the validation images."""
    both = {split: robustness.accuracy_table(study, candidate_cells(study, split)) for split in SPLITS}
    choices = choose(both["validation"], [one.architecture for one in counting(study)])
    whole = pd.concat([one.assign(split=split) for split, one in both.items()], ignore_index=True)
    each = zip(whole.defence, whole.weights, strict=True)
    chosen = [choices[name] == weights for name, weights in each]
    first = ["defence", "weights", "split", "threat", "source", "eps"]
    table = whole.assign(chosen=chosen)[[*first, "chosen", *whole.columns.drop(first)]]
    return declare(table, *first, origins=EXACT, eight_bit=SHARE, common_images=COUNT)


def counting(study: Study) -> list[sources.Source]:
    """The sources that the rule looks at: those that vote, or all undefended ones if none does."""
    return sources.voting(study, study.architecture) or families(study, study.architecture)


def choose(validation: pd.DataFrame, counting: list[str]) -> dict[str, str]:
    """defence -> weights: the most accuracy left by the sources that count, in the mean, among the candidates that lose
    no more clean accuracy than LOSS; if all lose more, the one that loses least. A weight of 0 makes another defence of
    it."""
    keys = ["defence", "weights"]
    clean = validation[validation.threat == "clean"].set_index(keys).accuracy
    rows = validation[(validation.threat == "transfer") & validation.source.isin(counting)]
    transfer, floor = rows.groupby(keys, sort=False).accuracy.mean(), clean[STANDARD, ""] - LOSS - 1e-9
    found = {}
    for defence in dict.fromkeys(validation.defence):
        own = [key for key in clean.index if key[0] == defence and not has_zero(key[1])]
        within = [key for key in own if clean[key] >= floor]
        found[defence] = (max(within, key=transfer.get) if within else max(own, key=clean.get))[1]
    return found


def has_zero(weights: str) -> bool:
    return any(part.endswith(" 0") for part in weights.split(", "))


def unlike_profile(study: Study, table: pd.DataFrame) -> list[str]:
    """The defences whose weights in the profile are not those that the rule chooses."""
    p, best = study.profile, table[table.chosen]
    own = {name: said({w: p.options(name)[w] for w in p.defences[name].tried}) for name in p.defences}
    return [row.defence for row in best.drop_duplicates("defence").itertuples() if row.weights != own[row.defence]]
