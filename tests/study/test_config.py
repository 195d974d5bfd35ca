import math
import os

import pytest
import torch

from jsigr_lib.data.data import DATASETS
from jsigr_lib.method import attacks, jsigr
from jsigr_lib.method import defences as registry
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.saliency import Selection
from jsigr_lib.networks import models
from jsigr_lib.store.paths import PROFILES
from jsigr_lib.study.config import PROFILE_NAMES, TITLES, Profile, budget, load_profile, resolve_device, resolve_jobs

STANDARD = {"label": "standard", "objective": "jsigr", "options": {"lambda_j": 0.0, "lambda_s": 0.0}}
OURS = {"label": "J-SIGR", "objective": "jsigr", "options": {"lambda_j": 0.01, "lambda_s": 1.0}}
GUIDED = {"objective": "interpretation", "options": {"lambda_cs": 1.0, "lambda_gm": 1.0}}
UNNAMED = {"surrogate_defences": [], "autoattack": [], "featured": []}  # fields that name some of the defences


GRID = {"lambda_j": [0.0, 0.01], "lambda_s": [0.0, 1.0]}


def tried(**values) -> dict:
    """Two defences, and the values that J-SIGR's weights were chosen among."""
    return {"defences": {"standard": STANDARD, "jsigr": {**OURS, "tried": values}}, **UNNAMED}


def defences(**third) -> dict:
    """A table of defences whose third one is `third`."""
    return {"standard": STANDARD, "jsigr": OURS, "third": {"label": "third", **third}}


def smoke(**overrides) -> Profile:
    """The smoke profile, some fields replaced; with other defences, no field names one of the old."""
    return load_profile("smoke", **{**(UNNAMED if "defences" in overrides else {}), **overrides})


def message_of(**overrides) -> str:
    with pytest.raises(InputError) as error:
        smoke(**overrides)
    return str(error.value)


@pytest.mark.parametrize("name", PROFILE_NAMES)
def test_profile_loads(name):
    profile = load_profile(name)
    assert profile.name == name
    for defence in profile.defences:
        registry.build(profile.defences[defence].objective, **profile.options(defence))
    claimed = {"standard", "input-gradient", "jacobian", "jsigr", "pgd"}
    assert claimed <= set(profile.defences)
    assert len({defence.label for defence in profile.defences.values()}) == len(profile.defences)


def test_profiles_are_the_files():
    assert {"smoke", "quick", "paper"} <= set(PROFILE_NAMES)
    assert tuple(sorted(path.stem for path in PROFILES.iterdir() if path.is_file())) == PROFILE_NAMES
    assert load_profile().name == "quick"


def test_profile_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_profile("smoke").eps = 0.2


@pytest.mark.parametrize("name", ["smok", "", "SMOKE", "../smoke", None, 3])
def test_unknown_profile(name):
    with pytest.raises(InputError) as error:
        load_profile(name)
    assert str(error.value) == f"unknown profile {name!r}; accepted: {', '.join(PROFILE_NAMES)}"


