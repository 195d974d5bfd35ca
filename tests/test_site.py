"""The site: whole pages that fetch nothing, or an error that names what a page cannot show."""

import base64
import re
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from jsigr_lib import cli, pipeline, site
from jsigr_lib.errors import InputError
from jsigr_lib.paths import ROOT
from jsigr_lib.prose import mathml

PNG = base64.b64encode((ROOT / "figures" / "quick" / "teaser.png").read_bytes()).decode()
SCRIPT = """<style>.e { color: red }</style><table><tr><td>no header</td></tr></table>
<script type="module">const a = `<img src="x">`; if (a < 2 && "$$x$$" > '</b>') { go(a); }</script>"""
TABLE = """<div><style scoped>.dataframe th { vertical-align: top; }</style><table border="1" class="dataframe">
<thead><tr style="text-align: right;"><th></th><th>what</th><th>mean</th></tr></thead>
<tbody><tr><th>0</th><td>clean</td><td>0.886 [0.865, 0.904]</td></tr></tbody></table></div>"""


def shown(kind: str, content: str, **metadata) -> nbformat.NotebookNode:
    return v4.new_code_cell("show()", outputs=[v4.new_output("display_data", {kind: content}, metadata=metadata)])


@pytest.fixture
def page(tmp_path):
    """page(*cells, more={...}): the page of a notebook of these cells (a string is Markdown), and other notebooks."""

    def made(*cells, more=None) -> BeautifulSoup:
        folder = tmp_path / "notebooks" / "executed" / "quick"
        folder.mkdir(parents=True, exist_ok=True)
        notebooks = {"01_it": cells, **(more or {})}
        for name, content in notebooks.items():
            content = [v4.new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in content]
            nbformat.write(v4.new_notebook(cells=content), folder / f"{name}.ipynb")
        site.build(out=tmp_path / "site", source=tmp_path)
        return BeautifulSoup((tmp_path / "site" / "01_it.html").read_text(encoding="utf-8"), "html.parser")

    return made


def test_equations_are_mathml(page):
    soup = page("# It\n\nWith $x < \\|J\\|_F$:\n\n$$L = \\tfrac12 \\sum_i a_i, \\qquad b \\iff \\mathrm{low}$$")
    inline, *block = soup.main("math")
    assert inline["display"] == "inline" and inline.find_parent("p")
    assert [math["display"] for math in block] == ["block", "block"]
    assert "$" not in soup.main.get_text() and "\\" not in soup.main.get_text()
    assert block[1].find("mtext", string="low") and "⟺" in block[1].get_text()


@pytest.mark.parametrize(
    "latex",
    [
        r"\norm{x}",
        r"\begin{gather}x\end{gather}",
        r"\frac{1",
        r"\frac1",
        r"x_",
        r"\left( x",
        r"a & b",
        r"\operatorname{a\,b}",
    ],
)
def test_unknown_latex_is_an_error_that_names_notebook_and_formula(page, tmp_path, latex):
    with pytest.raises(InputError, match=f"01_it, cell 1: formula {re.escape(repr(latex))}.*; accepted: "):
        page("# It", f"Here: ${latex}$.")
    assert not list(tmp_path.glob("*site*"))


@pytest.mark.parametrize(
    ("latex", "parts"),
    [
        (r"\mathrm{onehot}(y)", ["<mtext>onehot</mtext>"]),
        (r"\Phi_k", ['<mi mathvariant="normal">Φ</mi>']),
        (r"\|J\|_F^2", ['rspace="0">‖</mo>', "<msubsup>"]),
        (r"\begin{cases}0 & x < 1 \\ 1\end{cases}", ["<mtable>", "&lt;"]),
        (r"\begin{aligned}a &= b \\ c &= d\end{aligned}", ["<mtable"]),
        (r"\min_{j \ne i^*} \tilde\rho", ["<munder>", "<mover>"]),
        (r"\{a\}, 50\%, \left. x \right|", ["{", "%"]),
    ],
)
def test_notation_of_the_field(latex, parts):
    for part in parts:
        assert part in mathml(latex, "block")


