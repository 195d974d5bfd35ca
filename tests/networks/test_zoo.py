import json

import pytest
import torch

from jsigr_lib.data.data import DataSpec
from jsigr_lib.method import defences, jsigr
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.jacobian import logit_gradient
from jsigr_lib.method.saliency import perturbation_saliency, selection_mask
from jsigr_lib.networks.counting import count_flops
from jsigr_lib.networks.zoo import Bank, Training, trained
from jsigr_lib.study.attacked import Outcomes, white_box

STANDARD = {"label": "standard", "objective": "jsigr", "options": {"lambda_j": 0.0, "lambda_s": 0.0}}
OURS = {"label": "J-SIGR", "objective": "jsigr", "options": {"lambda_j": 0.01, "lambda_s": 1.0}}
PLAIN = (("lambda_j", 0.0), ("lambda_s", 0.0))


@pytest.fixture(scope="module")
def taught(tiny, study):
    """A study whose J-SIGR has a teacher, in the same store as the other."""
    table = {"standard": STANDARD, "jsigr": {**OURS, "teacher": True}, "soft": {**OURS, "teacher": True}}
    table["soft"] = {**table["soft"], "label": "soft", "options": {**OURS["options"], "kind": "soft"}}
    return tiny(study.store.root, defences=table, surrogate_defences=[], autoattack=[], featured=[])


def bank_of(spec: Training) -> Bank:
    (bank,) = (need for need in spec.needs() if isinstance(need, Bank))
    return bank


# trained networks


def test_weights_that_are_not_finite_are_no_network(tiny, tmp_path):
    """Whether a file has them, whose sums are right, or training ends with them."""
    own = tiny(tmp_path / "runs")
    spec = own.training("standard")
    good = own.get(spec)
    own.store.save(spec, {name: torch.full_like(value, torch.nan) for name, value in good.tensors.items()}, good.facts)
    with pytest.raises(InputError, match=rf"not finite; set aside as {spec.digest}.damaged; the same command"):
        trained(spec, own.store)
    assert all(torch.equal(value, good.tensors[name]) for name, value in own.get(spec).tensors.items())
    with pytest.raises(InputError, match=r"no longer finite; accepted: a lower learning_rate"):
        own.get(Training(**{**spec.model_dump(), "learning_rate": 1e30}))


@pytest.mark.parametrize("defence", ["standard", "jsigr", "pgd"])
def test_trained_network_is_the_artefact(study, defence):
    spec = study.training(defence)
    model, artefact = trained(spec, study.store), study.get(spec)
    state = model.state_dict()
    assert artefact.tensors.keys() == state.keys()
    assert all(torch.equal(artefact.tensors[name], value) for name, value in state.items())
    assert [row["epoch"] for row in artefact.facts["history"]] == [1]
    untrained = spec.untrained(study.dataset.shape).state_dict()
    assert any(not torch.equal(untrained[name], value) for name, value in state.items())
    assert not study.store.checkpoint(spec).exists()


def test_trained_network_is_frozen_and_in_evaluation_mode(study):
    model = trained(study.training("standard"), study.store)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert next(model.parameters()).device == study.store.device


def test_header_says_what_was_trained(study):
    """From the header alone, the spec again; where the files were is not part of it."""
    spec = study.training("jsigr")
    header = study.get(spec).facts["spec"]
    assert "root" not in header["data"]
    assert Training.model_validate(header) == spec.model_copy(
        update={"data": spec.data.model_copy(update={"root": ""})}
    )
    assert Training.model_validate_json(json.dumps(header)).digest == spec.digest


