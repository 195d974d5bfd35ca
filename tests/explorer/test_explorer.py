"""The explorer's scenes are what the library computes, to 8 bits and three digits, and bad settings are one line."""

import base64
import json
from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from jsigr_lib.explorer import pretrained
from jsigr_lib.explorer.controls import ATTACKS, Settings
from jsigr_lib.explorer.explorer import SHOWN, Explorer, of_photographs, of_pretrained, of_study
from jsigr_lib.explorer.parcel import Parcel
from jsigr_lib.measure import statistics
from jsigr_lib.measure.attributions import CONTROLS, MAPS, saliency_map
from jsigr_lib.measure.measures import area, gini, probability_curve, ssim
from jsigr_lib.method import attacks
from jsigr_lib.method.errors import InputError
from jsigr_lib.method.saliency import Selection
from jsigr_lib.study.map_tables import MEASURES
from jsigr_lib.study.maps import REFERENCE, pixels

EIGHT_BITS, THREE_DIGITS = 0.5 + 1e-3, 0.0005 + 1e-4
SHAPE = (3, 12, 14)  # colour, and wider than high: what swaps two axes shows
OWN = {"defences": ["smooth", "sharp"], "steps": 3, "grid": 4, "blur_sigma": 2.0}


def network(seed: int, sharpness: float = 3.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(480, 5), nn.Dropout(0.5))
    with torch.no_grad():
        model[3].weight *= sharpness
    return model.eval()


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    """Of untrained networks on noise, whose parameters are not frozen."""
    return Explorer(
        models={"smooth": network(1, 1.0), "sharp": network(2), "spare": network(3)},
        labels={"smooth": "Smooth", "sharp": "Sharp", "spare": "Spare"},
        source=("other", network(4)),
        images=torch.randint(256, (5, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        truths=[0, 3, 1, 4, 2],
        classes=("ant", "bee", "cat", "dog", "eel"),
        selection=Selection(grid=5, mask_sigma=1.5, blur_sigma=2.5),
        eps=0.08,
        note="noise",
        chosen=("smooth", "sharp"),
    )


def image(explorer: Explorer, i: int) -> tuple[torch.Tensor, torch.Tensor]:
    return explorer.images[i : i + 1].float() / 255, torch.tensor([explorer.truths[i]])


def attacked(explorer: Explorer, name: str, x, y, attack: str = "transferred", *, eps: float = 0.1, steps: int = 3):
    if attack == "transferred":
        return attacks.mi_fgsm(explorer.source[1], x, y, eps=eps, steps=steps)
    return attacks.pgd(explorer.models[name], x, y, eps=eps, steps=steps, generator=torch.Generator().manual_seed(0))


def shown(content: bytes, place: list[int], channels: int = 3) -> np.ndarray:
    """A picture, channels first."""
    offset, length = place
    height, width = SHAPE[1:]
    assert length == height * width * channels
    values = np.frombuffer(content[offset : offset + length], np.uint8)
    return values.reshape(height, width, channels).transpose(2, 0, 1).astype(float)


# settings


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"map": "gradiant"}, ["map", "'gradiant'", "smoothgrad"]),
        ({"map": None}, ["map", "None", "gradient"]),
        ({"map": ["gradient"]}, ["map", "['gradient']", "smoothgrad"]),
        ({"attack": "fgsm"}, ["attack", "'fgsm'", "transferred", "white-box"]),
        ({"attack": {}}, ["attack", "{}", "white-box"]),
        ({"defences": ["smooth", "jsigr"]}, ["defence", "'jsigr'", "smooth, sharp, spare"]),
        ({"defences": [["smooth"]]}, ["defence", "['smooth']", "smooth, sharp, spare"]),
        ({"defences": [None]}, ["defence", "None", "smooth, sharp, spare"]),
        ({"defences": []}, ["defences", "[]", "smooth, sharp, spare"]),
        ({"defences": ["sharp", "sharp"]}, ["defences", "['sharp', 'sharp']", "smooth, sharp, spare"]),
        ({"defences": "smooth"}, ["defences", "'smooth'", "a list"]),
        ({"defences": None}, ["defences", "None", "a list"]),
        ({"defences": {"smooth": 1}}, ["defences", "{'smooth': 1}", "a list"]),
        ({"epsilon": 0.1}, ["setting", "'epsilon'", "eps"]),
        ({"eps": -0.1}, ["eps", "-0.1", "0 to 1"]),
        ({"eps": 1.1}, ["eps", "1.1", "0 to 1"]),
        ({"eps": nan}, ["eps", "nan", "0 to 1"]),
        ({"eps": inf}, ["eps", "inf", "0 to 1"]),
        ({"eps": "a"}, ["eps", "'a'", "0 to 1"]),
        ({"eps": None}, ["eps", "None", "0 to 1"]),
        ({"eps": True}, ["eps", "True", "0 to 1"]),
        ({"eps": [0.1]}, ["eps", "[0.1]", "0 to 1"]),
        ({"steps": 0}, ["steps", "0", "1 to 100"]),
        ({"steps": 101}, ["steps", "101", "1 to 100"]),
        ({"steps": 1.5}, ["steps", "1.5", "whole"]),
        ({"steps": True}, ["steps", "True", "whole"]),
        ({"steps": "x"}, ["steps", "'x'", "whole"]),
        ({"steps": nan}, ["steps", "nan", "whole"]),
        ({"grid": 0}, ["grid", "0", "1 to 64"]),
        ({"grid": 65}, ["grid", "65", "1 to 64"]),
        ({"grid": 2.5}, ["grid", "2.5", "1 to 64"]),
        ({"grid": "7"}, ["grid", "'7'", "1 to 64"]),
        ({"blur_sigma": 0}, ["blur_sigma", "0", "0.1 to 100"]),
        ({"blur_sigma": 101}, ["blur_sigma", "101", "0.1 to 100"]),
        ({"blur_sigma": nan}, ["blur_sigma", "nan", "0.1 to 100"]),
        ({"blur_sigma": True}, ["blur_sigma", "True", "0.1 to 100"]),
        ({"blur_sigma": "wide"}, ["blur_sigma", "'wide'", "0.1 to 100"]),
        ({"image": 5}, ["image", "5", "0 to 4"]),
        ({"image": -1}, ["image", "-1", "0 to 4"]),
        ({"image": 1.5}, ["image", "1.5", "whole"]),
        ({"image": True}, ["image", "True", "whole"]),
        ({"image": None}, ["image", "None", "whole"]),
        ({"upload": ""}, ["0 bytes", "504 bytes"]),
        ({"upload": base64.b64encode(bytes(503)).decode()}, ["503 bytes", "504 bytes"]),
        ({"upload": base64.b64encode(bytes(505)).decode()}, ["505 bytes", "504 bytes"]),
        ({"upload": "no base64!"}, ["504 bytes", "base64"]),
        ({"upload": "ä" * 672}, ["504 bytes", "base64"]),
        ({"upload": 5}, ["504 bytes", "base64"]),
        ({"upload": [0] * 504}, ["504 bytes", "base64"]),
    ],
    ids=str,
)
def test_bad_settings_are_one_line(explorer, given, named):
    with pytest.raises(InputError) as error:
        explorer.scene({**OWN, **given})
    said = str(error.value)
    assert len(said.splitlines()) == 1
    assert [word for word in [*named, "accepted"] if word not in said] == []