REFUSED = [
    # one field: what it was given, and what the message has to say
    ({"epochz": 3}, "unknown field 'epochz'; accepted: ", ", epochs, "),
    ({"penalty": {"shares": 0.1}}, "unknown field 'penalty.shares'; accepted: "),
    ({"penalty": 3}, "penalty = 3: ", "valid dictionary"),
    ({"epochs": "many"}, "epochs = 'many': ", "valid integer"),
    ({"epochs": 2.5}, "epochs = 2.5: ", "valid integer"),
    ({"epochs": 0}, "epochs = 0: ", "greater than or equal to 1"),
    ({"surrogate_epochs": -1}, "surrogate_epochs = -1: ", "greater than or equal to 1"),
    ({"train_images": 0}, "train_images = 0: ", "greater than or equal to 1"),
    ({"validation_images": 0}, "validation_images = 0: ", "greater than or equal to 1"),
    ({"test_images": 0}, "test_images = 0: ", "greater than or equal to 1"),
    ({"batch_size": 0}, "batch_size = 0: ", "greater than or equal to 1"),
    ({"pgd_steps": 0}, "pgd_steps = 0: ", "greater than or equal to 1"),
    ({"saliency_images": 0}, "saliency_images = 0: ", "greater than or equal to 2"),
    ({"gallery_images": 0}, "gallery_images = 0: ", "greater than or equal to 1"),
    ({"gallery_images": 13}, "gallery_images = 13: ", "less than or equal to 12"),
    ({"boundary_images": 1}, "boundary_images = 1: ", "greater than or equal to 2"),
    ({"boundary_images": 8.5}, "boundary_images = 8.5: ", "valid integer"),
    ({"estimator_draws": 9}, "estimator_draws = 9: ", "greater than or equal to 10"),
    ({"estimator_draws": 20.5}, "estimator_draws = 20.5: ", "valid integer"),
    ({"image_size": 7}, "image_size = 7: ", "greater than or equal to 8"),
    ({"learning_rate": 0}, "learning_rate = 0: ", "greater than 0"),
    ({"learning_rate": math.inf}, "learning_rate = inf: ", "finite"),
    ({"augment": "perhaps"}, "augment = 'perhaps': ", "boolean"),
    ({"data_root": 5}, "data_root = 5: ", "valid string"),
    ({"eps": -0.1}, "eps = -0.1: ", "greater than or equal to 0"),
    ({"eps": 1.01}, "eps = 1.01: ", "less than or equal to 1"),
    ({"eps": math.nan}, "eps = nan: ", "finite"),
    ({"eps": "big"}, "eps = 'big': ", "valid number"),
    ({"eps": [0.1]}, "eps = [0.1]: ", "valid number"),
    ({"eps_grid": []}, "eps_grid = []: ", "at least 1 item"),
    ({"eps_grid": 0.1}, "eps_grid = 0.1: ", "valid list"),
    ({"eps_grid": [0.1, 8.0]}, "eps_grid.1 = 8.0: ", "less than or equal to 1"),
    ({"eps_grid": [-0.5]}, "eps_grid.0 = -0.5: ", "greater than or equal to 0"),
    ({"eps_grid": [0.0, math.nan]}, "eps_grid.1 = nan: ", "finite"),
    ({"seeds": []}, "seeds = []: ", "at least 1 item"),
    ({"seeds": 3}, "seeds = 3: ", "valid list"),
    ({"seeds": [1, 2, 1]}, "seeds = [1, 2, 1]; accepted: different values"),
    ({"seeds": [-1]}, "seeds.0 = -1: ", "greater than or equal to 0"),
    ({"seeds": [0.5]}, "seeds.0 = 0.5: ", "valid integer"),
    ({"dataset": "imagenet"}, f"unknown dataset 'imagenet'; accepted: {', '.join(DATASETS)}"),
    ({"architectures": []}, "architectures = []: ", "at least 1 item"),
    ({"architectures": "vgg"}, "architectures = 'vgg': ", "valid list"),
    ({"architectures": ["vgg", "alexnet"]}, "unknown architecture 'alexnet'; accepted: ", *models.ARCHITECTURES),
    ({"surrogates": ["alexnet"]}, "unknown architecture 'alexnet'; accepted: ", *models.ARCHITECTURES),
    ({"surrogates": []}, "surrogates = []: ", "at least 1 item"),
    ({"widths": {"alexnet": 3}}, "unknown architecture 'alexnet'; accepted: ", *models.ARCHITECTURES),
    ({"transfer_attacks": ["fgsm", "magic"]}, "unknown attack 'magic'; accepted: ", *attacks.ATTACKS),
    ({"transfer_attacks": []}, "transfer_attacks = []: ", "at least 1 item"),
    ({"surrogate_seeds": 0}, "surrogate_seeds = 0: ", "greater than or equal to 1"),
    ({"surrogate_defences": ["magic"]}, "unknown defence in surrogate_defences 'magic'; accepted: standard, "),
    ({"surrogate_defences": ["pgd", "pgd"]}, "surrogate_defences = ['pgd', 'pgd']; accepted: different values"),
    ({"surrogate_defences": ["standard"]}, "surrogate_defences = ['standard']; accepted: defences besides 'standard'"),
    ({"surrogate_defences": "pgd"}, "surrogate_defences = 'pgd': ", "valid list"),
    ({"autoattack": ["pgd", "magic"]}, "unknown defence in autoattack 'magic'; accepted: standard, "),
    ({"autoattack": ["pgd", "pgd"]}, "autoattack = ['pgd', 'pgd']; accepted: different values"),
    ({"featured": ["magic"]}, "unknown defence in featured 'magic'; accepted: standard, ", "fast-jsigr"),
    ({"featured": ["jsigr", "jsigr"]}, "featured = ['jsigr', 'jsigr']; accepted: different values"),
    ({"truth_images": -1}, "truth_images = -1: ", "greater than or equal to 0"),
    ({"truth_seeds": 0}, "truth_seeds = 0: ", "greater than or equal to 1"),
    ({"truth_defences": ["magic"]}, "unknown defence in truth_defences 'magic'; accepted: standard, "),
    ({"truth_options": {"magic": {}}}, "unknown defence in truth_options 'magic'; accepted: standard, "),
    ({"truth_options": {"jsigr": {"width": 1.0}}}, "objective 'jsigr': ", "width"),
    ({"truth_options": {"jsigr": {"lambda_s": math.nan}}}, "truth_options.jsigr.lambda_s = nan: ", "finite"),
    ({"eps_l2": 0.0}, "eps_l2 = 0.0: ", "greater than 0"),
    ({"eps_l2": math.inf}, "eps_l2 = inf: ", "finite"),
    ({"eps_l2": math.nan}, "eps_l2 = nan: ", "finite"),
    ({"pgd_restarts": 0}, "pgd_restarts = 0: ", "greater than or equal to 1"),
    ({"square_queries": 0}, "square_queries = 0: ", "greater than or equal to 1"),
    ({"square_queries": 2.5}, "square_queries = 2.5: ", "valid integer"),
    ({"strong_images": 0}, "strong_images = 0: ", "greater than or equal to 1"),
    ({"penalty": {"share": 1.5}}, "penalty.share = 1.5: ", "less than or equal to 1"),
    ({"penalty": {"fraction": 0}}, "penalty.fraction = 0: ", "greater than 0"),
    ({"penalty": {"coin": 0.0}}, "penalty.coin = 0.0: ", "greater than 0"),
    ({"penalty": {"coin": 1.0}}, "penalty.coin = 1.0: ", "less than 1"),
    ({"penalty": {"coin": math.nan}}, "penalty.coin = nan: ", "finite"),
    ({"penalty": {"estimator": "magic"}}, "penalty.estimator = 'magic': ", "'single-pass', 'double-backprop' or 'ex"),
    ({"penalty": {"norm": "l3"}}, "penalty.norm = 'l3': ", "'l2' or 'l1'"),
    ({"penalty": {"kind": "firm"}}, "penalty.kind = 'firm': ", "'hard' or 'soft'"),
    ({"penalty": {"grid": 65}}, "penalty.grid = 65: ", "less than or equal to 64"),
    ({"penalty": {"mask_sigma": 0}}, "penalty.mask_sigma = 0: ", "greater than 0"),
    ({"penalty": {"blur_sigma": math.nan}}, "penalty.blur_sigma = nan: ", "finite"),
    ({"distillation": {"rooms": 0}}, "distillation.rooms = 0: ", "greater than or equal to 1"),
    ({"distillation": {"width": 7}}, "distillation.width = 7: ", "multiple of 2"),
    ({"distillation": {"share": 1.5}}, "distillation.share = 1.5: ", "less than or equal to 1"),
    ({"distillation": {"lambdas": [0.0]}}, "distillation.lambdas.0 = 0.0: ", "greater than 0"),
    ({"distillation": {"levels": [4, 4]}}, "levels = [4, 4]; accepted: different values"),
    ({"distillation": {"levels": [256]}}, "distillation.levels.0 = 256: ", "less than or equal to 255"),
    ({"distillation": {"states": 2.5}}, "distillation.states = 2.5: ", "valid integer"),
    ({"distillation": {"state": 3}}, "unknown field 'distillation.state'; accepted: "),
    (tried(lambda_j=[0.0, 0.01]), "tried of defence 'jsigr' = ", "accepted: lambda_j and lambda_s, both with 0"),
    (tried(lambda_j=[0.01], lambda_s=[0.0, 1.0]), "tried of defence 'jsigr' = ", "both with 0"),
    (tried(lambda_j=[0.0, 0.01], lambda_s=[0.0, 3.0]), "lambda_s of defence 'jsigr' = 1.0", "one that was tried"),
    (tried(lambda_j=[0.0, math.inf], lambda_s=[0.0, 1.0]), "defences.jsigr.tried.lambda_j.1 = inf: ", "finite"),
    (tried(**GRID, width=[1.0]), "objective 'jsigr': ", "width"),
    (tried(**GRID, share=[]), "defences.jsigr.tried.share = []: ", "at least 1 item"),
    ({"replications": ["magic"]}, "unknown profile in replications 'magic'; accepted: "),
    ({"replications": ["smoke"]}, "replications = ['smoke']; accepted: other profiles than this one"),
    (
        {"replications": ["full-mnist"], "data_name": "MNIST"},
        "names of the data and of its replications = ['MNIST', 'MNIST']; accepted: different ones",
    ),
    ({"replications": ["quick", "quick"]}, "replications = ['quick', 'quick']; accepted: different values"),
    ({"data_name": "MNIST\n"}, r"data_name = 'MNIST\n'; accepted: printable characters"),
    ({"everywhere": ["magic"]}, "unknown defence in everywhere 'magic'; accepted: standard, "),
    ({"everywhere": ["standard", "pgd"]}, "everywhere = ['standard', 'pgd']; accepted: 'standard', 'jsigr' and others"),
    ({"transfer_steps": 0}, "transfer_steps = 0: ", "greater than or equal to 1"),
    ({"defences": {"standard": STANDARD, "jsigr": {**OURS, "seeds": 0}}}, "defences.jsigr.seeds = 0: ", "equal to 1"),
    # several fields, and what a defence is made of
    ({"test_images": 5, "saliency_images": 6}, "saliency_images = 6; accepted: at most test_images = 5"),
    ({"defences": {}}, "'standard'; accepted: "),
    ({"defences": {"jsigr": OURS}}, "'standard'; accepted: jsigr"),
    ({"defences": {"standard": STANDARD}}, "'jsigr'; accepted: standard"),
    ({"defences": defences()}, "defences.third.objective", "is missing"),
    ({"defences": defences(objective="magic")}, "unknown objective 'magic'; accepted: ", *registry.OBJECTIVES),
    ({"defences": defences(objective="jsigr", color=3)}, "unknown field 'defences.third.color'"),
    ({"defences": defences(objective="jsigr", options={"lambda_j": -1.0, "lambda_s": 0.0})}, "lambda_j = -1.0", "0 to"),
    ({"defences": defences(objective="jsigr", options={"lambda_j": 1.0, "lambda_s": math.nan})}, "lambda_s", "finite"),
    ({"defences": defences(objective="jsigr", options={"lambda": 1.0})}, "objective 'jsigr': ", "'lambda'"),
    ({"defences": defences(objective="adversarial", options={"eps": 2.0})}, "eps = 2.0 is out of range; accepted: 0"),
    ({"defences": defences(objective="trades", options={"epsilon": 0.1})}, "objective 'trades'", "'epsilon'"),
    (
        {"defences": defences(objective="adversarial", options={"eps": 0.1, "epsilon": 0.1})},
        "objective 'adversarial'",
        "'epsilon'",
    ),
    ({"defences": defences(objective="otjr", options={"eps": 0.1, "slices": 2.5})}, "slices = 2.5; accepted: "),
    ({"defences": defences(objective="trades", options={"eps": 0.1, "beta": -1.0})}, "beta = -1.0 is out of range; ac"),
    ({"defences": defences(**GUIDED)}, "teacher of defence 'third' = False; accepted: True"),
    (
        {"defences": defences(objective="trades", options={"eps": 0.1}, teacher=True)},
        "teacher of defence 'third' = True; accepted: False",
    ),
    (
        {"defences": {"standard": {**STANDARD, "teacher": True}, "jsigr": OURS}},
        "teacher of defence 'standard' = True; accepted: False",
    ),
    ({"defences": defences(objective="adversarial")}, "objective 'adversarial': ", "'eps'"),
    ({"defences": defences(objective="adversarial", options={"eps": 0.1, "steps": 0})}, "steps = 0; accepted: "),
    ({"defences": defences(objective="jsigr", options={**OURS["options"], "grid": 2.5})}, "grid = 2.5", "accepted: "),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: str(case[0])[:60])
