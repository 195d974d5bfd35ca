"""What the notebooks' texts say in words is what the published full run found. (Their numbers: tools/stories.py.)"""

import pandas as pd

from jsigr_lib.store.paths import FIGURES
from jsigr_lib.study.config import load_profile

PENALTIES = ["input-gradient", "jacobian", "sigr", "jsigr"]
ADVERSARIAL = ["pgd", "fast"]


def full(name: str, architecture: str = "small-cnn") -> pd.DataFrame:
    """A table of the run, of one architecture."""
    table = pd.read_csv(FIGURES / "full" / f"{name}.csv", keep_default_na=False)
    return table[table.architecture == architecture] if "architecture" in table else table


def test_ratios_of_linearised_robustness_and_measured_distance():
    rows = full("boundary_distance").set_index("defence")
    assert rows.correlation[["standard", *PENALTIES]].min() > 0.96 > rows.correlation[ADVERSARIAL].max()
    mlp = full("boundary_distance", "mlp").set_index("defence").ratio
    assert len({f"{ratio:.2f}" for ratio in mlp[ADVERSARIAL]}) == 1  # one number is said of the two


def test_on_other_data_pgd_training_is_ahead_by_the_measured_distance():
    for profile in ("full-mnist", "full-cifar10"):
        other = pd.read_csv(FIGURES / profile / "boundary_contrasts.csv").set_index(["b", "measure"])
        assert other.high["pgd", "distance"] < 0, profile


def test_linear_regions():
    for architecture, share in (("small-cnn", (0, 0.005)), ("mlp", (0.02, 0.04))):
        rows = full("linear_region", architecture).set_index("defence")
        assert rows.share_of_rho.between(*share).all()
    rows = full("linear_region").set_index("defence")
    assert rows[["reach_random", "reach_towards"]].max(axis=None) < 0.01
    assert rows.reach_random.idxmax() == rows.reach_towards.idxmax() == rows.flipped.idxmin() == "pgd"
    assert rows.reach_towards["jsigr"] < rows.reach_towards["standard"]
    misleading = full("boundary_distance").set_index("defence").ratio.nlargest(2)
    assert set(misleading.index) == set(ADVERSARIAL)


def test_the_tangent_is_left_sooner_relative_to_the_change_and_not_to_the_margin():
    table = full("linearisation_error")
    near = table[table.radius < load_profile("full").eps * 28]  # a step of the headline attack, in L2
    assert (near["jsigr, relative to the change"] > near["standard, relative to the change"]).all()
    assert (table["jsigr, relative to the margin"] <= table["standard, relative to the margin"]).all()


def test_norm_and_margin_after_training():
    table = full("training_history")
    end = table[table.epoch == table.epoch.max()].set_index("defence").apply(pd.to_numeric, errors="coerce")
    quotient = end.margin / (2 * end.jacobian_norm) ** 0.5
    assert quotient["jacobian"] > quotient["jsigr"] > quotient["pgd"]
    assert end.robust_accuracy["jacobian"] < end.robust_accuracy["jsigr"] < end.robust_accuracy["pgd"]


def transferred(eps: float, source: str = "mlp", architecture: str = "small-cnn") -> pd.DataFrame:
    """Accuracies, a row per attack, a column per defence, of attacks from an undefended source."""
    asked = "threat == 'transfer' and source_defence == 'standard' and norm == 'linf' and eps == @eps"
    table = full("robustness", architecture).query(f"{asked} and source == @source")
    return table.pivot(index="attack", columns="defence", values="accuracy")


def test_transferred_attacks():
    clean = full("robustness").query("threat == 'clean'").set_index("defence").accuracy
    lost = (100 * (clean["standard"] - clean.drop("standard"))).round()
    assert set(lost) == {4, 5}
    at = transferred(0.1).loc["mi-fgsm"]
    assert at[ADVERSARIAL].min() > at[PENALTIES].max() and at[PENALTIES].min() > at["standard"] + 0.3


def test_more_ways_to_train_in_the_quick_run():
    table = pd.read_csv(FIGURES / "quick" / "robustness.csv")
    table = table.query("attack == 'mi-fgsm' and source == 'mlp' and source_defence == 'standard' and norm == 'linf'")
    table = table.pivot(index="defence", columns="eps", values="accuracy")
    assert (table.loc[["scaleable-l1", "scaleable-l2"], 0.1] > table.loc["jsigr", 0.1]).all()
    assert table[0.2].idxmax() == "fast-jsigr"