@pytest.mark.parametrize("given", [None, [], "settings", 7, {}])
def test_settings_that_are_none_are_refused(explorer, given):
    with pytest.raises(InputError, match=r"accepted: .*(image|names)"):
        explorer.scene(given)


def test_limits_are_accepted(explorer):
    for given in ({"eps": 1}, {"eps": 0}, {"steps": 1}, {"grid": 1}, {"grid": 64}, {"blur_sigma": 0.1}, {"image": 4}):
        explorer.scene({**OWN, **given})
    assert Settings.of({"defences": ["smooth"], "steps": 100}).steps == 100


def test_controls_offer_only_what_is_accepted(explorer):
    about = explorer.about()
    assert json.loads(json.dumps(about, allow_nan=False)) == about
    controls = {one["name"]: one for one in about["controls"]}
    first = {name: one["value"] for name, one in controls.items() if not one.get("local")}
    explorer.scene(first)
    assert first.keys() | {"upload"} == set(Settings.__dataclass_fields__)
    for name, one in controls.items():
        assert one["label"] and one["help"]
        values = one["values"] if one["kind"] in ("range", "pictures") else [value for value, _ in one["values"]]
        if one["kind"] == "several":
            values = [[value] for value in values]
        else:
            assert one["value"] in values
        if not one.get("local"):
            for value in values:
                Settings.of({**first, name: value})
    assert controls["image"]["values"] == [0, 1, 2, 3, 4]
    thumbs = np.frombuffer(base64.b64decode(controls["image"]["pictures"]), np.uint8).reshape(5, 12, 14, 3)
    assert_array_equal(thumbs.transpose(0, 3, 1, 2), explorer.images)
    assert controls["defences"]["value"] == ["smooth", "sharp"]
    assert [name for name, one in controls.items() if "maps" in one] == ["blur_sigma", "grid"]
    assert [value for value, _ in controls["map"]["values"]] == [name for name in MAPS if name not in CONTROLS]
    assert [value for value, _ in controls["attack"]["values"]] == list(ATTACKS)
    assert "other" in controls["attack"]["values"][0][1]
    assert (controls["eps"]["value"], controls["grid"]["value"], controls["blur_sigma"]["value"]) == (0.08, 5, 2.5)
    assert (about["size"], about["channels"], about["classes"]) == ([12, 14], 3, list(explorer.classes))


