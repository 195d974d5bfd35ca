"""Policy distillation on a few rooms of MiniGrid: artefacts, what is compared, tables."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("minigrid")

from jsigr_lib.data import fetch
from jsigr_lib.figures import distillation as figures
from jsigr_lib.measure.statistics import rank_correlation
from jsigr_lib.method.distillation import Distillation
from jsigr_lib.method.jacobian import logit_gradient
from jsigr_lib.networks.distilled import Student, selection, trained
from jsigr_lib.study import distillation, distilled, scenes
from jsigr_lib.study.needs import NEEDS

SIZES = {"rooms": 30, "poses": 4, "states": 60, "width": 16, "episodes": 3, "maps": 6, "lambdas": [0.01, 1.0]}
SIZES |= {"student_epochs": 5, "student_rate": 0.005}


@pytest.fixture(scope="module", autouse=True)
def short():
    """Episodes of few steps, and attacks of one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "LONGEST", 4)
        patch.setitem(distilled.ATTACKS, "PGD", distilled.attacks.fgsm)
        patch.setattr(distillation, "GRIDS", (2, 3))
        yield


@pytest.fixture(scope="module")
def few(tiny, tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("rooms"), distillation=SIZES, seeds=[0, 1])


def test_every_student_has_a_teacher_of_its_seed(few):
    for (name, weight), seeds in distillation.policies(few).items():
        assert [one.seed for one in seeds] == few.profile.seeds
        if name == "teacher":
            continue
        assert all(one.bank.teacher.seed == one.seed and one.lambda_s == weight for one in seeds)
        jacobian = few.profile.distillation.jacobian * weight if name == "j-digr" else 0.0
        assert {one.lambda_j for one in seeds} == {jacobian}


def test_bank_holds_the_teachers_scores(few):
    bank = distillation.policies(few)["digr", 0.01][0].bank
    taught, model = few.get(bank).tensors, trained(bank.teacher, few.store)
    rooms, tiles = fetch.rooms_of(bank.teacher.episodes, "train", few.store)
    x = fetch.render(rooms[:5], tiles)
    own = distilled.scores_of(model, x)
    assert len(taught["logits"]) == 60
    assert_close(taught["logits"][:5], model(x))
    for name in ("greydanus", "sarfa"):
        assert_close(taught[name][:5], own[name])
    mask = selection(taught["greydanus"][:5], x, 0.25)
    assert mask.shape == (5, 1, 48, 48) and (mask.mean((1, 2, 3)) == 0.25).all()


def test_a_student_begins_as_its_teacher_and_leaves_it(few):
    student = distillation.policies(few)["digr", 1.0][0]
    assert isinstance(student, Student)
    none = Student(**{**dict(student), "learning_rate": 1e-12})
    models = [trained(one, few.store) for one in (student.bank.teacher, none, student)]
    (first, *_), (same, *_), (other, *_) = (list(model.parameters()) for model in models)
    assert_close(first, same, atol=1e-6, rtol=0)
    assert (first - other).abs().max() > 1e-4


def test_a_penalty_holds_the_gradient_down(few):
    """On the states that the student learnt from, outside the selection: less than KL alone does."""
    every, sizes = distillation.policies(few), few.profile.distillation
    bank = every["digr", 1.0][0].bank
    rooms, tiles = fetch.rooms_of(bank.teacher.episodes, "train", few.store)
    x, taught = fetch.render(rooms[:60], tiles), few.get(bank).tensors
    mask = selection(taught["greydanus"], x, sizes.share)
    found = {}
    for entry in (("kl", 0.0), ("digr", 1.0)):
        model = trained(every[entry][0], few.store)
        found[entry] = Distillation(1.0)(model, x, taught["logits"], mask) - Distillation()(model, x, taught["logits"])
    assert found["digr", 1.0] < found["kl", 0.0]


def test_results_are_of_episodes(few):
    policy = distillation.policies(few)["kl", 0.0][0]
    tensors = few.get(distillation.results(few, policy)).tensors
    rooms, tiles = fetch.rooms_of(policy.rooms, "test", few.store)
    model = trained(policy, few.store)
    played = fetch.play(lambda x: model(x).argmax(1), rooms, tiles)
    assert torch.equal(tensors["return|clean|0"], played.returns)
    asked = {f"{threat}|{level}" for threat, level in distillation.threats(few)} | {"validation|0"}
    assert set(tensors) == {f"{of}|{one}" for of in ("return", "success") for one in asked}


@pytest.mark.parametrize("threat", distilled.THREATS)
def test_threats_stay_in_their_budget(few, threat):
    policy = distillation.policies(few)["kl", 0.0][0]
    rooms, tiles = fetch.rooms_of(policy.rooms, "test", few.store)
    x, seen = fetch.render(rooms, tiles), []
    model = trained(policy, few.store)

    def watched(images):
        seen.append(images.detach().clone())
        return model(images)

    distilled.act_under(watched, "cpu", threat, 0.05, torch.Generator().manual_seed(0), x)
    change = (seen[-1] - x).abs()
    assert 0.04 < change.max() <= 0.05 + 1e-6 and seen[-1].min() >= 0 and seen[-1].max() <= 1


def test_looks(few):
    policy = distillation.policies(few)["digr", 0.01][0]
    tensors = few.get(distillation.looks(policy)).tensors
    rooms, tiles = fetch.rooms_of(policy.rooms, "maps", few.store)
    x, model = fetch.render(rooms, tiles), trained(policy, few.store)
    mass = logit_gradient(model, x, model(x).argmax(1)).abs().sum(1).unfold(1, 8, 8).unfold(2, 8, 8).sum((3, 4))
    places = fetch.deciding(rooms)
    assert_close(tensors["share|gradient"], ((mass * places).sum((1, 2)) / mass.sum((1, 2))).double())
    theirs = distilled.scores_of(trained(policy.bank.teacher, few.store), x)["greydanus"]
    expected = rank_correlation(mass.flatten(1).double().numpy(), theirs.double().numpy())
    np.testing.assert_allclose(tensors["agreement|gradient|teacher"].numpy(), expected, atol=1e-6)


