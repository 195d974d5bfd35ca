"""Results and claims -> verdicts. Nothing here knows what the answers should be."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import product

import numpy as np
import pandas as pd

from jsigr_lib.measure import flags, statistics
from jsigr_lib.method.errors import InputError
from jsigr_lib.records.tolerances import COUNT, EXACT, RETOLD, declare
from jsigr_lib.store.artefacts import Spec
from jsigr_lib.study import linearised_tables, map_tables, robustness
from jsigr_lib.study.attacked import Outcomes, correct_of, transferred, white_box
from jsigr_lib.study.cells import headline_cells, sources_of
from jsigr_lib.study.claims import NOT_ENTERED, Claim, Difference, PaperValue, cited
from jsigr_lib.study.study import Study

OUTCOMES = ("holds", "fails", "undecided")
UNTESTED = {True: "this run lacks what the test needs", False: "no published run has what the test needs"}
TRADED = {
    "transferred": "transfer accuracy",
    "white_box": "white-box accuracy",
    "clean": "clean accuracy",
    "agreement": "agreement of the gradient map, attacked",
}
"""Column of `trade_offs` -> the measure in it, from the headline source where there are several."""


def specs(study: Study) -> list[Spec]:
    """The artefacts that `contrasts` reads."""
    return [
        *robustness.specs(study, headline_cells(study)),
        *(white_box(study, network, study.profile.eps) for network in study.networks),
        *linearised_tables.linearised_specs(study),
        *map_tables.specs(study),
    ]


def values_per_image(study: Study, architecture: str, defence: str) -> dict[tuple[str, str], np.ndarray]:
    """(measure, context) -> one value per seed and test image, for one defence; what the tests compare."""
    networks = study.targets()[architecture, defence]
    p = study.profile
    values = {("clean accuracy", ""): correct_of(study, [Outcomes(target=network) for network in networks])}
    values["white-box accuracy", ""] = correct_of(study, [white_box(study, network, p.eps) for network in networks])
    for source in sources_of(study, architecture):
        outcomes = [transferred(study, network, study.surrogate(source), p.eps) for network in networks]
        values["transfer accuracy", f"from {source}"] = correct_of(study, outcomes)
    for (measure, name, given), value in map_tables.stacked(study, architecture, defence).items():
        of = "" if name == "network" else f" of the {name} map"
        values[f"{measure}{of}{'' if given == 'both' else f', {given}'}", ""] = value
    linearised = [linearised_tables.linearised_values(study, network)["robustness"] for network in networks]
    values["linearised robustness", ""] = np.stack(linearised)
    return values


def trade_offs(study: Study) -> pd.DataFrame:
    """One row per defence, on the first architecture: what a training step costs in counted operations, standard = 1,
    and what it buys, each with its interval. `map_images` are those of the agreement."""
    rows = []
    for name, cost in robustness.relative_costs(study).items():
        values = values_per_image(study, study.architecture, name)
        found = {column: next(values[key] for key in values if key[0] == of) for column, of in TRADED.items()}
        seeds, images = found["clean"].shape
        row = {"defence": name, "seeds": seeds, "images": images}
        row |= {"map_images": found["agreement"].shape[1], "cost": cost}
        for column, of in found.items():
            interval = statistics.mean if column == "agreement" else statistics.proportion
            row[column], row[f"{column}_low"], row[f"{column}_high"] = interval(of)
        rows.append(row)
    return declare(pd.DataFrame(rows), "defence", map_images=COUNT, cost=EXACT)


def contrasts(study: Study, claims: list[Claim]) -> pd.DataFrame:
    """One row per data set, test, architecture and context: the paired difference, its interval, the margin, the
    outcome. The data sets are the study's own and those of its replications, as their published runs found them."""
    own = _contrasts(study, claims)
    own.insert(0, "data", study.profile.data_title)
    tables = [own]
    for profile in study.replications:
        other = study.published(profile, "contrasts")
        if other is not None and len(own) and list(other) != list(own):
            has = f"the published contrasts of {profile} have the columns {', '.join(other)}"
            raise InputError(f"{has}; accepted: {', '.join(own)}, as `jsigr run --profile {profile}` writes them")
        tables += [] if other is None else [other]
    table = pd.concat(tables, ignore_index=True)
    return declare(table, *("data", "claim", "test", "architecture", "measure", "context", "a", "b"), margin=EXACT)


def _contrasts(study: Study, claims: list[Claim]) -> pd.DataFrame:
    architectures, targets = study.profile.architectures, study.targets()
    measured = cache(partial(values_per_image, study))
    rows = []
    for claim in claims:
        tests = claim.tests if len(architectures) >= claim.architectures else []
        for test, architecture in product(tests, architectures):
            if {(architecture, test.a), (architecture, test.b)} <= targets.keys():
                a, b = measured(architecture, test.a), measured(architecture, test.b)
                for key in (key for key in a if key[0] == test.measure):
                    rows.append(_contrast(study, claim, test, architecture, key[1], a[key], b[key]))
    return pd.DataFrame(rows)


def _contrast(study: Study, claim: Claim, test: Difference, architecture: str, context: str, a, b) -> dict:
    differences = statistics.columns("difference", statistics.differences(a, b))
    holds, fails = differences["low"] > test.margin, differences["high"] <= test.margin
    where = f" {context}" if context else ""
    where += f" ({architecture})" if len(study.profile.architectures) > 1 else ""
    said = f"{study.labels[test.a]} − {study.labels[test.b]}, {test.measure}{where}"
    what = {"claim": claim.id, "test": said, "architecture": architecture, "measure": test.measure}
    outcome = "holds" if holds else "fails" if fails else "undecided"
    found = {**differences, "margin": test.margin, "outcome": outcome}
    trust = _trust(study, test, architecture, context)
    return {**what, "context": context, "a": test.a, "b": test.b, **found, "flags": trust}


