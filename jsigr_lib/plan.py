"""What a run would find, what it would make and why, and how long that takes: from headers alone, computing nothing."""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from jsigr_lib import pipeline, staleness
from jsigr_lib.artefacts import Spec, Store
from jsigr_lib.speed import Headers, Speed, read_headers
from jsigr_lib.study import Study

SHOWN = 4  # reasons of each kind in a summary


@dataclass(frozen=True)
class Entry:
    """One artefact that a run uses; `seconds` are what making it takes."""

    kind: str
    digest: str
    status: Literal["cached", "stale", "missing", "damaged"]
    reason: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else self.status


@dataclass(frozen=True)
class Plan:
    """The whole answer."""

    profile: str
    store: str
    jobs: int
    artefacts: list[Entry]
    strangers: list[str]  # files in the store that are no artefacts, or damaged ones
    artefact_minutes: float
    notebook_minutes: dict[str, float]
    basis: str

    @property
    def minutes(self) -> float:
        return self.artefact_minutes + sum(self.notebook_minutes.values())

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "minutes": self.minutes}

    def lines(self, *, each: bool = False) -> list[str]:
        """For people: one line per kind, or for each artefact."""
        made = sum(entry.status != "cached" for entry in self.artefacts)
        lines = [f"{self.profile} profile: {len(self.artefacts)} artefacts in {self.store}, {made} of them to be made"]
        kinds = defaultdict(list)
        for entry in self.artefacts:
            kinds[entry.kind].append(entry)
        if each:
            lines += [f"  {entry.kind}/{entry.digest}  {entry}" for entries in kinds.values() for entry in entries]
        else:
            lines += [f"  {kind:<10}  {_summary(entries)}" for kind, entries in kinds.items()]
        lines += [f"  no artefact: {path}" for path in self.strangers]
        parts = f"{self.artefact_minutes:.1f} for artefacts, {sum(self.notebook_minutes.values()):.1f} for notebooks"
        return [*lines, f"about {self.minutes:.1f} minutes with {self.jobs} processes: {parts} ({self.basis})"]


def _summary(entries: list[Entry]) -> str:
    counts = Counter(map(str, entries))
    most = sorted(counts, key=lambda what: (what != "cached", -counts[what]))
    more = sum(counts[what] for what in most[SHOWN:])
    shown = [f"{counts[what]} {what}" for what in most[:SHOWN]]
    return "; ".join([*shown, *([f"{more} more (see --all)"] if more else [])])


def plan(
    *,
    profile: str = "quick",
    notebooks: list[str] | None = None,
    settings: dict[str, Any] | None = None,
    device: str = "auto",
    jobs: int = 0,
    runs: str | Path = "",
    start: float = 0.0,
) -> Plan:
    """What `pipeline.run` would do with these arguments. Raises the InputError that one of them would raise there.

    `start` is how many seconds a process takes to begin: the run itself and then, all at once, its workers.
    """
    settings, chosen = settings or {}, pipeline.select(notebooks)
    pipeline.check_settings(chosen, settings)
    study = Study(profile, device=device, jobs=jobs, runs=runs, **settings)
    store, wanted = study.store, [spec for name in chosen for spec in pipeline.specs(study, name)]
    headers, strangers = read_headers(store.root)
    used = _used(wanted, headers)
    made = [spec for spec in used if not _found(spec, headers)]
    for spec in used:
        if made and _found(spec, headers):
            headers[spec.kind][spec.digest].setdefault("work", spec.work())  # older versions did not write it down
    speed = Speed.of(store, headers, study.profile.name)
    reasons = _reasons(made, headers, store, {spec.digest for spec in used})
    entries = [
        Entry(spec.kind, spec.digest, *reasons[spec.digest], speed.seconds(spec))
        if spec.digest in reasons
        else Entry(spec.kind, spec.digest, "cached")
        for spec in used
    ]
    waves = [*store.missing(wanted), [spec for spec in made if spec in store]]  # a damaged one is made after all
    starts = start * (1 + any(map(store.in_parallel, waves)))
    return Plan(
        profile=study.profile.name,
        store=str(store.root),
        jobs=store.jobs,
        artefacts=entries,
        strangers=[str(path) for path in strangers],
        artefact_minutes=(starts + speed.makespan(waves, store)) / 60,
        notebook_minutes={name: speed.notebook(name) / 60 for name in chosen},
        basis=speed.basis,
    )


def _found(spec: Spec, headers: Headers) -> bool:
    return spec.digest in headers.get(spec.kind, {})


def _used(wanted: list[Spec], headers: Headers) -> list[Spec]:
    """What a run loads or makes: `wanted`, and what each of them needs that has to be made."""
    used: dict[str, Spec] = {}

    def use(spec: Spec) -> None:
        if spec.digest not in used:
            used[spec.digest] = spec
            for need in () if _found(spec, headers) else spec.needs():
                use(need)

    for spec in wanted:
        use(spec)
    return list(used.values())


def _reasons(made: list[Spec], headers: Headers, store: Store, used: set[str]) -> dict[str, tuple[str, str]]:
    """digest -> status and reason, of each artefact that has to be made."""
    kinds, reasons = defaultdict(list), {}
    for spec in made:
        kinds[spec.kind].append(spec)
    for kind, specs in kinds.items():
        orphans = [facts for digest, facts in headers.get(kind, {}).items() if digest not in used]
        for spec, reason in zip(specs, staleness.explain(specs, orphans), strict=True):
            if spec in store:
                status, reason = "damaged", "its file is not whole"
            else:
                status = "stale" if reason else "missing"
            if store.checkpoint(spec).exists():
                reason = f"{reason}, goes on from a checkpoint".removeprefix(", ")
            reasons[spec.digest] = status, reason
    return reasons
