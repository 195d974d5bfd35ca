"""The explorer in a real Chromium: baked into a page, live in JupyterLab and in Voila; and its benchmark."""

import base64
import io
import re
import socket
import time
from contextlib import contextmanager

import numpy as np
import pytest
from nbconvert import HTMLExporter
from nbformat import v4
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from benchmarks import explorer as benchmark
from benchmarks import run, tables
from jsigr_lib.explorer import snapshot
from jsigr_lib.explorer.controls import ATTACKS
from jsigr_lib.explorer.explorer import Explorer, of_pretrained
from jsigr_lib.measure.attributions import MAPS
from jsigr_lib.method.errors import InputError

USABLE = benchmark.USABLE
PAGE = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
LISTEN = """
window.drawn = [];
addEventListener("jsigr:drawn", (event) => {
  window.shown = event.detail.settings;
  window.drawn.push(Number(event.target.dataset.drawn));
  window.drawnAt ??= performance.now();
});"""
STATE = """() => Object.fromEntries([...document.querySelectorAll(".jsigr-explorer .card")].map((card) => [
  card.dataset.defence,
  {
    pictures: Object.fromEntries([...card.querySelectorAll("canvas")].map((c) => [c.dataset.picture, c.toDataURL()])),
    labels: Object.fromEntries([...card.querySelectorAll("canvas")].map((c) => [c.dataset.picture, c.ariaLabel])),
    verdict: card.querySelector(".verdict").textContent,
    tables: [...card.querySelectorAll("table")].map((table) =>
      [...table.tBodies[0].rows].map((row) =>
        [...row.querySelectorAll("td:not(.chance)")].map((td) => td.textContent))),
  },
]))"""
PIXELS = """([defence, picture]) => {
  const canvas = document.querySelector(`[data-defence="${defence}"] [data-picture="${picture}"]`);
  return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
}"""
OF_THE_MAP = frozenset(["clean-map", "clean-selection", "attacked-map", "attacked-selection"])
CLEAN = {"clean-image", "clean-map", "clean-selection"}
ATTACKED = {"attacked-image", "attacked-map", "attacked-selection", "change"}


class Seen:
    """A page with what it said and asked for. Whatever does not come from this machine is stopped."""

    def __init__(self, context, inside: str):
        self.asked, self.said, self.sent = [], [], []
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.add_init_script(LISTEN)
        context.route(re.compile(rf"^(?!{inside}|data:|blob:)"), self._stop)
        self.page.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("websocket", self._listen)

    def _stop(self, route):
        self.asked.append(route.request.url)
        route.abort()

    def _listen(self, socket):
        if not socket.url.startswith("ws://127.0.0.1:"):
            self.asked.append(socket.url)
        socket.on("framesent", lambda frame: self.sent.append(frame) if b'"settings"' in as_bytes(frame) else None)

    # what is seen

    def state(self) -> dict:
        return self.page.evaluate(STATE)

    def pixels(self, defence: str, picture: str) -> np.ndarray:
        """[height, width, red green blue opacity]."""
        return np.array(self.page.evaluate(PIXELS, [defence, picture]), np.uint8).reshape(28, 28, 4)

    def error(self) -> str:
        return self.page.locator(".jsigr-explorer .error").text_content()

    # what is done

    def control(self, name: str):
        return self.page.locator(f'.jsigr-explorer [data-control="{name}"]')

    def defence(self, name: str):
        return self.page.locator(f'.jsigr-explorer [data-control="defences"][value="{name}"]')

    @contextmanager
    def drawing(self):
        """Waits until what is done here has led to a new picture, and all is settled."""
        before = self.page.evaluate("window.drawn.length")
        yield
        self.page.wait_for_function("(before) => window.drawn.length > before", arg=before)
        self.page.wait_for_function("!document.querySelector('.jsigr-explorer[aria-busy]')")

    def set(self, name: str, position: int) -> None:
        control = self.control(name)
        with self.drawing():
            if name == "image":
                control.nth(position).check()
            elif control.evaluate("node => node.tagName") == "SELECT":
                control.select_option(index=position)
            else:
                control.fill(str(position))

    def position(self, name: str) -> int:
        if name == "image":
            return self.control(name).evaluate_all("all => all.findIndex((one) => one.checked)")
        return self.control(name).evaluate("node => node.selectedIndex ?? node.valueAsNumber")

    def focus(self, name: str) -> None:
        self.control(name).nth(self.position(name) if name == "image" else 0).focus()


