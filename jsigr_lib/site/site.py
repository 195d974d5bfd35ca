"""The executed notebooks as a static site: pages that need no kernel, no server and no network.

nbconvert walks the notebooks. What its pages would fetch is made here: equations become MathML, and pictures are
embedded with the alternative text that `plotting.save` gave them. A reader cannot use a formula that does not convert,
or a picture without words: either is an error, and then there is no site.

    index.html           what this is, which claims hold, whether and how to use it, each notebook's finding
    01_theory.html ...   the notebooks, and after them those of related work
    files/               their figures as SVG, their tables as CSV, and as JSON what made each of them
    summary.pdf          the scorecard and the headline figure on one sheet of paper
    .jsigr-site          the hash of each of these files: what the next site may replace

Labels, data names and whatever else comes from a profile or a folder are text: the templates escape them, Markdown
shows HTML as it is written, and a page's policy lets no script run but those of HTML outputs, each by its hash.
"""

import re
import shutil
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import nbformat
import pandas as pd
from bs4 import BeautifulSoup
from jinja2 import Environment, pass_context
from jinja2.runtime import Context
from nbconvert.exporters import TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from traitlets.config import Config

from jsigr_lib.explorer import snapshot
from jsigr_lib.findings import related
from jsigr_lib.method.errors import InputError, shown
from jsigr_lib.records.markdown import plain
from jsigr_lib.records.publishing import replacing, settle, writable
from jsigr_lib.site import summary
from jsigr_lib.site.prose import Renderer
from jsigr_lib.store.files import sha256
from jsigr_lib.store.paths import FRONT, ROOT

SHOWN = ["text/html", "text/markdown", "image/png", "text/plain"]
NUMBER = re.compile(r"[-+−\d.,e%×\[\] ]+|nan", re.IGNORECASE)
LONG = 45  # characters: a table's column with a longer cell may break its lines
RESULT = r"^\*\*What it shows[^*]*\*\*\s+(.+?[.?!])(?=\s|\Z)"  # the first sentence of a result's paragraph
FILES, SUMMARY, MARKER = "files", "summary.pdf", ".jsigr-site"
SUFFIXES = ("svg", "csv", "json")


@dataclass(frozen=True)
class Files:
    """What a run published beside its notebooks: the files of each figure or table; `place` is where the site has
    them."""

    folder: Path
    place: str = FILES

    @property
    def whole(self) -> bool:
        """Whether there are a scorecard and the headline figures. A run of single notebooks leaves none."""
        return all((self.folder / name).is_file() for name in (summary.SCORECARD, *summary.FIGURES))

    @cached_property
    def pictures(self) -> dict[str, str]:
        """Hash of a PNG -> the name of its figure."""
        return {sha256(path.read_bytes()): path.stem for path in sorted(self.folder.glob("*.png"))}

    def line(self, name: str, suffixes: Iterable[str] = SUFFIXES) -> str:
        """Links to the files of a figure or table; "" if it has none."""
        names = [f"{name}.{suffix}" for suffix in suffixes if (self.folder / f"{name}.{suffix}").is_file()]
        return " · ".join(f'<a href="{self.place}/{escape(file)}">{escape(file)}</a>' for file in names)

    def table(self, name: str) -> pd.DataFrame:
        """Empty if there is none."""
        path = self.folder / f"{name}.csv"
        return pd.read_csv(path, keep_default_na=False) if path.is_file() else pd.DataFrame()


