"""NT (Liu et al. 2024) on photographs: the quality networks of a study, what attacks do to their scores, and the
tables. All is counted in pictures: a source in one variant, scored by the mean of its crops. Intervals draw sources
and seeds."""

from functools import lru_cache
from itertools import product
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from jsigr_lib.data.photographs import CROP, DISTORTIONS, VARIANTS, Photographs, haarpsi, load
from jsigr_lib.measure.agreement import Statistic, distance, estimate, interval, kendall, pearson, rmse, spearman
from jsigr_lib.method.norm_regularisation import OBJECTIVES
from jsigr_lib.networks.counting import Operations
from jsigr_lib.networks.quality import (
    FLOPS,
    Choice,
    Chosen,
    Quality,
    attack,
    middle,
    network_of,
    scores,
    slopes,
    untrained,
)
from jsigr_lib.records.tolerances import EXACT, RETOLD, TRAINED, declare
from jsigr_lib.store.artefacts import Store
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.study import Study

LABELS = {
    "plain": "no defence",
    "nt": "NT",
    "jacobian": "Jacobian",
    "input-gradient": "input gradient, squared error",
    "jsigr": "J-SIGR",
    "attacked": "attacked images",
}
"""Objective -> what a row of the tables is called."""
PAIRS = [*((name, "plain") for name in LABELS if name != "plain"), ("jacobian", "nt"), ("jsigr", "nt")]


class Judged(Spec):
    """What a network says of the test pictures [pictures], "clean", under FGSM at each level and under PGD at the
    largest ("fgsm-4", "pgd-4"); "slope", the mean ||g||_1 of their crops; and "seen", HaarPSI after that PGD."""

    kind: ClassVar[str] = "quality_judged"
    network: Quality | Chosen
    data: Photographs
    levels: tuple[float, ...]
    steps: int

    def needs(self) -> list[Spec]:
        return [self.network, self.data]

    def work(self) -> float:
        return FLOPS * self.data.pictures("test") * self.data.crops * (self.steps + 2 * len(self.levels) + 3)

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model, crops = network_of(self.network, store), load(self.data, store, "test")
        x, between = crops.pixels(device), middle(self.data, store)
        found = {"clean": scores(model, x), "slope": slopes(model, x)}
        for level in self.levels:
            found[f"fgsm-{level:g}"] = scores(model, attack(model, x, level, steps=1, middle=between))
        x_adv = attack(model, x, self.levels[-1], steps=self.steps, middle=between)
        found[f"pgd-{self.levels[-1]:g}"] = scores(model, x_adv)
        seen = haarpsi(crops.references().flatten(0, 1), x_adv.cpu().flatten(0, 1))
        return {**found, "seen": seen.view(x.shape[:2]).mean(1)}, {}


def photographs(study: Study) -> Photographs:
    q = study.profile.quality
    return _located(train=q.train_sources, validation=q.validation_sources, test=q.test_sources, crops=q.crops)


@lru_cache(maxsize=8)
def _located(**sizes: int) -> Photographs:
    """Once in a process: a hundred specs are made of it. What changes while a run lasts is seen by `confirm`."""
    return Photographs.locate(**sizes)


def footer(study: Study) -> str:
    """What the figures say of their origin."""
    p, q = study.profile, study.profile.quality
    seeds = f"{len(p.seeds)} seed{'s' * (len(p.seeds) > 1)}"
    sources = f"{q.train_sources} training, {q.validation_sources} validation and {q.test_sources} test photographs"
    epochs = f"{q.epochs} + {q.further_epochs} epochs"
    return f"{p.name} profile: {sources}, {len(VARIANTS)} pictures of each, {epochs}, {seeds}"


def _quality(study: Study, objective: str, seed: int, *, strength: float = 0.0, start: Quality | None = None):
    """A network from nothing, or one that goes on from another, with a fifth of the learning rate."""
    q = study.profile.quality
    rate, epochs = (q.learning_rate, q.epochs) if start is None else (q.learning_rate / 5, q.further_epochs)
    settings = {"epochs": epochs, "learning_rate": rate, "batch_size": q.batch_size, "seed": seed}
    return Quality(data=photographs(study), objective=objective, strength=strength, start=start, **settings)


