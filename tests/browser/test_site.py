"""The pages as a browser shows them: nothing fetched, nothing wider than a phone, every formula drawn."""

import nbformat
import pytest
from nbformat import v4

from jsigr_lib.site import site
from jsigr_lib.study.needs import NEEDS

PAGES = ["index", *(name for group in NEEDS.values() for name in group)]
MODULE = """<div id="explorer" style="width: 100%">a script is needed</div>
<script type="module">
const bytes = await new Response(new Blob([Uint8Array.of(1, 2, 3)]).stream()).bytes();
document.querySelector("#explorer").textContent = `${bytes.reduce((a, b) => a + b)} < 7 && $$`;
</script>"""


@pytest.fixture
def visit(browser):
    """visit(path, width=..., scheme=...): the page, opened from its file; whatever else it asks for is a failure."""
    contexts, asked, said = [], [], []

    def route(request):
        if request.request.url.startswith(("file:", "data:", "blob:")):
            request.continue_()
        else:
            asked.append(request.request.url)
            request.abort()

    def opened(path, *, width=1280, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.route("**/*", route)
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert asked == []
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(visit, full_site, name, scheme):
    page = visit(full_site / f"{name}.html", width=375, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth && i.clientWidth <= 375)")
    ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    assert (brightness(ink) > brightness(paper)) == (scheme == "dark")


@pytest.mark.parametrize("name", PAGES)
def test_page_is_readable_on_a_screen(visit, full_site, name):
    page = visit(full_site / f"{name}.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.locator("h1").count() == 1
    assert not page.locator("details[open]").count()
    boxes = page.evaluate("[...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().height)")
    assert all(height >= 10 for height in boxes)  # 10 is that of a small letter alone


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(browser, full_site, name, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(
        bypass_csp=True,  # axe is a script that the page would not let in
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
    )
    page = context.new_page()
    page.goto((full_site / f"{name}.html").as_uri())
    found = axe.run(page).response["violations"]
    context.close()
    assert [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]] == []


def test_keyboard_reaches_the_content_and_folded_code(visit, full_site):
    page = visit(full_site / "01_theory.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open] .highlight").is_visible()


def test_pages_lead_to_each_other(visit, full_site):
    page = visit(full_site / "index.html")
    for name in PAGES[1:]:
        page.click("a[rel=next]")
        assert page.url.endswith(f"{name}.html")
        assert page.locator("a[aria-current=page]").get_attribute("href") == f"{name}.html"
    assert not page.locator("a[rel=next]").count()


def test_module_of_an_output_runs_under_the_policy_of_the_page(visit, tmp_path):
    cell = v4.new_code_cell("explorer", outputs=[v4.new_output("display_data", {"text/html": MODULE})])
    path = tmp_path / "notebooks" / "executed" / "full" / "01_it.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("# It"), cell]), path)
    page = visit(site.build(out=tmp_path / "site", source=tmp_path) / "01_it.html", width=375)
    page.wait_for_function("document.querySelector('#explorer').textContent == '6 < 7 && $$'", timeout=3000)
    assert page.locator("#explorer").bounding_box()["width"] > 300


INJECTED = """<svg onload="hit = 1"></svg><img alt="a" src="data:," onerror="hit = 2"><a href="javascript:hit = 3">x</a>
<iframe srcdoc="<script>parent.hit = 4</script>"></iframe>"""


def test_nothing_that_is_injected_runs(browser, tmp_path):
    """Nor does it where an output holds it as HTML: the policy stops it."""
    path = tmp_path / "notebooks" / "executed" / "full" / "01_it.ipynb"
    path.parent.mkdir(parents=True)
    outputs = [v4.new_output("display_data", {kind: INJECTED}) for kind in ("text/markdown", "text/html", "text/plain")]
    cells = [v4.new_markdown_cell("# It"), v4.new_code_cell(INJECTED, outputs=outputs)]
    nbformat.write(v4.new_notebook(cells=cells), path)
    context = browser.new_context()
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.goto((site.build(out=tmp_path / "site", source=tmp_path) / "01_it.html").as_uri())
    assert page.locator("main svg").count() == 1  # of the HTML
    page.locator("main a", has_text="x").first.click()
    page.wait_for_timeout(300)
    assert page.evaluate("window.hit") is None
    assert sum("violates" in line or "blocked" in line.lower() for line in said) >= 3
    context.close()


def test_explorer_moves_under_the_policy_of_the_published_page(visit, full_site):
    page = visit(full_site / "04_saliency.html")
    page.wait_for_selector(".jsigr-explorer[data-drawn]")
    before = page.evaluate("[...document.querySelectorAll('.jsigr-explorer canvas')].map(one => one.toDataURL())")
    page.locator('[data-control="eps"]').fill("5")
    page.wait_for_selector('.jsigr-explorer[data-drawn="2"]')
    after = page.evaluate("[...document.querySelectorAll('.jsigr-explorer canvas')].map(one => one.toDataURL())")
    assert len(before) == len(after) and before != after


def brightness(colour: str) -> int:
    """Of "rgb(22, 24, 28)"."""
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))