# pictures


def test_parcel_keeps_equal_pictures_once():
    parcel, one, other = Parcel(), torch.rand(3, 4, 5), torch.rand(1, 4, 5)
    place = parcel.put_image(one)
    assert place == [0, 60]
    assert parcel.put_image(other) == [60, 20]
    assert parcel.put_image(one.clone()) == place
    assert len(parcel.content) == 80
    written = np.frombuffer(bytes(parcel.content[:60]), np.uint8).reshape(4, 5, 3)
    assert_array_equal(written, (255 * one).round().permute(1, 2, 0))


def test_map_is_scaled_to_its_own_high_quantile():
    values = np.arange(1000.0).reshape(25, 40)
    values[-1, -1] = 1e6  # one pixel does not darken all others
    parcel = Parcel()
    parcel.put_map(torch.from_numpy(values)[None])
    written = np.frombuffer(bytes(parcel.content), np.uint8).reshape(25, 40)
    peak = np.quantile(values, 0.995)
    assert 990 < peak < 1000
    assert_allclose(written, np.minimum(values / peak, 1) * 255, atol=EIGHT_BITS)
    assert written.max() == 255
    parcel.put_map(torch.zeros(1, 25, 40))
    assert not any(parcel.content[1000:])


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", [name for name in MAPS if name not in CONTROLS])
def test_pictures_are_what_the_library_computes(explorer, name, attack):
    scene, content = explorer.scene({**OWN, "image": 1, "map": name, "attack": attack, "eps": 0.1})
    x, y = image(explorer, 1)
    assert_array_equal(shown(content, scene["image"]), explorer.images[1])
    assert [card["defence"] for card in scene["cards"]] == ["smooth", "sharp"]
    assert [card["label"] for card in scene["cards"]] == ["Smooth", "Sharp"]
    for card in scene["cards"]:
        x_adv = attacked(explorer, card["defence"], x, y, attack)
        assert_allclose(shown(content, card["attacked"]), x_adv[0] * 255, atol=EIGHT_BITS)
        assert (x_adv - x).abs().max() > 0.09
        for given, images in (("clean", x), ("attacked", x_adv)):
            options = {"grid": 4, "blur_sigma": 2.0, "mask_sigma": 1.5}
            expected = saliency_map(name, explorer.models[card["defence"]], images, y, **options)[0].double().numpy()
            peak = np.quantile(expected, 0.995)
            drawn = shown(content, card["maps"][given], channels=1)
            assert_allclose(drawn, np.minimum(expected / peak, 1) * 255, atol=EIGHT_BITS + 0.01)
            assert drawn.max() == 255 and drawn.std() > 5