def choices(study: Study) -> dict[str, Choice]:
    """Objective -> the search for its strength, on the first seed."""
    seed, q = study.profile.seeds[0], study.profile.quality
    base = _quality(study, "plain", seed)
    plain = _quality(study, "plain", seed, start=base)
    found = {}
    for name in (one for one in LABELS if one in q.tried):
        tried = tuple(_quality(study, name, seed, strength=strength, start=base) for strength in q.tried[name])
        found[name] = Choice(plain=plain, candidates=tried, level=q.levels[-1])
    return found


def networks(study: Study) -> dict[str, list[Quality | Chosen]]:
    """Objective -> its networks, one per seed, each gone on from the same plain one of its seed."""
    bases = {seed: _quality(study, "plain", seed) for seed in study.profile.seeds}
    found = {"plain": [_quality(study, "plain", seed, start=base) for seed, base in bases.items()]}
    for name, choice in choices(study).items():
        found[name] = [Chosen(choice=choice, seed=seed, start=base) for seed, base in bases.items()]
    return found


def judged(study: Study) -> dict[str, list[Judged]]:
    """Objective -> what its networks say, one per seed."""
    q, data = study.profile.quality, photographs(study)
    asked = {"data": data, "levels": tuple(q.levels), "steps": q.pgd_steps}
    return {name: [Judged(network=one, **asked) for one in found] for name, found in networks(study).items()}


def specs(study: Study) -> list[Spec]:
    """Everything that the tables read."""
    return [*choices(study).values(), *(one for found in judged(study).values() for one in found)]


def labels(study: Study) -> np.ndarray:
    """Of the test pictures, the mean of their crops' labels [sources, variants]."""
    return load(photographs(study), study.store, "test").labels.mean(2).double().numpy()


def values(study: Study, what: str) -> dict[str, np.ndarray]:
    """Objective -> one of `Judged`'s tensors, [seeds, sources, variants]."""
    every = judged(study)
    study.make([one for found in every.values() for one in found])
    shape = (-1, study.profile.quality.test_sources, len(VARIANTS))
    return {
        name: np.stack([study.get(one).tensors[what].double().numpy() for one in found]).reshape(shape)
        for name, found in every.items()
    }


def moves(study: Study) -> dict[str, dict[str, np.ndarray]]:
    """The `values` "clean", "slope", and "fgsm" and "pgd" at the largest level."""
    top = study.profile.quality.levels[-1]
    names = {"clean": "clean", "slope": "slope", "fgsm": f"fgsm-{top:g}", "pgd": f"pgd-{top:g}"}
    return {name: values(study, what) for name, what in names.items()}


def threats(study: Study) -> dict[str, tuple[str, float]]:
    """Name of the tensor -> attack and level, the clean one first, the strongest last."""
    levels = study.profile.quality.levels
    found = {"clean": ("", 0.0), **{f"fgsm-{level:g}": ("FGSM", level) for level in levels}}
    return found | {f"pgd-{levels[-1]:g}": ("PGD", levels[-1])}


