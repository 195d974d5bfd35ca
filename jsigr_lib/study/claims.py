"""What is claimed, and what the paper reports: the two files that people type, checked. Nothing here is a result.

claims.toml holds the claims and their tests; paper_values.toml the paper's own numbers. None other is shown as such.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from jsigr_lib.data.data import DATASETS
from jsigr_lib.method.errors import InputError, between, one_of, within
from jsigr_lib.store import toml
from jsigr_lib.store.paths import CLAIMS, PAPER_VALUES
from jsigr_lib.study.config import OneOrMore, Table, require

NOT_ENTERED = "not entered"  # by anyone, as the paper's own number


class Difference(Table):
    """A test of a claim: measure(a) - measure(b) has to be above `margin`, for the defences a and b."""

    measure: str
    a: str
    b: str
    margin: float


class Claim(Table):
    """A sentence of the paper, the differences that decide it, on the first architecture or on the others, and the
    figure that shows them."""

    id: str
    statement: str
    figure: str
    caveat: str = ""
    on: Literal["first", "others"] = "first"
    tests: OneOrMore[Difference]

    @property
    def measured(self) -> list[tuple[str, str]]:
        """Every (measure, defence) that one of its tests is about."""
        return list(dict.fromkeys((test.measure, name) for test in self.tests for name in (test.a, test.b)))


def load_claims(path: Path = CLAIMS) -> list[Claim]:
    """The claims and their tests. Raises InputError in one line that names the claim and what is wrong with it."""
    found = []
    for i, entry in enumerate(toml.entries(path, "claim", "list of claims"), 1):
        with within(f"{path}, claim {i}"):
            claim = toml.checked(Claim, entry)
            require(claim.id not in [other.id for other in found], "id", claim.id, "one that no other claim has")
            found.append(claim)
    return found


class PaperValue(Table):
    """`value` is what the paper reports of a defence for a measure of a claim, `where` the place it stands at."""

    model_config = ConfigDict(str_strip_whitespace=True)
    claim: str
    measure: str
    defence: str
    dataset: str
    value: float
    where: str = Field(min_length=1)


def load_paper_values(ledger: Sequence[Claim], path: Path = PAPER_VALUES) -> list[PaperValue]:
    """The numbers entered, each about something that a claim of `ledger` tests. Raises InputError in one line, with
    the entry that is wrong, if the file is anything else."""
    found, tested = [], {claim.id: claim.measured for claim in ledger}
    for i, entry in enumerate(toml.entries(path, "value", "list of values", least=0), 1):
        with within(f"{path}, value {i}"):
            value = toml.checked(PaperValue, entry)
            one_of("claim", value.claim, tested)
            own, of = tested[value.claim], f"of claim {value.claim!r},"
            one_of(f"measure {of}", value.measure, dict.fromkeys(measure for measure, _ in own))
            one_of(f"defence {of}", value.defence, [name for measure, name in own if measure == value.measure])
            one_of("dataset", value.dataset, DATASETS)
            if value.measure.endswith("accuracy"):
                between("accuracy", value.value, 0, 1)
            if any(value.model_copy(update={"value": other.value}) == other for other in found):
                raise InputError(f"a second value for {value.defence}, {value.measure}, {value.where!r}; accepted: one")
            found.append(value)
    return found


def paper_by_claim(ledger: Sequence[Claim], values: Sequence[PaperValue]) -> dict[str, str]:
    """Claim -> what the scorecard says: the numbers entered with their places, or that there are none."""
    said = {claim.id: [] for claim in ledger}
    for one in values:
        said[one.claim].append(f"{one.defence}, {one.measure}: {cited(one)}")
    return {claim: "; ".join(own) or NOT_ENTERED for claim, own in said.items()}


def cited(value: PaperValue) -> str:
    """A number of the paper with its place."""
    return f"{value.value:g} ({value.dataset}; {value.where})"
