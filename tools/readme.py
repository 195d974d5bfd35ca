"""Write the numbers of README.md and of benchmarks/README.md anew, from the tables of the published runs and of the
benchmarks: `make readme`.

A table is found by its header, and its rows are replaced. A sentence is found by its words, and its numbers are
replaced. Whoever rewords such a sentence rewords it here too, as its words are then not found.
"""

import ast
import re
import string
from collections.abc import Iterator
from functools import cache

import pandas as pd

from jsigr_lib.measure.attributions import MAPS
from jsigr_lib.site import summary
from jsigr_lib.store.paths import FIGURES, ROOT
from jsigr_lib.study.config import load_profile

PROFILE = load_profile("full")
PUBLISHED = FIGURES / PROFILE.name
BENCHMARKS = ROOT / "benchmarks" / "results"
OWN_LABELS = {"**J-SIGR** (q = .1, the default)": "J-SIGR, q = .1", "J-SIGR, L1 norm": "L1, .03 and 30"}
NUMBER = r"[-+]?[\d.,]*\d"

Sentence = tuple[str, list]
"""Words with a place "{:.2f}" for each number, and the numbers."""


@cache
def table(name: str, profile: str = "full") -> pd.DataFrame:
    """A table of a published run."""
    return pd.read_csv(FIGURES / profile / f"{name}.csv", keep_default_na=False, na_values=["nan"])


def first(name: str, profile: str = "full") -> pd.DataFrame:
    """The part of a table that is about the run's first architecture."""
    found = table(name, profile)
    return found[found.architecture == load_profile(profile).architectures[0]] if "architecture" in found else found


def benchmark(part: str) -> pd.DataFrame:
    return pd.read_csv(BENCHMARKS / f"{part}.csv")


# tables


def tested(card: pd.DataFrame) -> list[str]:
    """The data sets that a claim was tested on."""
    return list(dict.fromkeys(card[card.n != "none"].data))


def claims(text: str) -> str:
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
    return with_rows(text, f"claim | {' | '.join(tested(card))}", rows)


def defences(text: str) -> str:
    """Label, clean and transferred accuracy, what three judges leave of the same images, flags."""
    of = first("robustness").set_index("defence")
    clean = of[of.threat == "clean"]
    headline = {"threat": "transfer", "norm": "linf", "source": PROFILE.surrogates[0], "source_defence": "standard"}
    headline |= {"attack": PROFILE.transfer_attacks[0], "eps": PROFILE.eps}
    transfer = of[(of[list(headline)] == pd.Series(headline)).all(axis=1)]
    judges = first("judges").set_index(["defence", "judge"]).accuracy
    rows = []
    for name, defence in PROFILE.defences.items():
        accuracies = [clean.accuracy[name], transfer.accuracy[name]]
        accuracies += [judges[name, judge] for judge in ("PGD", "PGD, restarts", "AutoAttack")]
        label = f"**{defence.label}**" if name == "jsigr" else defence.label
        rows.append((label, *(f"{value:.3f}" for value in accuracies), transfer["flags"][name]))
    return with_rows(text, "trained as", rows)


def maps(text: str) -> str:
    """Title of the map; standard / J-SIGR for each of its measures."""
    mean = first("interpretability").set_index(["defence", "measure", "map", "input"])["mean"]
    left = first("map_cascade").query("layers == 4").set_index(["defence", "map"]).correlation
    measures = [("deletion gain", "clean"), ("insertion gain", "clean"), ("infidelity", "clean")]
    measures += [("agreement", "clean"), ("stability", "both")]
    rows = []
    for name in PROFILE.saliency_maps:
        values = [[mean[one, measure, name, given] for one in ("standard", "jsigr")] for measure, given in measures]
        values.append([left[one, name] for one in ("standard", "jsigr")])
        rows.append((MAPS[name].label, *(" / ".join(f"{value:.2f}" for value in pair) for pair in values)))
    return with_rows(text, "map", rows)


