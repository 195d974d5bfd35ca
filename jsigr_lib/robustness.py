"""How often the right class survives: clean, under white-box attack, and under attacks transferred from another
network, each as an artefact of per-image outcomes."""

from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import model_validator
from torch import Tensor

from jsigr_lib import attacks, statistics
from jsigr_lib.artefacts import Spec, Store
from jsigr_lib.data import Split, load
from jsigr_lib.study import Study
from jsigr_lib.training import predict
from jsigr_lib.zoo import Training, trained

ATTACK_BATCH = 250


class Attacked(Spec):
    """The test (or validation) images attacked through one source network, float32."""

    kind: ClassVar[str] = "attacked"
    code: ClassVar[tuple[str, ...]] = ("attacks", "jacobian", "robustness")
    source: Training
    attack: str
    eps: float
    settings: tuple[tuple[str, float | int], ...] = ()
    split: Literal["validation", "test"] = "test"

    def needs(self) -> list[Spec]:
        return [self.source, self.source.data]

    def work(self) -> float:
        steps = dict(self.settings).get("steps", 10)
        return self.source.data.test_images * steps * self.source.step_flops / 2

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        model = trained(self.source, store)
        split = getattr(load(self.source.data, store), self.split)
        generator = torch.Generator().manual_seed(self.source.seed)
        batches = []
        for index in torch.arange(len(split)).split(ATTACK_BATCH):
            x, y = split.batch(index, device)
            x_adv = attacks.run(self.attack, model, x, y, eps=self.eps, generator=generator, **dict(self.settings))
            batches.append(x_adv.cpu())
        return {"images": torch.cat(batches)}, {}


class Outcomes(Spec):
    """Which images a target network still classifies correctly, clean (attacked None) or attacked."""

    kind: ClassVar[str] = "outcomes"
    code: ClassVar[tuple[str, ...]] = ("robustness", "training")
    target: Training
    attacked: Attacked | None = None
    split: Literal["validation", "test"] = "test"

    @model_validator(mode="after")
    def _same_split(self):
        if self.attacked and self.attacked.split != self.split:
            raise ValueError(
                f"split = {self.split!r} with attacked images of {self.attacked.split!r}; accepted: the same"
            )
        return self

    def needs(self) -> list[Spec]:
        return [self.target, self.target.data, *([self.attacked] if self.attacked else [])]

    def work(self) -> float:
        return self.target.data.test_images * self.target.step_flops / 3

    def compute(self, store: Store, device: torch.device) -> tuple[dict[str, Tensor], dict]:
        split = getattr(load(self.target.data, store), self.split)
        predicted = predict(trained(self.target, store), attacked_split(split, self.attacked, store))
        return {"correct": predicted == split.labels}, {}


def attacked_split(split: Split, attacked: Attacked | None, store: Store) -> Split:
    """The same images and labels, attacked."""
    return split if attacked is None else Split(store.get(attacked).tensors["images"], split.labels)


def white_box(study: Study, target: Training, eps: float) -> Outcomes:
    """PGD with a random start on the target itself."""
    attacked = Attacked(source=target, attack="pgd", eps=eps, settings=(("steps", study.profile.pgd_steps),))
    return Outcomes(target=target, attacked=attacked)


def transferred(
    study: Study, target: Training, source: Training, eps: float, *, attack: str | None = None, split: str = "test"
) -> Outcomes:
    """Attack images made on `source`, never the target itself."""
    if source == target:
        raise ValueError(f"source and target are the same network ({source.digest}); accepted: two different ones")
    attack = attack or study.profile.transfer_attacks[0]
    return Outcomes(target=target, attacked=Attacked(source=source, attack=attack, eps=eps, split=split), split=split)


Cell = tuple[dict, list[Outcomes]]
"""What a row says, and the outcomes (one per seed) that its number comes from."""


def robustness_cells(study: Study) -> list[Cell]:
    """Clean, white-box and transferred accuracy of every defence at every budget."""
    p = study.profile
    cells: list[Cell] = []
    for (architecture, defence), networks in study.targets().items():
        row = {"architecture": architecture, "defence": defence}
        clean = [Outcomes(target=network) for network in networks]
        cells.append(({**row, "threat": "clean", "source": "", "attack": "", "eps": 0.0}, clean))
        for eps in p.budgets:
            outcomes = [white_box(study, network, eps) for network in networks]
            cells.append(({**row, "threat": "white-box", "source": "itself", "attack": "pgd", "eps": eps}, outcomes))
        for surrogate in sources_of(study, architecture):
            for attack in p.transfer_attacks:
                for eps in p.budgets:
                    source = study.surrogate(surrogate)
                    outcomes = [transferred(study, network, source, eps, attack=attack) for network in networks]
                    what = {"threat": "transfer", "source": surrogate, "attack": attack, "eps": eps}
                    cells.append(({**row, **what}, outcomes))
    return cells