def test_judges():
    table = full("judges").pivot(index="defence", columns="judge", values="accuracy")
    assert (table["AutoAttack"] <= table["PGD, restarts"]).all() and (table["PGD, restarts"] <= table["PGD"]).all()
    assert (table["PGD, restarts"] - table["AutoAttack"]).max() < 0.05
    assert (table["Square"] > table["PGD, restarts"]).all()
    widths = full("judges")
    assert 0.04 < (widths.high - widths.low).max() / 2 < 0.045


def test_ranking_of_transferred_attacks():
    table = transferred(0.1)
    defended = table.drop(columns="standard")
    assert (defended.max() - defended.min()).max() < 0.04
    assert (defended.idxmin() == "ti-fgsm").all()
    assert set(defended.drop("ti-fgsm").idxmin()) == {"di-fgsm"}
    standard = table["standard"]
    assert standard[["ti-fgsm", "di-fgsm"]].min() > standard["mi-fgsm"]
    assert set(standard.nsmallest(2).index) == {"ni-fgsm", "pgd"}
    assert set(table.idxmax()) <= {"si-fgsm", "pgd"} and (table.drop(columns="fast").idxmax() == "si-fgsm").all()


def test_sources():
    asked = "threat == 'transfer' and attack == 'mi-fgsm' and norm == 'linf' and eps == 0.1"
    table = full("robustness").query(asked)
    table = table.pivot(index=["source", "source_defence"], columns="defence", values="accuracy").drop(
        columns=["standard", *ADVERSARIAL]
    )
    own, other = table.loc["small-cnn"], table.drop("small-cnn", level="source")
    assert (own.loc[PENALTIES].max() < other.min()).all()
    assert (table.loc["mlp", "jsigr"] < table.loc["mlp", "standard"]).all()
    column = table["jsigr"]
    for source, defence in (("mlp", "fast"), ("small-cnn", "fast"), ("small-cnn", "pgd")):
        assert column[source, defence] > column["mlp", "standard"]


def test_flags():
    table = pd.concat([full("robustness"), full("robustness", "mlp")])
    raised = table[table["flags"] != "none"]
    assert set(raised["flags"]) == {"more effort helps", "few images"}
    effort, few = (raised[raised["flags"] == name] for name in ("more effort helps", "few images"))
    assert set(effort.attack) == {"pgd"} and set(effort.norm) == {"linf"} and "standard" not in set(effort.defence)
    assert len(few) == 2 and set(few.norm) == {"l2"} and set(few.images) == {500}


def test_gradient_maps():
    table = full("interpretability").query("map == 'gradient'")
    table = table.pivot(index="defence", columns=["measure", "input"], values="mean").astype(float)
    for measure in ("deletion gain", "insertion gain"):
        gained = {way: table[measure, way] - table[measure, way]["standard"] for way in ("clean", "attacked")}
        assert all((gain[PENALTIES] > 0).all() for gain in gained.values()), measure
    assert abs(table["deletion gain", "attacked"]["standard"]) < 0.005
    agreement = table["agreement", "clean"]
    assert 2 * agreement["standard"] < agreement["jsigr"] < agreement["pgd"]
    assert set(table["sparseness", "clean"].nlargest(2).index) == set(ADVERSARIAL)


def rows_won(a: str, b: str) -> tuple[set[str], set[str]]:
    """Of two maps: the rows on which each is better."""
    rows = full("map_questions").query("a == @a and b == @b")
    named = rows.measure + ", " + rows.input
    return set(named[rows.better == "a"]), set(named[rows.better == "b"])


def test_cheap_maps_for_costly_ones():
    won, lost = rows_won("jsigr, gradient", "standard, perturbation")
    assert won == {"infidelity, clean", "infidelity, attacked", "SSIM, both", "deletion gain, attacked"}
    assert lost > {"deletion gain, clean", "insertion gain, clean", "insertion gain, attacked", "stability, both"}
    won, _ = rows_won("jsigr, gradient", "jsigr, perturbation")
    assert won == {"infidelity, clean", "infidelity, attacked"}


def test_maps_of_adversarial_training():
    assert [rows_won(f"{name}, gradient", "standard, gradient")[1] for name in ADVERSARIAL] == [set(), set()]
    won, lost = rows_won("jsigr, gradient", "pgd, gradient")
    assert won == {
        *(f"{measure}, {way}" for measure in ("infidelity", "top overlap") for way in ("clean", "attacked")),
        *("stability, both", "SSIM, both", "insertion gain, clean", "deletion gain, attacked"),
    }
    assert lost == {"agreement, clean", "deletion gain, clean", "insertion gain, attacked"}
