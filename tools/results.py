"""RESULTS.md: what the published runs found, every sentence and number from their tables. `make readme` writes it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import pandas as pd

from jsigr_lib.figures import claims as figures
from jsigr_lib.figures import plotting
from jsigr_lib.findings import claims, known_truth, related, saliency, theory, training, transfer, words
from jsigr_lib.findings.words import NOTHING, Labels, Text, listed, percent, span
from jsigr_lib.measure.attributions import MAPS
from jsigr_lib.records.markdown import plain
from jsigr_lib.site import summary
from jsigr_lib.site.page import Files
from jsigr_lib.store.paths import FIGURES
from jsigr_lib.study.config import load_profile

MAIN = "full"
PICTURE = "docs/verdicts.png"
BITES = 0.5  # at most this share of the undefended network's clean accuracy is left, as in the second protocol
JUDGES = {"PGD": "PGD-20", "PGD, restarts": "PGD, restarts", "AutoAttack": "AutoAttack"}
UNSEEN = (
    "The flags of this run compared only rows with as many seeds. AutoAttack judged one seed, so they hardly ever say "
    "where it leaves less than PGD: read them with the judges' paragraph above."
)
RIVAL = (
    "This run was not fair to PGD training: without a warm-up of its budget it learned nothing above eps 0.125, and "
    "was attacked at 0.2. With one it learns at 0.3 (D51 of [DEVIATIONS.md](DEVIATIONS.md)); the next run has it."
)
MEASURES = {
    "deletion gain": "clean",
    "insertion gain": "clean",
    "infidelity": "clean",
    "agreement": "clean",
    "stability": "both",
}


@dataclass(frozen=True)
class Run:
    """A published run: the profile as it ran, and its tables by name, empty where it has none. `verdict` maps the ids
    of claims to what is said of them on this run's own data."""

    name: str
    profile: Mapping
    table: Callable[[str], pd.DataFrame]

    @cached_property
    def card(self) -> pd.DataFrame:
        card = self.table("scorecard")
        return card[card.data == card.data.iloc[0]]

    @property
    def data(self) -> str:
        return str(plain(self.card.data.iloc[0]))

    @property
    def short(self) -> str:
        """The data without what is in parentheses."""
        return self.data.split(" (")[0]

    @property
    def verdict(self) -> dict[str, str]:
        return dict(zip(self.card.claim, self.card.verdict, strict=True))

    @property
    def labels(self) -> Labels:
        return {name: one["label"].replace("adv.", "adversarial") for name, one in self.profile["defences"].items()}

    @property
    def attack(self) -> str:
        return self.profile["transfer_attacks"][0]

    @property
    def eps(self) -> str:
        """0.1, or 8/255."""
        eps = self.profile["eps"]
        return f"{eps:g}" if round(eps, 3) == eps else f"{255 * eps:.0f}/255"

    @property
    def paid(self) -> dict[str, pd.Series]:
        return words.keyed(self.table("trade_offs"))

    @property
    def first_protocol(self) -> bool:
        """Whether any source decided, whatever its attack left of the undefended network."""
        return "role" not in self.table("contrasts")

    @property
    def sees(self) -> bool:
        """Whether its transferred attacks take enough for a defence to gain."""
        standard = self.paid["standard"]
        if self.first_protocol:
            return standard.transferred <= BITES * standard.clean
        return self.verdict.get("transfer", "not tested") != "not tested"


@cache
def published(name: str) -> Run:
    folder = FIGURES / name

    @cache
    def table(of: str) -> pd.DataFrame:
        path = folder / f"{of}.csv"
        return pd.read_csv(path, keep_default_na=False, na_values=["nan"]) if path.is_file() else pd.DataFrame()

    profile = json.loads((folder / "trade_offs.json").read_text(encoding="utf-8"))["figure"]["profile"]
    return Run(name, profile, table)