def test_images_that_the_attack_flips_are_named(explorer):
    x, y = explorer.images.float() / 255, torch.tensor(explorer.truths)
    guessed = {name: explorer.models[name](x).argmax(1) for name in OWN["defences"]}
    y, source = guessed["sharp"], explorer.models["sharp"]  # so that one network is always right, and attacked itself
    known = replace(explorer, truths=y.tolist(), source=("sharp", source), remembered={})
    x_adv = attacks.mi_fgsm(source, x, y, eps=0.3, steps=3)
    expected = {
        name: [i for i in range(5) if guessed[name][i] == y[i] != explorer.models[name](x_adv).argmax(1)[i]]
        for name in OWN["defences"]
    }
    assert known.scene({**OWN, "eps": 0.3})[0]["flipped"] == expected and expected["sharp"]
    assert known.scene({**OWN, "eps": 0})[0]["flipped"] == {"smooth": [], "sharp": []}
    assert known.scene({**OWN, "attack": "white-box"})[0]["flipped"] is None


def test_networks_differ_and_a_transferred_attack_does_not(explorer):
    for attack in ATTACKS:
        first, second = explorer.scene({**OWN, "attack": attack})[0]["cards"]
        assert first["maps"]["clean"] != second["maps"]["clean"]
        assert (first["attacked"] == second["attacked"]) == (attack == "transferred")


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_budget_leaves_the_image(explorer, attack):
    scene, _ = explorer.scene({**OWN, "eps": 0, "attack": attack})
    for card in scene["cards"]:
        assert card["attacked"] == scene["image"]
        assert card["maps"]["attacked"] == card["maps"]["clean"]
        assert card["chances"]["attacked"] == card["chances"]["clean"]
        measured = {one["name"]: one["attacked"] for one in card["measures"]}
        assert measured["stability"] == measured["SSIM"] == 1


# numbers


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", ["gradient", "occlusion", REFERENCE])
def test_numbers_are_what_the_library_measures(explorer, name, attack):
    settings = {**OWN, "image": 2, "map": name, "attack": attack, "eps": 0.05, "steps": 4}
    scene, _ = explorer.scene(settings)
    json.dumps(scene, allow_nan=False)
    x, y = image(explorer, 2)
    for card in scene["cards"]:
        model = explorer.models[card["defence"]]
        given = {"clean": x, "attacked": attacked(explorer, card["defence"], x, y, attack, eps=0.05, steps=4)}
        both = torch.cat(list(given.values()))  # in one batch, as ties of a map's ranks hang on its last bits
        options = {"grid": 4, "blur_sigma": 2.0, "mask_sigma": 1.5}
        maps, reference = (
            dict(zip(given, saliency_map(kind, model, both, y.repeat(2), **options).split(1), strict=True))
            for kind in (name, REFERENCE)
        )
        clean, after = pixels(maps["clean"]), pixels(maps["attacked"])
        expected = {
            "stability": {"clean": None, "attacked": statistics.rank_correlation(clean, after)[0]},
            "SSIM": {"clean": None, "attacked": ssim(maps["clean"], maps["attacked"]).item()},
        }
        for key, images in given.items():
            own = pixels(maps[key])
            agreement = statistics.rank_correlation(own, pixels(reference[key]))[0]
            expected.setdefault("agreement", {})[key] = agreement
            expected.setdefault("sparseness", {})[key] = gini(own)[0]
            for kind in ("deletion", "insertion"):
                curve = probability_curve(model, images, y, maps[key], kind=kind, blur_sigma=2.0)
                expected.setdefault(f"{kind} AUC", {})[key] = area(curve.double().numpy())[0]
            chances = model(images).softmax(1)[0].detach()
            assert_allclose(card["chances"][key], chances, atol=THREE_DIGITS)
        assert [one["name"] for one in card["measures"]] == list(SHOWN) and expected.keys() == set(SHOWN)
        for one in card["measures"]:
            assert one["help"] == MEASURES[one["name"]].meaning
            for key in given:
                if expected[one["name"]][key] is None:
                    assert one[key] is None
                else:
                    assert one[key] == pytest.approx(expected[one["name"]][key], abs=THREE_DIGITS)