def as_bytes(frame: bytes | str) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


def changed(before: dict, after: dict) -> dict[str, set[str]]:
    """Defence -> the pictures that are others now."""
    assert before.keys() == after.keys()
    return {
        name: {one for one in own["pictures"] if own["pictures"][one] != after[name]["pictures"][one]}
        for name, own in before.items()
    }


def column(state: dict, which: int) -> dict:
    """Of all tables, the clean or the attacked one."""
    return {name: [[row[which] for row in rows] for rows in own["tables"]] for name, own in state.items()}


# baked into a page


@pytest.fixture(scope="module")
def saved(study):
    """The tiny study's snapshot of fewer images and maps: what it knows, its scenes and pictures, and its page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "IMAGES", 2)
        patch.setattr(snapshot, "KINDS", ("gradient", "grad-cam", "perturbation"))
        path = study.store.root / "explorer.html"
        path.write_text(PAGE + snapshot.html(study), encoding="utf-8")
        artefact = study.get(snapshot.snapshot(study))
    return artefact.facts["about"], artefact.facts["scenes"], artefact.tensors["pictures"].numpy().tobytes(), path


@pytest.fixture
def baked(browser, saved):
    """A new visit to the page; it must say nothing, ask for nothing and draw in order."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    seen = Seen(context, inside=saved[-1].as_uri())
    seen.page.goto(saved[-1].as_uri())
    seen.page.wait_for_selector(USABLE)
    yield seen
    drawn = seen.page.evaluate("window.drawn")
    context.close()
    assert drawn == list(range(1, len(drawn) + 1))
    assert seen.said == []
    assert seen.asked == []


def test_page_is_interactive_soon(baked):
    milliseconds = baked.page.evaluate("window.drawnAt")
    print(f"interactive after {milliseconds:.0f} ms")
    assert milliseconds < 10_000
    assert list(baked.state()) == ["standard", "jsigr"]
    assert not baked.page.locator(".jsigr-snapshot figure").count()  # the still picture
    assert not baked.control("upload").count()


