import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbconvert.filters import markdown2html

from jsigr_lib.records import markdown

TEXTS = [
    "<svg onload=alert(1)>",
    "</td><b>x</b> &lt; &amp; &#36;",
    "a|b",
    "`x` ``y``",
    r"$\frac{$ $$x$$ \(y\) \| \_",
    "*a* **b** _c_ __d__ ~e~ ~~f~~",
    "[x](javascript:alert(1)) ![y](z) [x][y]",
    "https://example.org",
    "‖J‖_F², lambda_j 0.1 [0.0, 0.2], eps ~ 1, # 1, rho~ / gap",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_cell_is_text(text):
    soup = BeautifulSoup(
        markdown2html(markdown.table(pd.DataFrame({text: [text, "a\nb"], "n": [1, 2]}))), "html.parser"
    )
    header, first, second = ([cell.get_text() for cell in row(["th", "td"])] for row in soup("tr"))
    assert (header, first, second) == ([text, "n"], [text, "1"], ["a\nb", "2"])
    assert {tag.name for tag in soup(True)} == {"table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("text", [*TEXTS, "# x", "## x", "1. x", "20) x", "- x", "+ x"])
def test_a_paragraph_is_text(text):
    soup = BeautifulSoup(markdown2html(markdown.plain(text)), "html.parser")
    assert [tag.name for tag in soup(True)] == ["p"] and soup.p.get_text() == text


def test_numbers_and_plain_texts_are_written_as_ever():
    frame = pd.DataFrame({"x": [0.5, float("nan")], "n": [1, 20], "ok": [True, False], "text": [TEXTS[-1], None]})
    assert markdown.table(frame) == frame.to_markdown(index=False)