def test_summaries_say_classes_and_chances(explorer):
    scene, _ = explorer.scene({**OWN, "image": 1, "eps": 0.3})
    assert (scene["truth"], scene["about"], scene["summary"]) == (3, 3, "True class: dog.")
    for card in scene["cards"]:
        first, second = (card["chances"][given] for given in ("clean", "attacked"))
        said = [f"{explorer.classes[np.argmax(chances)]} ({max(chances):.0%})" for chances in (first, second)]
        assert card["summary"] == f"{card['label']} says {said[0]} for the image, {said[1]} under attack."


# the reader's own picture


def test_upload_comes_back_and_is_explained_about_what_the_first_network_says(explorer):
    raw = np.random.default_rng(3).integers(0, 256, 504, dtype=np.uint8)
    x = torch.from_numpy(raw.reshape(12, 14, 3).copy()).permute(2, 0, 1)[None].float() / 255
    upload = base64.b64encode(raw.tobytes()).decode()
    said = {name: model(x).argmax(1).item() for name, model in explorer.models.items()}
    assert len(set(said.values())) > 1
    for order in (["smooth", "sharp", "spare"], ["sharp", "smooth", "spare"], ["spare", "sharp", "smooth"]):
        scene, content = explorer.scene({**OWN, "defences": order, "upload": upload, "image": 10**6})
        assert content[slice(scene["image"][0], sum(scene["image"]))] == raw.tobytes()
        assert (scene["truth"], scene["about"], scene["summary"]) == (None, said[order[0]], "Your picture.")
        for card in scene["cards"]:
            about = torch.tensor([said[order[0]]])
            expected = saliency_map("gradient", explorer.models[card["defence"]], x, about)[0].double().numpy()
            drawn = shown(content, card["maps"]["clean"], channels=1)
            assert_allclose(drawn, np.minimum(expected / np.quantile(expected, 0.995), 1) * 255, atol=EIGHT_BITS + 0.01)
            x_adv = attacked(explorer, card["defence"], x, about)
            assert_allclose(shown(content, card["attacked"]), x_adv[0] * 255, atol=EIGHT_BITS)


# one scene beside others


CHANGES = {
    "defences": ["sharp", "smooth"],
    "image": 3,
    "map": "occlusion",
    "attack": "white-box",
    "eps": 0.11,
    "steps": 4,
    "grid": 5,
    "blur_sigma": 2.5,
    "upload": base64.b64encode(bytes(range(252)) * 2).decode(),
}


@pytest.mark.parametrize("name", Settings.__dataclass_fields__)
def test_every_setting_changes_the_scene_and_back(explorer, name):
    before = explorer.scene(OWN)
    assert explorer.scene({**OWN, name: CHANGES[name]}) != before
    assert explorer.scene(OWN) == before


@pytest.mark.parametrize(
    ("name", "kind"), [("grid", "occlusion"), ("grid", "perturbation-linearised"), ("blur_sigma", "perturbation")]
)
def test_settings_of_a_map_change_its_picture(explorer, name, kind):
    def maps(settings):
        scene, content = explorer.scene({**OWN, "map": kind, **settings})
        return shown(content, scene["cards"][0]["maps"]["clean"], channels=1)

    assert np.abs(maps({}) - maps({name: CHANGES[name]})).max() > 3


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_batch_gives_the_scenes_of_its_images(explorer, attack):
    settings = {**OWN, "attack": attack, "map": "smoothgrad"}
    parcel = Parcel()
    scenes = explorer.scenes(Settings.of(settings), explorer.images[:3].float() / 255, explorer.truths[:3], parcel)
    for i, scene in enumerate(scenes):
        alone, content = explorer.scene({**settings, "image": i})
        assert_same_scene(scene, bytes(parcel.content), alone, content)


