import copy
from math import sqrt

import numpy as np
import pytest
import torch

from jsigr_lib.measure.flags import FLAGS
from jsigr_lib.study import robustness
from jsigr_lib.study.attacked import Attacked, Outcomes, Probe, correct_of
from jsigr_lib.study.cells import Cell, headline_cells, robustness_cells
from jsigr_lib.study.robustness import accuracy_table, flags_table

CLEAN = {"threat": "clean", "source": "", "attack": "", "eps": 0.0}


def wilson(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson 1927, written out."""
    p = right / n
    middle, half = p + z**2 / (2 * n), z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def test_accuracy_table(study, table):
    accuracy = table("accuracy")
    what = ["architecture", "defence", "threat", "source", "source_defence", "attack", "norm", "eps"]
    numbers = ["origins", "images", "seeds", "accuracy", "low", "high", "eight_bit"]
    common = ["common_images", "common_accuracy", "common_low", "common_high"]
    assert list(accuracy) == [*what, *numbers, *common, "flags"]
    for cell, row in zip(robustness_cells(study), accuracy.itertuples(), strict=True):
        tensors = study.get(cell.outcomes[0]).tensors
        right, n = int(tensors["correct"].sum()), len(tensors["correct"])
        assert (row.images, row.seeds, row.accuracy) == (n, 1, right / n)
        assert (row.low, row.high) == pytest.approx(wilson(right, n), abs=1e-6)
        assert row.eight_bit == tensors["correct_8bit"].double().mean()
    assert accuracy.accuracy.nunique() > 5


def test_common_images_are_those_that_every_network_gets_right(study):
    learnt = ("standard", "jacobian", "jsigr")  # not all do in a few steps
    cells = [cell for cell in headline_cells(study) if cell.row["defence"] in learnt]
    networks = {one.target for cell in cells for one in cell.outcomes}
    networks |= {source for cell in cells for one in cell.outcomes if one.attacked for source in one.attacked.sources}
    assert len(networks) == len(learnt) + 5  # three undefended surrogates and two defended ones
    common = np.logical_and.reduce([correct_of(study, [Outcomes(target=one)])[0] for one in networks])
    assert 0 < common.sum() < 32
    found = accuracy_table(study, cells)
    for cell, row in zip(cells, found.itertuples(), strict=True):
        right = correct_of(study, cell.outcomes)[0][common]
        assert (row.common_images, row.common_accuracy) == (common.sum(), right.mean())
        assert (row.common_low, row.common_high) == pytest.approx(wilson(right.sum(), common.sum()), abs=1e-6)
    assert (found[found.threat == "clean"].common_accuracy == 1).all()


def test_no_common_image_is_no_number(study):
    correct = Outcomes(target=study.training("standard"))
    right = torch.from_numpy(correct_of(study, [correct])[0])
    other = Outcomes(target=study.training("standard", seed=77))
    study.store.save(other, {"correct": ~right, "correct_8bit": ~right.clone()}, {})
    found = accuracy_table(study, [Cell({**CLEAN, "name": i}, [spec]) for i, spec in enumerate((correct, other))])
    assert (found.common_images == 0).all() and found.common_accuracy.isna().all()


def test_attacks_do_harm(table):
    """The standard network, at the headline budget."""
    rows = table("accuracy").query("defence == 'standard' and norm == 'linf'").groupby("threat").accuracy.mean()
    assert rows["white-box"] < rows["clean"]
    assert rows["white-box"] < rows["transfer"]


def test_several_seeds(study):
    outcomes = [Outcomes(target=study.training("standard", seed=seed)) for seed in (0, 1)]
    row = accuracy_table(study, [Cell({"name": "both", **CLEAN}, outcomes)]).iloc[0]
    correct = correct_of(study, outcomes)
    assert (row["name"], row.images, row.seeds) == ("both", 32, 2)
    assert row.accuracy == correct.mean()
    assert row.low < row.accuracy < row.high
    assert row.common_images == correct.all(0).sum()


def test_small_numbers_raise_their_flag(table):
    """Thirty-two images are too few for any interval within five points, unless nearly all are right or wrong."""
    accuracy = table("accuracy")
    few = accuracy["flags"].str.contains("few images")
    assert (few == (accuracy.high - accuracy.low > 0.1)).all()
    assert few.mean() > 0.9


def planted(study, monkeypatch, evidence, facts):
    """The flags of a white-box and a transferred number when probes and attacks report what a test plants."""
    target, source = study.training("standard"), study.surrogate("mlp")
    cells = [Cell({**CLEAN, "threat": "clean"}, [Outcomes(target=target)])]
    for threat, one in {"white-box": target, "transfer": source}.items():
        attacked = Attacked(sources=one, attack="fgsm", eps=0.1)
        row = {"threat": threat, "source": threat, "attack": "fgsm", "eps": 0.1}
        cells.append(Cell(row, [Outcomes(target=target, attacked=attacked)]))
    study.make(robustness.specs(study, cells))
    get = study.get

    def reporting(spec):
        artefact = get(spec)
        if isinstance(spec, Probe):
            name = "target" if spec.target == target else "source"
            artefact.facts["evidence"] |= evidence.get(name, {})
        return type(artefact)(artefact.tensors, artefact.facts | (facts if "farthest" in artefact.facts else {}))

    monkeypatch.setattr(study, "get", reporting, raising=False)
    table = accuracy_table(study, cells)
    return [set(cell.split("; ")) - {"few images", "none"} for cell in table["flags"]]


@pytest.mark.parametrize(
    ("evidence", "facts", "expected"),
    [
        ({}, {}, [set(), set(), set()]),
        ({}, {"farthest": 0.11}, [set(), {"budget exceeded"}, {"budget exceeded"}]),
        ({"target": {"random output": 0.1}}, {}, [{"random output"}] * 3),
        ({"source": {"random output": 0.1}}, {}, [set(), set(), set()]),
        ({"target": {"zero gradients": 0.5}}, {}, [set(), {"zero gradients"}, set()]),
        ({"source": {"zero gradients": 0.5}}, {}, [set(), set(), {"zero gradients"}]),
        ({"source": {"unbounded survives": 0.01}}, {}, [set(), set(), {"unbounded survives"}]),
    ],
)
def test_a_flag_is_beside_the_number_it_concerns(study, monkeypatch, evidence, facts, expected):
    """What speaks against a network's answers is beside all of its numbers; what speaks against gradients is beside the
    numbers that followed them."""
    assert planted(study, monkeypatch, evidence, facts) == expected


def test_flags_table_counts_what_is_raised(study, table):
    accuracy = table("accuracy")
    accuracy["flags"] = "none"
    accuracy.loc[accuracy.defence == "jsigr", "flags"] = "zero gradients; few images"
    accuracy.loc[accuracy.threat == "clean", "flags"] = "few images"
    found = flags_table(study, accuracy).set_index("flag")
    assert list(found.index) == list(FLAGS)
    assert set(found.of) == {len(accuracy)}
    assert found["raised by"]["few images"] == accuracy["flags"].str.contains("few").sum()
    assert found["raised by"]["zero gradients"] == ((accuracy.defence == "jsigr") & (accuracy.threat != "clean")).sum()
    assert found.defences["zero gradients"] == "J-SIGR"
    assert found.defences["few images"] == "all defences"
    assert found.defences["non-finite"] == found.threats["non-finite"] == "none"
    assert "clean" in found.threats["few images"] and "clean" not in found.threats["zero gradients"]


@pytest.mark.parametrize("common", [False, True])
def test_headline_table_reads_the_table_out(study, table, common):
    accuracy = table("accuracy")
    text = robustness.headline_table(study, accuracy, common=common)
    assert list(text.index) == list(study.labels.values())
    row = accuracy.query("defence == 'jsigr' and source == 'vgg' and attack == 'mi-fgsm'").iloc[0]
    start = "common_" if common else ""
    values = [row[f"{start}{name}"] for name in ("accuracy", "low", "high")]
    cell = text.loc["J-SIGR", f"mi-fgsm from vgg (n {row[f'{start}images']})"]
    numbers = [str(i) for i, name in enumerate(FLAGS, 1) if name in row["flags"].split("; ")]
    said = "{:.3f} [{:.3f}, {:.3f}] ⚑ ".format(*values) + ", ".join(numbers)
    assert row[f"{start}images"] < robustness.FEWEST_IMAGES and cell == f"({said})"
    many = robustness.headline_table(study, accuracy.assign(**{f"{start}images": 50}), common=common)
    assert many.loc["J-SIGR", "mi-fgsm from vgg (n 50)"] == said
    titles = [title.split(" (")[0] for title in text]
    transfers = [f"mi-fgsm from {source}" for source in ("mlp", "vgg", "small-cnn", "mlp+vgg+small-cnn")]
    assert titles == ["clean", "pgd", "pgd-restarts", "square", *transfers]


def test_headline_table_finds_a_budget_in_a_table_that_rounds_it(study, table):
    eps, own, accuracy = 8 / 255, study.profile.eps, table("accuracy")
    other = copy.copy(study)
    other.profile = study.profile.model_copy(update={"eps": eps})
    saved = accuracy.assign(eps=accuracy.eps.replace(own, eps).round(4))
    assert robustness.headline_table(other, saved).equals(robustness.headline_table(study, accuracy))


def test_judges_are_asked_about_the_same_images(study, table):
    judges, accuracy = table("judges"), table("accuracy")
    assert set(judges.images) == {study.profile.autoattack_images}
    assert list(judges.judge.unique()) == ["clean", "PGD", "PGD, restarts", "Square", "transferred"]
    assert len(judges) == 5 * len(study.profile.defences)
    square = accuracy[accuracy.attack == "square"].set_index("defence").accuracy
    assert judges[judges.judge == "Square"].set_index("defence").accuracy.to_dict() == square.to_dict()
    assert judges["flags"].str.contains("few images").mean() > 0.9
    one = judges[(judges.judge == "PGD") & (judges.defence == "standard")]["flags"].item()
    same = accuracy.query("defence == 'standard' and threat == 'white-box' and attack == 'pgd' and norm == 'linf'")
    assert set(same["flags"].item().split("; ")) - {"few images"} == set(one.split("; ")) - {"few images"}
    right = study.get(Outcomes(target=study.training("jsigr"))).tensors["correct"][:8].double().mean()
    assert judges[(judges.judge == "clean") & (judges.defence == "jsigr")].accuracy.item() == right


def test_no_budget_is_clean_everywhere(tiny, study):
    """eps = 0 is accepted, and attacks nothing."""
    nothing = tiny(study.store.root, eps=0.0, eps_grid=[0.0], autoattack=["jsigr"], eps_l2=1e-9)
    found = accuracy_table(nothing, robustness_cells(nothing))
    clean = found[found.threat == "clean"].set_index("defence").accuracy
    whole = found[found.images == 32]
    assert whole.accuracy.to_numpy() == pytest.approx(whole.defence.map(clean).to_numpy())
    assert not found["flags"].str.contains("budget|eps 0|monotone|beaten|effort").any()


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
    headline = accuracy.query("source == 'mlp' and source_defence == 'standard' and attack == 'mi-fgsm' and eps == 0.1")
    for column in ("accuracy", "low", "high", "flags"):
        assert cost[column].to_dict() == headline[column].to_dict()
    assert cost.clean.to_dict() == accuracy.query("threat == 'clean'").accuracy.to_dict()


def test_training_seconds_are_measured(study, table):
    table("history")
    seconds = robustness.training_seconds(study)
    assert list(seconds) == list(study.profile.defences)
    assert all(0 < value < 60 for value in seconds.values())