@pytest.mark.parametrize("template", ["lab", "classic"])
def test_tables_are_readable_in_an_executed_notebook(browser, saved, template):
    """There tables have a fixed layout, which left the names of classes no width."""
    fragment = saved[-1].read_text(encoding="utf-8").removeprefix(PAGE)
    cell = v4.new_code_cell("explorer", outputs=[v4.new_output("display_data", {"text/html": fragment})])
    page_html, _ = HTMLExporter(template_name=template).from_notebook_node(v4.new_notebook(cells=[cell]))
    path = saved[-1].with_name(f"{template}.html")
    path.write_text(page_html, encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    seen = Seen(context, inside=path.as_uri())
    seen.page.goto(path.as_uri())
    seen.page.wait_for_selector(USABLE)
    cells = seen.page.evaluate("""[...document.querySelectorAll(".jsigr-explorer .card :is(th, td)")].map((cell) =>
      [cell.scrollWidth - cell.clientWidth, getComputedStyle(cell.closest("tr")).backgroundColor])""")
    heads = seen.page.evaluate("""[...document.querySelectorAll(".jsigr-explorer .card .chance")].map(
      (cell) => cell.clientWidth)""")
    context.close()
    assert max(over for over, _ in cells) <= 0 and min(heads) > 40
    assert {colour for _, colour in cells} == {"rgba(0, 0, 0, 0)"}


def test_pictures_are_those_of_the_scene(saved, baked):
    _, scenes, content, _ = saved
    baked.set("image", 1)
    scene = scenes[f"1,0,0,{baked.position('eps')}"]

    def stored(place):
        return np.frombuffer(content[place[0] : sum(place)], np.uint8).reshape(28, 28)

    for card in scene["cards"][:2]:
        images = {"clean": stored(scene["image"]), "attacked": stored(card["attacked"])}
        for given, expected in images.items():
            drawn = baked.pixels(card["defence"], f"{given}-image")
            assert_array_equal(drawn[..., :3], np.repeat(expected[..., None], 3, 2))
            assert (drawn[..., 3] == 255).all()
            map_, heat = stored(card["maps"][given]), baked.pixels(card["defence"], f"{given}-map").astype(int)
            assert_array_equal(heat[map_ == 255][0][:3], [0xFC, 0xFD, 0xBF])
            lightness = heat[..., :3] @ [0.2126, 0.7152, 0.0722]
            levels = [lightness[map_ == level].mean() for level in np.unique(map_)]
            assert np.all(np.diff(levels) > -0.6)  # the more, the lighter, up to rounding
        red, _, blue, _ = np.moveaxis(baked.pixels(card["defence"], "change").astype(int), -1, 0)
        more = np.sign(images["attacked"].astype(int) - images["clean"])
        assert (np.sign(red - blue)[more != 0] == more[more != 0]).all() and np.abs(more).sum() > 100
        assert np.abs(red - blue)[more == 0].max(initial=0) < 10
        chances = [f"{round(100 * chance)}\u202f%" for chance in card["chances"]["clean"]]
        shown = [row[0] for row in baked.state()[card["defence"]]["tables"][0]]
        assert [abs(int(a[:-2]) - int(b[:-2])) <= 1 for a, b in zip(shown, chances, strict=True)] == [True] * 10


@pytest.mark.parametrize(
    ("control", "to", "expected"),
    [
        ("image", 1, CLEAN | ATTACKED),
        ("map", 2, OF_THE_MAP),
        ("attack", 1, ATTACKED),
        ("eps", 5, ATTACKED),
        ("share", 3, {"clean-selection", "attacked-selection"}),
    ],
)
def test_every_control_changes_its_pictures_and_back(baked, control, to, expected):
    before, at = baked.state(), baked.position(control)
    baked.set(control, to)
    after = baked.state()
    assert changed(before, after) == {"standard": expected, "jsigr": expected}
    kept = CLEAN & expected == set()
    assert (column(before, 0) == column(after, 0)) == (kept or control == "share")
    assert (column(before, 1) == column(after, 1)) == (control == "share")
    baked.set(control, at)
    assert baked.state() == before


def test_defences_come_and_go_in_their_order(baked):
    before = baked.state()
    for name, expected in [
        ("pgd", ["standard", "jsigr", "pgd"]),
        ("standard", ["jsigr", "pgd"]),
        ("standard", ["standard", "jsigr", "pgd"]),
        ("pgd", ["standard", "jsigr"]),
    ]:
        with baked.drawing():
            baked.defence(name).click()
        assert list(baked.state()) == expected
    assert baked.state() == before


def test_images_that_the_attack_flips_are_marked_and_can_be_shown_alone(saved, baked):
    _, scenes, _, _ = saved
    for eps in (baked.position("eps"), 5):
        if eps != baked.position("eps"):
            baked.set("eps", eps)
        expected = scenes[f"0,0,0,{eps}"]["flipped"]
        marked = baked.page.locator(".thumb").evaluate_all("all => all.map(one => one.matches('.flipped'))")
        assert [i for i, one in enumerate(marked) if one] == sorted({*expected["standard"], *expected["jsigr"]})
        said = baked.control("image").evaluate_all("all => all.map(one => one.ariaLabel.includes('flipped'))")
        assert said == marked
    only = baked.page.locator(".only input")
    assert only.is_visible() == any(marked)
    if any(marked):
        only.check()
        seen = baked.page.locator(".thumb").evaluate_all("all => all.map(one => !one.hidden)")
        assert seen == [one or i == baked.position("image") for i, one in enumerate(marked)]


def test_a_link_shows_the_same_picture_and_reset_the_first_one(browser, saved, baked):
    first = baked.state()
    for name, place in (("image", 1), ("map", 2), ("attack", 1), ("eps", 4), ("share", 3)):
        baked.set(name, place)
    with baked.drawing():
        baked.defence("pgd").click()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    other = Seen(context, inside=saved[-1].as_uri())
    other.page.goto(baked.page.url)
    other.page.wait_for_selector(USABLE)
    assert "#explorer:" in other.page.url and other.state() == baked.state() != first
    context.close()
    with baked.drawing():
        baked.page.get_by_role("button", name="reset").click()
    assert baked.state() == first


def test_the_last_defence_stays(baked):
    with baked.drawing():
        baked.defence("standard").click()
    before = baked.state()
    baked.defence("jsigr").click()
    assert baked.error() == "At least one of the defences must stay chosen."
    assert baked.defence("jsigr").is_checked() and baked.state() == before
    with baked.drawing():
        baked.defence("standard").click()
    assert baked.error() == ""


def test_canvases_are_images_with_labels_that_follow_the_picture(saved, baked):
    about, scenes, _, _ = saved
    canvases = baked.page.locator(".jsigr-explorer .card canvas")
    assert canvases.count() == 14
    assert canvases.evaluate_all("all => all.every(one => one.getAttribute('role') === 'img')")
    eps = baked.position("eps")
    for image, map_, attack, budget in [(0, 0, 0, eps), (1, 0, 0, eps), (1, 2, 0, eps), (1, 2, 1, 5)]:
        for name, place in (("image", image), ("map", map_), ("attack", attack), ("eps", budget)):
            if baked.position(name) != place:
                baked.set(name, place)
        scene = scenes[f"{image},{map_},{attack},{budget}"]
        labels = {name: own["labels"] for name, own in baked.state().items()}
        assert len({label for own in labels.values() for label in own.values()}) == 14
        for card in scene["cards"][:2]:
            own = labels[card["defence"]]
            for given in ("clean", "attacked"):
                said = about["classes"][int(np.argmax(card["chances"][given]))]
                seen = f"{given} image, predicted {said}"
                drawn = MAPS[about["controls"][2]["values"][map_][0]].label
                named = f"{drawn} map about {about['classes'][scene['about']]}"
                assert own[f"{given}-image"] == f"{card['label']}: {seen}"
                assert own[f"{given}-map"] == f"{card['label']}: {named}, {seen}"
                assert own[f"{given}-selection"] == f"{card['label']}: top 40\u202f% of the {named}, {seen}"
            assert f"+{scene['eps']:.3g} (red)" in own["change"]
    baked.set("share", 1)
    assert "top 5\u202f%" in baked.state()["jsigr"]["labels"]["clean-selection"]


def test_selection_keeps_exactly_its_share(saved, baked):
    for map_ in (0, 1):  # Grad-CAM's has large areas of 0, hence ties
        if map_:
            baked.set("map", map_)
        for k in (0, 1, 4, 7, 13, 19, 20):
            share = round(0.05 * k, 2)
            if baked.position("share") != k:
                baked.set("share", k)
            for given in ("clean", "attacked"):
                drawn = baked.pixels("jsigr", f"{given}-selection")
                assert (drawn[..., 3] == 255).sum() == round(share * 784)
                if k == 4:
                    kept = drawn[..., 3] == 255
                    assert_array_equal(drawn[kept][:, :3], baked.pixels("jsigr", f"{given}-image")[kept][:, :3])
                    lightness = baked.pixels("jsigr", f"{given}-map").astype(int).sum(2)
                    assert lightness[kept].min() >= lightness[~kept].max() - 2


def test_keyboard_reaches_and_moves_every_control(baked):
    keyboard, focus = baked.page.keyboard, "[document.activeElement.dataset.control, document.activeElement.value]"
    reached = []
    for _ in range(20):
        keyboard.press("Tab")
        reached.append(baked.page.evaluate(focus))
        if reached[-1][0] is None:
            break
    defences, others = ["standard", "jsigr", "pgd", "fast"], ["map", "attack", "eps", "share"]
    assert [value for name, value in reached if name == "defences"] == defences
    reached = [name for name, _ in reached[:-1] if name != "flipped"]  # the filter is there if the attack flips any
    assert reached == ["image", *["defences"] * 4, *others]
    assert baked.page.evaluate("document.activeElement.textContent") == "reset"
    for name in ("share", "eps", "image"):
        baked.focus(name)
        before, at = baked.state(), baked.position(name)
        ring = 'node => getComputedStyle(node.closest(".thumb") ?? node).outlineStyle'
        outline = baked.control(name).nth(at if name == "image" else 0).evaluate(ring)
        ends = () if name == "image" else (("End", None), ("Home", 0))
        for key, to in (("ArrowRight", at + 1), ("ArrowLeft", at), *ends):
            with baked.drawing():
                keyboard.press(key)
            assert to is None or baked.position(name) == to
            if key == "ArrowRight":
                assert any(changed(before, baked.state()).values())
        assert outline == "solid"
    baked.set("eps", 3)
    for name in ("map", "attack"):
        baked.control(name).focus()
        before = baked.state()
        with baked.drawing():
            keyboard.press("ArrowDown")
        assert baked.position(name) == 1 and any(changed(before, baked.state()).values())
        assert baked.page.evaluate(focus)[0] == name
    baked.defence("fast").focus()
    for expected in (["standard", "jsigr", "fast"], ["standard", "jsigr"]):
        with baked.drawing():
            keyboard.press("Space")
        assert list(baked.state()) == expected
        assert baked.page.evaluate(focus) == ["defences", "fast"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(browser, saved, scheme):
    context = browser.new_context(viewport={"width": 375, "height": 700}, color_scheme=scheme)
    seen = Seen(context, inside=saved[-1].as_uri())
    seen.page.goto(saved[-1].as_uri())
    seen.page.wait_for_selector(USABLE)
    bottom = "node => node.getBoundingClientRect().bottom"
    assert seen.control("eps").is_visible() and not seen.control("share").is_visible()
    assert (
        seen.page.locator('[data-picture="attacked-map"]').first.evaluate(bottom) < 700
    )  # on one screen with the slider
    seen.page.get_by_role("button", name="more settings").click()
    for name in ("pgd", "fast"):
        with seen.drawing():
            seen.defence(name).click()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 375
    wide = """all => all.filter(one => one.getBoundingClientRect().right > 375 && !one.closest(".thumbs"))
      .map(one => one.outerHTML.slice(0, 80))"""
    assert seen.page.locator(".jsigr-explorer *:not(.hidden)").evaluate_all(wide) == []
    context.close()
    assert (seen.said, seen.asked) == ([], [])


def test_names_are_text_and_no_markup(browser, saved, tmp_path):
    about, scenes, content, _ = saved
    name = "</script><img src=x onerror=alert(1)><b>it</b>"
    scenes = {
        key: {**scene, "cards": [{**one, "label": name} for one in scene["cards"]]} for key, scene in scenes.items()
    }
    path = tmp_path / "named.html"
    path.write_text(PAGE + snapshot.fragment({**about, "classes": [name] * 10, "note": name}, scenes, content))
    context = browser.new_context()
    seen = Seen(context, inside=path.as_uri())
    seen.page.goto(path.as_uri())
    seen.page.wait_for_selector(USABLE)
    assert seen.page.locator(".jsigr-explorer :is(b, img)").count() == 0
    assert seen.page.locator(".card h3").first.text_content() == name
    assert seen.page.locator(".note").text_content() == name
    context.close()
    assert (seen.said, seen.asked) == ([], [])


# live


@pytest.fixture(scope="module")
def lab(browser, served):
    """`make lab`, in which the explorer has appeared by itself, and JupyterLab's page."""
    start = time.perf_counter()
    url, _, token = served("lab")
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    seen = Seen(context, inside="(http|ws)://127\\.0\\.0\\.1:")
    seen.page.goto(f"{url}?token={token}")
    seen.page.wait_for_selector(USABLE, timeout=60_000)
    print(f"usable after {time.perf_counter() - start:.1f} s")
    yield seen
    context.close()


@pytest.fixture(scope="module")
def python():
    """The same explorer, asked directly."""
    return of_pretrained()


@pytest.fixture
def live(lab):
    """The explorer in JupyterLab; it must draw in order, say nothing and stay on this machine."""
    yield lab
    drawn = lab.page.evaluate("window.drawn")
    assert drawn == list(range(1, len(drawn) + 1))
    assert lab.said == []
    assert lab.asked == []


def shown_by(explorer: Explorer, settings: dict, defence: str) -> dict[str, np.ndarray]:
    scene, content = explorer.scene(settings)
    (card,) = (one for one in scene["cards"] if one["defence"] == defence)
    places = {"clean-image": scene["image"], "attacked-image": card["attacked"]}
    return {
        name: np.frombuffer(content[place[0] : sum(place)], np.uint8).reshape(28, 28) for name, place in places.items()
    }


def assert_shows(live: Seen, python: Explorer) -> None:
    """The grey pictures of every card are those of the settings that the page believes in."""
    settings = live.page.evaluate("window.shown")
    for defence in settings["defences"]:
        for name, expected in shown_by(python, settings, defence).items():
            assert_allclose(live.pixels(defence, name)[..., 0].astype(int), expected.astype(int), atol=1)


@pytest.mark.slow
def test_explorer_appears_by_itself_in_jupyterlab(live, python):
    assert list(live.state()) == ["standard", "jsigr"]
    assert live.page.locator(".jsigr-explorer").count() == 1
    assert_shows(live, python)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("control", "to", "expected"),
    [
        ("image", 5, CLEAN | ATTACKED),
        ("map", 5, OF_THE_MAP),
        ("attack", 1, ATTACKED),
        ("eps", 30, ATTACKED),
        ("steps", 2, ATTACKED),
        ("share", 10, {"clean-selection", "attacked-selection"}),
    ],
)
def test_every_control_asks_the_kernel(live, python, control, to, expected):
    before, at, sent = live.state(), live.position(control), len(live.sent)
    live.set(control, to)
    after = live.state()
    assert changed(before, after) == dict.fromkeys(before, expected)
    assert len(live.sent) == sent + (control != "share")
    assert_shows(live, python)
    live.set(control, at)
    assert live.state() == before


@pytest.mark.slow
def test_grid_and_blur_change_a_perturbation_map(live):
    at = live.position("map")
    assert not live.control("grid").is_visible() and not live.control("blur_sigma").is_visible()
    live.set("map", list(MAPS).index("perturbation-linearised"))
    for control, to in (("grid", 0), ("blur_sigma", 15)):
        before, back = live.state(), live.position(control)
        live.set(control, to)
        assert changed(before, live.state()) == dict.fromkeys(before, OF_THE_MAP)
        live.set(control, back)
        assert live.state() == before
    live.set("map", at)


@pytest.mark.slow
def test_networks_come_and_go(live, python):
    before = live.state()
    with live.drawing():
        live.defence("pgd").click()
    assert list(live.state()) == ["standard", "jsigr", "pgd"]
    assert_shows(live, python)
    with live.drawing():
        live.defence("pgd").click()
    assert live.state() == before


@pytest.mark.slow
def test_a_dragged_slider_ends_at_its_last_value(live, python):
    """And asks for fewer scenes than it passes values."""
    at, sent, drawn = live.position("eps"), len(live.sent), live.page.evaluate("window.drawn.length")
    live.page.evaluate(
        """async () => {
          const slider = document.querySelector('.jsigr-explorer [data-control="eps"]');
          for (let value = 0; value < 40; value++) {
            slider.value = (value * 13) % 41;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise((done) => setTimeout(done, 8));
          }
        }"""
    )
    last = round((39 * 13) % 41 * 0.01, 2)
    live.page.wait_for_function("(last) => window.shown.eps === last", arg=last)
    live.page.wait_for_timeout(300)  # were there an older answer under way, it would be drawn now
    assert live.page.evaluate("window.shown.eps") == last
    asked, answered = len(live.sent) - sent, live.page.evaluate("window.drawn.length") - drawn
    assert 2 <= asked < 40 and answered == asked
    assert_shows(live, python)
    live.set("eps", at)


def png(pixels: np.ndarray) -> dict:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"name": "own.png", "mimeType": "image/png", "buffer": file.getvalue()}


