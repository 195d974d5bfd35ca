"""The README says what the published run says, and its code runs."""

import hashlib
import json
import re
import tomllib
from functools import partial

import pandas as pd
import pytest

from jsigr_lib import defences, summary
from jsigr_lib.attributions import MAPS
from jsigr_lib.config import load_profile
from jsigr_lib.paths import FIGURES, ROOT

README = (ROOT / "README.md").read_text()
PUBLISHED = FIGURES / "full"
OWN_LABELS = {"**J-SIGR** (q = .1, the default)": "J-SIGR, q = .1", "J-SIGR, L1 norm": "L1, .03 and 30"}


def published(name: str) -> pd.DataFrame:
    """A table of the published run, of the small CNN."""
    table = pd.read_csv(PUBLISHED / f"{name}.csv")
    return table[table.architecture == "small-cnn"] if "architecture" in table else table


def rows_under(first_header: str) -> list[list[str]]:
    """Cells of the table whose header starts with `first_header`."""
    table = README[README.index(f"| {first_header} |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]]


def test_cost_table_is_that_of_the_benchmarks():
    published = pd.read_csv(ROOT / "benchmarks" / "results" / "frontier.csv").set_index("label")
    rows = rows_under("defence")
    assert len(rows) >= 8
    for label, *cells in rows:
        row = published.loc[OWN_LABELS.get(label, label)]
        transfer, white_box = (
            f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"
            for name in ("transfer", "white_box")
        )
        assert cells == [f"{row.cost:.2f}", f"{row.clean:.3f}", transfer, white_box, f"{row.agreement:.2f}"]


def test_peers_are_those_of_the_benchmarks():
    text = " ".join(README.split())
    for part, digits, cases in [
        ("steps", 1, ("naive J-SIGR (jacobian_regularizer + double backprop)", "J-SIGR, q = 1")),
        (
            "attacks",
            2,
            ("jsigr_lib", "torchattacks", "Foolbox", "ART", "Foolbox, frozen parameters", "ART, frozen parameters"),
        ),
        ("maps", 2, ("jsigr_lib, exact", "Captum Occlusion, 1 at once")),
    ]:
        table = pd.read_csv(ROOT / "benchmarks" / "results" / f"{part}.csv")
        table = table[table.attack == "PGD-20"] if part == "attacks" else table
        ratios = table.set_index(["case", "network"]).ratio
        for case in cases:
            said = " / ".join(f"{ratios[case, network]:.{digits}f}" for network in ("small-cnn", "resnet8"))
            assert said in text, (case, said)


def test_strength_is_that_of_the_benchmarks():
    ours = pd.read_csv(ROOT / "benchmarks" / "results" / "strength.csv").ours.value_counts()
    counts = [int(ours.get(verdict, 0)) for verdict in ("equal", "stronger", "weaker")]
    said = "of {} comparisons {} equal, {} stronger, {} weaker".format(sum(counts), *counts)
    assert said in " ".join(README.split())


def test_kills_are_those_of_the_benchmarks():
    kills = pd.read_csv(ROOT / "benchmarks" / "results" / "kills.csv")
    assert kills.kill.tolist() == list(range(1, len(kills) + 1)) and kills.intact.all() and not kills.orphans.any()
    assert f"[{len(kills)} more kills](benchmarks/results/kills.csv)" in README


def test_verdicts_equal_the_published_scorecard():
    card = summary.scorecard(PUBLISHED)
    tested = list(dict.fromkeys(card[card.n != "none"].data))
    assert f"| claim | {' | '.join(tested)} |\n" in README
    rows = iter(rows_under("claim"))
    for _, claim in card[card.data.isin(tested)].groupby("claim", sort=False):
        first, *verdicts = next(rows)
        own = claim.iloc[0]
        assert first == f"**{own.statement}** {own.caveat} [figure](figures/full/{own.figure}.png)"
        assert verdicts == [f"**{row.verdict}**<br>{row.n}" for row in claim.itertuples()]
        evidence = [row.evidence.split("; ") for row in claim.itertuples()]
        for tests in zip(*evidence, strict=True):
            label, *differences = next(rows)
            assert [f"{label}: {difference}" for difference in differences] == list(tests)
    assert next(rows, None) is None
    assert set(card.data) == set(tested)


def test_the_published_notebook_5_judges_every_claim_on_all_data():
    """What the README merges with the replications' own scorecards is what the run itself has found."""
    own = pd.read_csv(PUBLISHED / "scorecard.csv", dtype=str, keep_default_na=False)
    assert own.equals(summary.scorecard(PUBLISHED))
    assert "not tested" not in set(own.verdict)


def test_every_link_and_picture_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_robustness_table_is_that_of_the_published_run():
    judges = published("judges").set_index(["defence", "judge"])
    table = published("robustness").query("norm == 'linf'")
    labels = {defence.label: name for name, defence in load_profile("full").defences.items()}
    rows = rows_under("trained as")
    assert [label.strip("*") for label, *_ in rows] == list(labels)
    for label, *cells in rows:
        name = labels[label.strip("*")]
        mine = table[(table.defence == name) & table.eps.isin([0, 0.1])]
        headline = "threat == 'transfer' and source == 'mlp' and source_defence == 'standard' and attack == 'mi-fgsm'"
        numbers = [mine.query(which).iloc[0] for which in ("threat == 'clean'", headline)]
        expected = [f"{row.accuracy:.3f}" for row in numbers]
        expected += [f"{judges.accuracy[name, judge]:.3f}" for judge in ("PGD", "PGD, restarts", "AutoAttack")]
        assert cells[:5] == expected


def run(what: str) -> dict:
    """Executes the one Python block that says `what`; the names that it leaves."""
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if what in block]
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    return names


def test_maps_table_is_that_of_the_published_run():
    measures = published("interpretability").set_index(["defence", "measure", "map", "input"])["mean"]
    cascade = published("map_cascade").query("layers == 4").set_index(["defence", "map"]).correlation
    shown = [("deletion gain", "clean"), ("insertion gain", "clean"), ("infidelity", "clean"), ("agreement", "clean")]
    rows = rows_under("map")
    assert [label for label, *_ in rows] == [MAPS[name] for name in load_profile("full").saliency_maps]
    for name, (_, *cells) in zip(load_profile("full").saliency_maps, rows, strict=True):
        values = [
            [measures[defence, measure, name, given] for defence in ("standard", "jsigr")]
            for measure, given in (*shown, ("stability", "both"))
        ]
        values.append([cascade[defence, name] for defence in ("standard", "jsigr")])
        assert cells == [" / ".join(f"{value:.2f}" for value in pair) for pair in values]


def test_distances_are_those_of_the_published_run():
    rows = published("boundary_distance").set_index("defence")
    standard, jsigr, pgd = (f"{rows.ratio[name]:.2f}" for name in ("standard", "jsigr", "pgd"))
    said = f"It is {standard} times the measured distance to the boundary for the standard network, {jsigr} times for "
    assert f"{said}J-SIGR, and {pgd} times for PGD training" in " ".join(README.split())
    pairs = pd.read_csv(PUBLISHED / "boundary_contrasts.csv")
    behind = pairs[(pairs.a == "jsigr") & (pairs.b == "pgd")].set_index("measure")
    assert behind.high["robustness"] < 0 < behind.low["distance"]
    region = pd.read_csv(PUBLISHED / "linear_region.csv").groupby("architecture").share_of_rho.max()
    assert region["small-cnn"] < 0.005 and region["mlp"] < 0.04
    quick = pd.read_csv(FIGURES / "quick" / "boundary_distance.csv").set_index("defence")
    assert quick.rho_mean["pgd"] > 1.5 * quick.rho_mean["jsigr"]
    for one in (rows, quick):
        assert one.distance_mean["pgd"] < one.distance_mean["jsigr"]
    assert pd.read_csv(FIGURES / "quick" / "linear_region.csv").share_of_rho.max() < 0.005


def left_at_twice_the_budget(profile: str, architecture: str, source: str) -> list[str]:
    table = pd.read_csv(FIGURES / profile / "robustness.csv")
    asked = (table.source == source) & (table.source_defence == "standard") & (table.attack == "mi-fgsm")
    asked &= (table.architecture == architecture) & (table.norm == "linf") & (table.eps == 0.2)
    accuracy = table[asked].set_index("defence").accuracy
    return [f"{100 * accuracy[name]:.0f}" for name in ("jsigr", "pgd", "fast")]


def test_order_at_twice_the_budget_is_that_of_the_published_runs():
    text = " ".join(README.split())
    said = "J-SIGR leaves {} percent right, PGD training {}, fast {}.".format
    assert said(*left_at_twice_the_budget("full", "small-cnn", "mlp")) in text
    assert "it does not: {}, {} and {};".format(*left_at_twice_the_budget("full", "mlp", "vgg")) in text
    assert "PGD at eps 0.1): {}, {} and {}.".format(*left_at_twice_the_budget("quick", "small-cnn", "mlp")) in text


def test_comparisons_of_penalties_are_those_of_the_published_run():
    paid = pd.read_csv(PUBLISHED / "trade_offs.csv").set_index("defence")
    judged = published("judges").query("judge == 'AutoAttack'").set_index("defence").accuracy
    table = pd.read_csv(PUBLISHED / "robustness.csv")
    clean = table[table.threat == "clean"].set_index(["architecture", "defence"]).accuracy
    for architecture in load_profile("full").architectures:
        assert round(100 * (clean[architecture, "standard"] - clean[architecture, "jsigr"])) == 5
    for penalty in ("input-gradient", "jacobian", "sigr"):
        for accuracy in (paid.white_box, judged):
            assert accuracy["jsigr"] - accuracy[penalty] > 0.05
    points = 100 * (paid.loc["jsigr"] - paid.loc["jacobian"])[["clean", "transferred"]].astype(float)
    assert points.round().tolist() == [-1, 5]
    assert abs(paid.transferred["jsigr"] - paid.transferred["input-gradient"]) < 0.01


def of_run(profile: str, name: str) -> pd.DataFrame:
    return pd.read_csv(FIGURES / profile / f"{name}.csv", keep_default_na=False)


mnist, cifar = partial(of_run, "full-mnist"), partial(of_run, "full-cifar10")


def test_what_holds_on_mnist_is_what_its_run_found():
    text, table = " ".join(README.split()), mnist("contrasts")
    gains = table[(table.claim == "transfer") & (table.a == "jsigr")]
    assert f"gains {100 * gains.difference.min():.0f} to {100 * gains.difference.max():.0f} points" in text
    (unsure,) = gains[gains.outcome != "holds"].itertuples()
    assert (unsure.architecture, unsure.context, unsure.outcome) == ("small-cnn", "from mlp", "undecided")
    assert 0.045 < unsure.low < unsure.margin == 0.05
    of = table.set_index(["measure", "architecture", "b"]).outcome
    assert of["stability of the gradient map", "small-cnn", "pgd"] == "holds"
    assert of["agreement of the gradient map, clean", "mlp", "standard"] == "holds"
    assert of["stability of the gradient map", "mlp", "pgd"] == "fails"
    assert of["agreement of the gradient map, clean", "small-cnn", "standard"] == "fails"
    assert (table[table.claim == "at-transfer"].outcome == "fails").all()
    maps = mnist("interpretability").query("measure == 'agreement' and map == 'gradient' and input == 'attacked'")
    maps = maps.set_index(["architecture", "defence"])["mean"]
    assert "({:.2f} against {:.2f} on the small CNN)".format(*maps["small-cnn"][["fast", "standard"]]) in text
    assert maps["mlp", "fast"] < maps["mlp", "standard"]


def test_maps_on_mnist_are_as_its_run_found_them():
    text, asked = " ".join(README.split()), mnist("map_questions")
    better = asked.groupby(["question", "a"]).better.value_counts()
    won = better["Adversarial training or standard?"]
    pgd, fast = won["pgd, gradient"], won["fast, gradient"]
    said = (
        f"of {pgd.sum()} measures PGD training's maps beat the standard network's on {pgd['a']} and lose on {pgd['b']}"
    )
    assert f"{said}, fast training's beat them on {fast['a']} and lose on {fast['b']}." in text
    costly = better["J-SIGR's cheap map for the standard network's costly one?"]
    assert f"it wins {costly.xs('a', level='better').sum()} of {costly.sum()} measures beside the standard" in text
    own = better["J-SIGR's cheap map for its own costly one?"]
    assert "a" not in own.index.get_level_values("better") and "and none beside its own" in text


JUDGES = ("PGD, restarts", "Square", "AutoAttack")


def test_robustness_on_mnist_is_what_its_run_found():
    text, judges = " ".join(README.split()), mnist("judges").set_index(["defence", "judge"]).accuracy
    left = {name: [f"{100 * judges[name, one]:.0f}" for one in JUDGES] for name in ("pgd", "fast")}
    assert "leaves PGD training {} percent, Square {} and AutoAttack {}".format(*left["pgd"]) in text
    assert "fast training, at {}, {} and {}, stays the most robust".format(*left["fast"]) in text
    for judge in JUDGES:
        assert judges.xs(judge, level="judge").idxmax() == "fast"
    paid = mnist("trade_offs").set_index("defence")
    points = (100 * paid[["white_box", "transferred"]]).round().astype(int)
    left = [*points.white_box[["jacobian", "jsigr"]], *points.transferred[["sigr", "jsigr"]]]
    said = "alone leaves {} percent and J-SIGR {}, of attacks from the MLP SIGR alone leaves {} and J-SIGR {}."
    assert said.format(*left) in text
    distances = mnist("boundary_contrasts").set_index(["a", "b", "measure"]).high
    assert max(distances["jsigr", "pgd", measure] for measure in ("robustness", "distance")) < 0
    table = mnist("robustness").query("norm == 'linf' and source_defence in ('standard', '')")
    key = ["architecture", "defence"]
    clean = table[table.threat == "clean"].set_index(key).accuracy
    for architecture, source in (("small-cnn", "mlp"), ("small-cnn", "vgg"), ("mlp", "vgg")):
        attacked = table[(table.attack == "mi-fgsm") & (table.eps == 0.2) & (table.source == source)]
        attacked, whole = attacked.set_index(key).accuracy[architecture], clean[architecture]
        kept = (attacked["jsigr"] - attacked["standard"]) / (whole["standard"] - attacked["standard"])
        assert 0.3 < kept < 0.55
        assert whole["standard"] - whole["jsigr"] == pytest.approx(0.005, abs=0.001)


def test_robustness_on_cifar_is_what_its_run_found():
    text, table = " ".join(README.split()), cifar("robustness").query("norm == 'linf' or threat == 'clean'")
    table = table[table.source_defence.isin(["standard", ""])].set_index(["architecture", "defence"])
    clean = 100 * table[table.threat == "clean"].accuracy
    attacked = table[(table.attack == "mi-fgsm") & (table.eps == 0.0314)]
    vgg, small = (100 * attacked[attacked.source == source].accuracy for source in ("vgg", "small-cnn"))
    net = "resnet8-strided"
    left = [f"{vgg[net, name]:.0f}" for name in ("jsigr", "standard")]
    assert "it leaves {} percent right and the undefended network {}".format(*left) in text
    (left,) = {f"{small[net, name]:.0f}" for name in ("jsigr", "standard")}
    assert f"of those from the small CNN both {left};" in text
    left = [f"{source[net, name]:.0f}" for name in ("pgd", "fast") for source in (vgg, small)]
    assert "PGD training leaves {} and {}, fast {} and {}, for four and three points".format(*left) in text
    lost = {name: round(clean[net, "standard"] - clean[net, name]) for name in ("jsigr", "pgd", "fast")}
    assert lost == {"jsigr": 5, "pgd": 4, "fast": 3} and f"({clean[net, 'standard']:.0f} percent undefended" in text
    for accuracy, points in ((small, 8), (clean, 4)):
        assert round(accuracy["vgg", "jsigr"] - accuracy["vgg", "standard"]) == points
    left = 100 * cifar("judges").query("judge == 'AutoAttack'").set_index("defence").accuracy
    said = "AutoAttack leaves J-SIGR {:.1f} percent, PGD training {:.1f} and fast {:.1f}."
    assert said.format(*left[["jsigr", "pgd", "fast"]]) in text
    assert 0.5 < left["jsigr"] < 1.5  # all but a percent
    flagged = table[table["flags"] == "more effort helps"].attack
    assert sorted(zip(flagged.index, flagged, strict=True)) == [
        ((net, "fast"), "pgd"),
        ((net, "pgd"), "pgd"),
        ((net, "pgd"), "pgd-restarts"),
    ]


def test_the_abstracts_word_of_adversarial_training_on_cifar_depends_on_the_source():
    table = cifar("contrasts").query("claim == 'at-transfer' and a == 'standard'").set_index(["b", "context"])
    assert table.outcome.to_dict() == {
        ("pgd", "from vgg"): "holds",
        ("fast", "from vgg"): "undecided",
        ("pgd", "from small-cnn"): "fails",
        ("fast", "from small-cnn"): "fails",
    }


def test_maps_and_tangents_on_cifar_are_what_its_run_found():
    text, net = " ".join(README.split()), "resnet8-strided"
    table = cifar("contrasts").query("claim in ('imitation', 'interpretable')")
    of = table.set_index(["measure", "architecture", "b"]).outcome
    for measure in ("agreement of the gradient map, attacked", "stability of the gradient map"):
        assert of[measure, net, "pgd"] == of[measure, net, "fast"] == "fails"
    assert of["agreement of the gradient map, attacked", net, "standard"] == "fails"
    maps = cifar("interpretability").query("measure == 'agreement' and map == 'gradient' and input == 'attacked'")
    mean = maps.set_index(["architecture", "defence"])["mean"][net]
    assert "({:.2f} against {:.2f})".format(*mean[["jsigr", "standard"]]) in text
    assert {f"{mean[name]:.2f}" for name in ("pgd", "fast")} == {"0.48"} and "do better still (0.48)" in text
    rho = cifar("linearised_robustness").query("quantity == 'robustness'")
    rho = rho.set_index(["architecture", "defence"])["mean"]
    assert f"is {rho[net, 'jsigr'] / rho[net, 'standard']:.1f} times the standard network's" in text
    distances = cifar("boundary_contrasts").set_index(["a", "b", "measure"]).high
    assert max(distances["jsigr", "pgd", measure] for measure in ("robustness", "distance")) < 0
    ratio = cifar("boundary_distance").set_index(["architecture", "defence"]).ratio
    assert 1 < ratio[net, "jsigr"] < 1.04
    assert cifar("linear_region").share_of_rho.max() < 0.005


def test_maps_on_cifar_beat_and_lose_as_its_run_found():
    text, asked = " ".join(README.split()), cifar("map_questions")
    won = asked.groupby(["question", "a", "b"]).better.value_counts().unstack(fill_value=0)
    rivals = won.loc["Adversarial training or standard?"]
    assert "both beat the standard network's on 9 and lose on none" in text
    assert (set(rivals.a), set(rivals.b)) == ({9}, {0})
    own = won.loc["J-SIGR or adversarial training?", "jsigr, gradient"]
    pgd, fast = own.loc["pgd, gradient"], own.loc["fast, gradient"]
    said = "PGD training's win {} and lose {}, fast training's win {} and lose {}."
    assert said.format(pgd.b, pgd.a, fast.b, fast.a) in text


def test_budgets_of_adversarial_training_on_cifar_are_what_its_search_chose():
    table = cifar("search").query("split == 'validation' and threat == 'clean'").set_index("defence")
    whole = table.accuracy["standard"]
    for name, within in (("pgd", 0), ("fast", 1)):
        own = table.loc[name].set_index("weights")
        assert (whole - own.accuracy <= 0.06).sum() == within
        assert own.accuracy.idxmax() == "eps 2/255"
        assert "best" in own.chosen["eps 2/255"]


def test_latency_is_that_of_the_benchmark():
    rows = pd.read_csv(ROOT / "benchmarks" / "results" / "explorer.csv")
    text = " ".join(README.split())
    assert f"within {rows[rows.unit == 'ms']['median'].max() / 1000:.2f} seconds" in text
    assert f"`make lab` takes {rows[rows.wait.str.startswith('make lab')]['median'].item():.0f} seconds" in text


def test_pretrained_networks_are_used_as_the_readme_says():
    names = run("pretrained")
    assert names["maps"].shape == (8, 1, 28, 28) and (names["maps"].amax((1, 2, 3)) > 0).all()


def test_python_block_runs():
    names = run("JSIGR(lambda_j")
    assert names["mask"].shape == (32, 1, 28, 28)
    assert set(names["objective"].terms) == {"cross_entropy", "jacobian", "selective"}


def test_defence_of_the_readme_can_be_added(monkeypatch, tiny, study):
    monkeypatch.setattr(defences, "OBJECTIVES", dict(defences.OBJECTIVES))
    run("LabelSmoothing")
    (block,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    chosen = {name: study.profile.defences[name].model_dump() for name in ("standard", "jsigr")}
    settings = {"defences": chosen | tomllib.loads(block)["defences"], "surrogate_defences": [], "featured": []}
    extended = tiny(study.store.root, **settings)
    (network,) = extended.targets()["small-cnn", "smoothing"]
    assert extended.get(network).facts["history"][0]["cross_entropy"] > 0
    assert extended.labels["smoothing"] == "label smoothing"


@pytest.mark.parametrize("profile", sorted(path.name for path in FIGURES.iterdir() if path.is_dir()))
def test_published_files_are_the_ones_of_their_manifest(profile):
    manifest = json.loads((FIGURES / profile / "manifest.json").read_text())["sha256"]
    for name, sha in manifest.items():
        assert hashlib.sha256((FIGURES / profile / name).read_bytes()).hexdigest() == sha, name
