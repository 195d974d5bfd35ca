"""The explorer's scenes in a page: all that its controls can ask for, as the explorer itself would show it."""

import base64
import gzip
import io
import json
import re
from html import unescape
from itertools import product

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

from jsigr_lib.explorer import snapshot
from jsigr_lib.explorer.controls import ATTACKS
from jsigr_lib.explorer.explorer import of_study
from jsigr_lib.explorer.snapshot import fragment, html
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.paths import FRONT

IMAGES, KINDS = 2, ("gradient", "grad-cam", "perturbation")


@pytest.fixture(scope="module", autouse=True)
def small():
    """Fewer images and maps, for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "IMAGES", IMAGES)
        patch.setattr(snapshot, "KINDS", KINDS)
        yield


@pytest.fixture(scope="module")
def page(study) -> str:
    return html(study)


@pytest.fixture(scope="module")
def made(study, page):
    """What it knows, its scenes, its pictures."""
    artefact = study.get(snapshot.snapshot(study))
    return artefact.facts["about"], artefact.facts["scenes"], artefact.tensors["pictures"].numpy().tobytes()


def keyed(about: dict) -> list[dict]:
    """The controls that a scene depends on."""
    return [one for one in about["controls"] if one["kind"] != "several" and not one.get("local")]


def options(control: dict) -> list:
    return control["values"] if control["kind"] in ("range", "pictures") else [value for value, _ in control["values"]]


def test_every_combination_of_the_controls_has_its_scene(made):
    about, scenes, _ = made
    assert [one["name"] for one in keyed(about)] == ["image", "map", "attack", "eps"]
    lengths = [range(len(options(one))) for one in keyed(about)]
    assert set(scenes) == {",".join(map(str, places)) for places in product(*lengths)}
    assert len(scenes) == IMAGES * len(KINDS) * len(ATTACKS) * 6
    for one in keyed(about):
        assert one["value"] in options(one)


def test_controls_are_those_that_were_made(study, made):
    about, scenes, _ = made
    controls = {one["name"]: one for one in about["controls"]}
    assert controls.keys() == {"image", "defences", "map", "attack", "eps", "share"}
    assert options(controls["image"]) == [0, 1] and options(controls["map"]) == list(KINDS)
    assert options(controls["attack"]) == list(ATTACKS)
    assert_allclose(options(controls["eps"]), np.array([0, 0.25, 0.5, 1, 1.5, 2]) * study.profile.eps)
    assert options(controls["defences"]) == ["standard", "jsigr", "pgd", "fast"]
    assert controls["share"]["local"] and not about["upload"]
    assert study.footer in about["note"]
    for scene in scenes.values():
        assert [card["defence"] for card in scene["cards"]] == ["standard", "jsigr", "pgd", "fast"]


def test_scenes_are_the_explorers(study, made):
    about, scenes, content = made
    explorer = of_study(study, images=IMAGES)
    p = study.profile.penalty
    own = {"defences": options(about["controls"][1]), "grid": p.grid, "blur_sigma": p.blur_sigma}
    controls = keyed(about)
    for places in [(0, 0, 0, 0), (1, 0, 0, 3), (0, 2, 0, 5), (1, 1, 0, 1), (0, 1, 1, 2), (1, 2, 1, 4)]:
        chosen = {one["name"]: options(one)[k] for one, k in zip(controls, places, strict=True)}
        scene, (live, pictures) = scenes[",".join(map(str, places))], explorer.scene({**own, **chosen})
        assert (scene["truth"], scene["about"], scene["eps"]) == (live["truth"], live["about"], chosen["eps"])
        assert scene["summary"] == live["summary"]
        assert live["flipped"] is None or set(live["flipped"]) == set(own["defences"])
        for card in scene["cards"]:
            said = [np.argmax(card["chances"][given]) == scene["truth"] for given in ("clean", "attacked")]
            assert (places[0] in scene["flipped"][card["defence"]]) == (said == [True, False])
        assert_allclose(picture(content, scene["image"]), picture(pictures, live["image"]))
        for card, other in zip(scene["cards"], live["cards"], strict=True):
            assert (card["defence"], card["label"]) == (other["defence"], other["label"])
            assert_allclose(picture(content, card["attacked"]), picture(pictures, other["attacked"]), atol=1)
            assert_allclose(card["chances"]["attacked"], other["chances"]["attacked"], atol=2e-3)
            for given in ("clean", "attacked"):
                drawn, expected = (picture(c, o["maps"][given]) for c, o in ((content, card), (pictures, other)))
                assert_allclose(drawn, expected, atol=1)
            for measure, expected in zip(card["measures"], other["measures"], strict=True):
                assert measure == pytest.approx(expected, abs=5e-3, nan_ok=True)


def picture(content: bytes, place: list[int]) -> np.ndarray:
    offset, length = place
    assert length == 784 and offset + length <= len(content)
    return np.frombuffer(content[offset : offset + length], np.uint8).astype(float)


def test_its_key_does_not_depend_on_what_opens_an_explorer(study):
    files = snapshot.snapshot(study).code.files
    assert {"snapshot", "explorer", "controls", "attributions", "attacks"} <= files.keys()
    assert not files.keys() & {"study", "pretrained", "record", "results", "deviations", "config", "cells"}


def test_equal_pictures_are_kept_once(made):
    _, scenes, content = made
    places = {tuple(scene["image"]) for scene in scenes.values()}
    assert len(places) == IMAGES
    for scene in scenes.values():
        places |= {tuple(place) for card in scene["cards"] for place in (card["attacked"], *card["maps"].values())}
    kept = [content[offset : offset + length] for offset, length in places]
    assert len(set(kept)) == len(kept) and sum(map(len, kept)) == len(content)


def test_budgets_stay_in_the_pixel_range(tiny, study):
    large = snapshot.snapshot(tiny(study.store.root, eps=0.8))
    assert_allclose(large.budgets, [0, 0.2, 0.4, 0.8, 1])
    assert 0.8 in large.budgets
    assert snapshot.snapshot(tiny(study.store.root, eps=0.0)).budgets == (0.0,)


# the fragment


PAYLOAD = re.compile(r'unpack\("([A-Za-z0-9+/=]+)"\)')


def test_fragment_is_one_piece_and_asks_for_nothing(page):
    text = re.sub(r'<img alt="[^"]*" src="data:[^"]*">', "", PAYLOAD.sub("", page))
    assert (FRONT / "explorer.js").read_text() in page and (FRONT / "explorer.css").read_text() in page
    assert (
        re.findall(r"https?:|wss?:|[\"'(]\s*//|url\(|@import|\bimport\b|\bfetch\b|src\s*=|href\s*=|XMLHttp", text) == []
    )
    assert [len(re.findall(tag, page)) for tag in ("<script", "</script", "<style", "</style")] == [1, 1, 1, 1]
    assert page.startswith("<style>") and page.endswith("</script>")
    assert not re.search(r"<(html|head|body|link|iframe|img)\b", text)


def test_fragment_carries_scenes_and_pictures(page, made):
    about, scenes, content = made
    packed = [gzip.decompress(base64.b64decode(found)) for found in PAYLOAD.findall(page)]
    assert [json.loads(packed[0]), packed[1]] == [scenes, content]
    (said,) = re.findall(r"fromSaved\((\{.*\}), scenes, pictures\)", page)
    assert json.loads(said) == about


def test_what_a_fragment_packs_comes_back(page, made):
    assert snapshot.unpacked(page) == made
    assert snapshot.unpacked("<p>unpack</p>") is None


def test_a_glance_is_one_image_that_one_network_loses(made):
    about, scenes, content = made
    at = about["controls"][4]["values"].index(about["controls"][4]["value"])
    scenes = json.loads(json.dumps(scenes))
    for i, flips in ((0, []), (1, ["standard"])):  # of two images the second is flipped, for the standard network alone
        for card in scenes[f"{i},0,0,{at}"]["cards"]:
            right = np.eye(10)[scenes[f"{i},0,0,{at}"]["truth"]]
            wrong = np.roll(right, 1)
            card["chances"] = {
                "clean": right.tolist(),
                "attacked": (wrong if card["defence"] in flips else right).tolist(),
            }
    shown, kept, pictures = snapshot.unpacked(snapshot.glance(about, scenes, content))
    assert shown["only"] == ["eps"] and set(kept) == {f"0,0,{e}" for e in range(6)}
    for e in range(6):
        before, after = scenes[f"1,0,0,{e}"], kept[f"0,0,{e}"]
        assert after["summary"] == before["summary"]
        assert [card["defence"] for card in after["cards"]] == ["standard", "jsigr"]
        assert_allclose(picture(pictures, after["image"]), picture(content, before["image"]))
        for one, other in zip(after["cards"], before["cards"], strict=False):
            for place, was in ((one["attacked"], other["attacked"]), (one["maps"]["clean"], other["maps"]["clean"])):
                assert_allclose(picture(pictures, place), picture(content, was))
    assert len(pictures) <= 784 * (1 + 6 * 2 * 3)


def test_readers_without_scripts_see_the_first_scene(page, made):
    about, scenes, content = made
    controls = keyed(about)
    scene = scenes[",".join(str(options(one).index(one["value"])) for one in controls)]
    before = page.split("<script")[0].split("</style>")[1]
    ((alt, data),) = re.findall(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)">', before)
    assert scene["summary"] in unescape(alt) and all(card["summary"] in unescape(alt) for card in scene["cards"][:2])
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        drawn = np.asarray(image)[1::3, 1::3]
    assert drawn.shape == (2 * 32, 4 * 32, 3)
    for row, card in enumerate(scene["cards"][:2]):
        for column, place in ((0, scene["image"]), (2, card["attacked"])):
            tile = drawn[32 * row + 2 : 32 * row + 30, 32 * column + 2 : 32 * column + 30]
            assert_allclose(tile, np.repeat(picture(content, place).reshape(28, 28, 1), 3, 2))
        brightest = drawn[32 * row + 2 : 32 * row + 30, 34:62][
            picture(content, card["maps"]["clean"]).reshape(28, 28) == 255
        ]
        assert (brightest == [251, 252, 191]).all() and len(brightest)


@pytest.mark.parametrize(
    "name", ["</script><b>", "<!--<script>", "</SCRIPT >", '"); alert("', "`${alert(1)}`", "é</style>"]
)
def test_names_cannot_leave_their_script(made, name):
    about, scenes, content = made
    named = {**about, "classes": [name] * 10, "note": name}
    labelled = {**next(iter(scenes.values())), "summary": name}
    labelled["cards"] = [{**card, "label": name} for card in labelled["cards"]]
    page = fragment(named, {snapshot.first(named): labelled}, content)
    assert [len(re.findall(tag, page, re.I)) for tag in ("<script", "</script", "</style", "<!--")] == [1, 1, 1, 0]
    assert "<b>" not in page
    (said,) = re.findall(r"fromSaved\((\{.*\}), scenes, pictures\)", page)
    assert json.loads(said) == named
    assert json.loads(gzip.decompress(base64.b64decode(PAYLOAD.findall(page)[0])))[snapshot.first(named)] == labelled


def test_equal_runs_give_equal_bytes(study, made, page, tmp_path):
    assert html(study) == page
    spec = snapshot.snapshot(study)
    elsewhere = Store(tmp_path)
    for need in spec.needs():
        source, target = study.store.path(need), elsewhere.path(need)
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    again = elsewhere.get(spec)
    facts = again.facts
    assert fragment(facts["about"], facts["scenes"], again.tensors["pictures"].numpy().tobytes()) == page


def test_artefact_is_reused(study, page, monkeypatch):
    monkeypatch.setattr(snapshot.Snapshot, "compute", lambda *_: pytest.fail("computed again"))
    assert html(study) == page
    spec = snapshot.snapshot(study)
    assert spec in study.store and spec.work() > 0
    assert spec.digest != snapshot.snapshot(study).model_copy(update={"images": 1}).digest
    torch.manual_seed(1)
    assert html(study) == page
