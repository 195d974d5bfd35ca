from math import sqrt

import pandas as pd
import pytest
import torch

from jsigr_lib import attacks, robustness
from jsigr_lib.robustness import (
    Attacked,
    Outcomes,
    accuracy_table,
    attacked_split,
    correct_of,
    grid_cells,
    matrix_cells,
    robustness_cells,
    sources_of,
    transferred,
    white_box,
)
from jsigr_lib.training import predict

ROUNDING = 1e-6


def wilson(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson 1927, written out."""
    p = right / n
    middle, half = p + z**2 / (2 * n), z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def clean(study, defence: str = "standard", **options) -> torch.Tensor:
    return study.get(Outcomes(target=study.training(defence), **options)).tensors["correct"]


# attacked images and outcomes


@pytest.mark.parametrize("attack", list(attacks.ATTACKS))
@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_attacked_images_are_within_budget(study, attack, eps):
    images = study.get(Attacked(source=study.surrogate("mlp"), attack=attack, eps=eps)).tensors["images"]
    original, _ = study.batch("test", 32)
    assert (images.shape, images.dtype) == (original.shape, torch.float32)
    assert images.min() >= 0 and images.max() <= 1
    change = (images - original).abs().amax((1, 2, 3))
    assert change.max() <= eps + ROUNDING
    assert change.min() > eps / 2


def test_attack_goes_through_the_source(study):
    images = study.get(Attacked(source=study.surrogate("vgg"), attack="fgsm", eps=0.1)).tensors["images"]
    x, y = study.batch("test", 32)
    expected = attacks.fgsm(study.model(study.surrogate("vgg")), x, y, eps=0.1)
    assert (images != expected).float().mean() < 1e-3
    other = attacks.fgsm(study.model(study.surrogate("mlp")), x, y, eps=0.1)
    assert (images != other).float().mean() > 0.1


def test_batches_of_an_attack_are_a_detail(study, monkeypatch):
    spec = Attacked(source=study.surrogate("mlp"), attack="mi-fgsm", eps=0.1)
    whole = study.get(spec).tensors["images"]
    monkeypatch.setattr(robustness, "ATTACK_BATCH", 7)
    parts = spec.compute(study.store, study.store.device)[0]["images"]
    assert (parts != whole).float().mean() < 1e-3


def test_random_start_is_seeded_by_the_source(study):
    spec = Attacked(source=study.surrogate("mlp"), attack="pgd", eps=0.1, settings=(("steps", 1),))
    first, second = (spec.compute(study.store, study.store.device)[0]["images"] for _ in range(2))
    assert torch.equal(first, second)


def test_settings_reach_the_attack(study):
    few, many = (
        study.get(Attacked(source=study.surrogate("mlp"), attack="pgd", eps=0.1, settings=(("steps", steps),)))
        for steps in (1, 6)
    )
    assert not torch.equal(few.tensors["images"], many.tensors["images"])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_split_is_the_one_asked_for(study, split):
    spec = Attacked(source=study.surrogate("mlp"), attack="fgsm", eps=0.1, split=split)
    images = study.get(spec).tensors["images"]
    original, labels = study.batch(split, 999)
    assert (images - original).abs().max() <= 0.1 + ROUNDING
    outcome = Outcomes(target=study.training("standard"), attacked=spec, split=split)
    predicted = study.model(study.training("standard"))(images).argmax(1)
    assert torch.equal(study.get(outcome).tensors["correct"], predicted == labels)


def test_clean_outcomes_are_right_predictions(study):
    for defence in ("standard", "jsigr", "pgd"):
        predicted = predict(study.model(study.training(defence)), study.dataset.test)
        assert torch.equal(clean(study, defence), predicted == study.dataset.test.labels)
    assert 0 < clean(study).sum() < 32


def test_no_budget_is_clean(study):
    target = study.training("standard")
    outcomes = [white_box(study, target, 0.0)]
    outcomes += [transferred(study, target, study.surrogate("mlp"), 0.0, attack=name) for name in attacks.ATTACKS]
    for outcome in outcomes:
        assert torch.equal(study.get(outcome).tensors["correct"], clean(study))
        assert torch.equal(study.get(outcome.attacked).tensors["images"], study.batch("test", 32)[0])


def test_white_box_attacks_the_target_itself(study):
    target = study.training("standard")
    outcome = white_box(study, target, 0.2)
    assert outcome.target == outcome.attacked.source == target
    assert (outcome.attacked.attack, dict(outcome.attacked.settings)) == ("pgd", {"steps": study.profile.pgd_steps})
    assert study.get(outcome).tensors["correct"].sum() < clean(study).sum()


def test_transfer_is_refused_from_the_target_itself(study):
    target = study.training("standard")
    with pytest.raises(ValueError, match=f"the same network .{target.digest}.; accepted: two different ones"):
        transferred(study, target, study.training("standard"), 0.1)
    assert transferred(study, target, study.training("standard", seed=1), 0.1).attacked.source.seed == 1


def test_transfer_uses_the_headline_attack_unless_told_otherwise(study):
    target, source = study.training("standard"), study.surrogate("mlp")
    assert transferred(study, target, source, 0.1).attacked.attack == study.profile.transfer_attacks[0]
    assert transferred(study, target, source, 0.1, attack="pgd").attacked.attack == "pgd"
    outcome = transferred(study, target, source, 0.1, split="validation")
    assert outcome.split == outcome.attacked.split == "validation"


def test_attacked_split_keeps_the_labels(study):
    spec = Attacked(source=study.surrogate("mlp"), attack="fgsm", eps=0.1)
    test = study.dataset.test
    assert attacked_split(test, None, study.store) is test
    attacked = attacked_split(test, spec, study.store)
    assert attacked.labels is test.labels
    assert torch.equal(attacked.images, study.get(spec).tensors["images"])


def test_split_of_images_and_labels_has_to_be_one(study):
    attacked = Attacked(source=study.surrogate("mlp"), attack="fgsm", eps=0.1, split="validation")
    with pytest.raises(ValueError, match="split"):
        Outcomes(target=study.training("standard"), attacked=attacked, split="test")


def test_needs_and_work(study):
    target, source = study.training("standard"), study.surrogate("mlp")
    outcome = transferred(study, target, source, 0.1)
    assert outcome.needs() == [target, study.data, outcome.attacked]
    assert outcome.attacked.needs() == [source, study.data]
    assert Outcomes(target=target).needs() == [target, study.data]
    one, ten = (Attacked(source=source, attack="pgd", eps=0.1, settings=(("steps", n),)).work() for n in (1, 10))
    assert ten == 10 * one > 0


# cells and tables


def test_sources_are_of_another_architecture(study):
    assert sources_of(study, "small-cnn") == ["mlp", "vgg"]
    assert sources_of(study, "mlp") == ["vgg"]


def test_robustness_cells_are_every_combination(study):
    p, rows = study.profile, pd.DataFrame(row for row, _ in robustness_cells(study))
    assert p.budgets == [0.1]
    per_defence = 1 + len(p.budgets) + 2 * len(p.transfer_attacks) * len(p.budgets)
    assert len(rows) == len(rows.drop_duplicates()) == per_defence * len(p.defences)
    assert set(rows.threat) == {"clean", "white-box", "transfer"}
    assert set(rows[rows.threat == "transfer"].source) == {"mlp", "vgg"}
    for row, outcomes in robustness_cells(study):
        (outcome,) = outcomes
        assert outcome.target == study.training(row["defence"])
        assert outcome.split == "test"
        if row["threat"] == "clean":
            assert outcome.attacked is None
        else:
            assert (outcome.attacked.attack, outcome.attacked.eps) == (row["attack"], row["eps"])
            source = outcome.target if row["threat"] == "white-box" else study.surrogate(row["source"])
            assert outcome.attacked.source == source


def test_accuracy_table(study, table):
    accuracy = table("accuracy")
    what = ["architecture", "defence", "threat", "source", "attack", "eps"]
    assert list(accuracy) == [*what, "images", "seeds", "accuracy", "low", "high"]
    assert set(accuracy.images) == {32} and set(accuracy.seeds) == {1}
    for (_, outcomes), row in zip(robustness_cells(study), accuracy.itertuples(), strict=True):
        right = int(study.get(outcomes[0]).tensors["correct"].sum())
        assert row.accuracy == right / 32
        assert (row.low, row.high) == pytest.approx(wilson(right, 32), abs=1e-6)
    assert accuracy.accuracy.nunique() > 3


def test_attacks_do_harm(table):
    """The standard network, at the headline budget."""
    rows = table("accuracy").query("defence == 'standard'").groupby("threat").accuracy.mean()
    assert rows["white-box"] < rows["clean"]
    assert rows["white-box"] < rows["transfer"]


def test_several_seeds(study, monkeypatch):
    monkeypatch.setattr("jsigr_lib.statistics.DRAWS", 50)
    outcomes = [Outcomes(target=study.training("standard", seed=seed)) for seed in (0, 1)]
    row = accuracy_table(study, [({"name": "both"}, outcomes)]).iloc[0]
    correct = correct_of(study, outcomes)
    assert correct.shape == (2, 32)
    assert (row["name"], row.images, row.seeds) == ("both", 32, 2)
    assert row.accuracy == correct.mean()
    assert row.low < row.accuracy < row.high


def test_no_network_is_its_own_source(study):
    cells = matrix_cells(study)
    defences = len(study.profile.defences)
    assert len(cells) == (2 + defences) * defences - defences
    for row, (outcome,) in cells:
        assert outcome.target != outcome.attacked.source
        assert outcome.attacked.eps == study.profile.eps
        assert outcome.target == study.training(row["target"])
        name, _, defence = row["source"].partition(", ")
        source = study.training(defence) if name == "small-cnn" else study.surrogate(name)
        assert outcome.attacked.source == source
    assert len({(row["source"], row["target"]) for row, _ in cells}) == len(cells)


def test_matrix_agrees_with_the_robustness_table(table):
    matrix, accuracy = table("matrix"), table("accuracy")
    headline = accuracy[(accuracy.source == "mlp") & (accuracy.attack == "mi-fgsm") & (accuracy.eps == 0.1)]
    expected = dict(zip(headline.defence, headline.accuracy, strict=True))
    rows = matrix[matrix.source == "mlp, standard"]
    assert dict(zip(rows.target, rows.accuracy, strict=True)) == expected


def test_grid_reads_validation_images_only(study, table):
    p, cells = study.profile, grid_cells(study)
    assert len(cells) == 2 * len(p.lambda_j_grid) * len(p.lambda_s_grid)
    for row, (outcome,) in cells:
        assert outcome.split == "validation"
        assert (outcome.attacked is None) == (row["threat"] == "clean")
        assert outcome.attacked is None or outcome.attacked.split == "validation"
        options = dict(outcome.target.options)
        assert (options["lambda_j"], options["lambda_s"]) == (row["lambda_j"], row["lambda_s"])
    assert set(table("grid").images) == {64}
    assert cells[0][1][0].target == study.training("standard")


def test_history_table(study, table):
    history = table("history")
    assert list(history)[:3] == ["defence", "epoch", "cross_entropy"]
    assert {"jacobian", "selective", "validation_accuracy", "jacobian_norm"} <= set(history)
    assert list(history.defence) == list(study.profile.defences)
    row = history[history.defence == "jsigr"].iloc[0]
    told = study.get(study.training("jsigr")).facts["history"][0]
    assert {name: row[name] for name in told} == told
    assert history[history.defence == "standard"].jacobian.isna().all()


def test_cost_table(study, table):
    cost, accuracy = table("cost").set_index("defence"), table("accuracy").set_index("defence")
    assert list(cost.index) == list(study.profile.defences)
    assert cost.cost["standard"] == 1
    assert (cost.cost.drop("standard") > 1).all()
    assert cost.cost["fast"] < cost.cost["pgd"]
    assert cost.cost["jacobian"] <= cost.cost["jsigr"]
    headline = accuracy.query("source == 'mlp' and attack == 'mi-fgsm' and eps == 0.1")
    for column in ("accuracy", "low", "high"):
        assert cost[column].to_dict() == headline[column].to_dict()
    assert cost.clean.to_dict() == accuracy.query("threat == 'clean'").accuracy.to_dict()


def test_training_seconds_are_measured(study, table):
    table("history")
    seconds = robustness.training_seconds(study)
    assert list(seconds) == list(study.profile.defences)
    assert all(0 < value < 60 for value in seconds.values())
