"""The weights of the defences, chosen on the validation images. Every defence with `tried` values is searched alike:
each combination trains one network (first seed, the profile's search scale), and one rule picks among them. The test
images only report: the trade of clean accuracy for robustness, and the defences at a matched loss of clean accuracy,
since a network that is wrong more often is easily "robust"."""

from itertools import product

import pandas as pd

from jsigr_lib.data.data import DataSpec
from jsigr_lib.networks.zoo import Training
from jsigr_lib.records.tolerances import COUNT, SHARE, declare
from jsigr_lib.store.artefacts import Spec
from jsigr_lib.study import robustness
from jsigr_lib.study.attacked import Outcomes, transferred, white_box
from jsigr_lib.study.cells import Cell, sources_of
from jsigr_lib.study.config import budget
from jsigr_lib.study.study import Study

RULES = {"best": 0.06, "matched": 0.03}
"""How much clean accuracy each choice may lose against the standard network; within it, the most transferred one."""
SPLITS = ("validation", "test")
STANDARD = "standard"


def candidates(study: Study, defence: str) -> list[dict[str, float]]:
    """Every combination of the values that the profile tries. There are none if it tries no values."""
    tried = study.profile.defences[defence].tried
    return [dict(zip(tried, values, strict=True)) for values in product(*tried.values())] if tried else []


def network(study: Study, defence: str, **options: float) -> Training:
    """A candidate: the defence with these weights, at the scale of the search."""
    p = study.profile
    fields = {name: getattr(study.data, name) for name in DataSpec.model_fields}
    data = DataSpec(**{**fields, "train_images": p.search_images or p.train_images})
    return study.training(defence, data=data, epochs=p.search_epochs, **options)


def searched(study: Study) -> dict[tuple[str, str], Training]:
    """(defence, its weights in words) -> the candidate; the standard network is always one."""
    found = {(STANDARD, ""): network(study, STANDARD)}
    for defence in study.profile.defences:
        for options in candidates(study, defence):
            found[defence, said(options)] = network(study, defence, **options)
    return found


def said(options: dict[str, float]) -> str:
    """{"lambda_j": 0.01, "lambda_s": 3.0} -> "lambda_j 0.01, lambda_s 3"; an eps as `budget` writes it."""
    return ", ".join(f"{name} {budget(value) if name == 'eps' else f'{value:g}'}" for name, value in options.items())


def candidate_cells(study: Study, split: str) -> list[Cell]:
    """Three numbers of every candidate: clean, under the headline attack from the headline source and, on the test
    images only, under PGD."""
    eps, source = study.profile.eps, study.surrogate(sources_of(study, study.architecture)[0])
    found = []
    for (defence, weights), one in searched(study).items():
        what = {"defence": defence, "weights": weights}
        threats = {
            "clean": Outcomes(target=one, split=split),
            "transfer": transferred(study, one, source, eps, split=split),
            **({"white-box": white_box(study, one, eps)} if split == "test" else {}),
        }
        for threat, outcome in threats.items():
            found.append(Cell({**what, "threat": threat, "eps": 0.0 if threat == "clean" else eps}, [outcome]))
    return found


def specs(study: Study) -> list[Spec]:
    """Everything that the table reads."""
    return [spec for split in SPLITS for spec in robustness.specs(study, candidate_cells(study, split))]


def table(study: Study) -> pd.DataFrame:
    """One row per candidate, threat and split: n, accuracy, interval, flags (see `robustness.accuracy_table`), and the
    choices that the rule makes of it on the validation images."""
    both = {split: robustness.accuracy_table(study, candidate_cells(study, split)) for split in SPLITS}
    choices = choose(both["validation"])
    whole = pd.concat([one.assign(split=split) for split, one in both.items()], ignore_index=True)
    each = zip(whole.defence, whole.weights, strict=True)
    chosen = [", ".join(rule for rule in RULES if choices[name][rule] == weights) for name, weights in each]
    first = ["defence", "weights", "split", "threat", "eps"]
    table = whole.assign(chosen=chosen)[[*first, "chosen", *whole.columns.drop(first)]]
    return declare(table, *first, eight_bit=SHARE, common_images=COUNT)


def choose(validation: pd.DataFrame) -> dict[str, dict[str, str]]:
    """defence -> rule -> weights: the most transferred accuracy among the candidates that lose no more clean accuracy
    than the rule allows; if all lose more, the one that loses least. A weight of 0 makes another defence of it."""
    accuracy = validation.set_index(["threat", "defence", "weights"]).accuracy
    clean, transfer = accuracy["clean"], accuracy["transfer"]
    floor = clean[STANDARD, ""]
    found: dict[str, dict[str, str]] = {}
    for defence in dict.fromkeys(validation.defence):
        own = [key for key in clean.index if key[0] == defence and not _has_zero(key[1])]
        for rule, loss in RULES.items():
            within = [key for key in own if clean[key] >= floor - loss - 1e-9]
            best = max(within, key=transfer.get) if within else max(own, key=clean.get)
            found.setdefault(defence, {})[rule] = best[1]
    return found


def _has_zero(weights: str) -> bool:
    return any(part.endswith(" 0") for part in weights.split(", "))


def unlike_profile(study: Study, table: pd.DataFrame) -> list[str]:
    """The defences whose weights in the profile are not those that the rule chooses."""
    p, best = study.profile, table[table.chosen.str.contains("best")]
    own = {name: said({w: p.options(name)[w] for w in p.defences[name].tried}) for name in p.defences}
    return [row.defence for row in best.drop_duplicates("defence").itertuples() if row.weights != own[row.defence]]


def matched_table(table: pd.DataFrame) -> pd.DataFrame:
    """The test accuracies of the candidates that the rule "matched" chooses, one row per defence and threat."""
    rows = table[(table.split == "test") & table.chosen.str.contains("matched")]
    keys, numbers = ("defence", "weights", "threat", "eps"), ("images", "seeds", "accuracy", "low", "high")
    return declare(rows[[*keys, *numbers, "flags"]], *keys)
