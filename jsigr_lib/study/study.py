"""A study: one profile with its data, its store of artefacts and its output folder. Every notebook holds one."""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from jsigr_lib.data.data import SPLIT_SEED, Dataset, DataSpec, load
from jsigr_lib.method.errors import InputError, between, file_name, one_of, shown
from jsigr_lib.method.judges import FEWEST_CLASSES
from jsigr_lib.networks.zoo import Training, trained
from jsigr_lib.records import deviations, markdown, record, results
from jsigr_lib.records.tolerances import declared
from jsigr_lib.store.artefacts import Progress, Store
from jsigr_lib.store.files import sha256
from jsigr_lib.store.paths import FIGURES, RUNS
from jsigr_lib.store.specs import Spec
from jsigr_lib.store.tensor_files import Artefact
from jsigr_lib.study import provenance
from jsigr_lib.study.config import budget, load_profile, require, resolve_device, resolve_jobs
from jsigr_lib.study.settings import fitted, named, said

DIGITS = 4  # after the point, of what saved tables hold
SURROGATE_SEED = 1000  # surrogates are networks of their own: no seed of theirs is a target's


@dataclass(frozen=True)
class Subject:
    """Data that a notebook is about, in the place of the profile's: their name, the digest of the artefact that holds
    them, what a footer says of the networks that learnt from them, and their seeds, if they are not the profile's."""

    name: str
    content: str
    learnt: str
    seeds: tuple[int, ...] = ()


