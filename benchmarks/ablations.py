"""What the choices inside J-SIGR are worth: each ablation changes one of them, and is compared with the default on the
same images and seeds. What `frontier` already has (its q, coin, soft masks, norm and weights) is not repeated here."""

import ast
import hashlib
import inspect
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import frontier
from jsigr_lib.measure import statistics
from jsigr_lib.method.defences import regulariser
from jsigr_lib.method.jacobian import sphere, vjp
from jsigr_lib.method.jsigr import JSIGR, residual
from jsigr_lib.method.saliency import Selection, linearised_saliency, perturbation_saliency, selection_mask
from jsigr_lib.method.shapes import Images
from jsigr_lib.networks.zoo import Bank, Training
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.attacked import Outcomes, correct_of, transferred, white_box
from jsigr_lib.study.sources import sources_of
from jsigr_lib.study.study import Study


class MapCosine(JSIGR):
    """A correlation loss in the place of the selection: lambda_S mean_i (1 - cos(|g_i|, S_i)), with |g| summed over
    channels and S the linearised perturbation map that self targets are made from, a constant. No mask is used."""

    def _double_backprop(
        self, z: Tensor, x: Images, y: Tensor, mask: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r_j = z.shape[1] * self._size(vjp(z, x, sphere(*z.shape, like=z, generator=generator))).mean()
        g = vjp(z, x, residual(z, y))
        saliency = linearised_saliency(x.detach(), g.detach(), **self.selection.perturbation)
        unlike = 1 - F.cosine_similarity(g.abs().sum(1).flatten(1), saliency.flatten(1)).mean()
        parts = {"jacobian": r_j, "selective": unlike}
        penalty = self.lambda_j * r_j + self.lambda_s * unlike
        return penalty, {name: part.detach() / self.penalised_steps for name, part in parts.items()}


def map_cosine(**options) -> MapCosine:
    """MapCosine from J-SIGR's flat options, of which `estimator` has to be the one that it replaces."""
    plain = regulariser(**options)
    settings = {name: getattr(plain, name) for name in ("estimator", "fraction", "norm", "selection")}
    return MapCosine(plain.lambda_j, plain.lambda_s, **settings)


class VectorBank(Bank):
    """A teacher's selection by the vector score: how much all logits change, and not the class's alone."""

    score: Literal["vector"] = "vector"

    def _guide(self, model: nn.Module, x: Images, y: Tensor) -> Tensor:
        selection = Selection(**dict(self.selection))
        maps = perturbation_saliency(model, x, y, score=self.score, **selection.perturbation)
        return selection_mask(maps, share=selection.share, kind=selection.kind)


SOURCE = hashlib.sha256(ast.dump(ast.parse(inspect.getsource(MapCosine))).encode()).hexdigest()[:16]


class Ablated(Training):
    """A network by what jsigr_lib has no option for; `own` stands for the code of this file that it depends on."""

    score: Literal["class", "vector"] = "class"
    loss: Literal["selective", "cosine"] = "selective"
    own: str = SOURCE

    @property
    def guide(self) -> Bank:
        given = super().guide
        return given if self.score == "class" else VectorBank(**fields(given))

    def build_objective(self):
        return super().build_objective() if self.loss == "selective" else map_cosine(**dict(self.options))


def fields(spec: Spec) -> dict:
    """Without what a spec remembers of itself."""
    return {name: getattr(spec, name) for name in type(spec).model_fields}


@dataclass(frozen=True)
class Ablation:
    """`deviation` is the row of DEVIATIONS.md whose alternative it tries, `options` replace J-SIGR's, and `extra` are
    fields of `Ablated`."""

    deviation: str
    label: str
    options: dict = field(default_factory=dict)
    teacher: bool = False
    extra: dict = field(default_factory=dict)


DEFAULT = "jsigr"
COSINE = {"lambda_s": 1.0, "estimator": "double-backprop"}  # of .3, 1 and 3 by the rule of D13 on validation images
ABLATIONS = {
    DEFAULT: Ablation("", "the default"),
    "cosine": Ablation("D1", "cosine of the maps", COSINE, extra={"loss": "cosine"}),
    "share-20": Ablation("D2", "share .2", {"share": 0.2}),
    "share-60": Ablation("D2", "share .6", {"share": 0.6}),
    "teacher": Ablation("D3", "teacher", teacher=True),
    "double": Ablation("D4", "double backprop", {"estimator": "double-backprop"}),
    "exact": Ablation("D4", "exact Jacobian norm", {"estimator": "exact"}),
    "vector": Ablation("D6", "teacher, vector score", teacher=True, extra={"score": "vector"}),
    "grid-5": Ablation("D6", "grid 5 x 5", {"grid": 5}),
    "grid-10": Ablation("D6", "grid 10 x 10", {"grid": 10}),
    "blur-2": Ablation("D6", "blur 2", {"blur_sigma": 2.0}),
    "blur-5": Ablation("D6", "blur 5", {"blur_sigma": 5.0}),
}


def study(**settings) -> Study:
    """The frontier's study, with the ablations of its J-SIGR as its defences."""
    known = Study(str(frontier.PROFILE), **settings).profile.defences
    chosen = {name: known[name].model_dump() for name in ("standard", DEFAULT)}
    for name, one in ABLATIONS.items():
        options = {**known[DEFAULT].options, **one.options}
        chosen[name] = {"label": one.label, "objective": "jsigr", "options": options, "teacher": one.teacher}
    return Study(str(frontier.PROFILE), defences=chosen, **settings)


def networks(study: Study, name: str) -> list[Training]:
    """Of every seed."""
    plain = [study.training(name, seed=seed) for seed in study.profile.seeds]
    extra = ABLATIONS[name].extra
    return [Ablated(**fields(network), **extra) for network in plain] if extra else plain


def outcomes(study: Study, name: str) -> dict[str, list[Outcomes]]:
    """The outcomes behind each accuracy, one per seed; those of frontier that an ablation is judged by."""
    source, eps = study.surrogate(sources_of(study, study.architecture)[0]), study.profile.eps
    ones = networks(study, name)
    return {
        "clean": [Outcomes(target=network) for network in ones],
        "transfer": [transferred(study, network, source, eps) for network in ones],
        "white_box": [white_box(study, network, eps) for network in ones],
    }


def specs(study: Study) -> list[Spec]:
    """Everything that the table needs and that can be made in parallel."""
    found: list[Spec] = []
    for name in ABLATIONS:
        found += [one for many in outcomes(study, name).values() for one in many]
        found += [frontier.maps(study, network) for network in networks(study, name)]
    return found


def values(study: Study, name: str) -> dict[str, np.ndarray]:
    """Each measure: [seeds, images]. The agreement is with the default's perturbation map, whatever the ablation's."""
    found = {measure: correct_of(study, ones).astype(float) for measure, ones in outcomes(study, name).items()}
    kept = [study.get(frontier.maps(study, network)).tensors for network in networks(study, name)]
    return {**found, "agreement": torch.stack([one["agreement|gradient|clean"] for one in kept]).double().numpy()}


def table(study: Study) -> pd.DataFrame:
    """One row per ablation and measure: its mean, and its paired difference to the default, with 95 % intervals over
    images and seeds."""
    study.make(specs(study))
    default = values(study, DEFAULT)
    rows = []
    for name, ablation in ABLATIONS.items():
        for measure, value in values(study, name).items():
            row = {"deviation": ablation.deviation, "ablation": ablation.label, "measure": frontier.MEASURES[measure]}
            row |= frontier.interval("mean", statistics.mean(value))
            row |= frontier.interval("difference", statistics.mean(value - default[measure]))
            rows.append({**row, "images": value.shape[1], "seeds": len(value)})
    return pd.DataFrame(rows)


def said(table: pd.DataFrame, label: str) -> str:
    """An ablation's differences as DEVIATIONS.md quotes them."""
    rows = table[table.ablation == label].set_index("measure")
    parts = []
    for measure, row in rows.iterrows():
        middle, low, high = (_signed(row[name]) for name in ("difference", "difference_low", "difference_high"))
        parts.append(f"{measure.split()[0]} {middle} [{low}, {high}]")
    return f"{label}: {', '.join(parts)}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("0.", ".")