def test_refused_in_one_line_that_names_the_value_and_what_is_accepted(case):
    overrides, *fragments = case
    message = message_of(**overrides)
    assert [fragment for fragment in fragments if fragment not in message] == []
    assert "\n" not in message


WOULD_FAIL_LATER = [
    ({"surrogates": ["small-cnn"]}, "no source for transfer attacks: IndexError in robustness.sources_of(...)[0]"),
    ({"widths": {"vgg": 0}}, "RuntimeError while training"),
    ({"widths": {"vgg": -1}}, "RuntimeError while training"),
    ({"widths": {"resnet8": 4}}, "refused only when its network is built"),
    (tried(lambda_j=[0.0, 0.01, -1.0], lambda_s=[0.0, 1.0]), "refused only when its network is built"),
    (tried(lambda_j=[0.0, 0.01], lambda_s=[0.0, 1.0, 1.0]), "ValueError of DataFrame.pivot in figures.lambda_grid"),
    ({"transfer_attacks": ["fgsm", "fgsm"]}, "the same rows twice"),
    ({"surrogates": ["mlp", "mlp"]}, "the same rows twice"),
    ({"seeds": [2**70]}, "overflow in torch.manual_seed"),
    ({"gallery_images": 12, "saliency_images": 10}, "gallery.glance lacks maps: ValueError of zip"),
    ({"saliency_images": 1, "gallery_images": 1}, "gallery.in_full shows two images: IndexError"),
    (
        {"defences": {"standard": {**STANDARD, "teacher": True}, "jsigr": OURS}},
        "its teacher is itself: RecursionError in Study.training",
    ),
    ({"penalty": {"coin": 1e-9}}, "refused only when its network is built"),
    ({"eps": True}, "a truth value is no number"),
    ({"epochs": "3"}, "a string is no number"),
]


