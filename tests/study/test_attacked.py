import copy

import pytest
import torch

from jsigr_lib.data.data import Split
from jsigr_lib.method import attacks
from jsigr_lib.method.balls import distance, quantise
from jsigr_lib.networks.models import Ensemble
from jsigr_lib.networks.training import predict
from jsigr_lib.store.tensor_files import read_finite
from jsigr_lib.study.attacked import Attacked, Outcomes, Probe, attacked_split, correct_of, transferred, white_box

ROUNDING = 1e-6
GRADIENT_ATTACKS = [name for name in attacks.ATTACKS if name not in ("square", "autoattack")]


def clean(study, defence: str = "standard", **options) -> torch.Tensor:
    return study.get(Outcomes(target=study.training(defence), **options)).tensors["correct"]


@pytest.mark.parametrize("attack", GRADIENT_ATTACKS)
@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_attacked_images_are_within_budget(study, attack, eps):
    images = study.get(Attacked(sources=study.surrogate("mlp"), attack=attack, eps=eps)).tensors["images"]
    original, _ = study.batch("test", 32)
    assert (images.shape, images.dtype) == (original.shape, torch.float32)
    assert images.min() >= 0 and images.max() <= 1
    change = (images - original).abs().amax((1, 2, 3))
    assert change.max() <= eps + ROUNDING
    assert change.min() > eps / 2


def test_attack_goes_through_the_source(study):
    images = study.get(Attacked(sources=study.surrogate("vgg"), attack="fgsm", eps=0.1)).tensors["images"]
    x, y = study.batch("test", 32)
    expected = attacks.fgsm(study.model(study.surrogate("vgg")), x, y, eps=0.1)
    assert (images != expected).float().mean() < 1e-3
    other = attacks.fgsm(study.model(study.surrogate("mlp")), x, y, eps=0.1)
    assert (images != other).float().mean() > 0.1


def test_batches_of_an_attack_are_a_detail(study, monkeypatch):
    spec = Attacked(sources=study.surrogate("mlp"), attack="mi-fgsm", eps=0.1)
    whole = study.get(spec).tensors["images"]
    monkeypatch.setattr("jsigr_lib.study.attacked.ATTACK_BATCH", 7)
    parts = spec.compute(study.store, study.store.device)[0]["images"]
    assert (parts != whole).float().mean() < 1e-3


def test_random_start_is_seeded_by_the_source(study):
    spec = Attacked(sources=study.surrogate("mlp"), attack="pgd", eps=0.1, settings=(("steps", 1),))
    first, second = (spec.compute(study.store, study.store.device)[0]["images"] for _ in range(2))
    assert torch.equal(first, second)


def test_settings_reach_the_attack(study):
    few, many = (
        study.get(Attacked(sources=study.surrogate("mlp"), attack="pgd", eps=0.1, settings=(("steps", steps),)))
        for steps in (1, 6)
    )
    assert not torch.equal(few.tensors["images"], many.tensors["images"])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_split_is_the_one_asked_for(study, split):
    spec = Attacked(sources=study.surrogate("mlp"), attack="fgsm", eps=0.1, split=split)
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
    found = [white_box(study, target, 0.0)]
    found += [transferred(study, target, study.surrogate("mlp"), 0.0, attack=name) for name in GRADIENT_ATTACKS]
    for outcome in found:
        assert torch.equal(study.get(outcome).tensors["correct"], clean(study))
        assert torch.equal(study.get(outcome.attacked).tensors["images"], study.batch("test", 32)[0])


def test_white_box_attacks_the_target_itself(study):
    target = study.training("standard")
    outcome = white_box(study, target, 0.2)
    assert (outcome.target, outcome.attacked.sources) == (target, (target,))
    assert (outcome.attacked.attack, dict(outcome.attacked.settings)) == ("pgd", {"steps": study.profile.pgd_steps})
    assert study.get(outcome).tensors["correct"].sum() < clean(study).sum()


def test_transfer_is_refused_from_the_target_itself(study):
    target = study.training("standard")
    with pytest.raises(ValueError, match=f"the same network .{target.digest}.; accepted: two different ones"):
        transferred(study, target, study.training("standard"), 0.1)
    assert transferred(study, target, study.training("standard", seed=1), 0.1).attacked.sources[0].seed == 1


def test_transfer_uses_the_headline_attack_unless_told_otherwise(study):
    target, source = study.training("standard"), study.surrogate("mlp")
    assert transferred(study, target, source, 0.1).attacked.attack == study.profile.transfer_attacks[0]
    assert transferred(study, target, source, 0.1, attack="pgd").attacked.attack == "pgd"
    outcome = transferred(study, target, source, 0.1, split="validation")
    assert outcome.split == outcome.attacked.split == "validation"


def test_attacked_split_keeps_the_labels(study):
    spec = Attacked(sources=study.surrogate("mlp"), attack="fgsm", eps=0.1)
    test = study.dataset.test
    assert attacked_split(test, None, study.store) is test
    attacked = attacked_split(test, spec, study.store)
    assert torch.equal(attacked.labels, test.labels)
    assert torch.equal(attacked.images, study.get(spec).tensors["images"])


def test_outcomes_of_the_same_images_read_them_once(study, monkeypatch):
    targets, source = map(study.training, ("standard", "jsigr")), study.surrogate("mlp")
    outcomes, reads = [transferred(study, target, source, 0.07) for target in targets], []
    given = outcomes[0].attacked
    study.get(given)
    assert {one.shares for one in outcomes} == {given.digest} != {Outcomes(target=outcomes[0].target).shares} == {""}
    assert all(one not in study.store for one in outcomes)
    monkeypatch.setattr("jsigr_lib.study.attacked.read_finite", lambda path: reads.append(path) or read_finite(path))
    study.make(outcomes)
    assert reads == [study.store.path(given)]
    first, second = (study.get(one) for one in outcomes)
    assert first.facts["farthest"] == second.facts["farthest"] == pytest.approx(0.07, abs=1e-6)
    assert not torch.equal(first.tensors["correct"], second.tensors["correct"])


