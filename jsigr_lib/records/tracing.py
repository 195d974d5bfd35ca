"""From a figure or table back to what made it, wherever the file has gone and whatever it is called since.

A picture brings its record along. A table, or a picture that lost its record, is looked up by its hash in the JSON file
beside it and in those below figures/ and runs/. What a file says is shown as plain text: anyone may have made it.
"""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from jsigr_lib.method.errors import InputError, one_line
from jsigr_lib.records import embedding, record
from jsigr_lib.records.embedding import Drawing
from jsigr_lib.records.record import Manifest, Part, Record
from jsigr_lib.store import sources
from jsigr_lib.store.files import contents, sha256
from jsigr_lib.store.paths import ROOT, RUNS

LARGEST = 20_000_000  # bytes of a file
LONGEST, LINES = 2000, 40  # characters of a value and lines of a cell, as shown
COLUMN = 11  # characters of the labels
ALTERED = "ALTERED since it was saved"
SHOWN = ("torch", "numpy", "scipy", "pandas", "matplotlib")  # of the packages


@dataclass(frozen=True)
class Trace:
    """`source` is the file that held the record, `altered` says in words what changed since. `twin` is a file of the
    same bytes that a run left here, `manifest` that run's, empty if there is none."""

    file: Path
    record: Record
    source: Path
    altered: str
    twin: Path | None
    manifest: Manifest

    @property
    def times(self) -> list[str]:
        """When the notebook was started and finished, UTC, if that is known."""
        return self.manifest.notebooks.get(self.record.cell.notebook or "", []) if self.record.cell else []

    @property
    def artefacts(self) -> dict[str, int | None]:
        """How many of the artefacts are here, and how many of those are others by now, None if nothing tells."""
        names = [(kind, digest) for kind, digests in self.record.artefacts.items() for digest in digests]
        now = {digest: record.artefact_sha256(RUNS, kind, digest) for kind, digest in names}
        here = {digest: sha for digest, sha in now.items() if sha}
        then = now if record.root_hash(now) == self.record.root else self.manifest.artefacts
        others = sum(sha != then[digest] for digest, sha in here.items()) if here.keys() <= then.keys() else None
        return {"all": len(names), "here": len(here), "others": others}

    def as_json(self) -> dict[str, Any]:
        said = {"file": str(self.file), "source": str(self.source), "altered": self.altered}
        said |= {"twin": self.twin and str(self.twin), "times": self.times, "artefacts": self.artefacts}
        return {**said, "record": self.record.model_dump(mode="json")}


def trace(file: Path) -> Trace:
    """What made a figure or table. Raises InputError if there is no such file, it is damaged, or of unknown origin."""
    content = _content(file)
    drawing, carried = _carried(file, content)
    sha, beside = sha256(content), file.with_suffix(".json")
    below = (path for folder in (ROOT / "figures", RUNS) for path in sorted(folder.rglob("*.json")))
    kept = [(path, part) for path in (beside, *below) for part in record.parts(path).values()]
    twin, manifest = _twin(sha, kept)
    if carried:
        changed = f"its {drawing.altered} is not the one that was saved" if drawing.altered else ""
        return Trace(file, carried, file, changed, twin, manifest)
    for path, part in kept:
        if sha in part.sha256.values() or (drawing and drawing.content in part.content.values()):
            return Trace(file, part, path, "", twin, manifest)
    for path, part in kept:
        if path == beside and file.suffix[1:] in part.sha256:
            return Trace(file, part, path, f"its bytes are not those that {path.name!r} names", None, Manifest())
    raise InputError(
        f"{str(file)!r} has an unknown origin: it holds no record, and no run here made it; "
        "accepted: a figure (PNG, SVG) or table (CSV, Markdown) of jsigr, unchanged"
    )


def _content(file: Path) -> bytes:
    try:
        return contents(file, LARGEST)
    except (OSError, ValueError) as error:
        accepted = "accepted: a figure (PNG, SVG) or table (CSV, Markdown) of jsigr"
        raise InputError(f"{str(file)!r} cannot be read ({one_line(error)}); {accepted}") from None


def _carried(file: Path, content: bytes) -> tuple[Drawing | None, Record | None]:
    """What a picture holds, and its record; None for a table, or for a picture without."""
    if not (content.startswith(embedding.PNG) or embedding.is_svg(content)):
        return None, None
    try:
        drawing = embedding.extract(content)
        return drawing, Record(**drawing.record) if drawing.record is not None else None
    except (TypeError, ValueError) as error:
        reason = error if isinstance(error, InputError) else "its record is none of this version of jsigr"
        raise InputError(f"{str(file)!r} cannot be traced: {reason}; accepted: a figure of jsigr, whole") from None