@pytest.mark.parametrize(
    "overrides", [pytest.param(overrides, id=f"{overrides}: {reason}"[:60]) for overrides, reason in WOULD_FAIL_LATER]
)
def test_refused_before_anything_is_computed(overrides):
    with pytest.raises(InputError):
        load_profile("smoke", **overrides)


def test_every_architecture_needs_a_source_of_another():
    with pytest.raises(InputError):
        load_profile("smoke", architectures=["small-cnn", "mlp"], surrogates=["mlp"])


def test_missing_field_shows_no_other_fields():
    assert "'label'" not in message_of(defences=defences())


def test_none_replaces_nothing():
    changed = dict.fromkeys(Profile.model_fields.keys() - {"name"})
    assert load_profile("smoke", **changed) == load_profile("smoke")
    assert load_profile("smoke", eps=None, epochs=7) == load_profile("smoke", epochs=7)


@pytest.mark.parametrize(
    "change", [{"eps": 0.77}, {"epochs": 99}, {"seeds": [4, 2]}, {"augment": True}, {"data_root": "x"}, {"widths": {}}]
)
def test_override_replaces_one_field(change):
    before, after = load_profile("smoke").model_dump(), load_profile("smoke", **change).model_dump()
    assert {name: after[name] for name in after if after[name] != before[name]} == change


