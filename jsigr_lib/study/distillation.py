"""Policy distillation on MiniGrid's Fetch: which teachers, students and evaluations a profile asks for, and their
tables. Students are compared at matched return: of each objective the strongest weight that costs little return in
validation episodes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch

from jsigr_lib.data.fetch import SIDE, TILE, Episodes
from jsigr_lib.measure import statistics
from jsigr_lib.method.distillation import Distillation
from jsigr_lib.networks import tiles
from jsigr_lib.networks.counting import Operations
from jsigr_lib.networks.distilled import Bank, PolicyNet, Student, Teacher
from jsigr_lib.records.tolerances import EXACT, RETOLD, declare
from jsigr_lib.store.specs import Spec
from jsigr_lib.study.distilled import THREATS, Clocked, Looks, Results
from jsigr_lib.study.study import Study, Subject

GRIDS = (2, 3, 4, 6, 8, 12)  # of the maps whose time is taken


@dataclass(frozen=True)
class Kind:
    """An objective: its name in figures, by which score its selection is made, and whether it has the Jacobian norm."""

    label: str
    selects: str = "nothing"
    jacobian: bool = False


STUDENTS = {
    "kl": Kind("KL alone"),
    "input-gradient": Kind("KL + input gradient"),
    "digr": Kind("DIGR", "greydanus"),
    "digr-sarfa": Kind("DIGR (SARFA)", "sarfa"),
    "j-digr": Kind("J-DIGR", "greydanus", jacobian=True),
}
LABELS = {"teacher": "teacher", **{name: kind.label for name, kind in STUDENTS.items()}}
COMPARED = [(name, "kl") for name in STUDENTS if name != "kl"]
COMPARED += [("digr", "input-gradient"), ("digr-sarfa", "digr"), ("j-digr", "digr")]
"""Students whose differences are asked for: the first minus the second."""
MEASURES = {
    "agreement|gradient|greydanus": "agreement with the own perturbation map",
    "agreement|gradient|sarfa": "agreement with the own SARFA map",
    "agreement|gradient|teacher": "agreement with the teacher's perturbation map",
    "share|gradient": "share of the gradient map on the deciding tiles",
    "share|greydanus": "share of the perturbation map on the deciding tiles",
    "share|sarfa": "share of the SARFA map on the deciding tiles",
}
Entry = tuple[str, float]
"""(student, lambda_s)"""


# what is asked


def episodes(study: Study) -> Episodes:
    """Raises InputError if MiniGrid is not installed."""
    d = study.profile.distillation
    return Episodes.locate(train=d.rooms, poses=d.poses, validation=d.episodes, test=d.episodes, maps=d.maps)


def seeds(study: Study) -> tuple[int, ...]:
    return tuple(dict.fromkeys([*study.profile.seeds, *study.profile.distillation.further_seeds]))


def on_fetch(study: Study) -> Study:
    """The study, about Fetch: what its footers and records say of the data."""
    d, data = study.profile.distillation, episodes(study)
    learnt = f"{d.rooms * d.poses:,} states for teachers, {d.states:,} for students"
    return study.on(Subject(data.task, data.digest, learnt, seeds(study)))


def policies(study: Study) -> dict[Entry, list[PolicyNet]]:
    """The teachers, and the students of every objective and weight, one per seed."""
    d, data = study.profile.distillation, episodes(study)
    settings = {"width": d.width, "epochs": d.teacher_epochs, "learning_rate": d.teacher_rate}
    settings |= {"batch_size": d.batch_size}
    teachers = [Teacher(episodes=data, **settings, seed=seed) for seed in seeds(study)]
    found: dict[Entry, list[PolicyNet]] = {("teacher", 0.0): teachers}
    for name, kind in STUDENTS.items():
        for weight in [0.0] if name == "kl" else d.lambdas:
            found[name, weight] = [_student(study, teacher, kind, weight) for teacher in teachers]
    return found


def _student(study: Study, teacher: Teacher, kind: Kind, weight: float) -> Student:
    d = study.profile.distillation
    own = {"lambda_s": weight, "lambda_j": d.jacobian * weight if kind.jacobian else 0.0, "selects": kind.selects}
    share = 0.0 if kind.selects == "nothing" else d.share
    settings = {"epochs": d.student_epochs, "batch_size": d.batch_size, "learning_rate": d.student_rate}
    return Student(bank=Bank(teacher=teacher, states=d.states), **own, share=share, **settings, seed=teacher.seed)


def results(study: Study, policy: PolicyNet) -> Results:
    return Results(policy=policy, levels=tuple(study.profile.distillation.levels))


def looks(policy: PolicyNet) -> Looks:
    return Looks(policy=policy, teacher=policy if isinstance(policy, Teacher) else policy.bank.teacher)


def clocked(study: Study) -> Clocked:
    """Of one student: all are as fast."""
    return Clocked(policy=policies(study)["kl", 0.0][0], grids=GRIDS)


def specs(study: Study) -> list[Spec]:
    """Everything that the tables read."""
    every = [one for seeds in policies(study).values() for one in seeds]
    return [spec for one in every for spec in (results(study, one), looks(one))] + [clocked(study)]


# what came out


def returns(study: Study, entry: Entry, threat: str, level: int, of: str = "return") -> np.ndarray:
    """Of every episode [seeds, episodes]: the "return", or "success"."""
    found = [study.get(results(study, one)).tensors[f"{of}|{threat}|{level}"] for one in policies(study)[entry]]
    return torch.stack(found).double().numpy()


def measured(study: Study, entry: Entry, measure: str) -> np.ndarray:
    """A measure of `Looks` in every state [seeds, states]."""
    return torch.stack([study.get(looks(one)).tensors[measure] for one in policies(study)[entry]]).double().numpy()


def threats(study: Study) -> Iterator[tuple[str, int]]:
    """Clean, and every threat at every level."""
    yield "clean", 0
    yield from ((threat, level) for threat in THREATS for level in sorted(study.profile.distillation.levels))


def matched(study: Study) -> dict[str, Entry]:
    """Student -> its strongest weight whose mean validation return is within the profile's margin of that of KL alone;
    the weakest one if none is."""
    every = policies(study)
    floor = returns(study, ("kl", 0.0), "validation", 0).mean() - study.profile.distillation.within
    found = {"kl": ("kl", 0.0)}
    for name in [name for name in STUDENTS if name != "kl"]:
        own = sorted((entry for entry in every if entry[0] == name), key=lambda entry: entry[1])
        kept = [entry for entry in own if returns(study, entry, "validation", 0).mean() >= floor]
        found[name] = kept[-1] if kept else own[0]
    return found


def headline(study: Study) -> int:
    """The smallest budget at which PGD leaves KL alone at most half of its return, so that a penalty can gain
    something; the largest if there is none."""
    clean, levels = returns(study, ("kl", 0.0), "clean", 0).mean(), sorted(study.profile.distillation.levels)
    bites = (level for level in levels if returns(study, ("kl", 0.0), "PGD", level).mean() <= clean / 2)
    return next(bites, levels[-1])


def _row(name: str, values: np.ndarray, interval=statistics.mean) -> dict[str, float]:
    """n, seeds, and the mean with its interval, each as a column that begins with the name."""
    mean, low, high = interval(values)
    return {"n": values.shape[1], "seeds": len(values), name: mean, f"{name}_low": low, f"{name}_high": high}


def returns_table(study: Study) -> pd.DataFrame:
    """One row per policy, weight, threat and level (of 255): mean return and share of successes over n episodes, with
    95 % intervals; and which rows are of the students that are compared."""
    study.make(specs(study))
    chosen, rows = set(matched(study).values()), []
    for (name, weight), (threat, level) in ((entry, one) for entry in policies(study) for one in threats(study)):
        entry = (name, weight)
        row = {"student": name, "lambda_s": weight, "threat": threat, "level": level, "matched": entry in chosen}
        row |= _row("return", returns(study, entry, threat, level))
        row |= _row("success", returns(study, entry, threat, level, "success"), statistics.proportion)
        rows.append(row)
    return declare(pd.DataFrame(rows), "student", "lambda_s", "threat", "level", n=EXACT, matched=RETOLD)


def costs(study: Study) -> dict[str, float]:
    """Student -> the counted operations of a step of its training, KL alone = 1. The teacher's part is made once."""
    states = torch.rand(8, 3, SIDE * TILE, SIDE * TILE, generator=study.generator())
    network, found = tiles.built(0, SIDE, TILE, width=study.profile.distillation.width), {}
    for name, kind in STUDENTS.items():
        with Operations() as counter:
            Distillation(float(name != "kl"), float(kind.jacobian))(
                network, states, torch.eye(4)[:1].expand(8, 4)
            ).backward()
        found[name] = counter.total
    return {name: total / found["kl"] for name, total in found.items()}


