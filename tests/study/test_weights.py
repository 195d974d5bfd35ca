"""One rule for every defence, on validation images only; the test images are looked at beside."""

import pandas as pd
import pytest

from jsigr_lib.study.weights import (
    RULES,
    candidate_cells,
    candidates,
    choose,
    matched_table,
    network,
    said,
    searched,
    unlike_profile,
)


def validation(*rows: tuple[str, str, float, float]) -> pd.DataFrame:
    """(defence, weights, clean, transferred) -> rows as `table` has them."""
    return pd.DataFrame(
        {"defence": defence, "weights": weights, "threat": threat, "accuracy": accuracy}
        for defence, weights, clean, transfer in rows
        for threat, accuracy in (("clean", clean), ("transfer", transfer))
    )


def test_candidates_are_every_combination(study):
    tried = study.profile.defences["jsigr"].tried
    assert candidates(study, "jsigr") == [
        {"lambda_j": j, "lambda_s": s} for j in tried["lambda_j"] for s in tried["lambda_s"]
    ]
    assert candidates(study, "standard") == candidates(study, "pgd") == []


def test_a_candidate_is_the_defence_with_other_weights(study):
    assert network(study, "jsigr") == study.training("jsigr")
    assert dict(network(study, "jsigr", lambda_s=7.0).options)["lambda_s"] == 7.0
    assert searched(study)["standard", ""] == study.training("standard")


def test_search_has_a_scale_of_its_own(tiny, study):
    smaller = tiny(study.store.root, search_images=128, search_epochs=3, epochs=4)
    found = network(smaller, "interpretation")
    assert (found.data.train_images, found.epochs) == (128, 3)
    assert (found.teacher.data, found.teacher.epochs) == (found.data, 3)
    assert found.data.digest != smaller.data.digest
    assert smaller.training("interpretation").epochs == 4


@pytest.mark.parametrize("split", ["validation", "test"])
def test_cells_read_one_split(study, split):
    found = candidate_cells(study, split)
    threats = ["clean", "transfer"] + ["white-box"] * (split == "test")
    assert [cell.row["threat"] for cell in found] == threats * (1 + len(candidates(study, "jsigr")))
    for cell in found:
        (outcome,) = cell.outcomes
        assert outcome.split == split
        assert outcome.attacked is None or outcome.attacked.split == split
        assert outcome.target == searched(study)[cell.row["defence"], cell.row["weights"]]


def test_the_most_robust_within_the_loss_is_chosen():
    rows = validation(
        ("standard", "", 0.90, 0.30),
        ("a", "w 1", 0.88, 0.50),
        ("a", "w 2", 0.84, 0.60),  # loses six points exactly
        ("a", "w 3", 0.80, 0.70),
        ("b", "w 1", 0.70, 0.90),
        ("b", "w 2", 0.75, 0.80),
        ("b", "w 0", 0.90, 0.99),  # no b at all
    )
    assert choose(rows) == {
        "standard": {"best": "", "matched": ""},
        "a": {"best": "w 2", "matched": "w 1"},
        "b": {"best": "w 2", "matched": "w 2"},  # none within: the cleanest
    }


def test_table_marks_the_choices_on_both_splits(study, table):
    found = table("search")
    assert set(found[found.split == "validation"].images) == {64}
    assert set(found[found.split == "test"].images) == {32}
    for rule in RULES:
        marked = found[found.chosen.str.contains(rule)].groupby(["defence", "split"]).weights.nunique()
        assert (marked == 1).all() and len(marked) == 4
    choices = choose(found[found.split == "validation"])
    matched = matched_table(found)
    assert {row.defence: row.weights for row in matched.itertuples()} == {
        name: rules["matched"] for name, rules in choices.items()
    }
    assert set(matched.threat) == {"clean", "transfer", "white-box"}


def test_a_profile_that_ignores_the_rule_is_told(study):
    own = said({name: study.profile.options("jsigr")[name] for name in ("lambda_j", "lambda_s")})
    table = pd.DataFrame({"defence": ["standard", "jsigr"], "weights": ["", own], "chosen": ["best", "best, matched"]})
    assert unlike_profile(study, table) == []
    assert unlike_profile(study, table.assign(weights=["", "lambda_j 0, lambda_s 0"])) == ["jsigr"]