def test_the_strongest_weight_that_costs_little_is_compared(few, monkeypatch):
    values = {
        ("kl", 0.0): 0.95,
        ("digr", 0.01): 0.94,
        ("digr", 1.0): 0.936,
        ("j-digr", 0.01): 0.5,
        ("j-digr", 1.0): 0.6,
    }
    monkeypatch.setattr(distillation, "returns", lambda _, entry, *__: np.full((2, 3), values.get(entry, 0.95)))
    chosen = distillation.matched(few)
    assert chosen["digr"] == ("digr", 1.0) and chosen["input-gradient"] == ("input-gradient", 1.0)
    assert chosen["j-digr"] == ("j-digr", 0.01)  # none is near enough
    table = distillation.matched_table(few).set_index("student")
    assert table.kept.to_dict() == {**dict.fromkeys(distillation.STUDENTS, True), "j-digr": False}
    assert table.cost["kl"] == 1 < table.cost["digr"] == table.cost["input-gradient"] < table.cost["j-digr"]


@pytest.mark.parametrize(("left", "level"), [((0.9, 0.4), 8), ((0.4, 0.3), 4), ((0.9, 0.8), 8)])
def test_compared_where_the_attack_bites(few, tiny, monkeypatch, left, level):
    values = {"clean": 0.9, 4: left[0], 8: left[1]}
    study = tiny(few.store.root, distillation={**SIZES, "levels": [8, 4]})
    monkeypatch.setattr(
        distillation, "returns", lambda _, __, threat, at: np.array([values["clean" if threat == "clean" else at]])
    )
    assert distillation.headline(study) == level


def test_further_seeds_come_after_those_of_the_profile(few, tiny):
    study = tiny(few.store.root, distillation={**SIZES, "further_seeds": [1, 5]}, seeds=[0, 1])
    assert all([one.seed for one in found] == [0, 1, 5] for found in distillation.policies(study).values())


def test_tables(few):
    specs = distillation.specs(few)
    assert {spec.digest for spec in NEEDS["neighbours"]["06_distillation"](few)} == {spec.digest for spec in specs}
    returns = distillation.returns_table(few)
    assert len(returns) == len(distillation.policies(few)) * len(list(distillation.threats(few)))
    assert (returns.n == 3).all() and (returns.seeds == 2).all() and returns["return"].between(0, 1).all()
    maps = distillation.maps_table(few)
    assert set(maps.measure) == set(distillation.MEASURES.values()) and (maps.n == 6).all()
    gains, chosen = distillation.gains_table(few), distillation.matched(few)
    row = gains[(gains.a == "j-digr") & (gains.b == "digr") & gains.measure.str.startswith("share of the gradient")]
    a, b = (distillation.measured(few, chosen[one], "share|gradient") for one in ("j-digr", "digr"))
    assert row.difference.item() == pytest.approx((a - b).mean())
    for name, table in {"returns": returns, "maps": maps, "gains": gains}.items():
        few.save_table(table, name)  # refused if a column says nothing of its tolerance


def test_cost(few):
    passes, times = distillation.passes_table(few), distillation.milliseconds(few)
    assert passes.forward.tolist() == [1, 5, 10] and passes.backward.tolist() == [1, 0, 0]
    assert times.keys() == {"1", "100"} and all(one.keys() == {"gradient", "2", "3"} for one in times.values())


def test_scenes(few):
    walked = scenes.walk(few, "digr", ["kl", "digr"], first=2)
    assert next(scene.step for scene in walked if scene.episode == 1) == 1 and len(walked) <= 8
    assert walked[0].maps.keys() == {"kl", "digr", scenes.GUIDE} and walked[0].maps["kl"].shape == (48, 48)
    first = scenes.first_states(few)
    assert len(first) == 6 and first[0].maps["sarfa"].shape == first[0].deciding.shape == (6, 6)
    assert first[0].best.any() and first[0].deciding[0, 0]


def test_figures_say_in_words_what_they_show(few):
    returns, maps = distillation.returns_table(few), distillation.maps_table(few)
    cost = figures.cost(few, distillation.passes_table(few), distillation.milliseconds(few))
    gains = figures.gains(few, distillation.gains_table(few))
    made = [figures.robustness(few, returns), figures.maps(few, maps), gains, cost]
    _, task = figures.task(few, scenes.first_states(few))
    texts = [alt for _, alt in made]
    assert all(label in text for text in texts[:2] for label in distillation.LABELS.values())
    assert "return under PGD, J-DIGR: " in texts[2]
    assert "4 states of Fetch" in task and "from 4 to 9 masks" in texts[3]


def test_pages_name_the_action_and_what_is_best(few):
    walked = scenes.walk(few, "digr", ["kl", "digr"], first=1)
    (png, said), *_ = figures.pages(walked, "digr")
    assert png.startswith(b"\x89PNG") and f"step 1 of {len(walked)}: DIGR chooses to " in said
    assert fetch.ACTIONS[walked[0].action] in said and "On the tiles that decide: KL alone " in said


def test_study_is_about_the_rooms(few):
    assert distillation.on_fetch(few).footer == (
        "smoke profile: MiniGrid-Fetch-6x6-N2-v0, 120 states for teachers, 60 for students, 2 seeds"
    )