def test_picture_keeps_its_alternative_text_and_width(page):
    image = page("# It", shown("image/png", PNG, **{"image/png": {"alt": 'A "map" < 1', "width": 940}})).main.img
    assert image["alt"] == 'A "map" < 1'
    assert image["width"] == "940"
    assert image["src"] == f"data:image/png;base64,{PNG}"


@pytest.mark.parametrize(
    "cell",
    [
        shown("image/png", PNG),
        shown("image/png", PNG, **{"image/png": {"alt": " "}}),
        shown("text/html", '<img src="data:image/png;base64,AA==">'),
        shown("text/html", '<img alt="a map" src="https://example.org/map.png">'),
        v4.new_markdown_cell("![a map](map.png)"),
    ],
)
def test_picture_without_words_or_outside_the_page_is_an_error(page, cell):
    with pytest.raises(InputError, match=r"01_it, cell 1: .*picture.*; accepted: "):
        page("# It", cell)


def test_script_passes_through_untouched(page, tmp_path):
    page("# It", shown("text/html", SCRIPT))
    assert SCRIPT in (tmp_path / "site" / "01_it.html").read_text(encoding="utf-8")


def test_code_is_folded_and_highlighted(page):
    parameters = v4.new_code_cell("eps = 0.1  # budget", metadata={"tags": ["parameters"]})
    injected = v4.new_code_cell("eps = 0.2", metadata={"tags": ["injected-parameters"]})
    soup = page("# It", parameters, injected, v4.new_code_cell("if a < b: pass"), v4.new_code_cell(""))
    assert [one.summary.get_text() for one in soup("details")] == ["parameters", "parameters of this run", "code"]
    assert not soup.select("details[open]")
    assert soup.select("details .highlight .k")[0].get_text() == "if"
    assert soup("details")[-1].pre.get_text().strip() == "if a < b: pass"


def test_tables_scroll_and_can_be_read_aloud(page):
    soup = page("# It\n\n|a|b|\n|-|-|\n|1|x|", shown("text/html", TABLE), shown("text/markdown", "|c|\n|-|\n|1|"))
    assert len(soup("table")) == 3
    for table in soup("table"):
        assert table.parent["class"] == ["scroll"] and table.parent["tabindex"] == "0"
        assert all(header["scope"] == ("col" if header.find_parent("thead") else "row") for header in table("th"))
    frame = soup("table")[1]
    assert [cell.get("class") for cell in frame("td")] == [None, ["short"], ["number"]]
    assert not soup.select("main style")


def test_plain_text_is_escaped_and_loses_its_terminal_colours(page):
    stream = v4.new_code_cell("p", outputs=[v4.new_output("stream", text="\x1b[31ma < b\x1b[0m")])
    assert page("# It", stream).select_one(".output pre").get_text() == "a < b"


def test_links_between_notebooks_lead_to_pages_and_other_files_are_named_only(page):
    soup = page(
        "# It\n\n[b](02_other.ipynb#2.1-This-part) [c](../../NOTES.md) [d](https://a.org/02_other.ipynb) [e](#It)",
        more={"02_other": ["# Other: two\n\n**Question.** Why? And how?\n\n## 2.1 This part [ours]"]},
    )
    links = [a["href"] for a in soup.main.section("a")]
    assert links == ["02_other.html#2.1-This-part", "https://a.org/02_other.ipynb", "#It"]
    assert "c" in soup.main.p.get_text()
    assert [a.get_text() for a in soup.select("nav.contents a")] == ["Overview", "It", "Other"]