def _twin(sha: str, kept: list[tuple[Path, Part]]) -> tuple[Path | None, Manifest]:
    """The first file that a run left here with these bytes, and that run's manifest."""
    for path, part in kept:
        for suffix in (suffix for suffix, one in part.sha256.items() if one == sha):
            twin, manifest = path.with_suffix(f".{suffix}"), record.load_manifest(path.parent)
            return twin, manifest if manifest.sha256.get(twin.name) == sha else Manifest()
    return None, Manifest()


def layout(found: Trace, *, width: int = 100) -> Text:
    """For a person: what it is, what it rests on, what ran. What is long is in the JSON form only."""
    text = Text()
    for rows in (_subject(found), _origin(found)):
        for label, value in rows:
            style = "bold red" if ALTERED in value else ""
            for i, line in enumerate(textwrap.wrap(_plain(value), max(width - COLUMN, 20), break_on_hyphens=False)):
                text.append(f"{'' if i else label:{COLUMN}}", "bold").append(f"{line}\n", style)
        text.append("\n")
    for line in found.record.cell.source.splitlines()[:LINES] if found.record.cell else ():
        text.append(f"{'':{COLUMN}}{_plain(line)}\n")
    return text


def _subject(found: Trace) -> list[tuple[str, str]]:
    r, made = found.record, found.artefacts
    where = "inside the file" if found.source == found.file else f"in {_short(found.source)}"
    state = f"{ALTERED}: {found.altered}" if found.altered else "unchanged since it was saved"
    own = "" if found.twin or found.altered else ", by its own account"
    changes = {
        field: f"{_value(one.get('value'))} (it ships with {_value(one.get('default'))})"
        for field, one in (r.changed or {}).items()
    }
    profile = "as it ships" if r.changed == {} else _listed(changes) or "a file of its own"
    simple = {key: value for key, value in r.profile.items() if key != "name" and isinstance(value, (str, int, float))}
    kinds = ", ".join(f"{len(digests)} {kind}" for kind, digests in r.artefacts.items())
    here = "all" if made["here"] == made["all"] else made["here"] or "none"
    others = ", unchanged" if made["here"] and made["others"] == 0 else ""
    if made["others"]:
        others = f", {made['others']} changed since"
    return [
        ("Table" if r.kind == "table" else "Figure", r.name),
        ("Record", f"{where}; {state}{own}"),
        ("Same as", _short(found.twin) if found.twin and found.twin != found.file else ""),
        ("Shows", r.alt),
        ("Choices", "; ".join(f"{number} {name}" for number, name in r.choices.items())),
        ("Profile", f"{r.profile.get('name')}: {profile}"),
        ("Settings", f"{_listed(simple)}; lists and defences with --json"),
        ("Seeds", _listed(r.seeds)),
        ("Data", _listed({what: value[:16] for what, value in r.data.items()})),
        ("Artefacts", f"{kinds}; {here} in runs/{others}"),
        ("Other runs", _listed({f"figures/{table}": sha[:16] for table, sha in r.tables.items()})),
    ]


def _origin(found: Trace) -> list[tuple[str, str]]:
    code, where, cell = found.record.code, found.record.environment, found.record.cell
    tree = {None: "", True: ", tree modified", False: ", tree clean"}[code.modified]
    same = "the same as here" if code.sources == sources.library_sha256() else "another than here"
    packages = {name: where.packages[name] for name in SHOWN if name in where.packages}
    times = " to ".join(time.replace("T", " ").removesuffix("+00:00") for time in found.times)
    notebook = "none, a script made it" if cell is None else "none of this repository; the cell:"
    if cell and cell.notebook:
        notebook = f"{cell.notebook}, cell {cell.number} ({cell.id})"
    return [
        ("Code", f"jsigr {code.version}, commit {(code.commit or 'unknown')[:12]}{tree}; library {same}"),
        ("Software", f"Python {where.python}, {_listed(packages)} and {len(where.packages) - len(packages)} more"),
        ("Machine", where.machine),
        ("Made", f"{times} UTC" if times else "the time is not in the file, and no manifest here knows it"),
        ("Notebook", notebook),
    ]


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_value, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _plain(text: str) -> str:
    """A line without what could drive a terminal, and not endless."""
    text = "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text[:LONGEST])
    return text if len(text) < LONGEST else f"{text} ..."