def sources_of(study: Study, architecture: str) -> list[str]:
    """Surrogates of another architecture than the target's."""
    return [name for name in study.profile.surrogates if name != architecture]


def matrix_cells(study: Study) -> list[Cell]:
    """Source x target at the headline attack and budget: undefended surrogates and every defended network as sources.
    A network is never its own source."""
    p = study.profile
    names = sources_of(study, study.architecture)
    sources = {f"{name}, standard": study.surrogate(name) for name in names}
    sources |= {f"{study.architecture}, {name}": study.training(name) for name in p.defences}
    return [
        ({"source": label, "target": name}, [transferred(study, study.training(name), source, p.eps)])
        for label, source in sources.items()
        for name in p.defences
        if source != study.training(name)
    ]


def accuracy_table(study: Study, cells: list[Cell]) -> pd.DataFrame:
    """One row per cell: what it is, n images, seeds, accuracy and its 95 % interval."""
    study.make([outcome for _, outcomes in cells for outcome in outcomes])
    rows = []
    for row, outcomes in cells:
        correct = correct_of(study, outcomes)
        accuracy, low, high = statistics.proportion(correct)
        rows.append(
            {**row, "images": correct.shape[1], "seeds": len(correct), "accuracy": accuracy, "low": low, "high": high}
        )
    return pd.DataFrame(rows)


def correct_of(study: Study, outcomes: list[Outcomes]) -> np.ndarray:
    """0/1 per seed and image."""
    return torch.stack([study.get(outcome).tensors["correct"] for outcome in outcomes]).numpy()


def grid_cells(study: Study) -> list[Cell]:
    """lambda_J x lambda_S on the *validation* images: clean and transferred at the headline attack and budget."""
    p = study.profile
    source = study.surrogate(sources_of(study, study.architecture)[0])
    cells: list[Cell] = []
    for lambda_j in p.lambda_j_grid:
        for lambda_s in p.lambda_s_grid:
            network = study.training("jsigr", lambda_j=lambda_j, lambda_s=lambda_s)
            row = {"lambda_j": lambda_j, "lambda_s": lambda_s}
            cells.append(({**row, "threat": "clean", "eps": 0.0}, [Outcomes(target=network, split="validation")]))
            outcome = transferred(study, network, source, p.eps, split="validation")
            cells.append(({**row, "threat": "transfer", "eps": p.eps}, [outcome]))
    return cells


def history_table(study: Study) -> pd.DataFrame:
    """One row per defence and epoch: the objective's terms, validation accuracy, Jacobian norm (first seed)."""
    networks = {name: study.training(name) for name in study.profile.defences}
    study.make(list(networks.values()))
    tables = [pd.DataFrame(study.get(spec).facts["history"]).assign(defence=name) for name, spec in networks.items()]
    table = pd.concat(tables, ignore_index=True)
    return table[["defence", *table.columns.drop("defence")]]


def cost_table(study: Study) -> pd.DataFrame:
    """What a training step of each defence costs in counted operations, standard = 1, beside what it buys at the
    headline budget: clean accuracy, and accuracy under the headline transferred attack with its interval."""
    source = study.surrogate(sources_of(study, study.architecture)[0])
    base = study.training("standard").step_flops
    rows = []
    for name, networks in study.targets().items():
        if name[0] == study.architecture:
            attacked = correct_of(
                study, [transferred(study, network, source, study.profile.eps) for network in networks]
            )
            clean = correct_of(study, [Outcomes(target=network) for network in networks])
            accuracy, low, high = statistics.proportion(attacked)
            rows.append(
                {
                    "defence": name[1],
                    "cost": networks[0].step_flops / base,
                    "clean": clean.mean(),
                    "accuracy": accuracy,
                    "low": low,
                    "high": high,
                    "images": attacked.shape[1],
                    "seeds": len(attacked),
                }
            )
    return pd.DataFrame(rows)


def training_seconds(study: Study) -> dict[str, float]:
    """Measured time to train each defence (first seed), on the machine that trained it."""
    return {name: study.get(study.training(name)).facts["seconds"] for name in study.profile.defences}
