"""Every sentence about every published run, about parts of its tables and about nothing at all: never an exception."""

import numpy as np
import pandas as pd
import pytest

from jsigr_lib.findings import claims, known_truth, saliency, theory, training, transfer
from jsigr_lib.store.paths import FIGURES
from jsigr_lib.study.config import Profile, load_profile

PROFILES = sorted(path.parent.name for path in FIGURES.glob("*/scorecard.csv"))


def paragraphs(table, p: Profile) -> list[str]:
    """What the notebooks say, of tables by name."""
    labels = {name: one.label for name, one in p.defences.items()}
    headline, maps, truth = (
        (table("robustness"), p.transfer_attacks[0], p.eps),
        table("interpretability"),
        table("known_truth"),
    )
    counting = p.surrogates
    return [
        theory.estimators(table("estimators")),
        theory.coin(table("estimators"), labels),
        theory.linearised(table("linearised_robustness"), pd.Series({"J-SIGR": 0.7}), labels),
        theory.tangent_error(table("linearisation_error"), 2.8),
        theory.tangent_limits(np.array([0, 1.0]), {}, labels),
        theory.boundary(table("boundary_distance"), table("boundary_contrasts"), labels),
        theory.region(table("linear_region"), labels),
        theory.in_training(table("training_history"), labels),
        theory.checks(table("theory_checks")),
        training.curves(table("training_history"), labels),
        training.frontier(table("search"), counting, labels),
        training.grid(table("search"), counting),
        training.matched(table("matched"), labels),
        transfer.sources(table("sources")),
        transfer.strength(table("strength"), p.transfer_attacks[0]),
        transfer.accuracy(*headline, labels),
        transfer.judges(table("judges"), labels),
        transfer.ranking(table("robustness"), p.eps, labels),
        transfer.matrix(*headline, labels),
        transfer.flags(table("flags")),
        transfer.cost(table("cost"), labels),
        saliency.faithfulness(maps, labels),
        saliency.agreement(maps, labels),
        saliency.best_map(maps),
        saliency.cheap_for_costly(table("map_questions")),
        saliency.adversarial(table("map_questions"), labels),
        saliency.cascade(table("map_cascade")),
        known_truth.on_the_truth(truth, labels),
        known_truth.controls(truth),
        known_truth.cue(truth, labels),
        claims.verdicts(table("scorecard")),
        claims.deciding(table("scorecard"), table("contrasts"), labels),
        claims.gains(table("contrasts")),
        claims.trade_offs(table("trade_offs"), labels),
    ]


def published(profile: str, name: str) -> pd.DataFrame:
    path = FIGURES / profile / f"{name}.csv"
    return pd.read_csv(path, keep_default_na=False) if path.is_file() else pd.DataFrame()


def proper(text: str) -> bool:
    return (
        text.startswith("**") and text.endswith((".", ".)")) and not any(odd in text for odd in ("nan", "inf ", " , "))
    )


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("left_out", ["nothing", "standard", "jsigr", "all but two"])
def test_of_every_published_run(profile, left_out):
    def table(name: str) -> pd.DataFrame:
        found = published(profile, name)
        if "defence" in found and left_out != "nothing":
            kept = {"standard", "jsigr"} if left_out == "all but two" else {*found.defence} - {left_out}
            found = found[found.defence.isin(kept)]
        return found

    for text in paragraphs(table, load_profile(profile)):
        assert proper(text), text


def test_of_nothing():
    for text in paragraphs(lambda name: pd.DataFrame(), load_profile("smoke")):
        assert proper(text), text


def test_of_the_full_run():
    """A few sentences as a reader finds them."""
    said = "\n".join(paragraphs(lambda name: published("full", name), load_profile("full")))
    assert "All 31 checks hold" in said
    assert "J-SIGR's gradient map agrees with its perturbation map more than twice as well as" in said
    assert "No network shows a sign of masked gradients" in said
