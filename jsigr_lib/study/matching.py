"""Defences at equal clean accuracy: a network that is wrong more often is easily "robust". J-SIGR's chosen candidate is
compared with mixtures of two candidates of each other defence. A mixture lets one of the two judge each image, by
chance, so that its accuracies are means of theirs, and any clean accuracy between theirs can be had."""

from itertools import product

import numpy as np
import pandas as pd

from jsigr_lib.measure import statistics
from jsigr_lib.networks.zoo import Training
from jsigr_lib.records.tolerances import SHARE, declare
from jsigr_lib.study import weights
from jsigr_lib.study.attacked import Outcomes, correct_of, transferred
from jsigr_lib.study.sources import Source
from jsigr_lib.study.study import Study

Mixture = dict[Training, float]
"""Candidate -> the chance that it judges an image."""


def mixtures(study: Study) -> dict[str, Mixture]:
    """defence -> the mixture of its candidates that is as accurate as J-SIGR's on clean validation images, and of these
    the one that attacks from the sources that count leave the most. A weight of 0, the standard network, counts as a
    candidate of each. A defence that cannot be as accurate, or as inaccurate, is its nearest candidate."""
    found = weights.searched(study)
    own = study.training("jsigr").options
    jsigr = next((one for (name, _), one in found.items() if name == "jsigr" and one.options == own), None)
    if jsigr is None:
        return {}
    matched, wanted = {"jsigr": {jsigr: 1.0}}, _clean(study, jsigr)
    for defence in study.profile.defences:
        ones = [one for (name, said), one in found.items() if name == defence and not weights.has_zero(said)]
        if ones and defence not in ("jsigr", weights.STANDARD):
            ones.append(found[weights.STANDARD, ""])
            measured = {one: (_clean(study, one), attacked(study, {one: 1.0}, "validation").mean()) for one in ones}
            matched[defence] = _best(measured, wanted)
    return matched


def _best(measured: dict[Training, tuple[float, float]], wanted: float) -> Mixture:
    """Of all pairs of candidates (clean accuracy, attacked accuracy)."""
    found: list[tuple[float, Mixture]] = []
    for (a, (clean_a, left_a)), (b, (clean_b, left_b)) in product(measured.items(), repeat=2):
        if clean_a < wanted < clean_b:
            share = (wanted - clean_a) / (clean_b - clean_a)
            found.append((share * left_b + (1 - share) * left_a, {a: 1 - share, b: share}))
        elif a == b and clean_a == wanted:
            found.append((left_a, {a: 1.0}))
    if not found:
        return {min(measured, key=lambda one: abs(measured[one][0] - wanted)): 1.0}
    return max(found, key=lambda one: one[0])[1]


def _clean(study: Study, one: Training) -> float:
    return correct_of(study, [Outcomes(target=one, split="validation")]).mean()


def attacked(study: Study, mixture: Mixture, split: str = "test") -> np.ndarray:
    """How likely each image is right [sources, 1, images] under the headline attack from the sources that count."""
    eps, counting = study.profile.eps, weights.counting(study)

    def left(one: Training, source: Source) -> np.ndarray:
        each = [transferred(study, one, origin, eps, split=split) for origin in source.origins]
        return correct_of(study, each).mean(0)

    return sum(share * np.stack([left(one, source) for source in counting])[:, None] for one, share in mixture.items())


def table(study: Study) -> pd.DataFrame:
    """One row per defence at J-SIGR's clean accuracy: its mixture in words, its clean accuracy on the test images, and
    what attacks from the sources that count leave of them."""
    said = {one: words or "no weight" for (_, words), one in weights.searched(study).items()}
    rows = []
    for defence, mixture in mixtures(study).items():
        clean = sum(share * correct_of(study, [Outcomes(target=one)])[0] for one, share in mixture.items())
        of = "; ".join(f"{said[one]}" + (f" ({share:.0%})" if share < 1 else "") for one, share in mixture.items())
        numbers = statistics.columns("attacked", attacked(study, mixture), statistics.proportion)
        rows.append({"defence": defence, "mixture": of, "clean": clean.mean(), **numbers})
    return declare(pd.DataFrame(rows), "defence", clean=SHARE)