def _columns(name: str, statistic: Statistic, one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    ends = interval(*estimate(statistic, one, other))
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def _sizes(of: np.ndarray) -> dict[str, int]:
    return {"images": of[0].size, "seeds": len(of)}


def agreement_table(study: Study) -> pd.DataFrame:
    """Per training and attack, how well scores agree with labels (SRCC, PLCC, KRCC, RMSE), and how far they moved from
    the clean ones, `moved` = mean |q(x') - q(x)|. The labels are those of the pictures before the attack."""
    truth, clean = labels(study), values(study, "clean")
    rows = []
    for what, (attacked, level) in threats(study).items():
        for name, said in values(study, what).items():
            row = {"training": LABELS[name], "attack": attacked, "level": level, **_sizes(said)}
            row |= _columns("srcc", spearman, said, truth)
            flat, known = said.reshape(len(said), -1), np.tile(truth.ravel(), (len(said), 1))
            row |= {"plcc": pearson(flat, known).mean(), "krcc": kendall(flat, known).mean()}
            rows.append(row | _columns("rmse", rmse, said, truth) | _columns("moved", distance, said, clean[name]))
    return declare(pd.DataFrame(rows), "training", "attack", "level", plcc=TRAINED, krcc=TRAINED)


def gains_table(study: Study) -> pd.DataFrame:
    """One training minus another, on the same sources and seeds: clean SRCC, SRCC under PGD, and how far PGD moves the
    scores, with paired intervals."""
    truth, strongest = labels(study), [*threats(study)][-1]
    clean, pushed = values(study, "clean"), values(study, strongest)
    drawn = {}
    for name in clean:
        drawn["clean SRCC", name] = estimate(spearman, clean[name], truth)
        drawn["SRCC under PGD", name] = estimate(spearman, pushed[name], truth)
        drawn["moved by PGD", name] = estimate(distance, pushed[name], clean[name])
    rows = []
    for quantity, (a, b) in product(dict.fromkeys(quantity for quantity, _ in drawn), PAIRS):
        if {a, b} <= clean.keys():
            (one, draws), (other, others) = drawn[quantity, a], drawn[quantity, b]
            ends = dict(zip(("difference", "low", "high"), interval(one - other, draws - others), strict=True))
            rows.append({"quantity": quantity, "a": LABELS[a], "b": LABELS[b], **_sizes(clean[a]), **ends})
    return declare(pd.DataFrame(rows), "quantity", "a", "b")


def slopes_table(study: Study) -> pd.DataFrame:
    """Per training the mean `slope` ||g||_1; what it says that the largest level moves a score by, `predicted`, beside
    what FGSM and PGD do; and `lost`, by how much PGD lowers HaarPSI itself."""
    truth, eps, rows = labels(study), study.profile.quality.levels[-1] / 255, []
    (clean, slope, fgsm, pgd), seen = moves(study).values(), values(study, "seen")
    for name, of in slope.items():
        row = {"training": LABELS[name], **_sizes(of), **_columns("slope", distance, of, np.zeros_like(of))}
        row |= {"predicted": eps * of.mean()} | _columns("fgsm", distance, fgsm[name], clean[name])
        row |= _columns("pgd", distance, pgd[name], clean[name])
        rows.append(row | _columns("lost", lambda a, b: (b - a).mean(1), seen[name], np.broadcast_to(truth, of.shape)))
    return declare(pd.DataFrame(rows), "training", predicted=RETOLD)


def distortions_table(study: Study) -> pd.DataFrame:
    """Clean SRCC within each distortion, its sources beside their five strengths."""
    truth, rows = labels(study), []
    for (name, said), kind in product(values(study, "clean").items(), DISTORTIONS):
        kept = [i for i, variant in enumerate(VARIANTS) if variant in ("none", kind)]
        part = said[..., kept]
        row = {"training": LABELS[name], "distortion": kind, **_sizes(part)}
        rows.append(row | _columns("srcc", spearman, part, truth[:, kept]))
    return declare(pd.DataFrame(rows), "training", "distortion")


def costs() -> dict[str, float]:
    """Objective -> the counted operations of a training step, plain = 1."""
    x, found = torch.rand(4, 3, CROP, CROP, generator=torch.Generator().manual_seed(0)), {}
    for name, objective in OBJECTIVES.items():
        with Operations() as counter:
            objective(untrained(seed=0), x, torch.zeros(4), 1.0).backward()
        found[name] = counter.total
    return {name: total / found["plain"] for name, total in found.items()}


def strengths_table(study: Study) -> pd.DataFrame:
    """The search on the validation pictures, first seed: clean SRCC, how far FGSM moves a score, what was chosen; and
    what a step takes (see `costs`)."""
    found, rows, cost = choices(study), [], costs()
    study.make([*found.values()])
    for name, choice in found.items():
        kept = study.get(choice).tensors
        tried = [("plain", 0.0), *((name, one.strength) for one in choice.candidates)]
        for i, (what, strength) in enumerate(tried):
            if what != "plain" or not rows:
                row = {"training": LABELS[what], "strength": f"{strength:g}", "srcc": kept["correlation"][i].item()}
                row |= {"moved": kept["moved"][i].item(), "cost": cost[what]}
                rows.append({**row, "chosen": "yes" if what != "plain" and i == kept["chosen"] + 1 else ""})
    table = pd.DataFrame(rows).assign(images=photographs(study).pictures("validation"), seeds=1)
    return declare(
        table, "training", "strength", strength=EXACT, srcc=TRAINED, moved=TRAINED, cost=EXACT, chosen=RETOLD
    )


def examples(study: Study) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one test source the first crop of every variant [21, 3, 64, 64] in [0, 1], the label of that crop, and its
    score by the plain network of the first seed, [21] each."""
    crops, (plain, *_) = load(photographs(study), study.store, "test"), networks(study)["plain"]
    study.make([plain])
    x = crops.images[-1, :, 0].float() / 255
    with torch.no_grad():
        said = network_of(plain, study.store)(x.to(study.store.device)).cpu()
    return x.numpy(), crops.labels[-1, :, 0].numpy(), said.numpy()