def test_toml_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("augment = true\n" + (PROFILES / "smoke.toml").read_text())
    mine = load_profile(str(path), batch_size=5)
    assert mine == load_profile("smoke", augment=True, batch_size=5).model_copy(update={"name": "mine"})
    assert load_profile(path) == load_profile(str(path))


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        (None, ["mine.toml is no profile: there is no such file; accepted: full, ", "quick, smoke, or a TOML file"]),
        (b"epochs = ", ["mine.toml is no profile: ", "accepted: "]),
        (b"\xff\xfe", ["mine.toml is no profile: ", "accepted: "]),
        (b'dataset = "mnist"', ["train_images", "is missing"]),
        (b"", ["is missing"]),
    ],
)
def test_bad_toml_file(tmp_path, content, fragments):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_profile(str(path))
    assert [fragment for fragment in fragments if fragment not in str(error.value)] == []
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "third",
    [
        {**GUIDED, "teacher": True},
        {"objective": "jsigr", "options": OURS["options"], "teacher": True},
        {"objective": "jsigr", "options": OURS["options"]},
        {"objective": "adversarial", "options": {"eps": 0.1, **OURS["options"]}},
    ],
    ids=["gradients", "selection", "self targets", "none"],
)
def test_teacher_fits_the_objective(third):
    assert smoke(defences=defences(**third)).defences["third"].teacher == third.get("teacher", False)