@dataclass(frozen=True)
class Page:
    """A notebook with its first heading and the first sentence of its question, and the files of its run."""

    name: str
    notebook: nbformat.NotebookNode
    files: Files

    @property
    def title(self) -> str:
        return self._said(r"^# +([^\n]+)") or self.name

    @property
    def finding(self) -> str:
        """The question, and what the first result that answers it says."""
        shown = [output.get("data", {}) for cell in self.notebook.cells for output in cell.get("outputs", ())]
        results = "\n\n".join(data.get("text/markdown", "") for data in shown)
        question = self._said(r"\*\*Question\.\*\*\s+(.+?[.?!])(?=\s|\Z)")
        return f"{question} {_first(RESULT, results)}".strip()

    def _said(self, pattern: str) -> str:
        return _first(pattern, "\n\n".join(cell.source for cell in self.notebook.cells if cell.cell_type == "markdown"))


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def build(profile: str = "full", *, out: Path = Path("site"), source: Path = ROOT) -> Path:
    """Make the site of a profile's executed notebooks; it replaces the folder `out`.

    `source` holds figures/<profile> and notebooks/executed/<profile>. Raises InputError, and leaves `out` as it was, if
    there is no such profile, if `out` holds anything but a site, or if a notebook holds what a page cannot show.
    """
    settle(source)
    executed, out = source / "notebooks" / "executed", out.resolve()
    made = sorted({path.parent.name for path in executed.glob("*/*.ipynb")})
    if profile not in made:
        accepted = ", ".join(made) or "any profile, once `jsigr run` has executed it"
        raise InputError(f"no executed notebooks of profile {profile!r} in {executed}; accepted: {accepted}")
    replaceable(out)
    writable(out.parent)
    runs = [Files(source / "figures" / profile)]
    if profile != related.RUN and related.RUN in made:
        runs.append(Files(source / "figures" / related.RUN, f"{FILES}/{related.RUN}"))
    paths = [(path, files) for files in runs for path in sorted((executed / files.folder.name).glob("*.ipynb"))]
    pages = [Page(path.stem, executed_notebook(path), files) for path, files in paths]
    pages.insert(0, front(pages, runs))
    exporter = Exporter(template_name="base", template_file="page.html.j2", extra_template_paths=[str(FRONT)])
    texts = {page.name: exporter.page(pages, here) for here, page in enumerate(pages)}
    with replacing(out) as (staged,):
        for name, text in texts.items():
            (staged / f"{name}.html").write_text(text, encoding="utf-8")
        for files in runs:
            (staged / files.place).mkdir()
            for path in sorted(path for suffix in SUFFIXES for path in files.folder.glob(f"*.{suffix}")):
                shutil.copyfile(path, staged / files.place / path.name)
        if runs[0].whole:
            summary.write(runs[0].folder, staged / SUMMARY)
        made = "\n".join(f"{_hash(path)}  {path.relative_to(staged).as_posix()}" for path in sorted(staged.rglob("*")))
        (staged / MARKER).write_text(made, encoding="utf-8", errors="surrogateescape")
        replaceable(out)  # it may have changed meanwhile
    return out


def replaceable(out: Path) -> None:
    """Raise InputError unless `out` is new, empty or a site as it was made: its marker names all that is in it."""
    marker, known = out / MARKER, {}
    if marker.is_file():
        lines = marker.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        known = {name: what for what, _, name in (line.partition("  ") for line in lines)}
    for path in out.rglob("*") if out.is_dir() else [out] if out.exists() else ():
        name = path.relative_to(out).as_posix()
        if path != marker and (name not in known or known[name] != _hash(path)):
            what = "is a file" if path == out else f"holds {shown(name)}, which is no page or was changed since"
            accepted = "a folder that is new, empty or a site (remove one of an earlier version first)"
            raise InputError(f"{out} {what}; accepted: {accepted}")


def _hash(path: Path) -> str:
    return "link" if path.is_symlink() else sha256(path.read_bytes()) if path.is_file() else "folder"


def executed_notebook(path: Path) -> nbformat.NotebookNode:
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        return notebook
    except Exception as error:  # nbformat and jsonschema have errors of their own for whatever is wrong
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is no notebook ({reason}); accepted: what `jsigr run` has executed") from None


def front(pages: list[Page], runs: list[Files]) -> Page:
    """The index as a notebook like the others: what this is, beside one image to try it on; which claims hold; whether
    and how to use it; each notebook with its finding; the related work."""
    files = runs[0]
    texts = (FRONT / "index.md").read_text(encoding="utf-8").split("\n\n\n")
    what, gain, use = (Template(text).safe_substitute(summary.price(files.folder)) for text in texts)
    cells = [new_markdown_cell(what), *_glance(pages), new_markdown_cell(gain)]
    if files.whole:
        card = summary.scorecard(files.folder)
        table = new_output("display_data", {"text/html": scorecard_table(card, files)})
        cells += [new_markdown_cell(f"## Which claims hold\n\n{plain(summary.headline(card))}")]
        cells += [new_code_cell(outputs=[table])]
    entries = "\n\n".join(f"## [{page.title}]({page.name}.ipynb)\n\n{page.finding}" for page in pages)
    cells += [new_markdown_cell(use), new_markdown_cell(entries)]
    for others in (one for one in runs if one.folder.name == related.RUN):
        cells += [new_markdown_cell(f"## Related work, rerun\n\n{related.markdown(others.table)}")]
    return Page("index", new_notebook(cells=cells), files)


def _glance(pages: list[Page]) -> list[nbformat.NotebookNode]:
    """A cell with one image under attack, of the first explorer in a notebook; none if there is none."""
    for page in pages:
        for cell in page.notebook.cells:
            for output in cell.get("outputs", ()):
                if found := snapshot.unpacked(output.get("data", {}).get("text/html", "")):
                    return [new_code_cell(outputs=[new_output("display_data", {"text/html": snapshot.glance(*found)})])]
    return []


def scorecard_table(card: pd.DataFrame, files: Files) -> str:
    """The scorecard as HTML, a row per claim, a column per data set."""
    template = Environment(autoescape=True).from_string((FRONT / "scorecard.html.j2").read_text(encoding="utf-8"))
    claims = [rows.to_dict("records") for _, rows in card.groupby("claim", sort=False)]
    return template.render(claims=claims, names=list(card["data"].unique()), files=files, summary=SUMMARY)


