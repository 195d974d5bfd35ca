"""The README says what the published runs say, and its code runs.

Its numbers are written by tools/readme.py. The tests here hold what it says in words.
"""

import hashlib
import json
import re
import sys
import tomllib
from functools import partial

import pandas as pd
import pytest

from jsigr_lib.method import defences
from jsigr_lib.method.registry import Registry
from jsigr_lib.records import record
from jsigr_lib.site import summary
from jsigr_lib.store import sources
from jsigr_lib.store.paths import FIGURES, ROOT
from jsigr_lib.study.config import load_profile

sys.path.insert(0, str(ROOT / "tools"))
import readme

README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLISHED = FIGURES / "full"


def test_every_number_is_that_of_its_table():
    """If this fails, `make readme` writes the numbers anew."""
    assert readme.current(README) == README
    benchmarks = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert readme.current_benchmarks(benchmarks) == benchmarks


@pytest.mark.parametrize(
    "part", [readme.peers, readme.costs_of_networks, readme.fashion_mnist, readme.mnist, readme.cifar]
)
def test_a_wrong_number_is_written_anew(part):
    for words, numbers in part():
        wrong = words.format(*([0] * len(numbers))) if "{}" in words else words.format(*(9 * n for n in numbers))
        right = words.format(*numbers)
        found = readme.with_numbers(f"Before, {wrong}\nand after.", (words, numbers))
        assert found == f"Before, {right}\nand after." and wrong != right


@pytest.mark.parametrize("text", ["It was 0.5.", "It is 0.5. It is 0.6.", "It is half."])
def test_a_sentence_that_is_not_there_once_is_named(text):
    with pytest.raises(ValueError, match=r"'It is \{:.1f\}' is there [02] times; accepted: once"):
        readme.with_numbers(text, ("It is {:.1f}", [1]))


def test_a_wrong_row_is_written_anew():
    row = next(line for line in README.splitlines() if line.startswith("| SIGR |"))
    changed = README.replace(row, re.sub(r"\d", "0", row))
    assert changed != README and readme.current(changed) == README
    with pytest.raises(ValueError, match=r"README\.md has 0 tables with the header 'trained as'"):
        readme.defences(README.replace("trained as", "called"))


def test_kills_lost_nothing():
    kills = pd.read_csv(ROOT / "benchmarks" / "results" / "kills.csv")
    assert kills.kill.tolist() == list(range(1, len(kills) + 1)) and kills.intact.all() and not kills.orphans.any()


def test_the_published_notebook_5_judges_every_claim_on_all_data():
    """What the README merges with the replications' own scorecards is what the run itself has found."""
    own = pd.read_csv(PUBLISHED / "scorecard.csv", dtype=str, keep_default_na=False)
    card = summary.scorecard(PUBLISHED)
    assert own.equals(card)
    assert "not tested" not in set(own.verdict)
    assert set(card.data) == set(readme.tested(card))


def test_every_link_and_picture_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def block(what: str, language: str = "python") -> str:
    """The one block that says `what`."""
    (found,) = [one for one in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if what in one]
    return found


def run(what: str) -> dict:
    """Executes a Python block; the names that it leaves."""
    names: dict = {}
    exec(compile(block(what), "README.md", "exec"), names)
    return names


def published(name: str) -> pd.DataFrame:
    """A table of the published run, of the small CNN."""
    table = pd.read_csv(PUBLISHED / f"{name}.csv")
    return table[table.architecture == "small-cnn"] if "architecture" in table else table


def test_tables_have_a_row_per_defence_and_per_map():
    rows = {
        header: readme.under(README, header).count("\n") for header in ("trained as", "map", "defence | time of a step")
    }
    assert rows["trained as"] == len(load_profile("full").defences)
    assert rows["map"] == len(load_profile("full").saliency_maps)
    assert rows["defence | time of a step"] >= 8


def test_distances_rank_as_the_published_runs_found():
    rows = published("boundary_distance").set_index("defence")
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
    table = mnist("contrasts")
    gains = table[(table.claim == "transfer") & (table.a == "jsigr")]
    (unsure,) = gains[gains.outcome != "holds"].itertuples()
    assert (unsure.architecture, unsure.context, unsure.outcome) == ("small-cnn", "from mlp", "undecided")
    assert 0.045 < unsure.low < unsure.margin == 0.05
    of = table.set_index(["measure", "architecture", "b"]).outcome
    assert of["stability of the gradient map", "small-cnn", "pgd"] == "holds"
    assert of["agreement of the gradient map, clean", "mlp", "standard"] == "holds"
    assert of["stability of the gradient map", "mlp", "pgd"] == "fails"
    assert of["agreement of the gradient map, clean", "small-cnn", "standard"] == "fails"
    assert (table[table.claim == "at-transfer"].outcome == "fails").all()
    agreement = readme.attacked_agreement("full-mnist")
    for architecture in ("small-cnn", "mlp"):
        assert agreement[architecture, "fast"] < agreement[architecture, "standard"]


def test_on_mnist_the_cheap_map_wins_nothing_beside_its_own_costly_one():
    asked = mnist("map_questions").query('question == "J-SIGR\'s cheap map for its own costly one?"')
    assert len(asked) and "a" not in set(asked.better)