class Study:
    """Everything a notebook needs to state its question.

    Args:
        profile: its name, or a TOML file.
        device: "auto", "cpu" or "cuda".
        jobs: processes at a time; 0 is one per core.
        out: where figures and tables go; "" is runs/figures/<profile>, or a folder of its own with settings.
        runs: where artefacts are kept; "" is runs/.
        download: allow fetching a data set that is missing.
        progress: called after each artefact that had to be made.
        settings: keys of the profile to replace, {"penalty.share": 0.3}; None replaces nothing. So do `overrides`.

    With a folder of pictures, sizes that are not set fit what is there; `fits` says what was changed for that.

    Raises InputError, in one line, for whatever is wrong with any of them.
    """

    def __init__(
        self,
        profile: str = "quick",
        *,
        device: str = "auto",
        jobs: int = 0,
        out: str | Path = "",
        runs: str | Path = "",
        download: bool = False,
        progress: Progress | None = None,
        settings: Mapping[str, Any] | None = None,
        **overrides: Any,
    ):
        for name, path in (("out", out), ("runs", runs)):
            require(isinstance(path, str | Path), name, path, "a path")
        require(isinstance(download, bool), "download", download, "True, False")
        if out and Path(out).exists() and not Path(out).is_dir():
            raise InputError(f"out = {shown(str(out))} is a file; accepted: a folder, which is made if it is missing")
        chosen = _chosen(settings, overrides)
        self.profile = load_profile(profile, **chosen)
        self.fits = fitted(self.profile.model_dump(), chosen)
        self.profile = load_profile(profile, **chosen, **self.fits) if self.fits else self.profile
        self.store = Store(Path(runs) if runs else RUNS, resolve_device(device), resolve_jobs(jobs))
        own = f"{self.profile.name},{named(chosen)}" if chosen else self.profile.name
        self.out = Path(out) if out else RUNS / "figures" / own
        self.progress = progress
        self.read: dict[str, str] = {}  # table of another run -> its hash, of those that were asked for
        self.subject: Subject | None = None
        sizes = self.profile.model_dump(include={"image_size", "train_images", "validation_images", "test_images"})
        self.data = DataSpec.locate(self.profile.dataset, self.profile.data_root, download=download, **sizes)

    @cached_property
    def dataset(self) -> Dataset:
        """The data. Raises InputError if the profile's attacks cannot work with its images or classes."""
        dataset = load(self.data, self.store)
        self._check_data(dataset.test.images, dataset.classes)
        return dataset

    def check(self) -> None:
        """Raise the InputError that `dataset` would raise, and keep nothing."""
        if self.data in self.store:
            _ = self.dataset
        else:
            tensors, facts = self.data.compute(self.store, self.store.device)
            self._check_data(tensors["test_images"], facts["classes"])

    def _check_data(self, images: Tensor, classes: Sequence[str]) -> None:
        between("eps_l2", self.profile.eps_l2, 0, images[0].numel() ** 0.5)
        if self.profile.autoattack:
            between("number of classes, with AutoAttack,", len(classes), FEWEST_CLASSES, 1e9)

    def on(self, subject: Subject) -> "Study":
        """The same study, whose figures and tables say that they are about other data than the profile's."""
        other = copy(self)
        other.subject = subject
        return other

    @property
    def notes(self) -> list[str]:
        """In words, what of the profile gave way to a small folder; nothing if nothing did."""
        return [said(self.fits, self.profile.data_root)] * bool(self.fits)

    @property
    def budget(self) -> str:
        """What figures call the headline budget."""
        return f"eps {budget(self.profile.eps)}"

    @property
    def replications(self) -> dict[str, str]:
        """Profile -> what it calls its data, of the runs by which the claims are judged as well."""
        return {name: load_profile(name).data_title for name in self.profile.replications}

    def published(self, profile: str, name: str) -> pd.DataFrame | None:
        """A table of the published run of another profile; None if there is none. Raises InputError if it is cut, or
        not the one that the run's manifest names."""
        path = FIGURES / profile / f"{name}.csv"
        if not path.exists():
            return None
        results.read_table(path)
        sha = sha256(path.read_bytes())
        if record.load_manifest(path.parent).sha256.get(path.name) != sha:
            accepted = f"as its run published it; restore it, or run `jsigr run --profile {profile}`"
            raise InputError(
                f"{path} is not the table that {record.MANIFEST} beside it names; accepted: a table {accepted}"
            )
        self.read[f"{profile}/{path.name}"] = sha
        return pd.read_csv(path, keep_default_na=False)

    @property
    def architecture(self) -> str:
        """The architecture of the defended networks that figures show."""
        return self.profile.architectures[0]

    @property
    def labels(self) -> dict[str, str]:
        """Defence -> its name in figures."""
        return {name: defence.label for name, defence in self.profile.defences.items()}

    @property
    def featured(self) -> list[str]:
        """The defences that are shown where a figure has no room for all of them."""
        return self.profile.featured or list(self.profile.defences)

    def batch(self, name: str, n: int) -> tuple[Tensor, Tensor]:
        """The first n images of a split, float in [0, 1], and their labels, on the device."""
        return getattr(self.dataset, name).first(n).batch(slice(None), self.store.device)

    def training(
        self,
        defence: str,
        *,
        architecture="",
        seed: int | None = None,
        epochs=0,
        data: DataSpec | None = None,
        **options,
    ) -> Training:
        """The spec of one defended network: by default of the first architecture and seed, with the profile's epochs
        and data, other data being taken as they are; `options` replace the objective's."""
        p = self.profile
        one_of("defence", defence, p.defences)
        architecture = architecture or self.architecture
        seed = p.seeds[0] if seed is None else seed
        common = {"architecture": architecture, "seed": seed, "epochs": epochs or p.epochs}
        return Training(
            **common,
            data=data or self.data,
            width=p.widths.get(architecture),
            augment=p.augment and data is None,
            **{name: getattr(p, name) for name in ("batch_size", "learning_rate")},
            objective=p.defences[defence].objective,
            options=tuple(sorted(p.options(defence, **options).items())),
            teacher=self.training("standard", data=data, **common) if p.defences[defence].teacher else None,
        )

    def surrogate(self, architecture: str, defence: str = "standard", *, seed: int = 0) -> Training:
        """The spec of a network that transfer attacks come from, and that is no target."""
        epochs = self.profile.surrogate_epochs
        return self.training(defence, architecture=architecture, seed=SURROGATE_SEED + seed, epochs=epochs)

    def targets(self) -> dict[tuple[str, str], list[Training]]:
        """(architecture, defence) -> its networks, one per seed. The first architecture has every defence."""
        p, found = self.profile, {}
        for architecture, (name, defence) in product(p.architectures, p.defences.items()):
            first = architecture == self.architecture
            if first or not p.everywhere or name in p.everywhere:
                seeds = p.seeds[: defence.seeds][: None if first else p.everywhere_seeds]
                found[architecture, name] = [self.training(name, architecture=architecture, seed=one) for one in seeds]
        return found

    @property
    def networks(self) -> list[Training]:
        """All networks of `targets`."""
        return [network for networks in self.targets().values() for network in networks]

    def make(self, specs: list[Spec]) -> None:
        """Make what is missing of `specs`."""
        self.store.make(specs, self.progress)

    def get(self, spec: Spec) -> Artefact:
        return self.store.get(spec)

    def model(self, spec: Training) -> nn.Module:
        """The trained network, in evaluation mode."""
        return trained(spec, self.store)

    def generator(self, seed: int = 0) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    def save_table(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """Write a table as CSV and Markdown, rounded to DIGITS, and what made it as JSON; returns the rounded one.
        Raises InputError if it has numbers of which it does not say how far they may lie apart: see `tolerances`."""
        columns, table = declared(table), table.round(DIGITS)
        csv, text = table.to_csv(index=False, lineterminator="\n"), markdown.table(table) + "\n"
        self.save_files(name, {"csv": csv.encode(), "md": text.encode()}, kind="table", columns=columns)
        return table

    def save_files(self, name: str, files: dict[str, bytes], **about: Any) -> dict[str, bytes]:
        """Write a figure or table with its record: see `record.save`."""
        choices = {one.number: one.name for one in deviations.behind(name)}
        context = record.Context(
            folder=self.out,
            runs=self.store.root,
            device=self.store.device,
            profile=provenance.fields(self.profile),
            changed=provenance.changed(self.profile),
            seeds={"networks": self.seeds, "surrogates": SURROGATE_SEED, "split": SPLIT_SEED},
            data=self._about,
            reads={**({} if self.subject else {self.data.digest: self.data.kind}), **self.store.reads},
            tables=self.read,
        )
        return record.save(context, name, files, choices=choices, **about)

    @property
    def _about(self) -> dict[str, str]:
        """What a record says of the data."""
        if self.subject:
            return {"name": self.subject.name, "content": self.subject.content}
        return {"name": self.profile.data_title, "content": self.data.content}

    def save_measured(self, name: str, values: dict) -> None:
        """Write what differs from run to run, such as times, as JSON. Tables do not differ, and lie apart."""
        file_name("measured", name)
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")

    @property
    def seeds(self) -> list[int]:
        """Those of the networks that figures and tables are about."""
        return [*(self.subject.seeds if self.subject else ())] or self.profile.seeds

    @property
    def footer(self) -> str:
        """What every figure says of its origin."""
        p = self.profile
        seeds, epochs = (f"{n} {what}{'s' * (n > 1)}" for n, what in ((len(self.seeds), "seed"), (p.epochs, "epoch")))
        if self.subject:
            return f"{p.name} profile: {self.subject.name}, {self.subject.learnt}, {seeds}"
        return f"{p.name} profile: {p.data_title}, {p.train_images:,} training images, {epochs}, {seeds}"


def _chosen(settings: object, overrides: dict[str, Any]) -> dict[str, Any]:
    """Both together, without what is None."""
    require(settings is None or isinstance(settings, Mapping), "settings", settings, "a table, key -> value")
    settings = {str(key): value for key, value in (settings or {}).items() if value is not None}
    overrides = {key: value for key, value in overrides.items() if value is not None}
    for key in settings.keys() & overrides.keys():
        raise InputError(f"{shown(key)} stands in settings and beside them; accepted: once")
    return {**overrides, **settings}
