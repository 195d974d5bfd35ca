"""Who made a file, from what: a record for each figure and table, kept where the file goes.

A record stands inside every PNG and SVG (see embedding) and in <name>.json beside the files, as CSV and Markdown can
carry none. Nothing in it depends on when or where a file was made, so that equal runs leave equal files: times are in
the run's manifest.json.
"""

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints
from safetensors import SafetensorError, safe_open

from jsigr_lib import config, deviations, embedding, origins
from jsigr_lib.artefacts import Store
from jsigr_lib.errors import file_name
from jsigr_lib.origins import Cell, Code, Environment, Facts, sha256

if TYPE_CHECKING:
    from jsigr_lib.study import Study

MANIFEST = "manifest.json"
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,40}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class Change(Facts):
    value: Any
    default: Any


class Record(Facts):
    """All that is said of a figure or table. `changed` holds the fields that differ from the named profile's, None if
    no profile of that name ships; `artefacts` what was read until it was saved, by kind; `root` a hash over all of
    their digests and contents; `tables` the hashes of other runs' tables that were read."""

    name: str
    kind: str
    alt: str
    choices: dict[str, str]
    profile: dict[str, Any]
    changed: dict[str, Change] | None
    seeds: dict[str, int | list[int]]
    data: dict[str, str]
    artefacts: dict[Word, list[Digest]]
    root: str
    tables: dict[str, str] = Field(default_factory=dict)
    code: Code
    environment: Environment
    cell: Cell | None


class Part(Record):
    """A record as <name>.json holds it: with the hashes of the files that it is about, and of what they show."""

    sha256: dict[str, str]
    content: dict[str, str]


class Manifest(Facts):
    """What a run says of its files: see `write_manifest`."""

    run: dict[str, Any] = Field(default_factory=dict)
    code: Code | None = None
    environment: Environment | None = None
    notebooks: dict[str, list[str]] = Field(default_factory=dict)  # started and finished
    sha256: dict[str, str] = Field(default_factory=dict)
    executed: dict[str, str] = Field(default_factory=dict)  # the notebooks' hashes
    artefacts: dict[str, str | None] = Field(default_factory=dict)


def save(study: "Study", name: str, files: dict[str, bytes], *, kind: str, alt: str = "") -> dict[str, bytes]:
    """Write <name>.<suffix> for each of `files`, and what made them into <name>.json; the files as they were written.

    A figure and a table may share a name and hence the JSON file, where each has its own part.
    """
    file_name(f"name of a {kind}", name)
    record = about(study, name, kind=kind, alt=alt)
    if kind == "figure":
        files = {suffix: embedding.embed(content, record.model_dump()) for suffix, content in files.items()}
    study.out.mkdir(parents=True, exist_ok=True)
    for suffix, content in files.items():
        (study.out / f"{name}.{suffix}").write_bytes(content)
    drawn = {suffix: embedding.extract(content).content for suffix, content in files.items() if kind == "figure"}
    hashes = {suffix: sha256(content) for suffix, content in files.items()}
    sidecar = study.out / f"{name}.json"
    both = {**parts(sidecar), kind: Part(**record.model_dump(), sha256=hashes, content=drawn)}
    content = {kind: both[kind].model_dump(mode="json") for kind in sorted(both)}
    sidecar.write_text(json.dumps(content, indent=1) + "\n")
    return files


def parts(sidecar: Path) -> dict[str, Part]:
    """What <name>.json says of the figure and of the table called so; nothing if it is another kind of file."""
    try:
        found = _json(sidecar)
        return {kind: Part(**found[kind]) for kind in ("figure", "table") if kind in found}
    except (OSError, TypeError, ValueError):
        return {}


def vouched(path: Path) -> bool:
    """Whether the JSON file beside a figure or table names its very bytes."""
    sha = sha256(path.read_bytes())
    return any(part.sha256.get(path.suffix[1:]) == sha for part in parts(path.with_suffix(".json")).values())