def test_needs_and_work(study):
    target, source = study.training("standard"), study.surrogate("mlp")
    outcome = transferred(study, target, source, 0.1)
    assert outcome.needs() == [target, study.data, outcome.attacked]
    assert outcome.attacked.needs() == [source, study.data]
    assert Outcomes(target=target).needs() == [target, study.data]
    one, ten = (Attacked(sources=source, attack="pgd", eps=0.1, settings=(("steps", n),)).work() for n in (1, 10))
    assert ten == 10 * one > 0


@pytest.mark.parametrize("attack", [name for name in GRADIENT_ATTACKS if name != "fgsm"])
def test_an_attack_is_priced_by_its_gradients(study, attack):
    """By the images that go through its source while it is made, beside those of PGD."""
    source, passed = study.surrogate("mlp"), {}
    x, y = study.batch("test", 4)
    for name in ("pgd", attack):
        model, passed[name] = copy.deepcopy(study.model(source)), 0

        def count(_, inputs, name=name):
            passed[name] += len(inputs[0]) if torch.is_grad_enabled() else 0

        model.register_forward_pre_hook(count)
        attacks.run(name, model, x, y, eps=0.1, steps=6)
    priced = [Attacked(sources=source, attack=name, eps=0.1, settings=(("steps", 6),)).work() for name in passed]
    assert priced[-1] / priced[0] == pytest.approx(passed[attack] / passed["pgd"], rel=0.2)


def test_transfer_is_refused_from_an_ensemble_with_the_target_in_it(study):
    target = study.training("standard")
    with pytest.raises(ValueError, match=target.digest):
        transferred(study, target, (study.surrogate("mlp"), target), 0.1)


def test_ensemble_attacks_the_mean_logits(study):
    sources = tuple(study.surrogate(name) for name in ("mlp", "vgg"))
    images = study.get(Attacked(sources=sources, attack="fgsm", eps=0.1)).tensors["images"]
    x, y = study.batch("test", 32)
    expected = attacks.fgsm(Ensemble([study.model(source) for source in sources]), x, y, eps=0.1)
    assert (images != expected).float().mean() < 1e-3
    for source in sources:
        assert (images != attacks.fgsm(study.model(source), x, y, eps=0.1)).float().mean() > 0.02


def test_first_images_only(study):
    spec = Attacked(sources=study.surrogate("mlp"), attack="fgsm", eps=0.1, images=5)
    assert len(study.get(spec).tensors["images"]) == 5
    outcome = Outcomes(target=study.training("standard"), attacked=spec)
    assert study.get(outcome).tensors["correct"].shape == (5,)
    whole = Attacked(sources=study.surrogate("mlp"), attack="fgsm", eps=0.1)
    assert (study.get(whole).tensors["images"][:5] != study.get(spec).tensors["images"]).float().mean() < 1e-3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_farthest_is_the_largest_change(study, norm):
    eps = {"linf": 0.1, "l2": 1.5}[norm]
    outcome = transferred(study, study.training("jsigr"), study.surrogate("mlp"), eps, norm=norm)
    images = study.get(outcome.attacked).tensors["images"]
    far = distance(images, study.batch("test", 32)[0], norm).max().item()
    assert study.get(outcome).facts["farthest"] == far
    assert eps / 2 < far <= eps + 1e-5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_outcomes_of_the_image_and_of_its_8_bit_copy(study, norm):
    eps = {"linf": 0.1, "l2": 1.5}[norm]
    target = study.training("jsigr")
    outcome = transferred(study, target, study.surrogate("mlp"), eps, norm=norm)
    images, x = study.get(outcome.attacked).tensors["images"], study.batch("test", 32)[0]
    rounded = quantise(images, x, eps=eps, norm=norm)
    assert (
        torch.equal((255 * rounded).round(), 255 * rounded)
        or (255 * rounded - (255 * rounded).round()).abs().max() < 1e-4
    )
    assert distance(rounded, x, norm).max() <= eps + ROUNDING
    found = study.get(outcome).tensors
    for key, given in {"correct": images, "correct_8bit": rounded}.items():
        split = Split(given, study.dataset.test.labels)
        assert torch.equal(found[key], predict(study.model(target), split) == split.labels)


def test_stored_images_give_the_same_outcomes_bit_for_bit(study):
    outcome = white_box(study, study.training("standard"), 0.1)
    kept = study.get(outcome)
    again, _ = outcome.compute(study.store, study.store.device)
    assert all(torch.equal(kept.tensors[name], again[name]) for name in again)


def test_correct_of_stacks_seeds(study):
    outcomes_ = [Outcomes(target=study.training("standard", seed=seed)) for seed in (0, 1)]
    assert correct_of(study, outcomes_).shape == (2, 32)


def test_probe_is_about_the_first_images(study):
    network = study.training("standard")
    evidence = study.get(Probe(target=network, images=8)).facts["evidence"]
    assert evidence["non-finite"] == evidence["softmax output"] == evidence["random output"] == 0
    assert set(evidence) > {"zero gradients", "unbounded survives"}


def test_split_of_images_and_labels_has_to_be_one(study):
    attacked = Attacked(sources=study.surrogate("mlp"), attack="fgsm", eps=0.1, split="validation")
    with pytest.raises(ValueError, match="split"):
        Outcomes(target=study.training("standard"), attacked=attacked, split="test")
