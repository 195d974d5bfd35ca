"""Results and claims -> verdicts. Nothing here knows what the answers should be."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import product

import numpy as np
import pandas as pd

from jsigr_lib.measure import flags, statistics
from jsigr_lib.method.errors import InputError
from jsigr_lib.networks.zoo import Training
from jsigr_lib.records.tolerances import COUNT, EXACT, RETOLD, declare
from jsigr_lib.store.specs import Spec
from jsigr_lib.study import cells, known_truth, linearised_tables, map_tables, matching, robustness, sources, weights
from jsigr_lib.study.attacked import Outcomes, correct_of, white_box
from jsigr_lib.study.claims import NOT_ENTERED, Claim, Difference, PaperValue, cited
from jsigr_lib.study.robustness import FEWEST_IMAGES
from jsigr_lib.study.study import Study

TRANSFER, ADAPTIVE = "transfer accuracy", "transfer accuracy, adaptive"
MATCHED = "transfer accuracy at equal clean accuracy"
POOLED, WORST = "from all that bite", "at the worst of all that bite"
TOO_FEW = "too few images"
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
    defended = [(*key, one) for key in study.targets() for one in sources.defended_sources(study, key[0])]
    adaptive = [
        outcome
        for architecture, defence, source in defended
        for outcome in cells.from_source(study, source, study.targets()[architecture, defence], study.profile.eps)[1]
    ]
    return [
        *robustness.specs(study, cells.headline_cells(study)),
        *(white_box(study, network, study.profile.eps) for network in study.networks),
        *adaptive,
        *weights.specs(study),
        *linearised_tables.linearised_specs(study),
        *map_tables.specs(study),
        *known_truth.specs(study),
    ]


def values_per_image(study: Study, architecture: str, defence: str) -> dict[tuple[str, str], np.ndarray]:
    """(measure, context) -> one value per seed and test image, for one defence; what the tests compare. Transferred
    accuracies are per origin, or per source, too: [sources, seeds, images]."""
    networks = study.targets()[architecture, defence]
    p = study.profile
    values = {("clean accuracy", ""): correct_of(study, [Outcomes(target=network) for network in networks])}
    values["white-box accuracy", ""] = correct_of(study, [white_box(study, network, p.eps) for network in networks])
    for (measure, context), contributing in contexts(study, architecture).items():
        if measure == MATCHED:
            if defence in (mixed := matching.mixtures(study)):
                values[measure, context] = matching.attacked(study, mixed[defence])
            continue
        each = [_from(study, source, networks) for source in contributing]
        if context == POOLED:
            values[measure, context] = np.stack([one.mean(0) for one in each])
        else:
            together = np.concatenate(each)
            values[measure, context] = together.min(0) if context == WORST else together
    for (measure, name, given), value in map_tables.stacked(study, architecture, defence).items():
        of = "" if name == "network" else f" of the {name} map"
        values[f"{measure}{of}{'' if given == 'both' else f', {given}'}", ""] = value
    if architecture == study.architecture:
        values |= known_truth.claimed(study, defence)
    linearised = [linearised_tables.linearised_values(study, network)["robustness"] for network in networks]
    values["linearised robustness", ""] = np.stack(linearised)
    return values


def _from(study: Study, source: sources.Source, networks: list[Training]) -> np.ndarray:
    """Which images survive the headline attack from a source [origins, seeds, images]."""
    cell = cells.Cell(*cells.from_source(study, source, networks, study.profile.eps))
    return cell.of(correct_of(study, cell.outcomes))


def contexts(study: Study, architecture: str) -> dict[tuple[str, str], list[sources.Source]]:
    """(measure, context) -> the sources in it. Those that vote are pooled, which decides, and taken at their worst,
    image by image; each, and the ensembles, are shown. "Adaptive" sources are J-SIGR networks of the attacker's."""
    families, together = sources.families(study, architecture), sources.ensembles(study, architecture)
    found = {(TRANSFER, f"from {one.name}"): [one] for one in (*families, *together)}
    if counting := sources.voting(study, architecture):
        found = {(TRANSFER, POOLED): counting, **found, (TRANSFER, WORST): counting}
        if architecture == study.architecture:  # where weights are searched
            found[MATCHED, POOLED] = counting
    own = [one for one in sources.defended_sources(study, architecture) if one.defence == "jsigr"]
    if counting := sources.biting(study, architecture, own):
        found[ADAPTIVE, POOLED] = counting
    return found | {(ADAPTIVE, f"from {one.name}"): [one] for one in own}


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
    return declare(
        table, *("data", "claim", "test", "architecture", "measure", "context", "a", "b"), margin=EXACT, sources=EXACT
    )


