"""Write the numbers of the notebooks' texts anew, from the tables of the published full run: `make readme`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from readme import Sentence, first, table, twice_the_budget, with_numbers

from jsigr_lib.store.paths import NOTEBOOKS

PENALTIES = ["input-gradient", "jacobian", "sigr", "jsigr"]
ADVERSARIAL = ["pgd", "fast"]
RATIO = ["ratio", "ratio_low", "ratio_high"]
DIFFERENCE = ["difference", "low", "high"]


def ends(values: pd.Series) -> list[float]:
    return [values.min(), values.max()]


def theory() -> Iterator[Sentence]:
    of = first("boundary_distance").set_index("defence")
    yield (
        "{:.2f} times the measured distance for the standard network, {:.2f} to {:.2f} times for the penalties, "
        "{:.2f} [{:.2f}, {:.2f}] for J-SIGR",
        [of.ratio["standard"], *ends(of.ratio[PENALTIES]), *of.loc["jsigr", RATIO]],
    )
    yield (
        "promises {:.1f} to {:.1f} times what is there, {:.2f} [{:.2f}, {:.2f}] for PGD-7",
        [*ends(of.ratio[ADVERSARIAL]), *of.loc["pgd", RATIO]],
    )
    ratio = table("boundary_distance").query("architecture == 'mlp'").set_index("defence").ratio
    yield (
        "{:.2f} to {:.2f} times without adversarial training, {:.2f} times with it",
        [*ends(ratio.drop(ADVERSARIAL)), ratio["pgd"]],
    )
    of = first("boundary_contrasts").set_index(["b", "measure"])[DIFFERENCE]
    ahead, behind, boxed = (of.loc["pgd", measure] for measure in ("robustness", "distance", "boxed"))
    yield (
        "By ρ̃, PGD-7 training is ahead of J-SIGR by {:.2f} [{:.2f}, {:.2f}]; "
        "by the measured distance, on the same images, it is *behind* by {:.2f} [{:.2f}, {:.2f}], "
        "and by {:.2f} [{:.2f}, {:.2f}] within [0, 1].",
        [-ahead.difference, -ahead.high, -ahead.low, *behind, *boxed],
    )
    yield (
        "{:.2f} [{:.2f}, {:.2f}] above the standard network's, where ρ̃ said {:.2f}.",
        [*of.loc["standard", "distance"], of.difference["standard", "robustness"]],
    )
    yield "{:.0f} to {:.0f} percent of the ReLUs", ends(100 * table("linear_region").flipped)
    end = first("training_history")
    end = end[end.epoch == end.epoch.max()].set_index("defence").apply(pd.to_numeric, errors="coerce")
    old, new = end.loc["standard"], end.loc["jsigr"]
    quotient, robust = end.margin / (2 * end.jacobian_norm) ** 0.5, end.robust_accuracy
    yield (
        "falls from {:.0f} to {:.0f}, the margin from {:.1f} to {:.1f}, so that the quotient rises from {} to {}, "
        "and robust accuracy from {} to {}.",
        [old.jacobian_norm, new.jacobian_norm, old.margin, new.margin]
        + [short(of[name]) for of in (quotient, robust) for name in ("standard", "jsigr")],
    )
    yield "the larger one, {}, and {} robust accuracy", [short(quotient["jacobian"]), short(robust["jacobian"])]
    yield "the smaller one, {}, and {}.", [short(quotient["pgd"]), short(robust["pgd"])]


def short(fraction: float) -> str:
    """.31"""
    return f"{fraction:.2f}".removeprefix("0")


def transfer_attacks() -> Iterator[Sentence]:
    yield (
        "J-SIGR leaves {:.0f} percent of the MLP's attacks right, "
        "PGD-7 training {:.0f} and fast adversarial training {:.0f};",
        twice_the_budget("full", "small-cnn", "mlp"),
    )
    yield "it does not: {:.0f}, {:.0f} and {:.0f}.", twice_the_budget("full", "mlp", "vgg")


def saliency() -> Iterator[Sentence]:
    won, lost, rows = counts("jsigr, gradient", "standard, perturbation")
    yield "it wins {:d} of {:d} rows and loses {:d}.", [won, rows, lost]
    _, lost, rows = counts("jsigr, gradient", "jsigr, perturbation")
    yield "it wins infidelity only, and loses {:d} rows of {:d}:", [lost, rows]
    (pgd, _, rows), (fast, _, _) = (counts(f"{name}, gradient", "standard, gradient") for name in ADVERSARIAL)
    yield (
        "Of {:d} rows, the gradient maps of PGD training beat the standard network's on {:d}, "
        "those of fast adversarial training on {:d}, and neither loses one.",
        [rows, pgd, fast],
    )
    yield "it depends on the measure, {:d} rows to {:d}:", [*counts("jsigr, gradient", "pgd, gradient")[:2]]
    yield "J-SIGR wins {:d} rows and loses {:d}.", [*counts("jsigr, gradient", "fast, gradient")[:2]]


def counts(a: str, b: str) -> tuple[int, int, int]:
    """Of two maps: on how many rows each is better, and how many there are."""
    better = first("map_questions").query("a == @a and b == @b").better
    return (better == "a").sum(), (better == "b").sum(), len(better)


STORIES = {"01_theory": theory, "03_transfer_attacks": transfer_attacks, "04_saliency": saliency}


def current(name: str, content: str) -> str:
    """The notebook as it should be."""
    notebook = json.loads(content)
    for sentence in STORIES[name]():
        told = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown" and holds(cell, sentence)]
        if len(told) != 1:
            raise ValueError(f"{name}: {sentence[0]!r} is in {len(told)} cells; accepted: in one")
        told[0]["source"] = with_numbers("".join(told[0]["source"]), sentence).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def holds(cell: dict, sentence: Sentence) -> bool:
    try:
        return bool(with_numbers("".join(cell["source"]), sentence))
    except ValueError:
        return False


def path(name: str) -> Path:
    return NOTEBOOKS / f"{name}.ipynb"


if __name__ == "__main__":
    for name in STORIES:
        path(name).write_text(current(name, path(name).read_text(encoding="utf-8")), encoding="utf-8")