@pytest.mark.slow
def test_a_picture_of_the_readers(live, python):
    before = live.state()
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    with live.drawing():
        live.control("upload").set_input_files(png(pixels))
    assert_array_equal(live.pixels("jsigr", "clean-image")[..., 0], pixels)
    assert base64.b64decode(live.page.evaluate("window.shown.upload")) == pixels.tobytes()
    assert live.page.locator(".jsigr-explorer .status").text_content().startswith("Your picture.")
    assert_shows(live, python)
    colour = np.zeros((56, 100, 3), np.uint8)  # wide: of the square in its middle, red left and white right
    colour[:, 22:50, 0], colour[:, 50:78], colour[:, :22, 2], colour[:, 78:, 2] = 255, 255, 255, 255
    with live.drawing():
        live.control("upload").set_input_files(png(colour))
    grey = live.pixels("jsigr", "clean-image")[..., 0].astype(int)
    assert np.abs(grey[:, :13] - 76).max() <= 1 and np.abs(grey[:, 15:] - 255).max() <= 1
    with live.drawing():
        live.page.get_by_label("invert").check()
    assert np.abs(live.pixels("jsigr", "clean-image")[..., 0].astype(int) + grey - 255).max() <= 1
    with live.drawing():
        live.page.get_by_label("invert").uncheck()
    clear = np.zeros((28, 28, 4), np.uint8)  # nothing but transparency
    with live.drawing():
        live.control("upload").set_input_files(png(clear))
    assert (live.pixels("jsigr", "clean-image")[..., 0] == 255).all()
    with live.drawing():
        live.page.get_by_role("button", name="remove").click()
    assert live.error() == "" and live.state() == before
    with live.drawing():
        live.control("upload").set_input_files(png(pixels))
    live.control("upload").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"})
    live.page.wait_for_function("document.querySelector('.jsigr-explorer .error').textContent")
    assert live.error() == "That file is not a picture that this browser can read." and live.state() == before
    with live.drawing():
        live.control("upload").set_input_files(png(pixels))
    at = live.position("image")
    live.set("image", at + 1)
    assert live.page.evaluate("window.shown.upload") is None
    live.set("image", at)
    assert live.state() == before