def _contrasts(study: Study, claims: list[Claim]) -> pd.DataFrame:
    targets, measured = study.targets(), cache(partial(values_per_image, study))
    first, *others = study.profile.architectures
    rows = []
    for claim in claims:
        for test, architecture in product(claim.tests, others if claim.on == "others" else [first]):
            if {(architecture, test.a), (architecture, test.b)} <= targets.keys():
                a, b = measured(architecture, test.a), measured(architecture, test.b)
                for measure, context in (key for key in a if key[0] == test.measure and key in b):
                    values = a[measure, context], b[measure, context]
                    rows.append(_contrast(study, claim, test, architecture, context, *values))
    return pd.DataFrame(rows)


def _contrast(study: Study, claim: Claim, test: Difference, architecture: str, context: str, a, b) -> dict:
    differences = statistics.columns("difference", statistics.differences(a, b))
    holds, fails = differences["low"] > test.margin, differences["high"] <= test.margin
    where = f" {context}" if context else ""
    where += f" ({architecture})" if claim.on == "others" else ""
    said = f"{study.labels[test.a]} − {study.labels[test.b]}, {test.measure}{where}"
    what = {"claim": claim.id, "test": said, "architecture": architecture, "measure": test.measure}
    outcome = "holds" if holds else "fails" if fails else "undecided"
    found = {**differences, "margin": test.margin}
    found["outcome"] = outcome if differences["images"] >= FEWEST_IMAGES else TOO_FEW
    counting = contexts(study, architecture).get((test.measure, context), [])
    role = "decides" if context in ("", POOLED) else "shown"
    if role == "shown" and not sources.biting(study, architecture, counting):
        role = "does not bite"
    trust = {"sources": len(counting), "flags": _trust(study, test, architecture, counting)}
    return {**what, "context": context, "a": test.a, "b": test.b, **found, "role": role, **trust}


def _trust(study: Study, test: Difference, architecture: str, counting: list[sources.Source]) -> str:
    """The flags of the two accuracies that a difference comes from; none where it is no accuracy."""
    if test.measure not in ("clean accuracy", TRANSFER):
        return flags.shown(set())
    asked = {("", "")} if test.measure == "clean accuracy" else {(one.architecture, one.defence) for one in counting}
    own = [
        cell
        for cell in cells.headline_cells(study)
        if cell.row["architecture"] == architecture and cell.row["defence"] in (test.a, test.b)
    ]
    table = robustness.accuracy_table(study, own)
    here = [pair in asked for pair in zip(table.source, table.source_defence, strict=True)]
    return flags.shown({flag for said in table[here]["flags"] for flag in said.split("; ")})


def at(rows: pd.DataFrame, test: Difference) -> pd.DataFrame:
    """The contrasts of one test of a claim."""
    if not len(rows):
        return rows
    return rows[(rows.measure == test.measure) & (rows.a == test.a) & (rows.b == test.b) & (rows.margin == test.margin)]


def deciding(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.role == "decides"] if len(rows) else rows


def verdict(claim: Claim, rows: pd.DataFrame) -> str:
    """From the claim's deciding contrasts: supported if all hold, refuted if one fails, inconclusive otherwise, such as
    with fewer than FEWEST_IMAGES; not tested if a test has none, as no attack bites, or as the run lacks what it
    needs."""
    found = [deciding(at(rows, test)) for test in claim.tests]
    if any(not len(own) for own in found):
        return "not tested"
    outcomes = {outcome for own in found for outcome in own.outcome}
    return "refuted" if "fails" in outcomes else "supported" if outcomes == {"holds"} else "inconclusive"


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
    """Each test of a claim in words: its difference and interval, the smallest where several decide, and how many
    sources are behind it."""
    said = []
    for test in claim.tests:
        every = at(rows, test)
        own = deciding(every)
        what = f"{study.labels[test.a]} − {study.labels[test.b]}, {test.measure}"
        if len(own):
            least = own.loc[own.difference.idxmin()]
            shown = f"{least.difference:+.3f} [{least.low:+.3f}, {least.high:+.3f}], {least.outcome}"
            shown += f" ({_count(least.sources, 'source')} that bite)" if least.sources else ""
            flagged = f" (flags: {least['flags'].replace('; ', ', ')})" if least["flags"] != "none" else ""
            said.append(f"{what}: {shown}{flagged}")
        elif len(every):
            said.append(f"{what}: no attack bites, of {_count(len(every), 'source')}")
    return said


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


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