def matched_table(study: Study) -> pd.DataFrame:
    """The students that are compared: their weights, and their return in validation episodes, by which these were
    chosen; `kept` says whether it is within the margin of KL alone, `cost` what a step takes (see `costs`)."""
    study.make(specs(study))
    floor, rows, cost = None, [], costs(study)
    for name, entry in matched(study).items():
        value = returns(study, entry, "validation", 0)
        floor = value.mean() - study.profile.distillation.within if floor is None else floor
        row = {"student": name, "lambda_s": entry[1], "kept": value.mean() >= floor, **_row("validation", value)}
        rows.append({**row, "cost": cost[name]})
    return declare(pd.DataFrame(rows), "student", lambda_s=RETOLD, kept=RETOLD, n=EXACT, cost=EXACT)


def maps_table(study: Study) -> pd.DataFrame:
    """One row per policy, weight and measure of its maps, over n states, with 95 % intervals."""
    study.make(specs(study))
    chosen, rows = set(matched(study).values()), []
    for entry, (measure, said) in ((entry, one) for entry in policies(study) for one in MEASURES.items()):
        row = {"student": entry[0], "lambda_s": entry[1], "measure": said, "matched": entry in chosen}
        rows.append(row | _row("mean", measured(study, entry, measure)))
    return declare(pd.DataFrame(rows), "student", "lambda_s", "measure", n=EXACT, matched=RETOLD)