@pytest.mark.slow
def test_a_bad_combination_is_said_and_the_pictures_stay(live):
    """No control offers one: the question is changed on its way to the kernel."""
    before, at = live.state(), live.position("eps")
    live.page.evaluate(
        """() => {
          const plain = JSON.stringify;
          window.restore = () => (JSON.stringify = plain);
          JSON.stringify = (value, ...more) => {
            if (value?.data?.content?.settings) (value = structuredClone(value)).data.content.settings.blur_sigma = 0;
            return plain(value, ...more);
          };
        }"""
    )
    live.control("eps").fill("7")
    live.page.wait_for_function("document.querySelector('.jsigr-explorer .error').textContent")
    assert live.error() == "blur_sigma = 0 is out of range; accepted: 0.1 to 100"
    assert live.page.locator(".jsigr-explorer .error").is_visible()
    assert live.state() == before
    live.page.evaluate("window.restore()")
    live.set("eps", at)
    assert live.error() == "" and live.state() == before


@pytest.mark.slow
def test_keys_are_the_explorers_and_not_jupyterlabs(live):
    """In JupyterLab's command mode arrows select the cell above or below, "d, d" deletes one, "a" adds one."""
    before, image, cells = live.state(), live.position("image"), live.page.locator(".jp-Cell").count()
    keyboard, focus = live.page.keyboard, "document.activeElement.dataset.control"
    live.defence("standard").focus()
    reached = []
    for _ in range(13):
        keyboard.press("Tab")
        reached.append(live.page.evaluate(focus))
    names = ["map", "attack", "eps", "steps", "share", "upload"]  # blur and grid do nothing for a gradient map
    assert reached == ["defences"] * 7 + names
    for name in (*names, "image", "defences"):
        live.focus(name)
        for key in "ddaxb":
            keyboard.press(key)
            assert live.page.evaluate(focus) == name
    live.page.locator(".jsigr-explorer summary").focus()
    keyboard.press("Enter")
    assert live.page.locator(".jsigr-explorer dd").first.is_visible()
    for key in "dda":
        keyboard.press(key)
    for key, to in (("ArrowRight", image + 1), ("ArrowDown", image + 2), ("ArrowUp", image + 1), ("ArrowLeft", image)):
        live.focus("image")
        with live.drawing():
            keyboard.press(key)
        assert live.position("image") == to
    live.defence("fast").focus()
    for expected in (["standard", "jsigr", "fast"], ["standard", "jsigr"]):
        with live.drawing():
            keyboard.press("Space")
        assert list(live.state()) == expected
    for name in ("map", "attack"):
        live.control(name).focus()
        keyboard.press("Home")
        with live.drawing():
            keyboard.press("ArrowDown")
        assert live.position(name) == 1
        with live.drawing():
            keyboard.press("ArrowUp")
    assert live.page.locator(".jp-Cell").count() == cells
    assert live.state() == before


