"""Profiles: one dial from a smoke test to the paper's scale. Every field is checked before anything is computed."""

import os
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from jsigr_lib import attacks, defences, models, toml
from jsigr_lib.attributions import MAPS
from jsigr_lib.data import DATASETS
from jsigr_lib.errors import InputError, between, file_name, one_of, shown
from jsigr_lib.paths import PROFILES
from jsigr_lib.saliency import Selection

Fraction = Field(ge=0, le=1, allow_inf_nan=False)
Count = Field(ge=1, le=10_000_000)
TITLES = {
    "fashion-mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "folder": "own images",
}
PROFILE_NAMES = tuple(sorted(path.stem for path in PROFILES.glob("*.toml")))


def budget(eps: float) -> str:
    """A budget as people write it: "0.1", or "8/255", in the levels of an 8-bit image, where that is shorter."""
    written, levels = f"{eps:g}", f"{255 * eps:g}/255"
    return levels if len(levels) < len(written) else written


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Defence(Table):
    """An objective and its options; with `teacher`, a standard network guides it, by the selection of its perturbation
    maps or by its gradients, whichever the objective takes."""

    label: str = Field(min_length=1, max_length=64)
    objective: str
    options: dict[str, float | int | str | bool] = {}
    teacher: bool = False
    seeds: int | None = Field(None, ge=1)  # how many of the profile's; all by default
    tried: dict[str, list[float]] = {}  # the values of its weights to choose among, every combination; see `search`


class Penalty(Table):
    """Options shared by all regularisers of the J-SIGR family; see jsigr.JSIGR and saliency.Selection."""

    estimator: Literal["single-pass", "double-backprop", "exact"] = "single-pass"
    fraction: float = Field(0.1, gt=0, le=1)
    coin: float = Field(0.1, gt=0, lt=1)
    norm: Literal["l2", "l1"] = "l2"
    share: float = Field(0.4, ge=0, le=1)
    kind: Literal["hard", "soft"] = "hard"
    grid: int = Field(7, ge=1, le=64)
    mask_sigma: float = Field(2.0, gt=0)
    blur_sigma: float = Field(3.0, gt=0)

    @property
    def selection(self) -> Selection:
        return Selection(**{name: getattr(self, name) for name in Selection.__dataclass_fields__})