def gains_table(study: Study) -> pd.DataFrame:
    """Differences of compared students, a minus b, paired by seed and by episode or state, with 95 % intervals; under
    a threat at the level (of 255) that the row names, see `headline`."""
    study.make(specs(study))
    chosen, level, rows = matched(study), headline(study), []
    asked = {"return": partial(returns, study, threat="clean", level=0)}
    asked |= {f"return under {one}": partial(returns, study, threat=one, level=level) for one in THREATS}
    asked |= {said: partial(measured, study, measure=measure) for measure, said in MEASURES.items()}
    for a, b in COMPARED:
        for said, values in asked.items():
            row = {"a": a, "b": b, "measure": said, "level": level if " under " in said else 0}
            rows.append(row | _row("difference", values(entry=chosen[a]) - values(entry=chosen[b])))
    return declare(pd.DataFrame(rows), "a", "b", "measure", level=RETOLD, n=EXACT)


def passes_table(study: Study) -> pd.DataFrame:
    """What a map costs: its masks, and how many passes forward and backward. (Times are measured, and lie apart: see
    `milliseconds`.)"""
    rows = [{"map": "gradient", "masks": 0, "forward": 1, "backward": 1}]
    rows += [{"map": "perturbation", "masks": grid**2, "forward": 1 + grid**2, "backward": 0} for grid in GRIDS]
    return declare(pd.DataFrame(rows), "map", "masks", forward=EXACT, backward=EXACT)


def milliseconds(study: Study) -> dict[str, dict[str, float]]:
    """States at a time -> map ("gradient", or the perturbation map's grid) -> milliseconds per state, as measured on
    the machine that made the artefact."""
    study.make([clocked(study)])
    return study.get(clocked(study)).facts["milliseconds"]