def costs(text: str) -> str:
    """Of the defences that the table names already: time, accuracies with their intervals, agreement."""
    of = benchmark("frontier").set_index("label")
    rows = []
    for label in re.findall(r"^\| (.+?) \|", under(text, "defence | time of a step"), flags=re.M):
        row = of.loc[OWN_LABELS.get(label, label)]
        attacked = [
            f"{row[one]:.3f} [{row[f'{one}_low']:.3f}, {row[f'{one}_high']:.3f}]" for one in ("transfer", "white_box")
        ]
        rows.append((label, f"{row.cost:.2f}", f"{row.clean:.3f}", *attacked, f"{row.agreement:.2f}"))
    return with_rows(text, "defence | time of a step", rows)


def under(text: str, header: str) -> str:
    """The rows of the table whose header begins so. Raises ValueError unless there is one."""
    found = re.findall(rf"^\| {re.escape(header)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, flags=re.M)
    if len(found) != 1:
        raise ValueError(f"README.md has {len(found)} tables with the header {header!r}; accepted: one")
    return found[0]


def with_rows(text: str, header: str, rows: list[tuple[str, ...]]) -> str:
    """The text with other rows in the table whose header begins so."""
    return text.replace(under(text, header), "".join(f"| {' | '.join(row)} |\n" for row in rows))


# sentences


def peers() -> Iterator[Sentence]:
    def both(part: str, *cases: str) -> list[float]:
        """Of each case the ratio for the small CNN and that for ResNet-8."""
        of = benchmark(part)
        ratio = of[of.attack == "PGD-20"] if part == "attacks" else of
        ratio = ratio.set_index(["case", "network"]).ratio
        return [ratio[case, network] for case in cases for network in ("small-cnn", "resnet8")]

    yield (
        "takes {:.1f} / {:.1f} standard steps where J-SIGR on all images takes {:.1f} / {:.1f}.",
        both("steps", "naive J-SIGR (jacobian_regularizer + double backprop)", "J-SIGR, q = 1"),
    )
    yield (
        "PGD-20 takes {:.2f} / {:.2f} times the gradient passes that it cannot do without "
        "(torchattacks {:.2f} / {:.2f}, Foolbox {:.2f} / {:.2f}, ART {:.2f} / {:.2f}; "
        "those two {:.2f} / {:.2f} and {:.2f} / {:.2f} once",
        both("attacks", *("jsigr_lib", "torchattacks", "Foolbox", "ART"))
        + both("attacks", "Foolbox, frozen parameters", "ART, frozen parameters"),
    )
    yield (
        "An exact perturbation map takes {:.2f} / {:.2f} times its bare forward passes "
        "(Captum Occlusion {:.2f} / {:.2f})",
        both("maps", "jsigr_lib, exact", "Captum Occlusion, 1 at once"),
    )
    ours = benchmark("strength").ours.value_counts()
    counts = [ours.get(verdict, 0) for verdict in ("equal", "stronger", "weaker")]
    yield "of {:d} comparisons {:d} equal, {:d} stronger, {:d} weaker", [sum(counts), *counts]
    yield "[{:d} more kills](benchmarks/results/kills.csv)", [len(benchmark("kills"))]
    waits = benchmark("explorer")
    yield "the picture follows a slider within {:.2f} seconds", [waits[waits.unit == "ms"]["median"].max() / 1000]
    yield "`make lab` takes {:.0f} seconds", [waits[waits.wait.str.startswith("make lab")]["median"].item()]


def architectures() -> Iterator[Sentence]:
    """How many the tests know."""
    body = ast.parse((ROOT / "tests" / "method" / "test_architectures.py").read_text(encoding="utf-8")).body
    tables = [one.value for one in body if isinstance(one, ast.Assign) and one.targets[0].id in ("QUICK", "SLOW")]
    yield "tested are {:d} architectures in both modes", [sum(len(one.keys) for one in tables)]


def costs_of_networks() -> Iterator[Sentence]:
    """Of benchmarks/README.md."""
    of = benchmark("costs").set_index("network")
    lstm, others = of.loc["LSTM"], of.drop("LSTM")
    yield (
        "takes {:.2f} to {:.2f} standard steps, by plain double backprop {:.2f} to {:.2f};",
        [others.default.min(), others.default.max(), others.double_backprop.min(), others.double_backprop.max()],
    )
    yield "on the LSTM {:.2f}, and {:.2f}.", [lstm.default, lstm.double_backprop]


def twice_the_budget(profile: str, architecture: str, source: str) -> list[float]:
    """Percent that J-SIGR, PGD and fast training leave of attacks from an undefended source."""
    of = table("robustness", profile)
    asked = (of.source == source) & (of.source_defence == "standard") & (of.attack == "mi-fgsm")
    asked &= (of.architecture == architecture) & (of.norm == "linf") & (of.eps == 0.2)
    return list(100 * of[asked].set_index("defence").accuracy[["jsigr", "pgd", "fast"]])


def fashion_mnist() -> Iterator[Sentence]:
    yield (
        "J-SIGR leaves {:.0f} percent right, PGD training {:.0f}, fast {:.0f}.",
        twice_the_budget("full", "small-cnn", "mlp"),
    )
    yield "it does not: {:.0f}, {:.0f} and {:.0f};", twice_the_budget("full", "mlp", "vgg")
    yield "PGD at eps 0.1): {:.0f}, {:.0f} and {:.0f}.", twice_the_budget("quick", "small-cnn", "mlp")
    ratio = first("boundary_distance").set_index("defence").ratio
    yield (
        "It is {:.2f} times the measured distance to the boundary for the standard network, "
        "{:.2f} times for J-SIGR, and {:.2f} times for PGD training",
        list(ratio[["standard", "jsigr", "pgd"]]),
    )


def mnist() -> Iterator[Sentence]:
    of = table("contrasts", "full-mnist")
    gains = 100 * of[(of.claim == "transfer") & (of.a == "jsigr")].difference
    yield "gains {:.0f} to {:.0f} points", [gains.min(), gains.max()]
    agreement = attacked_agreement("full-mnist")["small-cnn"]
    yield "({:.2f} against {:.2f} on the small CNN)", list(agreement[["fast", "standard"]])
    better = table("map_questions", "full-mnist").groupby(["question", "a"]).better.value_counts()
    won = better["Adversarial training or standard?"].unstack(fill_value=0)
    pgd, fast = won.loc["pgd, gradient"], won.loc["fast, gradient"]
    yield (
        "of {:d} measures PGD training's maps beat the standard network's on {:d} and lose on {:d}, "
        "fast training's beat them on {:d} and lose on {:d}.",
        [pgd.sum(), pgd.a, pgd.b, fast.a, fast.b],
    )
    costly = better["J-SIGR's cheap map for the standard network's costly one?"]
    yield "it wins {:d} of {:d} measures beside the standard", [costly.xs("a", level="better").sum(), costly.sum()]
    left = table("robustness", "full-mnist").query("attack in ['pgd-restarts', 'autoattack'] and norm == 'linf'")
    left = 100 * left.set_index(["architecture", "defence", "attack"]).accuracy
    cnn, mlp = left["small-cnn"], left["mlp"]
    yield (
        "it leaves PGD training {:.0f} percent and AutoAttack {:.0f}, fast training {:.0f} and {:.0f}; "
        "on the MLP it leaves fast training {:.0f} and AutoAttack {:.0f}, fewer than J-SIGR's {:.0f} and the "
        "Jacobian penalty's {:.0f}",
        [cnn[name, judge] for name in ("pgd", "fast") for judge in ("pgd-restarts", "autoattack")]
        + [*mlp["fast"][["pgd-restarts", "autoattack"]], mlp["jsigr", "autoattack"], mlp["jacobian", "autoattack"]],
    )
    paid = 100 * table("trade_offs", "full-mnist").set_index("defence")[["white_box", "transferred"]].astype(float)
    yield (
        "alone leaves {:.0f} percent and J-SIGR {:.0f}, "
        "of attacks from the MLP SIGR alone leaves {:.0f} and J-SIGR {:.0f}.",
        [*paid.white_box[["jacobian", "jsigr"]], *paid.transferred[["sigr", "jsigr"]]],
    )


def attacked_agreement(profile: str) -> pd.Series:
    """(architecture, defence) -> how far the gradient maps of attacked images agree with the perturbation maps."""
    of = table("interpretability", profile).query(
        "measure == 'agreement' and map == 'gradient' and input == 'attacked'"
    )
    return of.set_index(["architecture", "defence"])["mean"]


def cifar() -> Iterator[Sentence]:
    net, of = "resnet8-strided", table("robustness", "full-cifar10").query("norm == 'linf' or threat == 'clean'")
    of = of[of.source_defence.isin(["standard", ""])].set_index(["architecture", "defence"])
    attacked = of[(of.attack == "mi-fgsm") & (of.eps == 0.0314)]
    vgg, small = (100 * attacked[attacked.source == source].accuracy[net] for source in ("vgg", "small-cnn"))
    yield (
        "it leaves {:.0f} percent right and the undefended network {:.0f}, of those from the small CNN both {:.0f};",
        [vgg["jsigr"], vgg["standard"], small["jsigr"]],
    )
    yield (
        "PGD training leaves {:.0f} and {:.0f}, fast {:.0f} and {:.0f}, for four and three points",
        [vgg["pgd"], small["pgd"], vgg["fast"], small["fast"]],
    )
    yield "({:.0f} percent undefended", [100 * of[of.threat == "clean"].accuracy[net, "standard"]]
    left = 100 * table("judges", "full-cifar10").query("judge == 'AutoAttack'").set_index("defence").accuracy
    yield (
        "AutoAttack leaves J-SIGR {:.1f} percent, PGD training {:.1f} and fast {:.1f}.",
        list(left[["jsigr", "pgd", "fast"]]),
    )
    agreement = attacked_agreement("full-cifar10")[net]
    yield "({:.2f} against {:.2f}), not by the margin", list(agreement[["jsigr", "standard"]])
    yield "do better still ({:.2f})", [agreement["pgd"]]
    rho = table("linearised_robustness", "full-cifar10").query("quantity == 'robustness'")
    rho = rho.set_index(["architecture", "defence"])["mean"].astype(float)[net]
    yield "is {:.1f} times the standard network's", [rho["jsigr"] / rho["standard"]]
    won = table("map_questions", "full-cifar10").groupby(["question", "a", "b"]).better.value_counts()
    won = won.unstack(fill_value=0)
    yield (
        "both beat the standard network's on {:d} and lose on none",
        [won.loc["Adversarial training or standard?"].a.iloc[0]],
    )
    own = won.loc["J-SIGR or adversarial training?", "jsigr, gradient"]
    pgd, fast = own.loc["pgd, gradient"], own.loc["fast, gradient"]
    yield (
        "PGD training's win {:d} and lose {:d}, fast training's win {:d} and lose {:d}.",
        [pgd.b, pgd.a, fast.b, fast.a],
    )


def with_numbers(text: str, sentence: Sentence) -> str:
    """The text with these numbers in the one place that has these words, however its lines are broken. Raises
    ValueError if there is none, or more than one."""
    words, numbers = sentence
    parts = [(literal, spec) for literal, _, spec, _ in string.Formatter().parse(words)]
    literals = [re.sub(r"(\\ )+", r"\\s+", re.escape(literal)) for literal, _ in parts]
    ends_in_words = parts[-1][1] is None
    pattern = NUMBER.join(f"({literal})" for literal in literals) + ("" if ends_in_words else NUMBER)
    found = list(re.finditer(pattern, text))
    if len(found) != 1:
        raise ValueError(f"{words!r} is there {len(found)} times; accepted: once")
    values = [format(value, spec) for value, (_, spec) in zip(numbers, parts[: len(numbers)], strict=True)]
    new = "".join(piece + value for piece, value in zip(found[0].groups(), [*values, ""], strict=False))
    return text[: found[0].start()] + new + text[found[0].end() :]


def current_benchmarks(text: str) -> str:
    """benchmarks/README.md as it should be."""
    for sentence in costs_of_networks():
        text = with_numbers(text, sentence)
    return text


def current(text: str) -> str:
    """README.md as it should be."""
    for part in (claims, defences, maps, costs):
        text = part(text)
    for part in (peers, architectures, fashion_mnist, mnist, cifar):
        for sentence in part():
            text = with_numbers(text, sentence)
    return text


if __name__ == "__main__":
    for path, written in ((ROOT / "README.md", current), (BENCHMARKS.parent / "README.md", current_benchmarks)):
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
