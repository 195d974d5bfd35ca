"""Results and claims.toml -> verdicts. Nothing here knows what the answers should be."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from jsigr_lib import flags, interpretability, robustness, statistics, theory, threats, toml
from jsigr_lib.errors import within
from jsigr_lib.outcomes import Outcomes, correct_of, transferred, white_box
from jsigr_lib.paths import CLAIMS
from jsigr_lib.study import Study
from jsigr_lib.threats import sources_of

NOT_ENTERED = "not entered"  # by anyone, as the paper's own number


class Test(BaseModel):
    """difference = measure(a) - measure(b) has to be above `margin`."""

    __test__ = False  # no test case of pytest's
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    measure: str
    a: str
    b: str
    margin: float

    @property
    def defences(self) -> tuple[str, str]:
        return self.a, self.b


class Claim(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    statement: str
    figure: str
    architectures: int = 1
    tests: list[Test] = Field(min_length=1)


def load_claims(path: Path = CLAIMS) -> list[Claim]:
    """The claims and their tests. Raises InputError in one line that names the claim and what is wrong with it."""
    found = []
    for i, entry in enumerate(toml.entries(path, "claim", "list of claims"), 1):
        with within(f"{path}, claim {i}"):
            found.append(toml.checked(Claim, entry))
    return found


def specs(study: Study) -> list[Outcomes]:
    """The outcomes that `values_per_image` reads, besides the headline ones."""
    return [white_box(study, one, study.profile.eps) for networks in study.targets().values() for one in networks]


def values_per_image(study: Study, architecture: str, defence: str) -> dict[tuple[str, str], np.ndarray]:
    """(measure, context) -> one value per seed and test image, for one defence; what the tests compare."""
    networks = study.targets()[architecture, defence]
    p = study.profile
    values = {("clean accuracy", ""): correct_of(study, [Outcomes(target=network) for network in networks])}
    values["white-box accuracy", ""] = correct_of(study, [white_box(study, network, p.eps) for network in networks])
    for source in sources_of(study, architecture):
        outcomes = [transferred(study, network, study.surrogate(source), p.eps) for network in networks]
        values["transfer accuracy", f"from {source}"] = correct_of(study, outcomes)
    for (measure, name, given), value in interpretability.stacked(study, architecture, defence).items():
        of = "" if name == "network" else f" of the {name} map"
        values[f"{measure}{of}{'' if given == 'both' else f', {given}'}", ""] = value
    linearised = [theory.linearised_values(study, network)["robustness"] for network in networks]
    values["linearised robustness", ""] = np.stack(linearised)
    return values


def contrasts(study: Study, claims: list[Claim]) -> pd.DataFrame:
    """One row per test, architecture and context: the paired difference, its interval, the margin, the outcome."""
    p = study.profile
    values: dict[tuple[str, str], dict] = {}
    rows = []
    for claim in claims:
        if len(p.architectures) < claim.architectures:
            continue
        for test in claim.tests:
            if not {test.a, test.b} <= set(p.defences):
                continue
            for architecture in p.architectures:
                if not {(architecture, test.a), (architecture, test.b)} <= set(study.targets()):
                    continue
                for name in (test.a, test.b):
                    if (architecture, name) not in values:
                        values[architecture, name] = values_per_image(study, architecture, name)
                a, b = values[architecture, test.a], values[architecture, test.b]
                for key in (key for key in a if key[0] == test.measure):
                    row = _contrast(claim, test, architecture, key, a[key], b[key], study)
                    rows.append({**row, "flags": _trust(study, test, architecture, key)})
    return pd.DataFrame(rows)


def _trust(study: Study, test: Test, architecture: str, key: tuple[str, str]) -> str:
    """The flags of the two accuracies that a difference comes from; none where it is no accuracy."""
    sources = {"clean accuracy": "", "transfer accuracy": key[1].removeprefix("from ")}
    if key[0] not in sources:
        return flags.shown(set())
    cells = [
        cell
        for cell in threats.headline_cells(study)
        if cell.row["architecture"] == architecture
        and cell.row["defence"] in (test.a, test.b)
        and cell.row["source"] in ("", sources[key[0]])
    ]
    table = robustness.accuracy_table(study, cells)
    own = table[table.source == sources[key[0]]]["flags"]
    return flags.shown({flag for cell in own for flag in cell.split("; ")})


def _contrast(claim: Claim, test: Test, architecture: str, key: tuple[str, str], a, b, study: Study) -> dict:
    differences = statistics.differences(a, b)
    difference, low, high = statistics.mean(differences)
    outcome = "holds" if low > test.margin else "fails" if high <= test.margin else "undecided"
    context = f" {key[1]}" if key[1] else ""
    context += f" ({architecture})" if len(study.profile.architectures) > 1 else ""
    label = f"{study.labels[test.a]} − {study.labels[test.b]}, {test.measure}{context}"
    return {
        "claim": claim.id,
        "test": label,
        "architecture": architecture,
        "measure": test.measure,
        "context": key[1],
        "a": test.a,
        "b": test.b,
        "images": differences.shape[1],
        "seeds": len(differences),
        "difference": difference,
        "low": low,
        "high": high,
        "margin": test.margin,
        "outcome": outcome,
    }


def verdict(claim: Claim, rows: pd.DataFrame) -> str:
    """supported, partly supported, not supported or not tested, from the claim's contrasts. Tests against several
    rivals, alike but for b, count as one that has to hold for each: more rivals make no claim easier."""
    tested = {(row.measure, row.a, row.b) for row in rows.itertuples()}
    if any((test.measure, test.a, test.b) not in tested for test in claim.tests):
        return "not tested"
    questions: dict[tuple, bool] = {}
    for t in claim.tests:
        outcomes = rows[(rows.measure == t.measure) & (rows.a == t.a) & (rows.b == t.b)].outcome
        question = (t.measure, t.a, t.margin)
        questions[question] = questions.get(question, True) and (outcomes == "holds").all()
    holding = sum(questions.values())
    return "supported" if holding == len(questions) else "partly supported" if holding else "not supported"


def scorecard(
    study: Study, claims: list[Claim], table: pd.DataFrame, paper: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """One row per claim: verdict, the differences it rests on, the paper's values, n, figure.

    `paper` gives, by the claim's id, the numbers that someone entered as the paper's; see `paper_values.by_claim`.
    """
    rows = []
    for claim in claims:
        own = table[table.claim == claim.id] if len(table) else pd.DataFrame(columns=["measure", "a", "b", "outcome"])
        evidence = "; ".join(
            f"{row.test}: {row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}], {row.outcome}"
            + (f" (flags: {row.flags})" if row.flags != "none" else "")
            for row in own.itertuples()
        )
        n = f"{own.images.max()} images, {own.seeds.max()} seed(s)" if len(own) else ""
        rows.append(
            {
                "claim": claim.id,
                "statement": claim.statement,
                "verdict": verdict(claim, own),
                "evidence": evidence or "this profile does not run what the test needs",
                "paper": (paper or {}).get(claim.id, NOT_ENTERED),
                "n": n,
                "figure": claim.figure,
            }
        )
    return pd.DataFrame(rows)
