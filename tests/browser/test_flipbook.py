"""The flip book in a browser."""

import pytest

from jsigr_lib.explorer import flipbook

PAGES = [(b"\x89PNG", "Image 0. <b>one</b>"), (b"\x89PNG1", "Image 1. </script>")]


@pytest.mark.parametrize("books", [1, 2])
def test_slider_turns_the_pages_of_its_own_book(browser, tmp_path, books):
    path = tmp_path / "book.html"
    path.write_text("".join(flipbook.html(f"b{i}", PAGES, label=f"image {i}") for i in range(books)))
    page = browser.new_page()
    page.goto(path.as_uri())
    sliders = page.get_by_role("slider")
    assert sliders.count() == books
    sliders.first.press("ArrowRight")
    assert page.locator("figcaption").all_inner_texts() == ["Image 1. </script>"] + [PAGES[0][1]] * (books - 1)
    assert page.locator("img").first.get_attribute("alt") == PAGES[1][1]
    page.close()
