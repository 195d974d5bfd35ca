"""The flip book: one picture where no script runs, and a slider where one does."""

from bs4 import BeautifulSoup

from jsigr_lib.explorer import flipbook

PNG = b"\x89PNG"
PAGES = [(PNG, "Image 0. <b>one</b>"), (PNG + b"1", "Image 1. </script>")]


def test_without_scripts_the_first_page_stands_there_with_its_words():
    soup = BeautifulSoup(flipbook.html("b", PAGES, label="image"), "html.parser")
    assert soup.img["alt"] == soup.figcaption.text == "Image 0. <b>one</b>"
    assert soup.img["src"].startswith("data:image/png;base64,") and "hidden" in soup.input.attrs


def test_words_end_no_script():
    assert flipbook.html("b", PAGES, label="image").count("</script>") == 1
