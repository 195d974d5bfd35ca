"""Who made a file, and from what: a record for each figure and table, in the picture itself and in <name>.json.

Nothing in a record depends on when or where a file was made, so equal runs leave equal files: times are in the run's
manifest.json.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, StringConstraints

from jsigr_lib.method.errors import file_name
from jsigr_lib.records import embedding
from jsigr_lib.records.running import Code, Environment, Facts, NotebookCell, environment, running_cell, running_code
from jsigr_lib.records.tolerances import Columns
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.files import contents, sha256
from jsigr_lib.store.tensor_files import read_sum

MANIFEST = "manifest.json"
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,40}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


@dataclass(frozen=True)
class Context:
    """What the maker of a file knows of its run. `changed` names the fields that differ from the shipped profile of
    that name, None if none ships. `reads` are the artefacts that were read, digest -> kind, and `tables` those of other
    runs, name -> hash."""

    folder: Path
    runs: Path
    device: torch.device
    profile: dict[str, Any]
    changed: dict[str, dict[str, Any]] | None
    seeds: dict[str, int | list[int]]
    data: dict[str, str]
    reads: dict[str, str]
    tables: dict[str, str]


class Record(Facts):
    """All that is said of a figure or table. `choices` are the deviations behind a figure, `artefacts` the digests of
    what was read before it was saved, by kind; `root` is one hash over all of them and their contents."""

    name: str
    kind: str
    alt: str
    choices: dict[str, str]
    profile: dict[str, Any]
    changed: dict[str, dict[str, Any]] | None
    seeds: dict[str, int | list[int]]
    data: dict[str, str]
    artefacts: dict[Word, list[Digest]]
    root: str
    tables: dict[str, str] = Field(default_factory=dict)
    code: Code
    environment: Environment
    cell: NotebookCell | None


class Part(Record):
    """A record as <name>.json holds it: with the hashes of the files and of what they show."""

    sha256: dict[Word, str]
    content: dict[Word, str]
    columns: Columns | None = None


class Manifest(Facts):
    """What a run says of itself, and the hashes of its files, its executed notebooks and the artefacts that it read."""

    run: dict[str, Any] = Field(default_factory=dict)
    code: Code | None = None
    environment: Environment | None = None
    notebooks: dict[str, list[str]] = Field(default_factory=dict)  # when each was started and finished
    sha256: dict[str, str] = Field(default_factory=dict)
    executed: dict[str, str] = Field(default_factory=dict)
    artefacts: dict[str, str | None] = Field(default_factory=dict)


def save(
    context: Context,
    name: str,
    files: dict[str, bytes],
    *,
    kind: str,
    alt: str = "",
    choices: dict[str, str] | None = None,
    columns: Columns | None = None,
) -> dict[str, bytes]:
    """Write <name>.<suffix> for each of `files`, and what made them into <name>.json, where a figure and a table of
    that name have their own parts; returns the files as written."""
    file_name(f"name of a {kind}", name)
    record = _record(context, name=name, kind=kind, alt=alt, choices=choices or {})
    if kind == "figure":
        files = {suffix: embedding.embed(content, record.model_dump()) for suffix, content in files.items()}
    context.folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in files.items():
        (context.folder / f"{name}.{suffix}").write_bytes(content)
    drawn = {suffix: embedding.extract(content).content for suffix, content in files.items() if kind == "figure"}
    hashes = {suffix: sha256(content) for suffix, content in files.items()}
    part = Part(**record.model_dump(), sha256=hashes, content=drawn, columns=columns)
    sidecar = context.folder / f"{name}.json"
    both = sorted({**parts(sidecar), kind: part}.items())
    sidecar.write_text(json.dumps({kind: one.model_dump(mode="json") for kind, one in both}, indent=1) + "\n")
    return files


def _record(context: Context, **about: Any) -> Record:
    reads = context.reads
    contents = {digest: artefact_sha256(context.runs, kind, digest) for digest, kind in reads.items()}
    return Record(
        **about,
        profile=context.profile,
        changed=context.changed,
        seeds=context.seeds,
        data=context.data,
        artefacts={kind: sorted(d for d in reads if reads[d] == kind) for kind in sorted({*reads.values()})},
        root=root_hash(contents),
        tables=context.tables,
        code=running_code(),
        environment=environment(context.device),
        cell=running_cell(),
    )


def parts(sidecar: Path) -> dict[str, Part]:
    """What <name>.json says of the figure and of the table of that name; nothing if it is another kind of file."""
    try:
        found = _json(sidecar)
        return {kind: Part(**found[kind]) for kind in ("figure", "table") if kind in found}
    except (OSError, TypeError, ValueError, RecursionError):
        return {}


def vouched(path: Path) -> bool:
    """Whether the JSON file beside a figure or table names its very bytes."""
    sha = sha256(path.read_bytes())
    return any(part.sha256.get(path.suffix[1:]) == sha for part in parts(path.with_suffix(".json")).values())


def root_hash(contents: dict[str, str | None]) -> str:
    """One hash over the digests of artefacts and the hashes of their tensors."""
    return sha256("".join(f"{digest} {contents[digest]}\n" for digest in sorted(contents)).encode())


def artefact_sha256(runs: Path, kind: str, digest: str) -> str | None:
    """The hash of an artefact's tensors, from its header; None if it is not there, or damaged."""
    path = runs / kind / f"{digest}.safetensors"
    return _sum(path, path.stat().st_mtime_ns) if path.is_file() else None


@cache
def _sum(path: Path, changed: int) -> str | None:
    return read_sum(path)


def write_manifest(
    figures: Path, executed: Path, run: dict[str, Any], times: dict[str, list[str]], store: Store
) -> None:
    """Write manifest.json. What an earlier run left in the folder keeps its times and hashes."""
    before, artefacts = load_manifest(figures), {}
    for part in (part for sidecar in figures.glob("*.json") for part in parts(sidecar).values()):
        for kind, digests in part.artefacts.items():
            artefacts |= {d: artefact_sha256(store.root, kind, d) or before.artefacts.get(d) for d in digests}
    manifest = Manifest(
        run=run,
        code=running_code(),
        environment=environment(store.device),
        notebooks={**before.notebooks, **times},
        sha256=_hashes(path for path in figures.iterdir() if path.name != MANIFEST),
        executed=_hashes(executed.glob("*.ipynb")),
        artefacts=dict(sorted(artefacts.items())),
    )
    (figures / MANIFEST).write_text(json.dumps(manifest.model_dump(), indent=1) + "\n")


def _hashes(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()) for path in sorted(paths)}


def load_manifest(figures: Path) -> Manifest:
    """The manifest of a folder; an empty one if the folder has none."""
    try:
        return Manifest(**_json(figures / MANIFEST))
    except (OSError, TypeError, ValueError, RecursionError):
        return Manifest()


def _json(path: Path) -> Any:
    return embedding.parse(contents(path, embedding.LONGEST))


def now() -> str:
    """The time, UTC, as the manifest writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
