"""One rule for every defence, on validation images only; the test images are looked at beside."""

import pandas as pd
import pytest

from jsigr_lib.study.weights import candidate_cells, candidates, choose, counting, said, searched, unlike_profile


def validation(*rows: tuple[str, str, float, float]) -> pd.DataFrame:
    """(defence, weights, clean, transferred) -> rows as `table` has them, with a source that counts and one that does
    not."""
    return pd.DataFrame(
        {"defence": defence, "weights": weights, "threat": threat, "source": source, "accuracy": accuracy}
        for defence, weights, clean, transfer in rows
        for threat, source, accuracy in (
            ("clean", "", clean),
            ("transfer", "mlp", transfer - 0.1),
            ("transfer", "vgg", transfer + 0.1),
            ("transfer", "weak", 1 - transfer),
        )
    )


def test_candidates_are_every_combination(study):
    tried = study.profile.defences["jsigr"].tried
    assert candidates(study, "jsigr") == [
        {"lambda_j": j, "lambda_s": s} for j in tried["lambda_j"] for s in tried["lambda_s"]
    ]
    assert candidates(study, "standard") == candidates(study, "pgd") == []


def test_a_candidate_is_the_defence_with_other_weights(study):
    found = searched(study)
    assert found["standard", ""] == study.training("standard")
    assert found["jsigr", "lambda_j 0.01, lambda_s 0"] == study.training("jsigr", lambda_j=0.01, lambda_s=0.0)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_cells_read_one_split(study, split):
    found = candidate_cells(study, split)
    threats = ["clean", *["transfer"] * 3] + ["white-box"] * (split == "test")
    assert [cell.row["threat"] for cell in found] == threats * (1 + len(candidates(study, "jsigr")))
    assert [cell.row["source"] for cell in found[1:4]] == ["mlp", "vgg", "small-cnn"]
    for cell in found:
        (outcome,) = cell.outcomes
        assert outcome.split == split
        assert outcome.attacked is None or outcome.attacked.split == split
        assert outcome.target == searched(study)[cell.row["defence"], cell.row["weights"]]


def test_autoattack_judges_the_candidates_of_those_it_is_asked_for(tiny, study):
    other = tiny(study.store.root, autoattack=["jsigr"])
    judged = [cell.row["defence"] for cell in candidate_cells(other, "test") if cell.row["threat"] == "AutoAttack"]
    assert judged == ["jsigr"] * len(candidates(other, "jsigr"))


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
    assert choose(rows, ["mlp", "vgg"]) == {"standard": "", "a": "w 2", "b": "w 2"}  # no b is within: the cleanest
    assert choose(rows, ["weak"])["a"] == "w 1"


def test_table_marks_the_choices_on_both_splits(study, table):
    found = table("search")
    assert set(found[found.split == "validation"].images) == {64}
    assert set(found[found.split == "test"].images) == {32}
    marked = found[found.chosen].groupby(["defence", "split"]).weights.unique()
    choices = choose(found[found.split == "validation"], [one.architecture for one in counting(study)])
    assert {key: list(own) for key, own in marked.items()} == {
        (name, split): [weights] for name, weights in choices.items() for split in ("validation", "test")
    }


def test_a_profile_that_ignores_the_rule_is_told(study):
    own = said({name: study.profile.options("jsigr")[name] for name in ("lambda_j", "lambda_s")})
    table = pd.DataFrame({"defence": ["standard", "jsigr"], "weights": ["", own], "chosen": [True, True]})
    assert unlike_profile(study, table) == []
    assert unlike_profile(study, table.assign(weights=["", "lambda_j 0, lambda_s 0"])) == ["jsigr"]
