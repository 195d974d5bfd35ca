"""What a run would find, what it would make and why, and how long that takes, here or on a cluster: from headers alone.

An artefact was never made, or what it is made from has changed since. The nearest artefact of its kind that nothing
asks for any more tells which: the one with the fewest fields that differ, the latest of several."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jsigr_lib.explorer.snapshot import specs
from jsigr_lib.pipeline.order import order
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.queue import makespan
from jsigr_lib.store.specs import Spec, within
from jsigr_lib.study.memory import Task, largest
from jsigr_lib.study.speed import Headers, Speed, read_headers

SHOWN = 4  # reasons of each kind in a summary
SLOTS = (1, 4, 16, 64)  # tasks at a time for which a plan is made besides
FEW = 3  # with so many changes it is the same artefact, to be made anew; with more it is another one


@dataclass(frozen=True)
class Entry:
    """One artefact that a run uses: cached, stale, missing or damaged. It takes `seconds` to make, 0 if it is there."""

    kind: str
    digest: str
    status: str
    reason: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else self.status


@dataclass(frozen=True)
class Plan:
    """Everything that a run would use and make, and where it would publish. `strangers` are files in the store that are
    no artefacts, or damaged ones; `notes` say what of the profile gives way to a small folder. `slot_minutes` are those
    of the artefacts by tasks at a time, each on a `slot` like the device here; no number of them beats `chain_minutes`.
    `largest` is the task that takes most memory.
    """

    profile: str
    store: str
    jobs: int
    artefacts: list[Entry]
    strangers: list[str]
    artefact_minutes: float
    slot_minutes: dict[int, float]
    chain_minutes: float
    slot: str
    largest: Task | None
    notebook_minutes: dict[str, float]
    basis: str
    notes: list[str]
    out: str

    @property
    def minutes(self) -> float:
        return self.artefact_minutes + sum(self.notebook_minutes.values())

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "minutes": self.minutes}

    def lines(self, *, each: bool = False) -> list[str]:
        """For people: one line per kind, or for each artefact."""
        made = sum(entry.status != "cached" for entry in self.artefacts)
        lines = [f"{self.profile} profile: {len(self.artefacts)} artefacts in {self.store}, {made} of them to be made"]
        lines += self.notes
        for kind in dict.fromkeys(entry.kind for entry in self.artefacts):
            entries = [entry for entry in self.artefacts if entry.kind == kind]
            one_by_one = [f"  {kind}/{entry.digest}  {entry}" for entry in entries]
            lines += one_by_one if each else [f"  {kind:<10}  {_summary(entries)}"]
        lines += [f"  no artefact: {path}" for path in self.strangers]
        parts = f"{self.artefact_minutes:.1f} for artefacts, {sum(self.notebook_minutes.values()):.1f} for notebooks"
        lines += self._schedule() if made else []
        lines.append(f"figures and notebooks would go to {self.out}")
        return [*lines, f"about {self.minutes:.1f} minutes with {self.jobs} processes: {parts} ({self.basis})"]

    def _schedule(self) -> list[str]:
        work, *others = (f"{duration(minutes)} on {slots}" for slots, minutes in self.slot_minutes.items())
        return [
            f"work: {work} {self.slot}",
            f"with more of them, here or in a cluster: {', '.join(others)}",
            f"longest chain, each needing the one before it: {duration(self.chain_minutes)}, on any number",
            *([f"largest task: {self.largest}"] if self.largest else []),
        ]


def duration(minutes: float) -> str:
    """In the unit that suits it: 50 minutes, 7.5 hours, 3.2 days."""
    amount, unit = (minutes, "minutes") if minutes < 90 else (minutes / 60, "hours")
    amount, unit = (amount, unit) if minutes < 48 * 60 else (minutes / (24 * 60), "days")
    return f"{amount:.1f} {unit}"


def _summary(entries: list[Entry]) -> str:
    counts = Counter(map(str, entries))
    most = sorted(counts, key=lambda what: (what != "cached", -counts[what]))
    shown = [f"{counts[what]} {what}" for what in most[:SHOWN]]
    more = [f"{sum(counts[what] for what in most[SHOWN:])} more (see --all)"] if most[SHOWN:] else []
    return "; ".join(shown + more)


def plan(
    *,
    profile: str = "quick",
    notebooks: list[str] | None = None,
    settings: dict[str, Any] | None = None,
    device: str = "auto",
    jobs: int = 0,
    runs: str | Path = "",
    start: float = 0.0,
    slots: tuple[int, ...] = SLOTS,
) -> Plan:
    """What `pipeline.run` would do with these arguments. Raises the InputError that one of them would raise there.

    `start` is how many seconds a process takes to begin: the run itself and then, all at once, its workers. `slots` are
    numbers of tasks at a time for which a plan is made besides.
    """
    asked = order(profile, notebooks, settings, device=device, jobs=jobs, runs=runs)
    study, chosen = asked.study, asked.notebooks
    study.check()
    store, wanted = study.store, [spec for name in chosen for spec in specs(study, name)]
    headers, strangers = read_headers(store.root)
    used = _used(wanted, headers)
    made = [spec for spec in used.values() if spec.digest not in headers[spec.kind]]
    speed = Speed.of(store, headers, study.profile.name)
    entries = {entry.digest: entry for entry in _missing(made, used, headers, store, speed)}
    waves = [*store.missing(wanted), [spec for spec in made if spec in store]]  # a damaged one is made after all
    processes = store.processes(waves)

    def minutes(number: int) -> float:
        return makespan(made, lambda spec: entries[spec.digest].seconds, number) / 60

    return Plan(
        profile=study.profile.name,
        store=str(store.root),
        jobs=store.jobs,
        artefacts=[entries.get(digest, Entry(spec.kind, digest, "cached")) for digest, spec in used.items()],
        strangers=[str(path) for path in strangers],
        artefact_minutes=minutes(processes) + start * (1 + (processes > 1)) / 60,
        slot_minutes={number: minutes(number) for number in slots},
        chain_minutes=minutes(max(1, len(made))),
        slot="GPU" if store.device.type == "cuda" else "core",
        largest=largest(made),
        notebook_minutes={name: speed.notebook(name) / 60 for name in chosen},
        basis=speed.basis,
        notes=study.notes,
        out=str(asked.out),
    )


def _used(wanted: list[Spec], headers: Headers) -> dict[str, Spec]:
    """All that a run loads or makes, by digest: `wanted` and, of each of them that has to be made, what it needs."""
    used, left = {}, wanted[::-1]
    while left:
        spec = left.pop()
        if spec.digest not in used:
            used[spec.digest] = spec
            left += [] if spec.digest in headers[spec.kind] else spec.needs()[::-1]
    return used


def _missing(made: list[Spec], used: dict[str, Spec], headers: Headers, store: Store, speed: Speed) -> Iterator[Entry]:
    """An entry for each artefact that has to be made, with the reason."""
    for kind in dict.fromkeys(spec.kind for spec in made):
        specs = [spec for spec in made if spec.kind == kind]
        orphans = [facts for digest, facts in headers[kind].items() if digest not in used]
        for spec, reason in zip(specs, explain(specs, orphans), strict=True):
            status = "stale" if reason else "missing"
            if spec in store:
                status, reason = "damaged", "its file is not whole"
            if store.checkpoint(spec).exists():
                reason = f"{reason}, goes on from a checkpoint".removeprefix(", ")
            yield Entry(kind, spec.digest, status, reason, speed.seconds(spec))


def explain(specs: list[Spec], orphans: list[dict[str, Any]]) -> list[str]:
    """Why each of some missing specs of one kind is stale, "" if it was never made. `orphans` are headers of artefacts
    of that kind that nothing asks for, the latest first."""
    if not orphans:
        return [""] * len(specs)
    wanted = [_fields(one.model_dump(mode="json")) for one in specs]
    others = [_fields(one["spec"]) for one in orphans]
    columns = {item: i for i, item in enumerate({item for one in (*wanted, *others) for item in one.items()})}
    new, old = (np.zeros((len(some), len(columns)), np.float32) for some in (wanted, others))
    for row, one in zip((*new, *old), (*wanted, *others), strict=True):
        row[[columns[item] for item in one.items()]] = 1
    nearest = (2 * new @ old.T - old.sum(1)).argmax(1)  # the first of those with the fewest differences
    return [_reason(spec, orphans[i]) for spec, i in zip(specs, nearest, strict=True)]


def _reason(spec: Spec, old: dict[str, Any]) -> str:
    """What differs between a spec and the header of an older artefact, in words; "" if that is too much."""
    changes = _changed_fields(spec, old["spec"]) + _changed_code(spec, old)
    return "" if len(changes) > FEW else ", ".join(changes) or "made by an older version"


def _changed_fields(spec: Spec, old: dict[str, Any]) -> list[str]:
    """ "epochs 2 -> 3", "its model's epochs 2 -> 3"; a change that reaches the spec on several ways counts once."""
    before, after, parts = _fields(old), _fields(spec.model_dump(mode="json")), within(spec)
    changes = []
    for path in sorted({*before, *after}):
        if before.get(path) != after.get(path):
            owner = max((part for part in parts if f"{path}.".startswith(f"{part}.")), key=len, default="")
            name = path.removeprefix(owner).removeprefix(".")
            values = (_short(some.get(path, "nothing")) for some in (before, after))
            changes.append(f"{_whose(parts[owner], spec)}{name} {' -> '.join(values)}")
    return list(dict.fromkeys(changes))


def _changed_code(spec: Spec, old: dict[str, Any]) -> list[str]:
    """ "code of training.py changed", the artefact's own or that of what it is made from; "torch 2.13.0 -> 2.14.1"."""
    if not {"code", "libraries"} <= old.keys():
        return []  # an older version did not write it down
    changes, said = [], set()
    for path, part in spec.parts.items():
        before, after = old["code"].get(path, {}), part.code.files
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        if names := [f"{name}.py" for name in sorted(changed - said)]:
            changes.append(f"{_whose(part, spec)}code of {', '.join(names)} changed")
        said |= changed
    before, now = old["libraries"], spec.made_from["libraries"]
    return changes + [f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]


def _whose(part: Spec, spec: Spec) -> str:
    return "" if part is spec else f"its {part.kind}'s "


def _fields(value: Any, path: str = "") -> dict[str, str]:
    """Nested fields by path, each value as JSON; pairs of a name and a value, as options are, count as fields."""
    if isinstance(value, list) and all(isinstance(item, list) and len(item) == 2 for item in value):
        value = dict(value)
    elif isinstance(value, list) and any(isinstance(item, (list, dict)) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {path: json.dumps(value)}
    below = (_fields(part, f"{path}.{name}" if path else str(name)) for name, part in value.items())
    return {name: part for fields in below for name, part in fields.items()}


def _short(value: str) -> str:
    """A value, or the beginning of a long one, such as a hash."""
    value = value.strip('"')
    return value if len(value) <= 24 else f"{value[:8]}..."