def test_fields_that_name_defences_take_any_of_them():
    named = {"surrogate_defences": ["third", "jsigr"], "autoattack": ["third"], "featured": ["standard", "third"]}
    third = defences(objective="otjr", options={"eps": 0.1})
    profile = smoke(defences=third, **named)
    assert {name: getattr(profile, name) for name in named} == named
    with pytest.raises(
        InputError, match=r"^unknown defence in surrogate_defences 'pgd'; accepted: standard, jsigr, th"
    ):
        load_profile("smoke", defences=third)


# options


def test_options_of_the_family_include_the_shared_penalty():
    third = defences(objective="adversarial", options={"eps": 0.2, "steps": 3})
    fourth = {"label": "fourth", "objective": "input-gradient", "options": {"lambda_s": 2.0}}
    profile = smoke(penalty={"share": 0.3, "grid": 5}, defences={**third, "fourth": fourth})
    shared = profile.penalty.model_dump()
    assert (shared["share"], shared["grid"]) == (0.3, 5)
    assert profile.options("jsigr") == {**shared, "lambda_j": 0.01, "lambda_s": 1.0}
    assert profile.options("fourth") == {**shared, "lambda_s": 2.0}
    assert profile.options("third") == {"eps": 0.2, "steps": 3}
    assert profile.options("third", lambda_j=0.0, lambda_s=0.0).keys() == {"eps", "steps", "lambda_j", "lambda_s"}
    stacked = profile.options("third", lambda_j=0.1, lambda_s=0.2)
    assert stacked == {**shared, "eps": 0.2, "steps": 3, "lambda_j": 0.1, "lambda_s": 0.2}
    assert registry.build("adversarial", **stacked).objective.selection.share == 0.3


@pytest.mark.parametrize("objective", sorted(registry.OBJECTIVES.keys() - set(registry.PENALISED)))
def test_options_of_the_others_are_their_own(objective):
    own = {
        "scaleable-input-gradient": {"lambda_s": 1.0},
        "interpretation": GUIDED["options"],
        "trades": {"eps": 0.1},
        "otjr": {"eps": 0.1},
    }[objective]
    profile = smoke(defences=defences(objective=objective, options=own, teacher=objective == "interpretation"))
    assert profile.options("third") == own