class Profile(Table):
    """Everything that decides the results of a run. Units: eps and step sizes are fractions of the pixel range."""

    name: str
    # data
    dataset: str
    data_name: str = Field("", max_length=64)  # what figures call the images of a folder
    data_root: str = ""  # where it is, if not bundled; for "folder", a folder with train/ and test/
    image_size: int = Field(32, ge=8, le=512)  # of a folder's images
    train_images: int = Count
    validation_images: int = Count
    test_images: int = Count
    # training
    architectures: list[str] = Field(min_length=1)  # of the defended networks; figures show the first
    everywhere: list[str] = []  # the defences that architectures besides the first have too; [] is all
    everywhere_seeds: int | None = Field(None, ge=1)  # and how many of their seeds; all by default
    surrogates: list[str] = Field(min_length=1)  # undefended networks that transfer attacks come from
    seeds: list[int] = Field(min_length=1)
    epochs: int = Count
    surrogate_epochs: int = Count
    batch_size: int = Count
    learning_rate: float = Field(gt=0, le=10)
    augment: bool = False
    widths: dict[str, int] = {}  # of an architecture; its own default otherwise
    penalty: Penalty = Penalty()
    defences: dict[str, Defence]
    search_images: int | None = Field(None, ge=1)  # what the search of weights learns from, if less than the rest
    search_epochs: int | None = Field(None, ge=1)
    # attacks
    eps: float = Fraction  # the headline budget
    eps_grid: list[float] = Field(min_length=1)
    eps_l2: float = Field(gt=0, le=1000, allow_inf_nan=False)  # the length of an L2 attack's change
    transfer_attacks: list[str] = Field(min_length=1)  # the first is the headline one
    transfer_design: Literal["star", "full"] = "full"  # attack x eps: around the headline, or all; see attack_grid
    surrogate_defences: list[str] = []  # defended surrogates, besides the undefended ones
    pgd_steps: int = Count
    pgd_restarts: int = Count  # of the stronger PGD, with twice the steps
    square_queries: int = Count
    strong_images: int = Count  # the first test images, for restarts, Square, L2 and the probes behind flags
    autoattack_images: int = Count  # the first test images, for AutoAttack, and for comparing all judges
    autoattack: list[str] = []  # the defences that AutoAttack judges, of each the first seed
    # theory
    estimator_draws: int = Field(200, ge=10, le=1_000_000)  # gradients per estimator, for its bias and spread
    boundary_images: int = Field(12, ge=2)  # the first test images, at most saliency_images, for measured distances
    # saliency
    saliency_images: int = Field(ge=2)
    saliency_maps: list[str] = [name for name in MAPS if name != "random"]  # of the featured defences
    sanity_images: int = Field(20, ge=2)  # at most so many of them, for what draws a map many times over
    gallery_images: int = Field(5, ge=1, le=12)
    featured: list[str] = []  # the defences in figures that have no room for all; [] is all
    # other data
    replications: list[str] = []  # profiles by whose published runs the claims are judged as well, each by itself

    @property
    def data_title(self) -> str:
        """What figures and tables call the data."""
        return self.data_name or TITLES[self.dataset]

    @model_validator(mode="after")
    def _check(self):
        file_name("name", self.name)
        if self.data_name and not self.data_name.isprintable():
            raise InputError(f"data_name = {shown(self.data_name)}; accepted: printable characters")
        if self.data_name and self.dataset != "folder":
            raise InputError(f"data_name = {shown(self.data_name)} and dataset = {self.dataset!r}; accepted: 'folder'")
        for name, defence in self.defences.items():
            file_name("name of a defence", name)
            if not defence.label.isprintable():
                raise InputError(f"label = {shown(defence.label)}; accepted: printable characters")
        one_of("dataset", self.dataset, DATASETS)
        for architecture in [*self.architectures, *self.surrogates, *self.widths]:
            models.check_width(architecture, self.widths.get(architecture))
            between(f"width of {architecture}", self.widths.get(architecture, 1), 1, 4096)
        different = ("architectures", "surrogates", "seeds", "transfer_attacks", "saliency_maps")
        for field in (*different, "everywhere", "surrogate_defences", "autoattack", "featured", "replications"):
            values = getattr(self, field)
            if len(set(values)) < len(values):
                raise InputError(f"{field} = {shown(values)}; accepted: different values")
        for architecture in self.architectures:
            if {architecture} == set(self.surrogates):
                raise InputError(f"surrogates = {self.surrogates}; accepted: at least one other than {architecture!r}")
        for name in self.transfer_attacks:
            one_of("attack", name, attacks.ATTACKS)
        for name in self.replications:
            one_of("profile in replications", name, [other for other in PROFILE_NAMES if other != self.name])
        for field in ("everywhere", "surrogate_defences", "autoattack", "featured"):
            for name in getattr(self, field):
                one_of(f"defence in {field}", name, self.defences)
        if "standard" in self.surrogate_defences:
            raise InputError(f"surrogate_defences = {self.surrogate_defences}; accepted: defences besides 'standard'")
        for eps in self.eps_grid:
            if not 0 <= eps <= 1:
                raise InputError(f"eps_grid has {eps!r}; accepted: fractions of the pixel range, 0 to 1")
        for seed in self.seeds:
            between("seed", seed, 0, 2**62)
        for name in ("standard", "jsigr"):
            one_of("defence needed by every comparison,", name, self.defences)
        own = self.options("jsigr")
        if self.defences["jsigr"].objective != "jsigr" or not (own.get("lambda_j") and own.get("lambda_s")):
            raise InputError(
                f"options of defence 'jsigr' = {shown(own)}; accepted: objective 'jsigr', both lambdas positive"
            )
        if self.defences["standard"].teacher:
            raise InputError("teacher = True of defence 'standard'; accepted: False, as it is the others' teacher")
        for name, defence in self.defences.items():
            guide = defences.build(defence.objective, **self.options(name)).guide
            if defence.teacher and guide is None:
                raise InputError(f"teacher = True of defence {name!r}; accepted: False, as it takes nothing from one")
            if not defence.teacher and guide == "gradient":
                raise InputError(f"teacher = False of defence {name!r}; accepted: True, as it imitates one")
            self._check_tried(name, defence)
        if self.everywhere and not {"standard", "jsigr"} <= set(self.everywhere):
            raise InputError(f"everywhere = {self.everywhere}; accepted: 'standard', 'jsigr' and others, or []")
        between("search_images", self.search_images or 1, 1, self.train_images)
        if self.saliency_images > self.test_images:
            raise InputError(
                f"saliency_images = {self.saliency_images}; accepted: at most test_images = {self.test_images}"
            )
        for name in self.saliency_maps:
            one_of("map in saliency_maps", name, MAPS)
        for name in ("gradient", "perturbation"):
            one_of("map needed by every comparison,", name, self.saliency_maps)
        if self.gallery_images > self.saliency_images:
            raise InputError(
                f"gallery_images = {self.gallery_images}; accepted: at most saliency_images = {self.saliency_images}"
            )
        return self

    def _check_tried(self, name: str, defence: Defence) -> None:
        """Each value is one that its objective takes, and the profile's own choice is among them. J-SIGR's grid has its
        special cases."""
        special = all(0 in defence.tried.get(weight, ()) for weight in ("lambda_j", "lambda_s"))
        if name == "jsigr" and defence.tried and not special:
            raise InputError(
                f"tried of defence {name!r} = {defence.tried}; accepted: lambda_j and lambda_s, both with 0"
            )
        for weight, values in defence.tried.items():
            if not values or len(set(values)) < len(values):
                raise InputError(f"tried.{weight} of defence {name!r} = {values}; accepted: different values")
            for value in values:
                defences.build(defence.objective, **self.options(name, **{weight: value}))
            if self.options(name).get(weight) not in values:
                own = self.options(name).get(weight)
                raise InputError(f"{weight} of defence {name!r} = {own!r}; accepted: one that was tried, {values}")

    def options(self, defence: str, **changed: float) -> dict[str, Any]:
        """The options of a defence's objective: its own, and the shared penalty's for the J-SIGR family."""
        chosen = self.defences[defence]
        own = {**chosen.options, **changed}
        if chosen.objective not in defences.PENALISED or not (own.get("lambda_j") or own.get("lambda_s")):
            return own  # no penalty: nothing that describes it counts
        return {**self.penalty.model_dump(), **own}

    @property
    def budgets(self) -> list[float]:
        """The eps grid without 0, and the headline budget, ascending."""
        return sorted({*self.eps_grid} - {0.0} | {self.eps})


def load_profile(name: str = "quick", /, **overrides: Any) -> Profile:
    """The profile called `name`, or the TOML file of that name, with some fields replaced; None replaces nothing.

    Raises InputError in one line for an unknown profile, an unknown field, a wrong type or a bad value.
    """
    if not str(name).endswith(".toml"):
        one_of("profile", name, PROFILE_NAMES)
    path = Path(name) if str(name).endswith(".toml") else PROFILES / f"{name}.toml"
    fields = toml.read(path, "profile", f"{', '.join(PROFILE_NAMES)}, or a TOML file like theirs")
    fields |= {key: value for key, value in overrides.items() if value is not None}
    return toml.checked(Profile, {"name": path.stem, **fields})


def resolve_device(name: str = "auto") -> torch.device:
    """auto is cuda where there is one. Raises InputError for another name, or for cuda without one."""
    one_of("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' is not available here; accepted: auto, cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def resolve_jobs(jobs: int = 0) -> int:
    """Processes at a time: 0 means one per CPU core that this process may use."""
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 0:
        raise InputError(f"jobs = {jobs!r}; accepted: a whole number from 1, or 0 for one per core")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return jobs or cores or 1
