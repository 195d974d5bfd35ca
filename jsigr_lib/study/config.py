"""Profiles: one dial from a smoke test to the paper's scale. Every field is checked before anything is computed."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field, model_validator

from jsigr_lib.data.data import DATASETS
from jsigr_lib.measure.attributions import CONTROLS, MAPS
from jsigr_lib.method import attacks, defences
from jsigr_lib.method.errors import InputError, file_name, one_of, shown
from jsigr_lib.method.saliency import Selection
from jsigr_lib.networks import models
from jsigr_lib.store import toml
from jsigr_lib.store.paths import PROFILES
from jsigr_lib.store.sources import take_in
from jsigr_lib.study.fields import MOST, Count, Fraction, OneOrMore, Seed, Several, Table, among, only, require
from jsigr_lib.study.settings import applied
from jsigr_lib.study.sizes import Distillation, Quality

TITLES = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST", "svhn": "SVHN", "folder": "own images"}
TITLES |= {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
GROUPS = {"study": "quick", "neighbours": "neighbours"}
"""Group of notebooks -> the profile that runs it if none is named."""
PROFILE_NAMES = tuple(sorted(path.stem for path in PROFILES.glob("*.toml")))


def budget(eps: float) -> str:
    """A budget as people write it: "0.1", or "8/255", in the levels of an 8-bit image, where that is shorter."""
    written, levels = f"{eps:g}", f"{255 * eps:g}/255"
    return levels if len(levels) < len(written) else written


Option = Annotated[
    float | int | str | bool, only(lambda one: isinstance(one, str) or abs(one) <= MOST, f"at most {MOST:,}")
]
Width = Annotated[int, Field(ge=1, le=4096)]
Text = Annotated[str, Field(max_length=64), only(str.isprintable, "printable characters")]
Architecture = Annotated[str, among("architecture", models.ARCHITECTURES)]
Attack = Annotated[str, among("attack", attacks.ATTACKS)]
MapName = Annotated[str, among("map in saliency_maps", MAPS)]
MapNames = Annotated[
    Several[MapName], only({"gradient", "perturbation"}.issubset, "'gradient', 'perturbation' and others")
]
OtherProfile = Annotated[str, among("profile in replications", PROFILE_NAMES)]
ProfileName = Annotated[str, AfterValidator(partial(file_name, "name"))]
DefenceName = Annotated[str, AfterValidator(partial(file_name, "name of a defence"))]
Defended = Annotated[Several[str], only(lambda names: "standard" not in names, "defences besides 'standard'")]


def taken_in(modules: list[str]) -> list[str]:
    for module in modules:
        take_in(module)
    return modules


class Defence(Table):
    """An objective and its options; with `teacher`, a standard network guides it, by the selection of its perturbation
    maps or by its gradients, whichever the objective takes."""

    label: Annotated[Text, Field(min_length=1)]
    objective: str
    options: dict[Annotated[str, only(lambda one: one != "name", "an option of the objective")], Option] = {}
    teacher: bool = False
    seeds: int | None = Field(None, ge=1)  # how many of the profile's; all by default
    # the values of its weights to choose among, every combination; see `weights`
    tried: dict[str, OneOrMore[float]] = {}


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

    name: ProfileName
    # modules, beside the profile or on Python's path, that register defences, attacks or maps: imported first of all
    imports: Annotated[Several[str], AfterValidator(taken_in)] = []
    group: Annotated[str, among("group", GROUPS)] = "study"  # which notebooks it runs
    # data
    dataset: Annotated[str, among("dataset", DATASETS)]
    data_name: Text = ""  # what figures call the images of a folder
    data_root: str = ""  # where it is, if not bundled; for "folder", a folder with train/ and test/
    image_size: int = Field(32, ge=8, le=512)  # of a folder's images
    train_images: Count
    validation_images: Count
    test_images: Count
    # training
    architectures: OneOrMore[Architecture]  # of the defended networks; figures show the first
    everywhere: Several[str] = []  # the defences that architectures besides the first have too; [] is all
    everywhere_seeds: int | None = Field(None, ge=1)  # and how many of their seeds; all by default
    surrogates: OneOrMore[Architecture]  # undefended networks that transfer attacks come from
    seeds: OneOrMore[Seed]
    epochs: Count
    surrogate_epochs: Count
    surrogate_seeds: Count = 1  # networks per family of sources
    batch_size: Count
    learning_rate: float = Field(gt=0, le=10)
    augment: bool = False
    widths: dict[Architecture, Width] = {}  # of an architecture; its own default otherwise
    penalty: Penalty = Penalty()
    defences: dict[DefenceName, Defence]
    # attacks
    eps: Fraction  # the headline budget
    eps_grid: Annotated[list[Fraction], Field(min_length=1)]
    eps_l2: float = Field(gt=0, le=1000)  # the length of an L2 attack's change
    transfer_attacks: OneOrMore[Attack]  # the first is the headline one
    transfer_steps: Count | None = None  # of each transfer attack but FGSM; None leaves each its own
    surrogate_defences: Defended = []  # defended surrogates, besides the undefended ones
    white_box_images: Count | None = None  # the first test images, for PGD with one start; None is all
    pgd_steps: Count
    pgd_restarts: Count  # of the stronger PGD, with twice the steps
    square_queries: Count
    strong_images: Count  # the first test images, for restarts, Square, L2 and the probes behind flags
    autoattack_images: Count  # the first test images, for AutoAttack, and for comparing all judges
    autoattack: Several[str] = []  # the defences that AutoAttack judges, of each the first seed
    # theory
    estimator_draws: int = Field(200, ge=10, le=1_000_000)  # gradients per estimator, for its bias and spread
    boundary_images: int = Field(12, ge=2)  # the first test images, at most saliency_images, for measured distances
    # saliency
    saliency_images: int = Field(ge=2)
    saliency_maps: MapNames = [name for name in MAPS if name not in CONTROLS]  # of the featured defences
    sanity_images: int = Field(20, ge=2)  # at most so many of them, for what draws a map many times over
    gallery_images: int = Field(5, ge=1, le=12)
    featured: Several[str] = []  # the defences in figures that have no room for all; [] is all
    # maps against a known truth; see `data.glyphs`. How many images to learn from; 0 leaves it out, as do data without
    # garments
    truth_images: int = Field(0, ge=0, le=50_000)
    truth_seeds: Count = 1
    truth_defences: Several[str] = []  # [] is the featured ones
    truth_options: dict[DefenceName, dict[str, float]] = {}  # weights of their own for it
    distillation: Distillation = Distillation()
    quality: Quality = Quality()  # the notebook about image quality, which has data and networks of its own
    # other data: profiles by whose published runs the claims are judged as well, each by itself
    replications: Several[OtherProfile] = []

    @property
    def data_title(self) -> str:
        """What figures and tables call the data."""
        return self.data_name or TITLES[self.dataset]

    @model_validator(mode="after")
    def _fields_fit_each_other(self):
        for field in ("everywhere", "surrogate_defences", "autoattack", "featured", "truth_defences", "truth_options"):
            for name in getattr(self, field):
                one_of(f"defence in {field}", name, self.defences)
        for architecture, width in self.widths.items():
            models.check_width(architecture, width)
        for one in self.architectures:
            require({one} != set(self.surrogates), "surrogates", self.surrogates, f"at least one other than {one!r}")
        both = not self.everywhere or {"standard", "jsigr"} <= {*self.everywhere}
        require(both, "everywhere", self.everywhere, "'standard', 'jsigr' and others, or []")
        others = self.name not in self.replications
        require(others, "replications", self.replications, "other profiles than this one")
        labels = [defence.label for defence in self.defences.values()]
        require(len({*labels}) == len(labels), "labels of defences", labels, "different ones")
        titles = [self.data_title, *(load_profile(name).data_title for name in self.replications)]
        require(len({*titles}) == len(titles), "names of the data and of its replications", titles, "different ones")
        most = {"saliency_images": "test_images", "gallery_images": "saliency_images"}
        for field, limit in most.items():
            value, bound = getattr(self, field) or 1, getattr(self, limit)
            require(value <= bound, field, value, f"at most {limit} = {bound}")
        return self

    @model_validator(mode="after")
    def _defences_can_be_built(self):
        for name in ("standard", "jsigr"):
            one_of("defence needed by every comparison,", name, self.defences)
        own = self.options("jsigr")
        ours = self.defences["jsigr"].objective == "jsigr" and own.get("lambda_j") and own.get("lambda_s")
        require(ours, "options of defence 'jsigr'", own, "objective 'jsigr', both lambdas positive")
        taught = self.defences["standard"].teacher
        require(not taught, "teacher of defence 'standard'", taught, "False, as it is the others' teacher")
        for name, defence in self.defences.items():
            guide = defences.build(defence.objective, **self.options(name)).guide
            teacher, what = defence.teacher, f"teacher of defence {name!r}"
            require(guide or not teacher, what, teacher, "False, as it takes nothing from one")
            require(guide != "gradient" or teacher, what, teacher, "True, as it imitates one")
            self._check_tried(name, defence)
            defences.build(defence.objective, **self.options(name, **self.truth_options.get(name, {})))
        return self

    def _check_tried(self, name: str, defence: Defence) -> None:
        """Each value is one that its objective takes, and the profile's own choice is among them. J-SIGR's grid has its
        special cases."""
        special = all(0 in defence.tried.get(weight, ()) for weight in ("lambda_j", "lambda_s"))
        grid = name != "jsigr" or not defence.tried or special
        require(grid, f"tried of defence {name!r}", defence.tried, "lambda_j and lambda_s, both with 0")
        for weight, values in defence.tried.items():
            for value in values:
                defences.build(defence.objective, **self.options(name, **{weight: value}))
            own = self.options(name).get(weight)
            require(own in values, f"{weight} of defence {name!r}", own, f"one that was tried, {values}")

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
    """The profile called `name`, or the TOML file of that name, with some fields replaced; see `settings.applied`.

    Raises InputError in one line for an unknown profile, an unknown field, a wrong type or a bad value.
    """
    if not str(name).endswith(".toml"):
        one_of("profile", name, PROFILE_NAMES)
    path = Path(name) if str(name).endswith(".toml") else PROFILES / f"{name}.toml"
    fields = toml.load(path, "profile", f"{', '.join(PROFILE_NAMES)}, or a TOML file like theirs")
    fields = applied(fields, overrides)
    if "imports" in fields and (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)  # after all else, so that nothing there hides another module
    profile = toml.checked(Profile, {"name": path.stem, **fields})
    shipped = profile.name.casefold() in PROFILE_NAMES and profile.name != name  # its files would pass for published
    require(
        not shipped, f"name of {shown(str(name))}", profile.name, f"another than {', '.join(PROFILE_NAMES)}, which ship"
    )
    return profile


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