def runs() -> list[Run]:
    """The main run and its replications, where published."""
    names = [MAIN, *load_profile(MAIN).replications]
    return [published(name) for name in names if (FIGURES / name / "scorecard.csv").is_file()]


def protocol(found: list[Run]) -> str:
    """What a reader has to know of runs of the first protocol; nothing of later ones."""
    if not any(run.first_protocol for run in found):
        return ""
    blind = [run for run in found if run.first_protocol and not run.sees]
    old = [run for run in found if run.first_protocol]
    which = "These runs are" if len(old) == len(found) else f"What is said of {listed(run.short for run in old)} is"
    said = f"{which} of a first protocol; runs of a second, stricter one ([claims.toml](claims.toml)) will replace "
    said += "them."
    if not blind:
        return said
    left = listed(
        f"{100 * run.paid['standard'].transferred:.0f} of {percent(run.paid['standard'].clean)}"
        + (f" on {run.short}" if len(blind) > 1 else "")
        for run in blind
    )
    return (
        f"**On {listed(run.short for run in blind)}, “not supported” in a claim about transferred attacks means “not "
        f"tested”.** The attacks left the undefended network most of its accuracy ({left}): where little is lost, no "
        f"defence can gain. {said}"
    )


def picture() -> plotting.Described:
    """The verdicts of the latest published run of each data set."""
    fig, alt = figures.verdicts(summary.scorecard(FIGURES / MAIN))
    old = [run.short for run in runs() if run.first_protocol]
    if old:
        fig.supxlabel(f"{listed(old)}: of the first protocol", fontsize=8, color="#767676")
    return fig, alt


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def scorecard() -> str:
    card = summary.scorecard(FIGURES / MAIN)
    card = card[card.data.isin([run.data for run in runs()])]
    said = []
    for _, own in card.groupby("claim", sort=False):
        rows = [[row.data, f"**{row.verdict}**", row.n, row.evidence.replace("; ", "<br>")] for row in own.itertuples()]
        first = own.iloc[0]
        said.append(f"**{first.statement}** {first.caveat}\n\n" + table(["data", "verdict", "n", "what decides"], rows))
    return "\n\n".join(said)


def defences(run: Run) -> str:
    """Clean and transferred accuracy with flags, and what the judges leave of the same images."""
    clean = words.keyed(words.rows(words.first(run.table("robustness")), threat="clean"))
    attacked = transfer.from_undefended(words.first(run.table("robustness")), run.attack, run.profile["eps"])
    judged = words.first(run.table("judges")).set_index(["defence", "judge"]).accuracy
    rows = []
    for name, label in run.labels.items():
        if name in clean and name in attacked:
            left = [f"{judged[name, one]:.3f}" if (name, one) in judged else "" for one in JUDGES]
            row, of = clean[name], attacked[name]
            shown = f"{of.accuracy:.3f} [{of.low:.3f}, {of.high:.3f}]"
            rows.append([label, f"{row.accuracy:.3f}", shown, *left, of["flags"], str(row.seeds)])
    header = ["trained as", "clean", "transferred", *JUDGES.values(), "flags of the transferred number", "seeds"]
    source, images = next(iter(attacked.values())).source, next(iter(attacked.values())).images
    judged_images = span(run.table("judges").images, lambda n: f"{n:,}")
    note = (
        f"Transferred: {run.attack.upper()} made on the undefended {source}, eps {run.eps}, 95 % intervals. Clean and "
        f"transferred on {images:,} test images; the judges on {judged_images} of them, first seed."
    )
    return table(header, rows) + f"\n\n{note}"


