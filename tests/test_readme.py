"""The README says what the published run says, and its code runs."""

import hashlib
import json
import re

import pandas as pd

from jsigr_lib.paths import ROOT

README = (ROOT / "README.md").read_text()
PUBLISHED = ROOT / "figures" / "quick"


def rows_under(first_header: str) -> list[list[str]]:
    """Cells of the table whose header starts with `first_header`."""
    table = README[README.index(f"| {first_header} |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]]


def test_results_table_equals_the_published_tables():
    robustness = pd.read_csv(PUBLISHED / "robustness.csv")
    measures = pd.read_csv(PUBLISHED / "interpretability.csv")
    cost = pd.read_csv(PUBLISHED / "cost.csv").set_index("defence")
    headline = robustness[(robustness.attack == "mi-fgsm") & (robustness.source == "mlp") & (robustness.eps == 0.1)]
    rows = rows_under("defence")
    assert len(rows) == len(cost)
    labels = json.loads((PUBLISHED / "teaser.json").read_text())["profile"]["defences"]
    for cells, name in zip(rows, cost.index, strict=True):
        own = robustness[robustness.defence == name]
        transfer = headline[headline.defence == name].iloc[0]
        agreement = measures[(measures.defence == name) & (measures.measure == "agreement")].set_index("input")["mean"]
        expected = [
            labels[name]["label"],
            f"{cost.cost[name]:.2f}",
            f"{own[own.threat == 'clean'].accuracy.item():.3f}",
            f"{transfer.accuracy:.3f} [{transfer.low:.3f}, {transfer.high:.3f}]",
            f"{own[(own.threat == 'white-box') & (own.eps == 0.1)].accuracy.item():.3f}",
            f"{agreement['clean']:.2f} / {agreement['attacked']:.2f}",
        ]
        assert cells == expected


def test_verdicts_equal_the_published_scorecard():
    card = pd.read_csv(PUBLISHED / "scorecard.csv")
    assert [cells[:2] for cells in rows_under("claim")] == card[["statement", "verdict"]].to_numpy().tolist()


def test_every_link_and_picture_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_python_block_runs():
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["mask"].shape == (32, 1, 28, 28)
    assert set(names["objective"].terms) == {"cross_entropy", "jacobian", "selective"}


def test_published_files_are_the_ones_of_their_manifest():
    manifest = json.loads((PUBLISHED / "manifest.json").read_text())["sha256"]
    for name, sha in manifest.items():
        assert hashlib.sha256((PUBLISHED / name).read_bytes()).hexdigest() == sha, name
