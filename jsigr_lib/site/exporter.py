"""One page as HTML: nbconvert with front/page.html.j2, and the filters that make what a page cannot fetch."""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from html import escape
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert.exporters import TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import MarkdownWithMath
from traitlets.config import Config

from jsigr_lib.method.errors import InputError
from jsigr_lib.site.page import Page
from jsigr_lib.site.prose import Renderer
from jsigr_lib.store.files import sha256

SHOWN = ["text/html", "text/markdown", "image/png", "text/plain"]
NUMBER = re.compile(r"[-+−\d.,e%×\[\] ]+|nan", re.IGNORECASE)
LONG = 45  # characters: a table's column with a longer cell may break its lines


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
