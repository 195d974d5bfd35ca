"""The paper's own numbers, as typed into paper_values.toml by whoever has the paper. Nothing else is ever shown as the
paper's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from jsigr_lib import claims, statistics, toml
from jsigr_lib.claims import NOT_ENTERED, Claim
from jsigr_lib.data import DATASETS
from jsigr_lib.errors import InputError, between, one_of, within
from jsigr_lib.paths import PAPER_VALUES
from jsigr_lib.study import Study


class PaperValue(BaseModel):
    """`value` is what the paper reports of a defence for a measure of a claim, `where` the place it stands at."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, str_strip_whitespace=True)
    claim: str
    measure: str
    defence: str
    dataset: str
    value: float
    where: str = Field(min_length=1)


def load_paper_values(ledger: Sequence[Claim], path: Path = PAPER_VALUES) -> list[PaperValue]:
    """The numbers entered, each about something that a claim of `ledger` tests. Raises InputError in one line, with
    the entry that is wrong, if the file is anything else."""
    found: list[PaperValue] = []
    for i, entry in enumerate(toml.entries(path, "value", "list of values", least=0), 1):
        with within(f"{path}, value {i}"):
            found.append(_checked(entry, ledger, found))
    return found


def _checked(entry: object, ledger: Sequence[Claim], before: list[PaperValue]) -> PaperValue:
    value = toml.checked(PaperValue, entry)
    by_id = {claim.id: claim for claim in ledger}
    one_of("claim", value.claim, by_id)
    tests = by_id[value.claim].tests
    one_of(f"measure of claim {value.claim!r},", value.measure, dict.fromkeys(test.measure for test in tests))
    named = [name for test in tests if test.measure == value.measure for name in test.defences]
    one_of(f"defence of claim {value.claim!r},", value.defence, dict.fromkeys(named))
    one_of("dataset", value.dataset, DATASETS)
    if value.measure.endswith("accuracy"):
        between("accuracy", value.value, 0, 1)
    if value.model_copy(update={"value": 0.0}) in [other.model_copy(update={"value": 0.0}) for other in before]:
        raise InputError(f"a second value for {value.defence}, {value.measure}, {value.where!r}; accepted: one")
    return value


def by_claim(ledger: Sequence[Claim], values: Sequence[PaperValue]) -> dict[str, str]:
    """Claim -> what the scorecard says: the numbers entered with their places, or that there are none."""
    said = {claim.id: [one for one in values if one.claim == claim.id] for claim in ledger}
    return {
        claim: "; ".join(f"{one.defence}, {one.measure}: {_cited(one)}" for one in own) or NOT_ENTERED
        for claim, own in said.items()
    }


def _cited(value: PaperValue) -> str:
    return f"{value.value:g} ({value.dataset}; {value.where})"


def beside_ours(study: Study, ledger: Sequence[Claim], values: Sequence[PaperValue]) -> pd.DataFrame:
    """One row per claim, measure, defence and context that this run has: our mean with its 95 % interval, and the
    paper's value, or that none was entered. `paper` names its own data set, which need not be ours."""
    measured: dict[tuple[str, str], dict[tuple[str, str], np.ndarray]] = {}
    rows = []
    for claim in ledger:
        for measure, defence in dict.fromkeys((test.measure, name) for test in claim.tests for name in test.defences):
            if defence not in study.profile.defences:
                continue
            entered = [one for one in values if (one.claim, one.measure, one.defence) == (claim.id, measure, defence)]
            paper = "; ".join(map(_cited, entered)) or NOT_ENTERED
            for architecture in (one for one in study.profile.architectures if (one, defence) in study.targets()):
                if (architecture, defence) not in measured:
                    measured[architecture, defence] = claims.values_per_image(study, architecture, defence)
                found = measured[architecture, defence]
                for name, context in (key for key in found if key[0] == measure):
                    mean, low, high = statistics.mean(found[name, context])
                    what = {"claim": claim.id, "measure": measure, "context": context, "defence": defence}
                    ours = {"architecture": architecture, "dataset": study.data_name, "ours": mean}
                    rows.append({**what, **ours, "low": low, "high": high, "paper": paper})
    return pd.DataFrame(rows)