def test_a_batch_may_hold_images_of_unknown_class(explorer):
    guessed = explorer.models["smooth"](explorer.images[:2].float() / 255).argmax(1).tolist()
    scenes = explorer.scenes(Settings.of(OWN), explorer.images[:2].float() / 255, [None, 3], Parcel())
    assert [(scene["truth"], scene["about"]) for scene in scenes] == [(None, guessed[0]), (3, 3)]


def assert_same_scene(scene: dict, content: bytes, other: dict, other_content: bytes) -> None:
    """Up to the last bit of a picture and the last digit of a number."""
    for one, another in zip(pictures(scene, content), pictures(other, other_content), strict=True):
        assert_allclose(one, another, atol=1)
    for one, another in zip(facts(scene), facts(other), strict=True):
        assert one == (pytest.approx(another, abs=2e-3) if isinstance(another, float) else another)


def pictures(scene: dict, content: bytes) -> list[np.ndarray]:
    places = [scene["image"]]
    for card in scene["cards"]:
        places += [card["attacked"], *card["maps"].values()]
    return [np.frombuffer(content[place[0] : sum(place)], np.uint8).astype(float) for place in places]


def facts(scene: dict) -> list:
    """All that is no picture, one after the other."""
    found = [scene[name] for name in ("truth", "about", "eps", "summary")]
    for card in scene["cards"]:
        found += [card["defence"], card["label"], card["summary"], *card["chances"]["clean"]]
        found += [*card["chances"]["attacked"], *(value for one in card["measures"] for value in one.values())]
    return found


def test_nothing_is_left_behind(explorer):
    def state():
        networks = [*explorer.models.values(), explorer.source[1]]
        modules = [module.training for model in networks for module in model.modules()]
        weights = [weight for model in networks for weight in model.parameters()]
        kept = [weight.detach().clone() for weight in weights]
        return modules, [(w.requires_grad, w.grad) for w in weights], kept, explorer.images.clone()

    before, random, threads = state(), torch.get_rng_state(), torch.get_num_threads()
    hooks = [len(module._forward_hooks) for model in explorer.models.values() for module in model.modules()]
    for name in MAPS:
        for attack in ATTACKS:
            explorer.scene({**OWN, "map": name, "attack": attack})
    after = state()
    assert before[:2] == after[:2]
    assert not any(before[0]) and all(grad is None for _, grad in after[1])
    for one, other in zip([*before[2], before[3]], [*after[2], after[3]], strict=True):
        assert torch.equal(one, other)
    assert torch.equal(random, torch.get_rng_state())
    assert hooks == [len(module._forward_hooks) for model in explorer.models.values() for module in model.modules()]
    assert torch.get_num_threads() == threads


def test_scene_depends_on_no_seed_and_no_number_of_threads(explorer, monkeypatch):
    used = []
    original = explorer.models["smooth"].forward
    monkeypatch.setattr(
        explorer.models["smooth"], "forward", lambda x: (used.append(torch.get_num_threads()), original(x))[1]
    )
    threads = torch.get_num_threads()
    found = []
    try:
        for seed in (1, 2):
            torch.manual_seed(seed)
            torch.set_num_threads(seed)
            found.append(explorer.scene({**OWN, "attack": "white-box", "map": "smoothgrad"}))
            assert torch.get_num_threads() == seed
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]
    assert set(used) == {1}


# where networks come from