@pytest.mark.slow
def test_benchmark_moves_controls_in_jupyterlab(live, monkeypatch):
    monkeypatch.setattr(benchmark, "WARM_UP", 1)
    before = {name: live.position(name) for name in ("image", "eps", "map", "attack")}
    sent = len(live.sent)
    rows = benchmark.moves(live.page, 2)
    cases = [(one["map"], one["attack"]) for one in rows]
    assert cases == [(map_, attack) for map_ in benchmark.MAPS for attack in ATTACKS for _ in benchmark.CONTROLS]
    assert len(live.sent) - sent == 12 * 3 + 5 + 2  # every move asks; so do changes of the case
    assert all(one["n"] == 2 and 5 < one["median"] <= one["p95"] < 20_000 for one in rows)
    assert live.page.evaluate("[window.shown.map, window.shown.attack]") == ["perturbation", "white-box"]
    for name, place in before.items():
        live.set(name, place)


@pytest.mark.slow
def test_voila_shows_the_explorer_alone(browser, served):
    url, _, token = served("voila")
    context = browser.new_context()
    seen = Seen(context, inside="(http|ws)://127\\.0\\.0\\.1:")
    seen.page.goto(f"{url}?token={token}", timeout=120_000)  # Voila answers when the notebook has run
    seen.page.wait_for_selector(USABLE, timeout=60_000)
    before = seen.state()
    seen.set("eps", 40)
    assert changed(before, seen.state()) == dict.fromkeys(["standard", "jsigr"], ATTACKED)
    context.close()
    assert (seen.said, seen.asked) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["voila", pytest.param("lab", marks=pytest.mark.torture)])