def test_no_penalty_has_no_options_of_one():
    """So that whatever describes the penalty retrains no standard network."""
    profile = smoke(defences={"standard": STANDARD, "jsigr": OURS})
    assert profile.options("standard") == {"lambda_j": 0.0, "lambda_s": 0.0}
    assert profile.options("jsigr", lambda_j=0.0, lambda_s=0.0) == profile.options("standard")
    assert "share" in profile.options("jsigr", lambda_j=0.0)
    assert "share" in profile.options("jsigr", lambda_s=0.0)


def test_penalty_is_the_objectives_by_default():
    """A profile that says nothing of the estimator, the share or the coin trains what JSIGR is by default."""
    profile = smoke(penalty={}, defences={"standard": STANDARD, "jsigr": OURS})
    built = registry.build("jsigr", **profile.options("jsigr"))
    assert vars(built) == vars(jsigr.JSIGR(0.01, 1.0))


def test_own_options_win():
    own = {**OURS["options"], "share": 0.9}
    profile = smoke(defences={"standard": STANDARD, "jsigr": {**OURS, "options": own}})
    assert profile.options("jsigr")["share"] == 0.9
    assert profile.options("jsigr", share=0.1, lambda_s=3.0)["share"] == 0.1
    assert profile.options("jsigr", lambda_s=3.0)["lambda_s"] == 3.0


def test_penalty_gives_its_selection():
    penalty = load_profile("smoke", penalty={"share": 0.2, "kind": "soft", "grid": 3, "blur_sigma": 1.5}).penalty
    assert penalty.selection == Selection(share=0.2, kind="soft", grid=3, mask_sigma=2.0, blur_sigma=1.5)


@pytest.mark.parametrize(
    ("eps", "grid", "expected"),
    [
        (0.1, [0.0, 0.2, 0.05], [0.05, 0.1, 0.2]),
        (0.1, [0.1, 0.1], [0.1]),
        (0.0, [0.0], [0.0]),
        (0.0, [1.0], [0.0, 1.0]),
        (0.3, [0.0], [0.3]),
    ],
)
def test_budgets_are_the_grid_with_the_headline(eps, grid, expected):
    assert load_profile("smoke", eps=eps, eps_grid=grid).budgets == expected


@pytest.mark.parametrize(
    ("eps", "words"),
    [(8 / 255, "8/255"), (1 / 255, "1/255"), (0.1, "0.1"), (0.2, "0.2"), (0.0, "0"), (1.0, "1"), (0.0314, "0.0314")],
)
def test_a_budget_is_said_in_levels_where_that_is_shorter(eps, words):
    assert budget(eps) == words


# the machine


@pytest.mark.parametrize(
    ("name", "cuda", "expected"), [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu")]
)
def test_device(monkeypatch, name, cuda, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert resolve_device(name) == torch.device(expected)


def test_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^device 'cuda' is not available here; accepted: auto, cpu$"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("cuda").type == "cuda"
    with pytest.raises(InputError, match=r"^unknown device 'tpu'; accepted: auto, cpu, cuda$"):
        resolve_device("tpu")


def test_jobs(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert (resolve_jobs(), resolve_jobs(0), resolve_jobs(1), resolve_jobs(7)) == (3, 3, 1, 7)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert (resolve_jobs(0), resolve_jobs(2)) == (6, 2)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert resolve_jobs(0) == 1


@pytest.mark.parametrize("jobs", [-1, 1.5, "2", True, None])
def test_bad_jobs(jobs):
    with pytest.raises(InputError) as error:
        resolve_jobs(jobs)
    assert str(error.value) == f"jobs = {jobs!r}; accepted: a whole number from 1, or 0 for one per core"


def test_every_data_set_has_a_title():
    assert set(TITLES) == set(DATASETS)
