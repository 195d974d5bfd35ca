"""The site: whole pages that fetch nothing, or an error that names what a page cannot show."""

import base64
import hashlib
import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from jsigr_lib import cli
from jsigr_lib.figures.claims import VERDICTS
from jsigr_lib.findings import titles
from jsigr_lib.method.errors import InputError
from jsigr_lib.records import markdown
from jsigr_lib.site import site, summary
from jsigr_lib.site.prose import mathml
from jsigr_lib.store.paths import ROOT
from jsigr_lib.study.needs import NEEDS

PNG = base64.b64encode((ROOT / "figures" / "full" / "teaser.png").read_bytes()).decode()
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
        folder = tmp_path / "notebooks" / "executed" / "full"
        folder.mkdir(parents=True, exist_ok=True)
        notebooks = {"01_it": cells, **(more or {})}
        for name, content in notebooks.items():
            content = [v4.new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in content]
            nbformat.write(v4.new_notebook(cells=content), folder / f"{name}.ipynb")
        site.build(out=tmp_path / "site", source=tmp_path)
        return BeautifulSoup((tmp_path / "site" / "01_it.html").read_text(encoding="utf-8"), "html.parser")

    return made


def test_related_work_has_pages_and_a_table(page, tmp_path):
    related, figures = tmp_path / "notebooks" / "executed" / "neighbours", tmp_path / "figures" / "neighbours"
    for folder in (related, figures):
        folder.mkdir(parents=True)
    cells = [v4.new_markdown_cell("# Transport"), v4.new_code_cell('study.save_table(found, "transport")')]
    nbformat.write(v4.new_notebook(cells=cells), related / "08_transport.ipynb")
    (figures / "transport.csv").write_text("training,attack,cost\nOTJR-7,pgd,7.99\n")
    page("# It")
    front, own = (
        BeautifulSoup((tmp_path / "site" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
        for name in ("index", "08_transport")
    )
    row = front.find("td", string="8.0").find_parent("tr")
    assert row.a["href"] == "08_transport.html" and row.a.get_text().startswith("OTJR")
    assert own.header.span.get_text() == "neighbours profile"
    assert (tmp_path / "site" / own.select_one(".files a")["href"]).read_bytes() == (
        figures / "transport.csv"
    ).read_bytes()


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
    found = v4.new_code_cell("findings.of(table)", metadata={"tags": ["hide-input"]})
    soup = page("# It", parameters, injected, found, v4.new_code_cell("if a < b: pass"), v4.new_code_cell(""))
    said = ["parameters", "parameters of this run", "made from the tables", "code"]
    assert [one.summary.get_text() for one in soup("details")] == said
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
    assert [a.get_text() for a in soup.select("nav.contents a")] == ["Overview", "1. It", "2. Other"]


def test_index_lists_titles_questions_and_findings(page, tmp_path):
    result = v4.new_output(
        "display_data", {"text/markdown": "**What it shows.** It is fast adv. training, 3.5 of 4. And more."}
    )
    page("# 1. It: a *thing*\n\n**Question.** What\nis it? And why?", v4.new_code_cell(outputs=[result]))
    soup = BeautifulSoup((tmp_path / "site" / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert soup("h2")[1].get_text() == "1. It: a thing" and soup("h2")[1].a["href"] == "01_it.html"
    head = soup.select_one("h2:has(a)")
    assert " ".join(head.find_next("p").get_text().split()) == "What is it? It is fast adv. training, 3.5 of 4."
    assert "abstract" in soup.main.get_text() and "$" not in soup.main.get_text()


def test_site_replaces_a_site_and_nothing_else(page, tmp_path):
    page("# It", more={"02_old": ["# Old"]})
    (tmp_path / "notebooks" / "executed" / "full" / "02_old.ipynb").unlink()
    page("# It")
    names = [".jsigr-site", "01_it.html", "files", "index.html"]
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == names


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("name", ["thesis.html", "files/thesis.svg", "chapters.html/1.html", "notes/", "index.html"])
def test_what_the_site_did_not_make_stays(page, tmp_path, name):
    """Beside its pages, in place of one, or alone in a folder."""
    page("# It")
    for out in (tmp_path / "site", tmp_path / "own"):
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("years of work")
        before = contents(out)
        with pytest.raises(
            InputError, match=rf"{out.name} holds '.*, which is no page or was changed since; accepted: "
        ):
            site.build(out=out, source=tmp_path)
        assert contents(out) == before


def test_a_link_in_place_of_a_page_is_no_page(page, tmp_path):
    page("# It")
    pages = tmp_path / "site"
    (pages / "index.html").rename(tmp_path / "index.html")
    (pages / "index.html").symlink_to(tmp_path / "index.html")
    with pytest.raises(InputError, match=r"site holds 'index\.html', "):
        page("# It")
    assert (tmp_path / "index.html").is_file()


def test_what_appears_while_the_pages_are_made_stays(page, tmp_path, monkeypatch):
    page("# It")
    thesis = tmp_path / "site" / "thesis.tex"
    monkeypatch.setattr(site, "front", lambda *given, front=site.front: thesis.write_text("years") and front(*given))
    with pytest.raises(InputError, match=r"site holds 'thesis\.tex', "):
        page("# It, anew")
    assert thesis.read_text() == "years" and "anew" not in (tmp_path / "site" / "01_it.html").read_text()


def test_a_folder_without_a_marker_is_refused_even_if_it_holds_a_site(page, tmp_path):
    page("# It")
    (tmp_path / "site" / site.MARKER).unlink()
    before = contents(tmp_path / "site")
    with pytest.raises(InputError, match=r"accepted: .*\(remove one of an earlier version first\)"):
        page("# It")
    assert contents(tmp_path / "site") == before


def test_labels_and_data_names_are_text(page, tmp_path):
    """In what this version executes, and in the raw Markdown of notebooks that an earlier one executed."""
    name = """<svg onload="hit = 1"> & <b onmouseover='hit = 2'>|`x`|</b> [y](javascript:hit)"""
    figures = tmp_path / "figures" / "full"
    figures.mkdir(parents=True)
    for file in summary.FIGURES:
        shutil.copy(ROOT / "figures" / "full" / file, figures)
    card = summary.scorecard(ROOT / "figures" / "full")
    card = card[card["data"] == "Fashion-MNIST"].assign(data=name, statement=name, evidence=name, caveat=name)
    card.to_csv(figures / summary.SCORECARD, index=False)
    frame = pd.DataFrame({"label": [name], name: [1]})
    cells = [
        shown("text/markdown", markdown.table(frame)),
        shown("text/markdown", f"Made by {name}.\n\n{name}"),
        shown("text/html", frame.to_html()),
        shown("text/plain", name),
        shown("image/png", PNG, **{"image/png": {"alt": name, "width": f'9">{name}'}}),
        v4.new_code_cell(name, outputs=[v4.new_output("stream", text=name)]),
    ]
    soup = page(f"# {name}\n\n**Question.** {name}?\n\n## {name}", *cells)
    for table in soup("table"):
        texts = [cell.get_text() for cell in table(["th", "td"])]
        assert [text for text in texts if text not in ("", "0")] == ["label", name, name, "1"]
    assert soup.main.img["alt"] == name and soup.h1.get_text() == name.replace("`", "").replace(
        "[y](javascript:hit)", "y"
    )
    front = BeautifulSoup((tmp_path / "site" / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert name in front.main.table.get_text()
    assert any(f"{name}: of" in one.get_text() for one in front.select("section.text p"))
    for one in (soup, front):
        assert not one(["svg", "b", "script"])
        assert not [tag for tag in one(True) if any(key.startswith("on") for key in tag.attrs)]
        assert not [link for link in one("a") if link["href"].startswith("javascript")]


def test_the_policy_of_a_page_knows_its_scripts_alone(page):
    digest = base64.b64encode(hashlib.sha256(SCRIPT.partition('"module">')[2][:-9].encode()).digest()).decode()
    for cell, allowed in ((shown("text/html", SCRIPT), f"'sha256-{digest}'"), (f"Is {SCRIPT}", "'none'")):
        policy = page("# It", cell).find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
        directives = dict(one.split(maxsplit=1) for one in policy.split(";"))
        assert directives["script-src"] == allowed and directives["default-src"] == "'none'"
        assert "connect-src" not in directives


def test_files_of_figures_and_tables_are_a_click_away(page, tmp_path):
    figures = tmp_path / "figures" / "full"
    figures.mkdir(parents=True)
    (figures / "drawn.png").write_bytes(base64.b64decode(PNG))
    for name in ("drawn.svg", "drawn.json", "made.csv", "made.json", "made.md", "manifest.json"):
        (figures / name).write_text(f"of {name}")
    picture = shown("image/png", PNG, **{"image/png": {"alt": "A map"}})
    saving = v4.new_code_cell('study.save_table(\n    made(study, "x"),\n    "made")\nstudy.save_table(t, "gone")')
    soup = page("# It", picture, saving, v4.new_code_cell("%magic"))
    assert [a["href"] for a in soup.figcaption("a")] == ["files/drawn.svg", "files/drawn.json"]
    assert [[a["href"] for a in line("a")] for line in soup.select("p.files")] == [
        ["files/made.csv", "files/made.json"]
    ]
    copied = {path.name: path.read_text() for path in (tmp_path / "site" / "files").iterdir()}
    assert copied == {name: f"of {name}" for name in copied}
    assert set(copied) == {"drawn.svg", "drawn.json", "made.csv", "made.json", "manifest.json"}


def test_scorecard_has_a_row_per_claim_and_a_verdict_per_data_set():
    row = {"claim": "a", "statement": "A < B.", "data": "one", "verdict": "supported", "evidence": "x: 1; y: 2"}
    row |= {"n": "9 images, 1 seed", "caveat": "small", "figure": "f"}
    other = {**row, "data": "other", "verdict": "not supported", "evidence": "z: 3"}
    none = {**row, "data": "none", "verdict": "not tested", "evidence": "no run", "n": "none"}
    soup = BeautifulSoup(
        site.scorecard_table(pd.DataFrame([row, other, none]), site.Files(Path("none"))), "html.parser"
    )
    assert [cell.get_text() for cell in soup.thead("th")] == ["Claim", "one", "other", "none"]
    claim, *cells = soup.tbody.tr(["th", "td"])
    assert claim.get_text() == "A < B."
    assert [cell.summary.get_text() for cell in cells] == ["supported", "not supported", "not tested"]
    assert [[one.get_text() for one in cell("li")] for cell in cells] == [["x: 1", "y: 2"], ["z: 3"], ["no run"]]
    assert cells[0].p.get_text() == "n: 9 images, 1 seed. small"
    assert [one["class"][1] for one in soup("span")] == ["supported", "not-supported", "not-tested"]


def test_failed_build_leaves_the_site_as_it_was(page, tmp_path):
    page("# It")
    before = (tmp_path / "site" / "01_it.html").read_bytes()
    with pytest.raises(InputError):
        page("# It, anew\n\n$\\nonsense$")
    assert (tmp_path / "site" / "01_it.html").read_bytes() == before
    assert [path.name for path in tmp_path.glob("*site*")] + [path.name for path in tmp_path.glob(".*")] == ["site"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--profile", "quik"], ["'quik'", "accepted: ", "quick"]),
        (["--out", "."], ["holds 'in the way'", "accepted: "]),
    ],
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
    with pytest.raises(InputError, match=r"no executed notebooks of profile 'full'.*; accepted: any profile, once"):
        site.build(source=tmp_path, out=tmp_path / "site")


@pytest.fixture(params=["index", *(name for group in NEEDS.values() for name in group)])
def published_page(request, full_site) -> Path:
    return full_site / f"{request.param}.html"


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


def test_published_index_has_an_image_to_try_the_claims_and_every_notebook(full_site):
    soup = BeautifulSoup((full_site / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.select_one(".jsigr-snapshot img") and "J-SIGR says" in soup.select_one(".jsigr-snapshot img")["alt"]
    paid = pd.read_csv(ROOT / "figures" / "full" / "trade_offs.csv")
    assert titles.trade_offs(paid) in soup.main("section")[1].get_text().replace("\n", " ")
    heads = [head.get_text() for head in soup.main("h2")]
    notebooks = [name for group in NEEDS.values() for name in group]
    assert heads[:2] == ["Which claims hold", "Should I use it?"] and heads[-1] == "Related work, rerun"
    assert len(heads) == 2 + len(notebooks) + 1


def test_published_index_says_what_the_scorecard_says(full_site):
    card = summary.scorecard(ROOT / "figures" / "full")
    soup = BeautifulSoup((full_site / "index.html").read_text(encoding="utf-8"), "html.parser")
    rows = [[cell.get_text(" ", strip=True) for cell in row(["th", "td"])] for row in soup.main.table.tbody("tr")]
    claims = [group for _, group in card.groupby("claim", sort=False)]
    for (claim, *cells), group in zip(rows, claims, strict=True):
        asked = [cell for cell in cells if cell]  # an earlier protocol did not ask everything
        assert claim == group.statement.iloc[0] and len(cells) == card["data"].nunique()
        for cell, row in zip(asked, group.itertuples(), strict=True):
            assert cell.startswith(row.verdict) and row.n in cell and row.caveat in cell
            assert all(test in cell for test in row.evidence.split("; "))


def test_summary_is_one_page_of_the_same_bytes(full_site, tmp_path):
    summary.write(ROOT / "figures" / "full", tmp_path / "again.pdf")
    content = (full_site / site.SUMMARY).read_bytes()
    assert content == (tmp_path / "again.pdf").read_bytes() and content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == 1


def test_other_data_is_as_its_own_run_found_it(tmp_path):
    """Also where that run is the later one. What it says of this one's data changes nothing, nor does a run of none."""
    card = summary.scorecard(ROOT / "figures" / "full")
    claim, second = card.claim[0], card.claim[3]
    card.loc[card["data"] != "Fashion-MNIST", ["verdict", "n"]] = ["not tested", "none"]
    mnist = card[card["data"] == "MNIST"].assign(verdict="supported", n="9 images, 3 seeds")
    others = card[card["data"] == "Fashion-MNIST"].assign(verdict="partly supported", n="1 image")
    for name, rows in {"full": card, "full-mnist": pd.concat([mnist, others]), "of-mine": card}.items():
        (tmp_path / name).mkdir()
        rows.to_csv(tmp_path / name / summary.SCORECARD, index=False)
    both = summary.scorecard(tmp_path / "full").set_index(["claim", "data"])
    was = card.set_index(["claim", "data"])
    assert set(both.index) == set(was.index) and both.columns.tolist() == was.columns.tolist()
    for one in (claim, second):
        assert both.loc[(one, "MNIST"), ["verdict", "n"]].tolist() == ["supported", "9 images, 3 seeds"]
    for data in ("Fashion-MNIST", "CIFAR-10 (JPEG copy)"):
        assert both.xs(data, level="data").equals(was.xs(data, level="data"))
    assert summary.scorecard(tmp_path / "of-mine").equals(card)


def test_summary_leaves_room_for_the_figure_with_three_data_sets(tmp_path):
    folder = ROOT / "figures" / "full"
    card = summary.scorecard(folder)
    own = card[card["data"] == card["data"].iloc[0]]
    card = pd.concat([own, own.assign(data="other"), own.assign(data="one more")])
    card.to_csv(tmp_path / summary.SCORECARD, index=False)
    shutil.copy(folder / summary.FIGURES[0], tmp_path)
    sheet = summary.filled(tmp_path)
    (picture,) = (axes.get_position() for axes in sheet.figure.axes)
    assert picture.y0 > 0.05 and picture.height > 0.15


def test_no_text_of_the_summary_runs_into_the_margin_or_the_next_one(tmp_path):
    folder = ROOT / "figures" / "full"
    card = summary.scorecard(folder)
    card.assign(verdict=max(VERDICTS, key=len)).to_csv(tmp_path / summary.SCORECARD, index=False)
    shutil.copy(folder / summary.FIGURES[0], tmp_path)
    figure = summary.filled(tmp_path).figure
    boxes = [text.get_window_extent().transformed(figure.dpi_scale_trans.inverted()) for text in figure.texts]
    assert card["data"].nunique() == 3 and max(box.x1 for box in boxes) < summary.A4[0] - summary.MARGIN
    for left, right in pairwise(boxes):
        assert left.x1 < right.x0 or left.y0 != right.y0
