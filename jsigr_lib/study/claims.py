"""What is claimed, and what the paper reports: the two files that people type, checked. Nothing here is a result.

claims.toml holds the claims and the tests that decide them; paper_values.toml the paper's own numbers, as typed in by
whoever has the paper. Nothing else is ever shown as the paper's.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from jsigr_lib.data.data import DATASETS
from jsigr_lib.method.errors import InputError, between, one_of, within
from jsigr_lib.store import toml
from jsigr_lib.store.paths import CLAIMS, PAPER_VALUES

NOT_ENTERED = "not entered"  # by anyone, as the paper's own number


class Difference(BaseModel):
    """A test of a claim: measure(a) - measure(b) has to be above `margin`, for the defences a and b."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    measure: str
    a: str
    b: str
    margin: float


class Claim(BaseModel):
    """A sentence of the paper, the differences that decide it, and the figure that shows them; tested only by runs with
    so many `architectures`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    statement: str
    figure: str
    caveat: str = ""
    architectures: int = 1
    tests: list[Difference] = Field(min_length=1)

    @property
    def measured(self) -> list[tuple[str, str]]:
        """Every (measure, defence) that one of its tests is about."""
        return list(dict.fromkeys((test.measure, name) for test in self.tests for name in (test.a, test.b)))


def load_claims(path: Path = CLAIMS) -> list[Claim]:
    """The claims and their tests. Raises InputError in one line that names the claim and what is wrong with it."""
    found = []
    for i, entry in enumerate(toml.entries(path, "claim", "list of claims"), 1):
        with within(f"{path}, claim {i}"):
            found.append(toml.checked(Claim, entry))
    return found


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
    tested = by_id[value.claim].measured
    one_of(f"measure of claim {value.claim!r},", value.measure, dict.fromkeys(measure for measure, _ in tested))
    defences = [name for measure, name in tested if measure == value.measure]
    one_of(f"defence of claim {value.claim!r},", value.defence, defences)
    one_of("dataset", value.dataset, DATASETS)
    if value.measure.endswith("accuracy"):
        between("accuracy", value.value, 0, 1)
    if any(value.model_copy(update={"value": other.value}) == other for other in before):
        raise InputError(f"a second value for {value.defence}, {value.measure}, {value.where!r}; accepted: one")
    return value


def paper_by_claim(ledger: Sequence[Claim], values: Sequence[PaperValue]) -> dict[str, str]:
    """Claim -> what the scorecard says: the numbers entered with their places, or that there are none."""
    said = {claim.id: [one for one in values if one.claim == claim.id] for claim in ledger}
    return {
        claim: "; ".join(f"{one.defence}, {one.measure}: {cited(one)}" for one in own) or NOT_ENTERED
        for claim, own in said.items()
    }


def cited(value: PaperValue) -> str:
    """A number of the paper with its place."""
    return f"{value.value:g} ({value.dataset}; {value.where})"
