import numpy as np
import pandas as pd
import pytest

from jsigr_lib.study.attacked import Outcomes
from jsigr_lib.study.cells import attack_grid, headline_cells, robustness_cells
from jsigr_lib.study.sources import attack_sources


@pytest.fixture(scope="module")
def full(tiny, study):
    """Two architectures, two seeds of targets and of sources."""
    return tiny(
        study.store.root,
        eps_grid=[0.0, 0.05, 0.1],
        surrogate_defences=["pgd"],
        seeds=[0, 1],
        architectures=["small-cnn", "mlp"],
        surrogates=["mlp", "vgg", "resnet8"],
        surrogate_seeds=2,
        autoattack=["jsigr"],
    )


def rows_of(cells) -> pd.DataFrame:
    return pd.DataFrame(cell.row for cell in cells)


def test_the_grid_varies_one_thing_at_a_time(tiny, study):
    star = tiny(study.store.root, eps_grid=[0.05, 0.1, 0.2], transfer_attacks=["mi-fgsm", "fgsm", "pgd"])
    by_name = {(source.architecture, source.defence): source for source in attack_sources(star, "small-cnn")}
    expected = {("mi-fgsm", 0.05), ("mi-fgsm", 0.1), ("mi-fgsm", 0.2), ("fgsm", 0.1), ("pgd", 0.1)}
    assert set(attack_grid(star, by_name["mlp", "standard"], "small-cnn")) == expected
    together = "mlp+vgg+small-cnn"
    for name in (("vgg", "standard"), ("small-cnn", "standard"), (together, "standard"), (together, "standard+pgd")):
        grid = attack_grid(star, by_name[name], "small-cnn")
        assert grid == [("mi-fgsm", 0.05), ("mi-fgsm", 0.1), ("mi-fgsm", 0.2)]
    for name in (("mlp", "pgd"), ("small-cnn", "jsigr")):
        assert attack_grid(star, by_name[name], "small-cnn") == [("mi-fgsm", 0.1)]


def test_cells_are_every_source_attack_target_and_eps(full):
    p, rows = full.profile, rows_of(robustness_cells(full))
    assert len(rows) == len(rows.drop_duplicates())
    assert set(rows.threat) == {"clean", "white-box", "black-box", "transfer"}
    transfer = rows[(rows.threat == "transfer") & (rows.norm == "linf")]
    for architecture in p.architectures:
        mine = transfer[transfer.architecture == architecture]
        grid = [len(attack_grid(full, source, architecture)) for source in attack_sources(full, architecture)]
        assert len(mine) == len(p.defences) * sum(grid)
    white = rows[(rows.threat == "white-box") & (rows.norm == "linf")]
    assert (white.attack == "pgd").sum() == 2 * len(p.defences) * len(p.budgets)
    assert (white.attack == "pgd-restarts").sum() == 2 * len(p.defences)
    assert set(rows[rows.attack == "autoattack"].defence) == {"jsigr"}
    assert set(rows[rows.norm == "l2"].eps) == {p.eps_l2}


def test_no_network_is_its_own_source(study, full):
    for one in (study, full):
        for cell in robustness_cells(one):
            for outcome in cell.outcomes:
                if cell.row["threat"] == "transfer":
                    assert outcome.target not in outcome.attacked.sources
                elif outcome.attacked:
                    assert outcome.attacked.sources == (outcome.target,)
    own = [
        cell
        for cell in robustness_cells(full)
        if cell.row["source"] == cell.row["architecture"]
        and cell.row["source_defence"] == cell.row["defence"] != "standard"
    ]
    assert own and all([outcome.target.seed for outcome in cell.outcomes] == [1] for cell in own)


def test_a_cell_is_what_its_row_says(study):
    p = study.profile
    for cell in robustness_cells(study):
        (outcome,) = cell.outcomes
        row = cell.row
        assert outcome.target == study.training(row["defence"])
        assert outcome.split == "test"
        if row["threat"] == "clean":
            assert outcome == Outcomes(target=outcome.target) and row["eps"] == 0
            continue
        attacked, settings = outcome.attacked, dict(outcome.attacked.settings)
        assert (attacked.eps, attacked.norm) == (row["eps"], row["norm"])
        if row["attack"] == "pgd-restarts":
            expected = {"steps": 2 * p.pgd_steps, "restarts": p.pgd_restarts}
            assert (attacked.attack, settings, attacked.images) == ("pgd", expected, p.strong_images)
        else:
            assert attacked.attack == row["attack"]
            few = row["threat"] == "black-box" or (row["threat"], row["norm"]) == ("white-box", "l2")
            assert attacked.images == (p.strong_images if few else None)
        if row["threat"] == "transfer":
            by_name = {(source.architecture, source.defence): source for source in attack_sources(study, "small-cnn")}
            assert attacked.sources == by_name[row["source"], row["source_defence"]].origins[0]


def test_headline_cells_are_among_all(study):
    found = {(str(cell.row), cell.outcomes[0].digest) for cell in robustness_cells(study)}
    headline = {(str(cell.row), cell.outcomes[0].digest) for cell in headline_cells(study)}
    assert headline < found
    assert len(headline) == 6 * len(study.profile.defences)  # clean, three families, two ensembles


def test_a_cell_of_several_origins_has_each_network_once_per_origin(full):
    for cell in headline_cells(full):
        sources = [outcome.attacked.sources for outcome in cell.outcomes if outcome.attacked]
        assert cell.origins == max(1, len(dict.fromkeys(sources)))
        targets = cell.of(np.arange(len(cell.outcomes))[:, None])[..., 0]
        for row in targets:
            assert [cell.outcomes[i].target.seed for i in row] == [0, 1]
            assert len({cell.outcomes[i].attacked and cell.outcomes[i].attacked.sources for i in row}) == 1