def _trust(study: Study, test: Difference, architecture: str, context: str) -> str:
    """The flags of the two accuracies that a difference comes from; none where it is no accuracy."""
    sources = {"clean accuracy": "", "transfer accuracy": context.removeprefix("from ")}
    if test.measure not in sources:
        return flags.shown(set())
    asked = {(architecture, name, source) for name in (test.a, test.b) for source in ("", sources[test.measure])}
    what = ("architecture", "defence", "source")
    cells = [cell for cell in headline_cells(study) if tuple(cell.row[name] for name in what) in asked]
    table = robustness.accuracy_table(study, cells)
    own = table[table.source == sources[test.measure]]["flags"]
    return flags.shown({flag for cell in own for flag in cell.split("; ")})


def at(rows: pd.DataFrame, test: Difference) -> pd.DataFrame:
    """The contrasts of one test of a claim."""
    if not len(rows):
        return rows
    return rows[(rows.measure == test.measure) & (rows.a == test.a) & (rows.b == test.b) & (rows.margin == test.margin)]


def verdict(claim: Claim, rows: pd.DataFrame) -> str:
    """supported, partly supported, not supported or not tested, from the claim's contrasts. Tests against several
    rivals, alike but for b, count as one that has to hold for each: more rivals make no claim easier."""
    if any(not len(at(rows, test)) for test in claim.tests):
        return "not tested"
    questions: dict[tuple, bool] = {}
    for test in claim.tests:
        question = (test.measure, test.a, test.margin)
        questions[question] = questions.get(question, True) and (at(rows, test).outcome == "holds").all()
    holding = sum(questions.values())
    return "supported" if holding == len(questions) else "partly supported" if holding else "not supported"


def scorecard(
    study: Study, claims: list[Claim], table: pd.DataFrame, paper: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """One row per claim and data set: verdict, the differences it rests on, the paper's values (of
    `claims.paper_by_claim`), n, caveat, figure."""
    rows = []
    for claim in claims:
        for data in [study.profile.data_title, *study.replications.values()]:
            own = table[(table.claim == claim.id) & (table.data == data)] if len(table) else table
            row = {"claim": claim.id, "statement": claim.statement, "data": data, "verdict": verdict(claim, own)}
            row["evidence"] = "; ".join(evidence(study, claim, own)) or UNTESTED[data == study.profile.data_title]
            row |= {"paper": (paper or {}).get(claim.id, NOT_ENTERED), "n": _n(own)}
            rows.append({**row, "caveat": claim.caveat, "figure": claim.figure})
    return declare(pd.DataFrame(rows), "claim", "statement", "data", evidence=RETOLD)


def evidence(study: Study, claim: Claim, rows: pd.DataFrame) -> list[str]:
    """Each test of a claim in words: its difference and interval, the smallest where each of several has to hold."""
    said = []
    for test in claim.tests:
        own = at(rows, test)
        if not len(own):
            continue
        least = own.loc[own.difference.idxmin()]
        counts = own.outcome.value_counts()
        outcomes = ", ".join(f"{counts[one]} {one}" for one in OUTCOMES if one in counts)
        shown = f"{least.difference:+.3f} [{least.low:+.3f}, {least.high:+.3f}]"
        if len(own) > 1:
            where = f"{least.context} to {least.architecture}" if least.context else f"on {least.architecture}"
            shown += f" {where}, the smallest of {len(own)}: {outcomes}"
        else:
            shown += f", {least.outcome}"
        flagged = f" (flags: {least['flags'].replace('; ', ', ')})" if least["flags"] != "none" else ""
        said.append(f"{study.labels[test.a]} − {study.labels[test.b]}, {test.measure}: {shown}{flagged}")
    return said


def _n(rows: pd.DataFrame) -> str:
    """ "5,000 images, 3 to 5 seeds", or "none"."""
    if not len(rows):
        return "none"
    spans = [sorted({rows[of].min(), rows[of].max()}) for of in ("images", "seeds")]
    words = [" to ".join(f"{n:,}" for n in span) for span in spans]
    return ", ".join(f"{n} {of if n != '1' else of[:-1]}" for n, of in zip(words, ("images", "seeds"), strict=False))


def beside_paper(study: Study, claims: Sequence[Claim], values: Sequence[PaperValue]) -> pd.DataFrame:
    """One row per claim, measure, defence and context that this run has: our mean with its 95 % interval, and the
    paper's value, or that none was entered. `paper` names its own data set, which need not be ours."""
    measured = cache(partial(values_per_image, study))
    rows = []
    for claim in claims:
        for (measure, defence), architecture in product(claim.measured, study.profile.architectures):
            entered = [one for one in values if (one.claim, one.measure, one.defence) == (claim.id, measure, defence)]
            paper = "; ".join(map(cited, entered)) or NOT_ENTERED
            found = measured(architecture, defence) if (architecture, defence) in study.targets() else {}
            for name, context in (key for key in found if key[0] == measure):
                mean, low, high = statistics.mean(found[name, context])
                what = {"claim": claim.id, "measure": measure, "context": context, "defence": defence}
                ours = {"architecture": architecture, "dataset": study.profile.data_title, "ours": mean}
                rows.append({**what, **ours, "low": low, "high": high, "paper": paper})
    return pd.DataFrame(rows)