def test_a_server_ends_with_its_kernels_whatever_happens(tmp_path, target):
    settings = {"IPYTHONDIR": str(tmp_path / "root" / "ipython")}
    with pytest.raises(ZeroDivisionError), benchmark.served(target, tmp_path / "root") as url:
        started = benchmark.processes(settings)
        raise ZeroDivisionError
    assert started and not benchmark.processes(settings)
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", int(re.findall(r":(\d+)/", url)[0]))):
        pass


# the benchmark


def test_benchmark_loads_a_page(browser, saved):
    assert 0 < benchmark.load(browser, saved[-1]) < 10


def test_benchmark_counts_waits():
    one = benchmark.row("a wait", "ms", [1.0, 2.0, 3.0, 100.0, 4.0], map="gradient")
    assert one.pop("p95") == pytest.approx(80.8)
    assert one == {
        "wait": "a wait",
        "networks": "",
        "map": "gradient",
        "attack": "",
        "unit": "ms",
        "n": 5,
        "median": 3.0,
    }


def test_benchmark_is_a_table_of_its_parts(monkeypatch, browser, tmp_path):
    @contextmanager
    def lab(browser, folder):
        starts.append(folder)
        yield "page", 7.0 + len(starts)

    starts, asked = [], []

    @contextmanager
    def chromium():
        yield browser

    monkeypatch.setattr(benchmark, "chromium", chromium)
    monkeypatch.setattr(benchmark, "lab", lab)
    monkeypatch.setattr(benchmark, "turn", lambda page, networks: asked.append(networks))
    monkeypatch.setattr(benchmark, "firsts", lambda page: [])
    monkeypatch.setattr(benchmark, "moves", lambda page, n: asked.append((page, n)) or [benchmark.row("m", "ms", [1])])
    monkeypatch.setattr(benchmark, "load", lambda browser, path: 0.5)
    monkeypatch.setattr(benchmark, "document", lambda study: "x" * 2_000_000)
    monkeypatch.setattr(benchmark, "find", lambda: "chromium")
    monkeypatch.setattr(benchmark, "versions", lambda: {"browser": "Chromium 1"})
    monkeypatch.setattr(run, "Study", lambda *_, **__: None)
    run.main(["explorer"], rounds=10, threads=1, device="cpu", out=tmp_path)
    table = benchmark.pd.read_csv(tmp_path / "explorer.csv")
    assert asked == ["garments", ("page", 60), "photographs", ("page", 60)] and len(set(starts)) == 3
    assert table.n.tolist() == [1, 1, 3, 5, 1]
    assert table["median"].tolist() == [1, 1, 9, 0.5, 2]
    assert table.networks.fillna("").tolist() == ["garments", "photographs", "", "", ""]
    assert "Chromium 1" in (tmp_path / "environment.json").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"environment.json", "explorer.csv", "explorer.md"}


