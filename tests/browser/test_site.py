"""The published site in a browser: axe-core finds nothing, in the light and in the dark, on a desk and on a phone."""

import pytest

from jsigr_lib import pipeline, site


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return site.build("quick", out=tmp_path_factory.mktemp("published") / "site")


@pytest.mark.parametrize("name", ["index", *pipeline.NAMES])
def test_axe_finds_nothing(browser, published, name):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for scheme, width in (("light", 1280), ("dark", 390)):
        context = browser.new_context(
            bypass_csp=True,  # axe is a script that the page would not let in
            color_scheme=scheme,
            viewport={"width": width, "height": 800},
        )
        page = context.new_page()
        page.goto((published / f"{name}.html").as_uri())
        found = axe.run(page).response["violations"]
        said = [f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in found for node in one["nodes"][:3]]
        context.close()
        assert not said, f"{name}, {scheme}, {width} pixels: {said}"


def test_index_fits_a_phone(browser, published):
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto((published / "index.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()