def about(study: "Study", name: str, *, kind: str, alt: str = "") -> Record:
    """The record of a file that a study is about to write."""
    profile, read = study.profile.model_dump(mode="json", exclude={"data_root"}), study.store.reads
    read = {study.data.digest: study.data.kind, **read}  # data may be in memory already
    contents = {digest: artefact_sha256(study.store.root, kind, digest) for digest, kind in read.items()}
    return Record(
        name=name,
        kind=kind,
        alt=alt,
        choices={one.number: one.name for one in deviations.behind(name)},
        profile=profile,
        changed=_changed(profile),
        seeds=study.seeds,
        data={"name": study.data_name, "content": study.data.content},
        artefacts={kind: sorted(d for d in read if read[d] == kind) for kind in sorted({*read.values()})},
        root=root(contents),
        tables=study.read,
        code=origins.code(),
        environment=origins.environment(study.store.device),
        cell=origins.cell(),
    )


def root(contents: dict[str, str | None]) -> str:
    """One hash over the digests of artefacts and the hashes of their tensors."""
    return sha256("".join(f"{digest} {contents[digest]}\n" for digest in sorted(contents)).encode())


def artefact_sha256(runs: Path, kind: str, digest: str) -> str | None:
    """The hash of an artefact's tensors, from its header; None if it is not there, or damaged."""
    path = runs / kind / f"{digest}.safetensors"
    try:
        return _header_sha256(path, path.stat().st_mtime_ns)
    except (SafetensorError, KeyError, TypeError, OSError):
        return None


@cache
def _header_sha256(path: Path, changed: int) -> str:
    with safe_open(path, framework="pt") as file:
        return str(file.metadata()["sha256"])


def _changed(profile: dict[str, Any]) -> dict[str, Change] | None:
    """The fields, such as epochs or penalty.grid, that differ from the profile that ships under the name."""
    if profile["name"] not in config.PROFILE_NAMES:
        return None
    shipped = config.load_profile(profile["name"]).model_dump(mode="json", exclude={"data_root"})
    value, default = _flat(profile), _flat(shipped)
    fields = [field for field in {**default, **value} if value.get(field) != default.get(field)]
    return {field: Change(value=value.get(field), default=default.get(field)) for field in fields}


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def write_manifest(
    figures: Path, executed: Path, run: dict[str, Any], times: dict[str, list[str]], store: Store
) -> None:
    """manifest.json: the hash of every file and executed notebook, the run's own account of itself, when each notebook
    was executed, and the hash of every artefact that a record names. What an earlier run left in the folder keeps its
    times and hashes."""
    before, artefacts = load_manifest(figures), {}
    for part in (part for sidecar in figures.glob("*.json") for part in parts(sidecar).values()):
        for kind, digests in part.artefacts.items():
            artefacts |= {d: artefact_sha256(store.root, kind, d) or before.artefacts.get(d) for d in digests}
    manifest = Manifest(
        run=run,
        code=origins.code(),
        environment=origins.environment(store.device),
        notebooks={**before.notebooks, **times},
        sha256={path.name: sha256(path.read_bytes()) for path in sorted(figures.iterdir()) if path.name != MANIFEST},
        executed={path.name: sha256(path.read_bytes()) for path in sorted(executed.glob("*.ipynb"))},
        artefacts=dict(sorted(artefacts.items())),
    )
    (figures / MANIFEST).write_text(json.dumps(manifest.model_dump(), indent=1) + "\n")


def load_manifest(figures: Path) -> Manifest:
    """The manifest of a folder; an empty one if it has none."""
    try:
        return Manifest(**_json(figures / MANIFEST))
    except (OSError, ValueError):
        return Manifest()


def _json(path: Path) -> dict[str, Any]:
    """Raises OSError or ValueError for whatever is no object, or too long to be one of ours."""
    if not path.is_file():
        raise FileNotFoundError(path)
    with open(path, "rb") as file:
        return embedding.parse(file.read(embedding.LONGEST + 1))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
