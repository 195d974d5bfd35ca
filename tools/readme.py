"""Write the README's tables of the published run: claims, defences, maps. Columns are the README's own."""

import re

import pandas as pd

from jsigr_lib import summary
from jsigr_lib.attributions import MAPS
from jsigr_lib.config import load_profile
from jsigr_lib.paths import FIGURES, ROOT

PROFILE = load_profile("full")
PUBLISHED = FIGURES / PROFILE.name


def published(name: str) -> pd.DataFrame:
    """A table of the run, of its first architecture if it has several."""
    table = pd.read_csv(PUBLISHED / f"{name}.csv")
    return table[table.architecture == PROFILE.architectures[0]] if "architecture" in table else table


def claims() -> list[tuple[str, ...]]:
    """A row per claim: statement, figure, caveat, and of each data set the verdict and n; below it a row per test: what
    is subtracted, and of each data set the difference. Without data that no claim was tested on."""
    card = summary.scorecard(PUBLISHED)
    rows = []
    for _, own in card[card.data.isin(tested(card))].groupby("claim", sort=False):
        claim = own.iloc[0]
        figure = f"[figure](figures/{PROFILE.name}/{claim.figure}.png)"
        verdicts = [f"**{row.verdict}**<br>{row.n}" for row in own.itertuples()]
        rows.append((f"**{claim.statement}** {claim.caveat} {figure}", *verdicts))
        evidence = [dict(test.split(": ", 1) for test in one.split("; ")) for one in own.evidence]
        rows += [(test, *(one[test] for one in evidence)) for test in evidence[0]]
    return rows


def tested(card: pd.DataFrame) -> list[str]:
    """The data sets that a claim was tested on."""
    return list(dict.fromkeys(card[card.n != "none"].data))


def defences() -> list[tuple[str, ...]]:
    """Label, clean and transferred accuracy, what three judges leave of the same images, flags."""
    table = published("robustness").set_index("defence")
    clean = table[table.threat == "clean"]
    headline = {"threat": "transfer", "norm": "linf", "source": PROFILE.surrogates[0], "source_defence": "standard"}
    headline |= {"attack": PROFILE.transfer_attacks[0], "eps": PROFILE.eps}
    transfer = table[(table[list(headline)] == pd.Series(headline)).all(axis=1)]
    judges = published("judges").set_index(["defence", "judge"]).accuracy
    rows = []
    for name, defence in PROFILE.defences.items():
        accuracies = [clean.accuracy[name], transfer.accuracy[name]]
        accuracies += [judges[name, judge] for judge in ("PGD", "PGD, restarts", "AutoAttack")]
        label = f"**{defence.label}**" if name == "jsigr" else defence.label
        rows.append((label, *(f"{value:.3f}" for value in accuracies), transfer["flags"][name]))
    return rows


def maps() -> list[tuple[str, ...]]:
    """Title of the map; standard / J-SIGR for each of its measures."""
    mean = published("interpretability").set_index(["defence", "measure", "map", "input"])["mean"]
    left = published("map_cascade").query("layers == 4").set_index(["defence", "map"]).correlation
    measures = [("deletion gain", "clean"), ("insertion gain", "clean"), ("infidelity", "clean")]
    measures += [("agreement", "clean"), ("stability", "both")]
    rows = []
    for name in PROFILE.saliency_maps:
        values = [[mean[one, measure, name, given] for one in ("standard", "jsigr")] for measure, given in measures]
        values.append([left[one, name] for one in ("standard", "jsigr")])
        rows.append((MAPS[name], *(" / ".join(f"{value:.2f}" for value in pair) for pair in values)))
    return rows


def replaced(text: str, header: str, rows: list[tuple[str, ...]]) -> str:
    """The text with other rows in the table whose header begins so."""
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    new, count = re.subn(rf"(^\| {header} \|.*\n\|[-|]+\n)(\|.*\n)*", lambda found: found[1] + lines, text, flags=re.M)
    assert count == 1, header
    return new


if __name__ == "__main__":
    text = (ROOT / "README.md").read_text()
    for header, rows in {"claim": claims(), "trained as": defences(), "map": maps()}.items():
        text = replaced(text, header, rows)
    (ROOT / "README.md").write_text(text)