def test_index_lists_titles_and_questions(page, tmp_path):
    page("# 1. It: a *thing*\n\n**Question.** What\nis it? And why?")
    soup = BeautifulSoup((tmp_path / "site" / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.h2.get_text() == "1. It: a thing" and soup.h2.a["href"] == "01_it.html"
    assert soup.h2.find_next("p").get_text().split() == ["What", "is", "it?"]
    assert "abstract" in soup.main.p.get_text()


def test_site_replaces_a_site_and_nothing_else(page, tmp_path):
    page("# It", more={"02_old": ["# Old"]})
    (tmp_path / "notebooks" / "executed" / "quick" / "02_old.ipynb").unlink()
    page("# It")
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == ["01_it.html", "index.html"]
    (tmp_path / "site" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="site holds other things than pages; accepted: "):
        page("# It")
    assert (tmp_path / "site" / "thesis.tex").exists()


def test_failed_build_leaves_the_site_as_it_was(page, tmp_path):
    page("# It")
    before = (tmp_path / "site" / "01_it.html").read_bytes()
    with pytest.raises(InputError):
        page("# It, anew\n\n$\\nonsense$")
    assert (tmp_path / "site" / "01_it.html").read_bytes() == before
    assert [path.name for path in tmp_path.glob("*site*")] + [path.name for path in tmp_path.glob(".*")] == ["site"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--profile", "quik"], ["'quik'", "accepted: ", "quick"]), (["--out", "."], ["other things", "accepted: "])],
)
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path, arguments, named):
    (tmp_path / "in the way").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["jsigr", "site", *arguments])
    monkeypatch.setattr(cli.console, "file", sys.stderr)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    said = capsys.readouterr().err
    assert exit_.value.code == 2 and said.count("\n") == 1
    assert all(word in said for word in named)
    assert [path.name for path in tmp_path.iterdir()] == ["in the way"]


def test_no_executed_notebooks_at_all(tmp_path):
    with pytest.raises(InputError, match=r"no executed notebooks of profile 'quick'.*; accepted: any profile, once"):
        site.build(source=tmp_path, out=tmp_path / "site")


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return site.build("quick", out=tmp_path_factory.mktemp("published") / "site")


@pytest.fixture(params=["index", *pipeline.NAMES])
def published_page(request, published) -> Path:
    return published / f"{request.param}.html"


def test_published_page_is_whole(published_page):
    text = published_page.read_text(encoding="utf-8")
    soup = BeautifulSoup(text, "html.parser")
    assert len(text.encode()) < 8e6
    for script in soup("script"):
        script.decompose()
    assert "$$" not in soup.get_text()
    assert soup.html["lang"] == "en" and soup.title.get_text().strip() and soup.find("meta", {"name": "viewport"})
    assert all(soup.find(landmark) for landmark in ("header", "nav", "main", "footer"))
    levels = [int(heading.name[1]) for heading in soup.main(re.compile(r"h\d"))]
    assert levels[0] == 1 and levels.count(1) == 1 and 2 in levels
    assert all(later <= level + 1 for level, later in pairwise(levels))
    assert all(image["alt"].strip() for image in soup("img"))
    ids = [one["id"] for one in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_published_page_asks_for_nothing(published_page):
    text = published_page.read_text(encoding="utf-8")
    soup = BeautifulSoup(text, "html.parser")
    for one in soup.find_all(src=True):
        assert one["src"].startswith("data:")
    for link in soup.find_all(href=True):
        if link.name == "a" and link["href"].startswith("https://"):
            continue
        path, _, anchor = link["href"].partition("#")
        if link["href"] != "data:,":
            there = published_page.parent / path if path else published_page
            assert there.is_file()
            assert not anchor or f'id="{unquote(anchor)}"' in there.read_text(encoding="utf-8")
    styles = " ".join(
        [style.get_text() for style in soup("style")] + [one["style"] for one in soup.find_all(style=True)]
    )
    assert "@import" not in styles and not re.search(r"url\((?!['\"]?data:)", styles)


def test_published_index_has_the_headline_figure(published):
    soup = BeautifulSoup((published / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.main.img["src"].endswith(PNG)
    assert len(soup.main("h2")) == len(pipeline.NAMES)
