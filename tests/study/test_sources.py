"""Which sources there are, and which of them count."""

import pytest

from jsigr_lib.study import sources
from jsigr_lib.study.sources import attack_sources, defended_sources, ensembles, families, sources_of


@pytest.fixture(scope="module")
def two(tiny, study):
    """Two seeds of every undefended source, two architectures of targets."""
    return tiny(
        study.store.root, surrogate_seeds=2, architectures=["small-cnn", "mlp"], surrogate_defences=["pgd", "jsigr"]
    )


def test_families_are_other_architectures_and_another_seed_of_the_targets_own(study, two):
    assert sources_of(study, "small-cnn") == ["mlp", "vgg", "small-cnn"]
    assert sources_of(study, "mlp") == ["vgg", "mlp"]
    for family, name in zip(families(two, "small-cnn"), ["mlp", "vgg", "small-cnn"], strict=True):
        assert family.name == name
        assert family.origins == ((two.surrogate(name, seed=0),), (two.surrogate(name, seed=1),))


def test_no_source_is_a_target(two):
    targets = set(two.networks)
    made = [one for name in ("small-cnn", "mlp") for one in sources.attackers(two, name)]
    assert not targets & {network for one in made for origin in one.origins for network in origin}


def test_ensembles_are_all_undefended_ones_and_all_of_the_first_seed(two):
    undefended, mixed = ensembles(two, "small-cnn")
    names = ["mlp", "vgg", "small-cnn"]
    assert undefended.origins == tuple(tuple(two.surrogate(name, seed=seed) for name in names) for seed in (0, 1))
    defended = [two.surrogate(name, defence) for defence in ("pgd", "jsigr") for name in names[:2]]
    assert mixed.origins == ((*undefended.origins[0], *defended),)
    assert mixed.defence == "standard+pgd+jsigr"
    assert [one.origins[0][0] for one in defended_sources(two, "small-cnn")] == defended


def test_without_defended_surrogates_there_is_one_ensemble(tiny, study):
    plain = tiny(study.store.root, surrogate_defences=[])
    assert [one.defence for one in ensembles(plain, "small-cnn")] == ["standard"]
    assert defended_sources(plain, "small-cnn") == []


def test_every_source_has_a_name_of_its_own(study, two):
    for one in (study, two):
        names = [(source.architecture, source.defence) for source in attack_sources(one, "small-cnn")]
        assert len(names) == len(set(names))
        assert {("small-cnn", name) for name in one.profile.defences} <= set(names)


ACCURACIES = {  # source, clean target, attacked target -> bites, votes
    "bites": ((0.80, 0.84, 0.42), (True, True)),
    "leaves too much": ((0.80, 0.84, 0.43), (False, False)),
    "is incompetent": ((0.78, 0.84, 0.10), (True, False)),
    "is just competent": ((0.79, 0.84, 0.10), (True, True)),
}


@pytest.mark.parametrize(("accuracies", "expected"), ACCURACIES.values(), ids=ACCURACIES)
def test_a_source_votes_if_it_is_competent_and_bites(study, monkeypatch, accuracies, expected):
    own, clean, attacked = accuracies
    outcomes = iter((clean, attacked, own))
    monkeypatch.setattr(sources, "correct_of", lambda study, ones: _Mean(next(outcomes)))
    family = families(study, "small-cnn")[0]
    found = sources._judged(study, "small-cnn", family)
    assert (found["bites"], found["votes"]) == expected
    assert found["share_left"] == pytest.approx(attacked / clean)


class _Mean:
    """Outcomes of this mean."""

    def __init__(self, value: float):
        self.value = value

    def mean(self) -> float:
        return self.value


def test_a_defended_source_never_votes(study):
    study.make(sources.specs(study))
    table = sources.sources_table(study)
    assert not table[table.source_defence != "standard"].votes.any()
    assert (table.votes <= table.bites).all()
    voting = {one.architecture for one in sources.voting(study, "small-cnn")}
    assert voting == set(table[table.votes].source)


def test_sources_are_judged_on_validation_images(study):
    assert {getattr(spec, "split", "validation") for spec in sources.specs(study)} == {"validation"}
    assert {one.split for one in sources.strength_cells(study).values()} == {"validation"}


def test_strength_is_asked_of_every_family_with_more_and_more_steps(tiny, study):
    other = tiny(study.store.root, transfer_attacks=["mi-fgsm", "vt-fgsm", "fgsm"])
    asked = set(sources.strength_cells(other))
    assert {steps for attack, _, steps in asked if attack == "mi-fgsm"} == {5, 10, 20, 40}
    assert {steps for attack, _, steps in asked if attack == "vt-fgsm"} == {5, 10}
    assert {source for _, source, _ in asked} == {"mlp", "vgg", "small-cnn"}


def test_steps_of_the_profile_reach_every_transfer_attack_but_fgsm(tiny, study):
    other = tiny(study.store.root, transfer_steps=7, transfer_attacks=["mi-fgsm", "fgsm"])
    assert sources.headline_attack(other, "small-cnn").settings == (("steps", 7),)
    assert sources.transfer_settings(other.profile, "fgsm") == ()
    assert sources.headline_attack(study, "small-cnn").settings == ()