def test_untrained_networks_of_one_seed_are_equal(study):
    shape = study.dataset.shape
    first, again, other = (
        study.training(name, seed=seed).untrained(shape) for name, seed in (("standard", 0), ("jsigr", 0), ("jsigr", 1))
    )
    weights = [model.state_dict()["1.weight"] for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_normalisation_is_that_of_the_training_images(study):
    model = trained(study.training("standard"), study.store)
    assert model[0].mean.flatten().tolist() == pytest.approx(study.dataset.shape["mean"])
    assert model[0].std.flatten().tolist() == pytest.approx(study.dataset.shape["std"])


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "mlp"},
        {"width": 5},
        {"objective": "input-gradient"},
        {"options": PLAIN},
        {"epochs": 2},
        {"batch_size": 17},
        {"learning_rate": 0.1},
        {"augment": True},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_counts(study, change):
    spec = study.training("jsigr")
    assert Training(**{**dict(spec), **change}).digest != spec.digest


def test_data_and_teacher_count(study, taught):
    spec = study.training("jsigr")
    fewer = spec.data.model_copy(update={"train_images": 100})
    fewer = DataSpec(**fewer.model_dump())
    assert Training(**{**dict(spec), "data": fewer}).digest != spec.digest
    assert taught.training("jsigr").digest != spec.digest
    other = Training(**{**dict(taught.training("jsigr")), "teacher": study.training("standard", seed=1)})
    assert other.digest != taught.training("jsigr").digest


def test_objective_is_built_from_the_options(study):
    objective = study.training("jsigr", lambda_j=0.5, share=0.2, fraction=0.7).build_objective()
    assert isinstance(objective, jsigr.JSIGR)
    assert (objective.lambda_j, objective.fraction, objective.selection.share) == (0.5, 0.7, 0.2)
    assert isinstance(study.training("pgd").build_objective(), defences.AdversarialTraining)


# teachers


def test_bank_keeps_exactly_the_share(taught):
    bank = bank_of(taught.training("jsigr"))
    masks = taught.get(bank).tensors["guide"]
    assert (masks.shape, masks.dtype) == ((512, 1, 28, 28), torch.float16)
    assert set(masks.unique().tolist()) == {0, 1}
    assert masks.float().sum((1, 2, 3)).unique().tolist() == [round(taught.profile.penalty.share * 784)]


def test_soft_bank_is_relative_saliency(taught):
    masks = taught.get(bank_of(taught.training("soft"))).tensors["guide"].float()
    assert masks.min() >= 0
    assert masks.amax((1, 2, 3)).unique().tolist() == [1]
    assert len(masks.unique()) > 100


def test_bank_has_the_teachers_map_of_each_image(taught):
    bank = bank_of(taught.training("jsigr"))
    x, y = taught.dataset.train.batch(torch.tensor([0, 17, 255]))
    maps = perturbation_saliency(taught.model(bank.teacher), x, y, **taught.profile.penalty.selection.perturbation)
    expected = selection_mask(maps, share=taught.profile.penalty.share)
    agreed = (taught.get(bank).tensors["guide"][[0, 17, 255]] == expected).float().mean()
    assert agreed > 0.995  # another batch size may order near ties differently


def test_bank_belongs_to_the_selection_and_the_teacher(taught):
    spec = taught.training("jsigr")
    assert spec.teacher == taught.training("standard")
    assert spec.needs() == [spec.data, spec.guide]
    assert spec.guide.needs() == [spec.teacher, spec.data]
    assert (spec.guide.teacher, spec.guide.holds) == (spec.teacher, "selection")
    assert dict(spec.guide.selection) == {
        name: value
        for name, value in taught.profile.penalty.model_dump().items()
        if name in ("share", "kind", "grid", "mask_sigma", "blur_sigma")
    }
    heavier = taught.training("jsigr", lambda_s=9.0)
    assert heavier.guide == spec.guide
    assert taught.training("jsigr", share=0.1).guide.digest != spec.guide.digest
    assert taught.training("jsigr", grid=14).guide.work() == 4 * spec.guide.work()