JUDGES = ("PGD, restarts", "Square", "AutoAttack")


def test_robustness_on_mnist_is_what_its_run_found():
    judges = mnist("judges").set_index(["defence", "judge"]).accuracy
    for judge in JUDGES:
        assert judges.xs(judge, level="judge").idxmax() == "fast"
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
    table = cifar("robustness").query("norm == 'linf' or threat == 'clean'")
    table = table[table.source_defence.isin(["standard", ""])].set_index(["architecture", "defence"])
    clean = 100 * table[table.threat == "clean"].accuracy
    attacked = table[(table.attack == "mi-fgsm") & (table.eps == 0.0314) & (table.source == "small-cnn")]
    small, net = 100 * attacked.accuracy, "resnet8-strided"
    assert f"{small[net, 'jsigr']:.0f}" == f"{small[net, 'standard']:.0f}"  # "both"
    lost = {name: round(clean[net, "standard"] - clean[net, name]) for name in ("jsigr", "pgd", "fast")}
    assert lost == {"jsigr": 5, "pgd": 4, "fast": 3}
    for accuracy, points in ((small, 8), (clean, 4)):
        assert round(accuracy["vgg", "jsigr"] - accuracy["vgg", "standard"]) == points
    left = cifar("judges").query("judge == 'AutoAttack'").set_index("defence").accuracy
    assert 0.005 < left["jsigr"] < 0.015  # all but a percent
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
    net = "resnet8-strided"
    table = cifar("contrasts").query("claim in ('imitation', 'interpretable')")
    of = table.set_index(["measure", "architecture", "b"]).outcome
    for measure in ("agreement of the gradient map, attacked", "stability of the gradient map"):
        assert of[measure, net, "pgd"] == of[measure, net, "fast"] == "fails"
    assert of["agreement of the gradient map, attacked", net, "standard"] == "fails"
    agreement = readme.attacked_agreement("full-cifar10")[net]
    assert f"{agreement['pgd']:.2f}" == f"{agreement['fast']:.2f}"  # one number is said of the two
    distances = cifar("boundary_contrasts").set_index(["a", "b", "measure"]).high
    assert max(distances["jsigr", "pgd", measure] for measure in ("robustness", "distance")) < 0
    ratio = cifar("boundary_distance").set_index(["architecture", "defence"]).ratio
    assert 1 < ratio[net, "jsigr"] < 1.04
    assert cifar("linear_region").share_of_rho.max() < 0.005


def test_on_cifar_both_trainings_beat_the_standard_maps_alike():
    asked = cifar("map_questions").query("question == 'Adversarial training or standard?'")
    won = (asked.better == "a").groupby(asked.a).sum()
    assert len(won) == 2 and won.nunique() == 1 and "b" not in set(asked.better)


def test_budgets_of_adversarial_training_on_cifar_are_what_its_search_chose():
    table = cifar("search").query("split == 'validation' and threat == 'clean'").set_index("defence")
    whole = table.accuracy["standard"]
    for name, within in (("pgd", 0), ("fast", 1)):
        own = table.loc[name].set_index("weights")
        assert (whole - own.accuracy <= 0.06).sum() == within
        assert own.accuracy.idxmax() == "eps 2/255"
        assert "best" in own.chosen["eps 2/255"]


def test_pretrained_networks_are_used_as_the_readme_says():
    names = run("pretrained")
    assert names["maps"].shape == (8, 1, 28, 28) and (names["maps"].amax((1, 2, 3)) > 0).all()


def test_python_block_runs():
    names = run("JSIGR(lambda_j")
    assert names["mask"].shape == (32, 1, 28, 28)
    assert set(names["objective"].terms) == {"cross_entropy", "jacobian", "selective"}


def test_defence_of_the_readme_can_be_added(monkeypatch, tmp_path, tiny, study):
    """As a module beside it, that two worker processes import as well."""
    monkeypatch.setattr(defences, "OBJECTIVES", Registry(defences.OBJECTIVES))
    monkeypatch.setattr(sources, "OWN", {})
    monkeypatch.setattr(sources, "READ", dict(sources.READ))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_defences.py").write_text(block("LabelSmoothing"))
    chosen = {name: study.profile.defences[name].model_dump() for name in ("standard", "jsigr")}
    said = tomllib.loads(block("smoothing", "toml"))
    settings = {**said, "defences": chosen | said["defences"], "surrogate_defences": [], "featured": []}
    extended = tiny(study.store.root, seeds=[0, 1], jobs=2, **settings)
    networks = extended.targets()["small-cnn", "smoothing"]
    extended.make(networks)
    for network in networks:
        assert extended.get(network).facts["history"][0]["cross_entropy"] > 0
        assert "my_defences" in network.code.files
    assert extended.labels["smoothing"] == "label smoothing"
    assert list(record.running_code().own) == ["my_defences"]


@pytest.mark.parametrize("profile", sorted(path.name for path in FIGURES.iterdir() if path.is_dir()))
def test_published_files_are_the_ones_of_their_manifest(profile):
    manifest = json.loads((FIGURES / profile / "manifest.json").read_text())["sha256"]
    for name, sha in manifest.items():
        assert hashlib.sha256((FIGURES / profile / name).read_bytes()).hexdigest() == sha, name