def test_explorer_of_a_study(study):
    p = study.profile
    explorer = of_study(study, images=3)
    assert list(explorer.models) == list(study.labels) and explorer.labels == study.labels
    assert explorer.truths == study.dataset.test.labels[:3].tolist()
    assert explorer.classes == study.dataset.classes
    assert study.footer in explorer.note and "3 test images" in explorer.note
    assert (explorer.selection, explorer.eps) == (p.penalty.selection, p.eps)
    scene, content = explorer.scene({"defences": ["jsigr"], "image": 1, "eps": 0.2, "steps": 2})
    x, y = (part[1:2] for part in study.batch("test", 2))
    surrogate = study.surrogate(explorer.source[0])
    x_adv = attacks.mi_fgsm(study.model(surrogate), x, y, eps=0.2, steps=2)
    offset, length = scene["cards"][0]["attacked"]
    assert_allclose(np.frombuffer(content[offset : offset + length], np.uint8), x_adv.flatten() * 255, atol=EIGHT_BITS)
    chances = study.model(study.training("jsigr"))(x).softmax(1)[0]
    assert_allclose(scene["cards"][0]["chances"]["clean"], chances, atol=THREE_DIGITS)


def test_explorer_of_the_networks_that_come_along():
    explorer = of_pretrained(images=3)
    assert list(explorer.models) == list(pretrained.DEFENCES) == list(explorer.labels)
    assert set(explorer.chosen) <= set(explorer.models)
    images, truths = pretrained.images(3)
    assert torch.equal(explorer.images, images) and explorer.truths == truths.tolist()
    scene, content = explorer.scene({"defences": ["standard", "pgd"], "image": 2, "eps": explorer.eps})
    x = images[2:3].float() / 255
    for card in scene["cards"]:
        assert_allclose(
            card["chances"]["clean"], pretrained.load(card["defence"]).model(x).softmax(1)[0], atol=THREE_DIGITS
        )
    x_adv = attacks.mi_fgsm(
        pretrained.load(f"source-{explorer.source[0]}").model, x, truths[2:3], eps=explorer.eps, steps=10
    )
    offset, length = scene["cards"][0]["attacked"]
    assert_allclose(np.frombuffer(content[offset : offset + length], np.uint8), x_adv.flatten() * 255, atol=EIGHT_BITS)


def test_explorer_of_photographs():
    """Those that show a class of the networks come first; about the others a map is what the first network takes them
    for."""
    explorer = of_photographs()
    assert explorer.images.shape == (43, 3, 32, 32)
    assert [explorer.classes[truth] for truth in explorer.truths[:3]] == ["cat", "dog", "deer"]
    assert set(explorer.truths[3:]) == {None} and explorer.source[0] == "vgg-bn"
    assert (explorer.eps, explorer.selection.grid) == (8 / 255, 8)
    asked = {"defences": ["jsigr", "standard"], "image": 7, "eps": explorer.eps}
    scene, _ = explorer.scene(asked)
    x = explorer.images[7:8].float() / 255
    assert scene["truth"] is None and scene["about"] == explorer.models["jsigr"](x).argmax().item()
    assert scene["summary"] == "It shows none of the classes."
    flipped = scene["flipped"]
    for name, model in explorer.models.items():
        if name in asked["defences"]:
            right = [i for i in range(3) if model(explorer.images[i : i + 1] / 255).argmax() == explorer.truths[i]]
            assert set(flipped[name]) <= set(right)
    strong = explorer.scene({**asked, "eps": 0.1, "steps": 20})[0]["flipped"]
    assert sum(map(len, strong.values())) > 0
    (eps,) = (one for one in explorer.about()["controls"] if one["name"] == "eps")
    assert eps["values"] == sorted(set(eps["values"])) and eps["value"] == 8 / 255 and eps["digits"] == 3


@pytest.mark.parametrize("images", [0, 1001, -1])
def test_number_of_images_is_checked(images):
    with pytest.raises(InputError, match=str(images)):
        of_pretrained(images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_networks_on_a_gpu_give_the_same_scene(explorer):
    import copy

    moved = {name: copy.deepcopy(model).cuda() for name, model in explorer.models.items()}
    source = (explorer.source[0], copy.deepcopy(explorer.source[1]).cuda())
    there = Explorer(**{**vars(explorer), "models": moved, "source": source})
    assert_same_scene(*explorer.scene({**OWN, "eps": 0}), *there.scene({**OWN, "eps": 0}))