def maps(run: Run) -> str:
    """Of every map its measures, on the standard network / on J-SIGR's."""
    of = words.first(run.table("interpretability")).set_index(["defence", "measure", "map", "input"])["mean"]
    rows = []
    for name, one in MAPS.items():
        asked = [[(net, measure, name, given) for net in ("standard", "jsigr")] for measure, given in MEASURES.items()]
        if all(key in of for pair in asked for key in pair):
            rows.append([one.label, *(" / ".join(f"{of[key]:.2f}" for key in pair) for pair in asked)])
    note = (
        "Standard network / J-SIGR network. A gain is over a random order of pixels, and higher is better; infidelity "
        "is better lower; agreement is the rank correlation with the exact perturbation map, stability that of the "
        "maps of the clean and the attacked image."
    )
    return table(["map", *MEASURES], rows) + f"\n\n{note}"


def findings(run: Run) -> Iterator[tuple[str, list[Text]]]:
    """Notebook -> what it found, as in the executed notebook where that is of this version."""
    of, labels, eps = run.table, run.labels, run.profile["eps"]
    yield (
        "01_theory",
        [
            theory.checks(of("theory_checks")),
            theory.boundary(of("boundary_distance"), of("boundary_contrasts"), labels),
            theory.region(of("linear_region"), labels),
        ],
    )
    fair = [RIVAL] if run.first_protocol and run.name == "full-mnist" else []
    yield (
        "02_training",
        [training.curves(of("training_history"), labels), training.matched(of("matched"), labels), *fair],
    )
    yield (
        "03_transfer_attacks",
        [
            transfer.sources(of("sources")),
            transfer.accuracy(of("robustness"), run.attack, eps, labels),
            transfer.matrix(of("robustness"), run.attack, eps, labels),
            transfer.ranking(of("robustness"), eps, labels),
            transfer.judges(of("judges"), labels),
            transfer.flags(of("flags")),
            *([UNSEEN] if run.first_protocol else []),
        ],
    )
    yield (
        "04_saliency",
        [
            saliency.agreement(of("interpretability"), labels),
            saliency.best_map(of("interpretability")),
            saliency.cheap_for_costly(of("map_questions")),
            saliency.adversarial(of("map_questions"), labels),
            saliency.cascade(of("map_cascade")),
            *([known_truth.on_the_truth(of("known_truth"), labels)] if len(of("known_truth")) else []),
        ],
    )
    yield "05_claims", [claims.gains(of("contrasts")), claims.trade_offs(of("trade_offs"), labels)]


def section(run: Run) -> str:
    p = run.profile
    setup = f"{p['train_images']:,} training images, {p['epochs']} epochs; {listed(p['architectures'])}."
    parts = [f"## {run.data}", setup, *([] if run.sees else [protocol([run])]), defences(run)]
    for notebook, texts in findings(run):
        told = [text.removeprefix("**What it shows.** ") for text in texts if NOTHING not in text]
        title = notebook[3:].replace("_", " ").capitalize()
        parts += [f"### {title} ([notebook](notebooks/executed/{run.name}/{notebook}.ipynb))", *told]
    parts += ["### Every map", maps(run), f"All figures and tables: [figures/{run.name}](figures/{run.name})."]
    return "\n\n".join(part for part in parts if part)


def neighbours() -> str:
    """Related work, rerun; nothing if that run is not published."""
    files = Files(FIGURES / related.RUN)
    if not files.folder.is_dir():
        return ""
    return f"## Related work, rerun\n\n{related.markdown(files.table, f'notebooks/executed/{related.RUN}/')}"


def page() -> str:
    """The whole of RESULTS.md."""
    found = runs()
    parts = [
        "<!-- Written by `make readme` from the published tables; do not edit. -->",
        "# Results",
        "What these runs measured, on small networks and small images. No number here is the paper's. Differences are "
        "paired, with 95 % intervals over images and seeds; margins were fixed before the results "
        "([claims.toml](claims.toml)). The weights of every defence were chosen by one rule on validation images; "
        "test images only report. “3.5” is a section of notebook 3; ρ̃ is linearised robustness, the distance to the "
        "boundary if the network were linear.",
        protocol(found),
        "## Claims",
        f"![The verdict on each claim, by data set]({PICTURE})",
        scorecard(),
        *map(section, found),
        neighbours(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