@pytest.mark.parametrize(
    ("module", "name", "value", "said"),
    [("shutil", "which", None, "no Chromium .* accepted: one of chromium,"), ("util", "find_spec", None, "Playwright")],
)
def test_without_a_browser_there_is_one_line(monkeypatch, tmp_path, module, name, value, said):
    monkeypatch.setattr(getattr(benchmark, module), name, lambda *_: value)
    with pytest.raises(InputError, match=said) as error:
        run.main(["explorer"], rounds=1, threads=1, device="cpu", out=tmp_path / "out")
    assert len(str(error.value).splitlines()) == 1 and not (tmp_path / "out").exists()


def test_without_a_browser_the_other_parts_run(monkeypatch, tmp_path):
    lines, done = [], []
    monkeypatch.setattr(benchmark.shutil, "which", lambda *_: None)
    monkeypatch.setattr(run, "PARTS", {"maps": (), "explorer": ()})
    monkeypatch.setattr(run.maps, "table", lambda *_, **__: done.append(1) or benchmark.pd.DataFrame({"a": [1]}))
    monkeypatch.setattr(tables, "write", lambda *_: None)
    run.main(rounds=1, threads=1, device="cpu", out=tmp_path, report=lines.append)
    assert done == [1]
    assert any(line.startswith("left out: explorer; no Chromium") for line in lines)