def test_teacher_changes_the_network(study, taught):
    """The same objective, seed and start: only the masks differ."""
    taught.make([taught.training("jsigr")])
    own, teachers = (one.get(one.training("jsigr")).tensors for one in (study, taught))
    assert any(not torch.equal(own[name], teachers[name]) for name in own)


def test_gradient_bank_has_the_teachers_gradient_of_each_image(study):
    spec = study.training("interpretation")
    bank = bank_of(spec)
    assert (bank.teacher, bank.holds, bank.selection) == (study.training("standard"), "gradient", ())
    assert bank.needs() == [bank.teacher, study.data]
    targets = study.get(bank).tensors["guide"]
    assert (targets.shape, targets.dtype) == ((512, 1, 28, 28), torch.float16)
    x, y = study.dataset.train.batch(torch.tensor([0, 17, 511]))
    for found, d in zip(targets[[0, 17, 511]].float(), logit_gradient(study.model(bank.teacher), x, y), strict=True):
        near = (d - d.mean()).abs() <= d.std()
        assert 0.5 < near.float().mean() < 0.95
        assert found[near].abs().max() == 0
        torch.testing.assert_close(found[~near], d[~near], atol=1e-6, rtol=2e-3)


def test_gradient_bank_belongs_to_the_teacher_alone(study):
    spec = study.training("interpretation")
    assert study.training("interpretation", lambda_cs=7.0).guide == spec.guide
    assert study.training("interpretation", lambda_cs=7.0).digest != spec.digest
    assert study.training("interpretation", seed=1).guide.digest != spec.guide.digest
    masks = Bank(teacher=spec.teacher)
    assert (masks.holds, masks.digest == spec.guide.digest) == ("selection", False)
    assert masks.work() / spec.guide.work() == 7**2 / 2  # passes


def test_what_a_teacher_hands_down_trains_the_network(study):
    """Another teacher, or no weight on it, is another network."""
    spec = study.training("interpretation")
    strangers = {**dict(spec), "teacher": study.training("standard", seed=1)}
    specs = [spec, Training(**strangers), study.training("interpretation", lambda_cs=0.0)]
    first, other, alone = (study.get(one).tensors["1.weight"] for one in specs)
    assert not torch.equal(first, other)
    assert not torch.equal(first, alone)
    assert list(study.get(spec).facts["history"][0])[1:4] == ["cross_entropy", "dissimilarity", "magnitude"]


@pytest.mark.parametrize("defence", ["interpretation", "scaleable-l2", "scaleable-l1", "trades", "otjr", "fast-jsigr"])
def test_every_defence_trains(study, defence):
    row = study.get(study.training(defence)).facts["history"][0]
    assert all(torch.tensor(value).isfinite() for value in row.values())
    assert 0 < row["cross_entropy"] < 2.5  # mean of the epoch; a guess among ten costs 2.3


# work


@pytest.mark.parametrize("name", ["pgd", "jsigr", "standard"])
def test_an_outcome_costs_its_passes_however_its_network_was_trained(study, name):
    clean = Outcomes(target=study.training(name))
    assert clean.work() == Outcomes(target=study.training("standard")).work() > 0
    attack = white_box(study, study.training(name), 0.1)
    images = attack.attacked.images or study.profile.test_images
    assert attack.work() == 2 * images * study.training(name).pass_flops


def test_work_is_operations(study):
    spec = study.training("jsigr")
    assert spec.step_flops == count_flops("small-cnn", 8, "jsigr", spec.options, 28)
    assert spec.work() == 1 * 512 * spec.step_flops
    assert Training(**{**dict(spec), "epochs": 3}).work() == 3 * spec.work()


def test_work_knows_the_size_of_a_folders_images(study):
    folder = {"dataset": "folder", "content": "x", "train_images": 9, "validation_images": 1, "test_images": 1}
    small, large = (
        Training(**{**dict(study.training("standard")), "data": DataSpec(**folder, image_size=size)})
        for size in (32, 64)
    )
    assert large.step_flops > 2 * small.step_flops
