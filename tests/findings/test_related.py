"""The table of related work turns with the tables of the run."""

import pandas as pd

from jsigr_lib.findings import related

TABLES = {
    "transport": pd.DataFrame({"training": ["OTJR-7"], "attack": ["pgd"], "cost": [7.99]}),
    "transport_differences": pd.DataFrame(
        {
            "a": "OTJR-7",
            "b": ["standard", "PGD-7 training", "J-SIGR"],
            "difference": [0.4, -0.02, 0.1],
            "low": [0.3, -0.05, 0.06],
            "high": [0.5, 0.01, 0.14],
        }
    ),
}


def of(name: str) -> pd.DataFrame:
    return TABLES.get(name, pd.DataFrame())


def test_a_row_per_neighbour():
    table = related.table(of).set_index("task")
    assert len(table) == 4
    digr, otjr = table.loc["policies of MiniGrid's Fetch"], table.iloc[2]
    assert digr["what it buys"] == digr["a step costs"] == ""  # this run has no such tables
    assert otjr["a step costs"] == "8.0"
    assert otjr["what it buys"].split("; ") == [
        "accuracy under PGD, minus no defence: +0.40 [0.30, 0.50]",
        "accuracy under PGD, minus PGD training: −0.02 [−0.05, 0.01]",
    ]
    assert otjr["J-SIGR beside it"] == "accuracy under PGD, J-SIGR minus it: −0.10 [−0.14, −0.06]"


def test_each_links_to_its_notebook():
    lines = related.markdown(of, "notebooks/").splitlines()
    assert sum("](notebooks/0" in line for line in lines) == 4
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
