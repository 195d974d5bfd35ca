"""What the notebooks' texts say is what the published full run found."""

import nbformat
import pandas as pd

from jsigr_lib.config import load_profile
from jsigr_lib.paths import FIGURES, NOTEBOOKS

PENALTIES = ["input-gradient", "jacobian", "sigr", "jsigr"]
ADVERSARIAL = ["pgd", "fast"]


def story(number: str) -> str:
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    return " ".join(" ".join(cell.source for cell in cells if cell.cell_type == "markdown").split())


def full(name: str, architecture: str = "small-cnn") -> pd.DataFrame:
    """A table of the run, of one architecture."""
    table = pd.read_csv(FIGURES / "full" / f"{name}.csv", keep_default_na=False)
    return table[table.architecture == architecture] if "architecture" in table else table


def interval(value: float, low: float, high: float) -> str:
    low, high = sorted((low, high))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def spread(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"


def test_ratios_of_linearised_robustness_and_measured_distance():
    text, rows = story("01"), full("boundary_distance").set_index("defence")
    assert f"{rows.ratio['standard']:.2f} times the measured distance for the standard network, " in text
    assert f"{spread(rows.ratio[PENALTIES])} times for the penalties" in text
    said = {name: interval(*rows.loc[name, ["ratio", "ratio_low", "ratio_high"]]) for name in ("jsigr", "pgd")}
    assert f"{said['jsigr']} for J-SIGR" in text
    adversarial = rows.ratio[ADVERSARIAL]
    said = f"promises {adversarial.min():.1f} to {adversarial.max():.1f} times what is there, {said['pgd']} for PGD-7"
    assert said in text
    assert rows.correlation[["standard", *PENALTIES]].min() > 0.96 > rows.correlation[ADVERSARIAL].max()
    mlp = full("boundary_distance", "mlp").set_index("defence").ratio
    assert f"{spread(mlp.drop(ADVERSARIAL))} times without adversarial training" in text
    (trained,) = {f"{ratio:.2f}" for ratio in mlp[ADVERSARIAL]}
    assert f"{trained} times with it" in text


def test_paired_distances():
    text, rows = story("01"), full("boundary_contrasts").set_index(["b", "measure"])
    for measure, sign in (("robustness", -1), ("distance", 1), ("boxed", 1)):
        row = rows.loc["pgd", measure]
        assert interval(sign * row.difference, sign * row.low, sign * row.high) in text, measure
    row = rows.loc["standard", "distance"]
    said = f"{interval(row.difference, row.low, row.high)} above the standard network's, where ρ̃ said"
    assert f"{said} {rows.difference['standard', 'robustness']:.2f}." in text
    for profile in ("full-mnist", "full-cifar10"):
        other = pd.read_csv(FIGURES / profile / "boundary_contrasts.csv").set_index(["b", "measure"])
        assert other.high["pgd", "distance"] < 0, profile


def test_linear_regions():
    text = story("01")
    for architecture, share in (("small-cnn", (0, 0.005)), ("mlp", (0.02, 0.04))):
        rows = full("linear_region", architecture).set_index("defence")
        assert rows.share_of_rho.between(*share).all()
    both = pd.concat([full("linear_region"), full("linear_region", "mlp")]).flipped
    assert f"{100 * both.min():.0f} to {100 * both.max():.0f} percent of the ReLUs" in text
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
    text, table = story("01"), full("training_history")
    end = table[table.epoch == table.epoch.max()].set_index("defence").apply(pd.to_numeric, errors="coerce")
    quotient = end.margin / (2 * end.jacobian_norm) ** 0.5
    digits = {name: f"{quotient[name]:.2f}".removeprefix("0") for name in ("standard", "jsigr", "jacobian", "pgd")}
    robust = {name: f"{end.robust_accuracy[name]:.2f}".removeprefix("0") for name in digits}
    old, new = end.loc["standard"], end.loc["jsigr"]
    said = f"falls from {old.jacobian_norm:.0f} to {new.jacobian_norm:.0f}, the margin from {old.margin:.1f} to "
    said += f"{new.margin:.1f}, so that the quotient rises from {digits['standard']} to {digits['jsigr']}, and robust "
    assert f"{said}accuracy from {robust['standard']} to {robust['jsigr']}." in text
    assert f"the larger one, {digits['jacobian']}, and {robust['jacobian']} robust accuracy" in text
    assert f"the smaller one, {digits['pgd']}, and {robust['pgd']}." in text
    assert quotient["jacobian"] > quotient["jsigr"] > quotient["pgd"]
    assert end.robust_accuracy["jacobian"] < end.robust_accuracy["jsigr"] < end.robust_accuracy["pgd"]


def transferred(eps: float, source: str = "mlp", architecture: str = "small-cnn") -> pd.DataFrame:
    """Accuracies, a row per attack, a column per defence, of attacks from an undefended source."""
    asked = "threat == 'transfer' and source_defence == 'standard' and norm == 'linf' and eps == @eps"
    table = full("robustness", architecture).query(f"{asked} and source == @source")
    return table.pivot(index="attack", columns="defence", values="accuracy")


def test_transferred_attacks():
    text = story("03")
    clean = full("robustness").query("threat == 'clean'").set_index("defence").accuracy
    lost = (100 * (clean["standard"] - clean.drop("standard"))).round()
    assert set(lost) == {4, 5}
    at = transferred(0.1).loc["mi-fgsm"]
    assert at[ADVERSARIAL].min() > at[PENALTIES].max() and at[PENALTIES].min() > at["standard"] + 0.3
    left = (100 * transferred(0.2).loc["mi-fgsm", ["jsigr", *ADVERSARIAL]]).round().astype(int)
    assert "J-SIGR leaves {} percent of the MLP's attacks right, PGD-7 training {} and fast".format(*left[:2]) in text
    assert f"and fast adversarial training {left['fast']};" in text
    left = (100 * transferred(0.2, "vgg", "mlp").loc["mi-fgsm", ["jsigr", *ADVERSARIAL]]).round().astype(int)
    assert "it does not: {}, {} and {}.".format(*left) in text


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


def rows_won(a: str, b: str) -> tuple[set[str], set[str], int]:
    """Of two maps: the rows on which each is better, and how many there are."""
    rows = full("map_questions").query("a == @a and b == @b")
    named = rows.measure + ", " + rows.input
    return set(named[rows.better == "a"]), set(named[rows.better == "b"]), len(rows)


def test_cheap_maps_for_costly_ones():
    text = story("04")
    won, lost, rows = rows_won("jsigr, gradient", "standard, perturbation")
    assert f"Partly: it wins {len(won)} of {rows} rows and loses {len(lost)}." in text
    assert won == {"infidelity, clean", "infidelity, attacked", "SSIM, both", "deletion gain, attacked"}
    assert lost > {"deletion gain, clean", "insertion gain, clean", "insertion gain, attacked", "stability, both"}
    won, lost, rows = rows_won("jsigr, gradient", "jsigr, perturbation")
    assert won == {"infidelity, clean", "infidelity, attacked"}
    assert f"it wins infidelity only, and loses {len(lost)} rows of {rows}:" in text


def test_maps_of_adversarial_training():
    text = story("04")
    (pgd, pgd_lost, rows), (fast, fast_lost, _) = (
        rows_won(f"{name}, gradient", "standard, gradient") for name in ADVERSARIAL
    )
    said = (
        f"Of {rows} rows, the gradient maps of PGD training beat the standard network's on {len(pgd)}, those of fast "
    )
    assert f"{said}adversarial training on {len(fast)}, and neither loses one." in text
    assert not pgd_lost and not fast_lost
    won, lost, _ = rows_won("jsigr, gradient", "pgd, gradient")
    assert f"it depends on the measure, {len(won)} rows to {len(lost)}:" in text
    assert won == {
        *(f"{measure}, {way}" for measure in ("infidelity", "top overlap") for way in ("clean", "attacked")),
        *("stability, both", "SSIM, both", "insertion gain, clean", "deletion gain, attacked"),
    }
    assert lost == {"agreement, clean", "deletion gain, clean", "insertion gain, attacked"}
    won, lost, _ = rows_won("jsigr, gradient", "fast, gradient")
    assert f"J-SIGR wins {len(won)} rows and loses {len(lost)}." in text
