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

import shutil
from pathlib import Path
from string import Template

import nbformat
import pandas as pd
from jinja2 import Environment
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from jsigr_lib.explorer import snapshot
from jsigr_lib.findings import related
from jsigr_lib.method.errors import InputError, shown
from jsigr_lib.records.markdown import plain
from jsigr_lib.records.publishing import replacing, settle, writable
from jsigr_lib.site import summary
from jsigr_lib.site.exporter import Exporter
from jsigr_lib.site.page import FILES, SUFFIXES, Files, Page
from jsigr_lib.store.files import sha256
from jsigr_lib.store.paths import FRONT, ROOT

SUMMARY, MARKER = "summary.pdf", ".jsigr-site"


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