class Exporter(TemplateExporter):
    """nbconvert with front/page.html.j2 and the filters that it needs."""

    @property
    def default_config(self) -> Config:
        return Config({"NbConvertBase": {"display_data_priority": SHOWN}})

    def default_filters(self) -> Iterator[tuple[str, Any]]:
        yield from super().default_filters()
        yield from {"markdown": markdown, "fragment": fragment, "picture": picture, "tables": tables}.items()
        yield "highlight_code", Highlight2HTML(pygments_lexer="ipython3", parent=self)

    def page(self, pages: list[Page], here: int) -> str:
        files = pages[here].files
        site = {"pages": pages, "here": here, "profile": files.folder.name, "files": files}
        resources = {"site": site, "sections": [], "tables": 0, "scripts": []}
        return self.from_notebook_node(pages[here].notebook, resources)[0]


@pass_context
def markdown(context: Context, source: str) -> str:
    """Markdown with equations as HTML; its sections are noted in `resources.sections`."""
    resources = context["resources"]
    renderer = Renderer(_where(context), [page.name for page in resources["site"]["pages"]])
    code = MarkdownWithMath(renderer=renderer).render(source)
    resources["sections"] += renderer.sections
    return fragment(context, code)


@pass_context
def fragment(context: Context, code: str) -> str:
    """HTML as it is, its pictures checked, the hashes of its scripts noted in `resources.scripts`; its tables made such
    that they scroll and can be read aloud, unless it has a script."""
    resources = context["resources"]
    soup = BeautifulSoup(code, "html.parser")
    digests = [sha256(script.get_text().encode()) for script in soup("script")]
    resources["scripts"] += [b64encode(bytes.fromhex(digest)).decode() for digest in digests]
    for image in soup("img"):
        if not (image.get("alt", "").strip() and image.get("src", "").startswith("data:")):
            raise InputError(f"{_where(context)}: picture {str(image)[:80]}; accepted: embedded, with an alt text")
    if digests or not soup("table"):
        return code
    for style in soup("style"):
        style.decompose()  # pandas' own
    for head in soup("thead"):
        if not head.get_text(strip=True):
            head.decompose()  # empty: Markdown has no table without a head
    for table in soup("table"):
        for header in table("th"):
            header["scope"] = "col" if header.find_parent("thead") else "row"
            if not header.get_text(strip=True):
                header.name, header.attrs = "td", {}  # a corner
        for column in zip(*(row(["th", "td"])[::-1] for row in table("tr")), strict=False):  # the first may span rows
            words = [cell.get_text(strip=True) for cell in column if cell.name == "td" and cell.get_text(strip=True)]
            number, long = all(map(NUMBER.fullmatch, words)), any(len(word) > LONG for word in words)
            for cell in column if words else ():
                cell["class"] = "number" if number else "long" if long else "short"
        resources["tables"] += 1
        label = f"Table {resources['tables']}"
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "role": "region", "aria-label": label, "tabindex": 0}))
    return str(soup)


@pass_context
def picture(context: Context, output: nbformat.NotebookNode) -> str:
    """An embedded PNG with the alternative text and the width that its metadata hold, and its files."""
    about = output.metadata.get("image/png", {})
    if not about.get("alt", "").strip():
        raise InputError(f"{_where(context)}: a picture without alt in its metadata; accepted: one of plotting.save")
    width = f' width="{escape(str(about["width"]))}"' if "width" in about else ""
    data, files = "".join(output.data["image/png"].split()), context["resources"]["site"]["files"]
    name = files.pictures.get(sha256(b64decode(data)), "")
    caption = f"<figcaption>{line}</figcaption>" if (line := files.line(name)) else ""
    return f'<figure><img alt="{escape(about["alt"])}"{width} src="data:image/png;base64,{data}">{caption}</figure>'


@pass_context
def tables(context: Context, source: str) -> str:
    """Links to the files of the tables that a cell saves."""
    files = context["resources"]["site"]["files"]
    lines = [line for name in saved(source) if (line := files.line(name, ["csv", "json"]))]
    return "".join(f'<p class="files">{line}</p>' for line in lines)


def saved(source: str) -> list[str]:
    """The names in calls like study.save_table(table(study), "name")."""
    return re.findall(r'\.save_table\((?:[^()]|\([^()]*\))*,\s*"(\w+)"\s*\)', source)


def _where(context: Context) -> str:
    site, cells = context["resources"]["site"], context["nb"].cells
    index = next(i for i, cell in enumerate(cells) if cell is context["cell"])
    return f"{site['pages'][site['here']].name}, cell {index}"
