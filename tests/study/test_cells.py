import pandas as pd
import pytest

from jsigr_lib.study.attacked import Outcomes
from jsigr_lib.study.cells import attack_grid, attack_sources, headline_cells, robustness_cells, sources_of


@pytest.fixture(scope="module")
def full(tiny, study):
    """Every attack from every source at every budget, two architectures, two seeds."""
    return tiny(
        study.store.root,
        transfer_design="full",
        eps_grid=[0.0, 0.05, 0.1],
        surrogate_defences=["pgd"],
        seeds=[0, 1],
        architectures=["small-cnn", "mlp"],
        surrogates=["mlp", "vgg", "resnet8"],
        autoattack=["jsigr"],
    )


def rows_of(cells) -> pd.DataFrame:
    return pd.DataFrame(cell.row for cell in cells)


def test_surrogates_are_of_another_architecture(study):
    assert sources_of(study, "small-cnn") == ["mlp", "vgg"]
    assert sources_of(study, "mlp") == ["vgg"]


def test_sources(study, full):
    defences = list(study.profile.defences)
    found = [(source.architecture, source.defence) for source in attack_sources(study, "small-cnn")]
    others = [("mlp", "standard"), ("vgg", "standard"), ("mlp+vgg", "standard"), ("mlp", "pgd")]
    assert found == [*others, *(("small-cnn", name) for name in defences)]
    ensemble = attack_sources(study, "small-cnn")[2]
    assert ensemble.networks == (study.surrogate("mlp"), study.surrogate("vgg"))

    found = [(source.architecture, source.defence) for source in attack_sources(full, "mlp")]
    others = [(name, "standard") for name in ("vgg", "resnet8", "vgg+resnet8")] + [("vgg", "pgd"), ("resnet8", "pgd")]
    assert found == [*others, *(("mlp", name) for name in defences)]
    networks = [network for source in attack_sources(full, "mlp") for network in source.networks]
    assert len(set(networks)) == len(networks) - 2  # those of the ensemble


def test_one_surrogate_is_no_ensemble(tiny, study):
    alone = tiny(study.store.root, surrogates=["mlp"])
    assert "mlp+" not in "".join(source.architecture for source in attack_sources(alone, "small-cnn"))


def test_star_varies_one_thing_at_a_time(tiny, study):
    star = tiny(study.store.root, eps_grid=[0.05, 0.1, 0.2], transfer_attacks=["mi-fgsm", "fgsm", "pgd"])
    by_name = {(source.architecture, source.defence): source for source in attack_sources(star, "small-cnn")}
    expected = {("mi-fgsm", 0.05), ("mi-fgsm", 0.1), ("mi-fgsm", 0.2), ("fgsm", 0.1), ("pgd", 0.1)}
    assert set(attack_grid(star, by_name["mlp", "standard"], "small-cnn")) == expected
    for name in ("vgg", "mlp+vgg"):
        grid = attack_grid(star, by_name[name, "standard"], "small-cnn")
        assert grid == [("mi-fgsm", 0.05), ("mi-fgsm", 0.1), ("mi-fgsm", 0.2)]
    for name in (("mlp", "pgd"), ("small-cnn", "standard"), ("small-cnn", "jsigr")):
        assert attack_grid(star, by_name[name], "small-cnn") == [("mi-fgsm", 0.1)]
    full = tiny(study.store.root, transfer_design="full", eps_grid=[0.05, 0.1])
    for source in attack_sources(full, "small-cnn"):
        grid = attack_grid(full, source, "small-cnn")
        assert set(grid) == {(attack, eps) for attack in full.profile.transfer_attacks for eps in (0.05, 0.1)}


def test_cells_are_every_source_attack_target_and_eps(full):
    p, rows = full.profile, rows_of(robustness_cells(full))
    assert len(rows) == len(rows.drop_duplicates())
    assert set(rows.threat) == {"clean", "white-box", "black-box", "transfer"}
    transfer = rows[(rows.threat == "transfer") & (rows.norm == "linf")]
    for architecture in p.architectures:
        mine = transfer[transfer.architecture == architecture]
        assert len(mine) == len(p.defences) * len(attack_sources(full, architecture)) * len(p.transfer_attacks) * 2
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
        if cell.row["source"] == cell.row["architecture"] and cell.row["source_defence"] == cell.row["defence"]
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
            assert attacked.sources == by_name[row["source"], row["source_defence"]].networks


def test_headline_cells_are_among_all(study):
    found = {(str(cell.row), cell.outcomes[0].digest) for cell in robustness_cells(study)}
    headline = {(str(cell.row), cell.outcomes[0].digest) for cell in headline_cells(study)}
    assert headline < found
    assert len(headline) == 3 * len(study.profile.defences)
