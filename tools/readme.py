"""Write RESULTS.md, and the generated blocks of README.md, benchmarks/README.md and docs/rerun.md, from the tables of
the published runs and of the benchmarks: `make readme`.

A block stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. Its words are chosen by what the numbers are.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial

import costs
import pandas as pd
import results
from results import Run

from jsigr_lib.findings import words
from jsigr_lib.findings.transfer import TRAINED_ON_ATTACKS
from jsigr_lib.findings.words import begin, count, listed, number, percent, points, share
from jsigr_lib.store.paths import ROOT

PENALTIES = ["input-gradient", "jacobian", "sigr"]


def on(runs: Iterable[Run]) -> str:
    return f"on {listed(run.short for run in runs)}"


def transferred(run: Run) -> dict[str, pd.Series]:
    """Defence -> accuracy, low, high, images and seeds under transferred attacks."""
    names = {f"transferred{end}": of for end, of in (("", "accuracy"), ("_low", "low"), ("_high", "high"))}
    return {one: row.rename(names) for one, row in run.paid.items()}


def white_box(run: Run) -> dict[str, pd.Series]:
    """The same under AutoAttack, on the first seed; empty where it was not run."""
    return words.keyed(words.rows(words.first(run.table("judges")), judge="AutoAttack"))


def from_each(run: Run) -> list[dict[str, pd.Series]]:
    """The same by each undefended source that votes; empty in a run of the first protocol, which has one source."""
    if run.first_protocol:
        return []
    votes = words.first(run.table("sources")).query("votes").source
    asked = {"threat": "transfer", "source_defence": "standard", "attack": run.attack, "norm": "linf"}
    found = words.rows(words.first(run.table("robustness")), **asked, eps=round(run.profile["eps"], 4))
    return [words.keyed(words.rows(found, source=source)) for source in votes]


def leaves_more(run: Run, a: str, b: str) -> bool:
    """Whether a's interval under transferred attacks lies wholly above b's: over all sources, or from each of them, as
    both are attacked through the same ones."""
    each = from_each(run)
    return above(transferred(run), a, b) or (bool(each) and all(above(one, a, b) for one in each))


def above(left: dict[str, pd.Series], a: str, b: str) -> bool:
    """Whether one interval lies wholly above the other."""
    return a in left and b in left and left[a].low > left[b].high


# does it work


def picture() -> str:
    return f"[![The verdict on each claim, by data set]({results.PICTURE})](RESULTS.md)"


def result(run: Run) -> str:
    """One line: what is left right by J-SIGR, without a defence and by the best training on attacks."""
    left = transferred(run) if run.sees else white_box(run)
    start = f"- **{run.data}**, eps {run.eps}: " + ("" if run.sees else "transferred attacks not tested. ")
    paid = run.paid
    clean = f"of clean images {percent(paid['jsigr'].clean)} instead of {percent(paid['standard'].clean)}"
    if not {"jsigr", "standard"} <= left.keys():
        return f"{start}J-SIGR gets {clean} right."
    best = max((one for one in TRAINED_ON_ATTACKS if one in left), key=lambda one: left[one].accuracy, default=None)
    asked = {"jsigr": "J-SIGR", "standard": "no defence"} | ({best: run.labels[best]} if best else {})
    on_what = "another network" if run.first_protocol else "other networks"
    attack = f"{run.attack.upper()} attacks made on {on_what}" if run.sees else "AutoAttack, white-box,"
    said = listed(f"{label} {share(left[one])}" for one, label in asked.items())
    n = f"{left['standard'].images:,} images, {_seeds(left[one].seeds for one in asked)}"
    return f"{start}{begin(attack)} leave{'' if run.sees else 's'} right: {said} ({n}); {clean}."


def _seeds(seeds: Iterable[int]) -> str:
    span = words.span(seeds, lambda n: f"{n:.0f}")
    return f"{span} seed{'' if span == '1' else 's'}"


def works(runs: list[Run]) -> str:
    lines = "\n".join(result(run) for run in runs)
    note = results.protocol(runs)
    return "\n\n".join(part for part in (note, picture(), lines) if part)


# should I use it


def gains(run: Run) -> bool:
    """Whether J-SIGR clearly gains under transferred attacks: by the paired verdict, or in a run of the first protocol
    by intervals that lie apart."""
    if run.first_protocol:
        return above(transferred(run), "jsigr", "standard")
    return run.verdict["transfer"] == "supported"


def gain(runs: list[Run], cost: float) -> str:
    """Transferred attacks, beside no defence."""
    seen, blind = [run for run in runs if run.sees], [run for run in runs if not run.sees]
    won = [run for run in seen if gains(run)]
    rest = [run for run in seen if run not in won]
    gained = [
        f"{points(run.paid['jsigr'].transferred - run.paid['standard'].transferred)} {on([run])}, for {_lost(run)} of "
        "clean accuracy"
        for run in won
    ]
    said = [
        f"For {number(cost)} standard steps it leaves more right under transferred attacks: {'; '.join(gained)}."
        if won
        else "",
        f"It gains nothing that is clear {on(rest)}." if rest else "",
        f"{begin(on(blind))} this is not tested; it costs {listed(map(_lost, blind))}." if blind else "",
    ]
    lead = "Yes, as a cheap defence" if won else "Not for transferred attacks" if seen else "Nobody knows yet"
    return " ".join([f"- **{lead}.**", *(one for one in said if one)])


def _lost(run: Run) -> str:
    return points(max(run.paid["standard"].clean - run.paid["jsigr"].clean, 0))


def training_on_attacks(runs: list[Run], cost: float, other: float, defence: str = "fast") -> str:
    """J-SIGR beside the cheaper training on attacks."""
    more, less = [], []
    for kind, ahead_on, of in (
        ("transferred", leaves_more, [run for run in runs if run.sees]),
        ("white-box", lambda run, a, b: above(white_box(run), a, b), runs),
    ):
        for found, a, b in ((more, defence, "jsigr"), (less, "jsigr", defence)):
            ahead = [run for run in of if ahead_on(run, a, b)]
            found += [f"{kind} {on(ahead)}"] if ahead else []
    label = runs[0].labels.get(defence, defence)
    text = f"A step of {label} takes {number(other)}, {number(other / cost, 1)} times J-SIGR's."
    text += f" It clearly leaves more right: {'; '.join(more)}." if more else ""
    text += f" J-SIGR clearly leaves more: {'; '.join(less)}." if less else ""
    text += "" if more or less else " Neither clearly leaves more."
    lead = {
        (True, False): "Not if you can pay for training on attacks",
        (False, True): "Yes, instead of training on attacks",
        (True, True): "Beside training on attacks it depends",
        (False, False): "Training on attacks may do as well",
    }
    return f"- **{lead[bool(more), bool(less)]}.** {text}"


def parts(runs: list[Run]) -> str:
    """J-SIGR beside its parts and the plain input-gradient penalty: the verdicts where the claim is judged, else by
    intervals."""
    judged = [run for run in runs if "parts" in run.verdict]
    if judged:
        said = listed(f"*{run.verdict['parts']}* {on([run])}{_least(run)}" for run in judged)
        better = all(run.verdict["parts"] == "supported" for run in judged)
        lead = "Both penalties are needed" if better else "Try one penalty first"
        return f"- **{lead}.** That J-SIGR is better than each of its parts, at the same clean accuracy, is {said}."
    seen = [run for run in runs if run.sees]
    equal = {
        run.short: [one for one in PENALTIES if one in run.paid and not above(transferred(run), "jsigr", one)]
        for run in seen
    }
    found = [f"{listed(runs[0].labels[one] for one in names)} on {data}" for data, names in equal.items() if names]
    if not seen:
        return "- **One penalty may do.** J-SIGR beside each of its parts is not tested."
    if not found:
        return "- **Both penalties are needed.** No simpler one leaves as much under transferred attacks."
    text = f"Under transferred attacks J-SIGR is not clearly ahead of {'; '.join(found)}."
    return f"- **Try one penalty first.** {text}"


def _least(run: Run) -> str:
    """The least difference of J-SIGR and a part of it."""
    found = words.rows(run.table("contrasts"), data=run.card.data.iloc[0], claim="parts", role="decides")
    if not len(found):
        return ""
    row = found.loc[found.difference.idxmin()]
    return f" (beside {run.labels[row.b]} {words.interval(row)}, {_seeds([row.seeds])})"


def guarantee(runs: list[Run]) -> str:
    left = {run.short: white_box(run)["jsigr"] for run in runs if "jsigr" in white_box(run)}
    if not left:
        return "- **Not as a guarantee.** AutoAttack, the strongest judge, was not run."
    said = listed(f"{percent(row.accuracy)} on {data}" for data, row in left.items())
    n = f"{words.span((row.images for row in left.values()), lambda n: f'{n:,}')} images"
    return f"- **Not as a guarantee.** AutoAttack, which knows the network, leaves J-SIGR {said} ({n}, first seed)."


def advice(runs: list[Run], steps: pd.Series) -> str:
    own, other = steps[costs.DEFAULT], steps[costs.FAST]
    return "\n".join([gain(runs, own), training_on_attacks(runs, own, other), parts(runs), guarantee(runs)])


# notebooks


def found_by(run: Run) -> dict[str, str]:
    """Notebook -> its finding in a sentence, on the data of the run."""
    ratio = words.keyed(words.first(run.table("boundary_distance")))
    linear = words.keyed(words.rows(words.first(run.table("linearised_robustness")), quantity="jacobian"))
    maps = words.rows(words.first(run.table("interpretability")), measure="agreement", map="gradient", input="attacked")
    maps, paid, verdicts = words.keyed(maps), run.paid, list(run.verdict.values())
    best = max(paid, key=lambda one: paid[one].transferred)
    asked = [one for one in ("standard", "jsigr", "pgd") if one in ratio]
    norm = linear["jsigr"]["mean"] / linear["standard"]["mean"]
    return {
        "01_theory": "the distance to the boundary that a linear network would have is, over the measured one, "
        + listed(f"{number(ratio[one].ratio)} for {words.name(one, run.labels)}" for one in asked),
        "02_training": f"J-SIGR's Jacobian norm is {words.times(norm)} the standard network's"
        if not 0.95 <= norm <= 1.05
        else "J-SIGR's Jacobian norm is the standard network's",
        "03_transfer_attacks": f"{words.name(best, run.labels)} leaves most right, {percent(paid[best].transferred)}"
        if run.sees
        else "no transferred attack bites",
        "04_saliency": "on attacked images gradient and perturbation map agree at "
        + listed(f"{number(maps[one]['mean'])} for {words.name(one, run.labels)}" for one in asked if one in maps),
        "05_claims": f"of {count(len(verdicts), 'claim')}, "
        + (
            f"all {verdicts[0]}"
            if len(set(verdicts)) == 1
            else listed(f"{count(verdicts.count(one))} {one}" for one in dict.fromkeys(verdicts))
        ),
    }


def notebooks(run: Run) -> str:
    path = f"notebooks/executed/{run.name}"
    return "\n".join(
        f"{n}. [{name[3:].replace('_', ' ').capitalize()}]({path}/{name}.ipynb): {said}."
        for n, (name, said) in enumerate(found_by(run).items(), 1)
    )


# files


def blocks() -> dict[str, dict[str, Callable[[], str]]]:
    """File -> name of the block -> what writes it."""
    runs, steps = results.runs(), costs.of_steps()
    return {
        "README.md": {
            "cost": lambda: costs.cost(steps),
            "works": lambda: works(runs),
            "advice": lambda: advice(runs, steps),
            "notebooks": lambda: notebooks(runs[0]),
        },
        "benchmarks/README.md": {"frontier": costs.frontier, "peers": costs.peers, "networks": costs.networks},
        "docs/rerun.md": {"explorer": costs.explorer},
    }


def with_blocks(text: str, written: dict[str, Callable[[], str]]) -> str:
    """The text with its generated blocks anew. Raises ValueError unless it has each of them once, and no other."""
    found = re.findall(r"<!-- begin (\S+) -->", text)
    if sorted(found) != sorted(written):
        raise ValueError(f"the blocks are {listed(found)}; accepted: {listed(written)}, each once")
    for name, write in written.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        said = partial("{1}{0}\n{2}".format, write())
        text, n = re.subn(pattern, lambda match, said=said: said(*match.groups()), text, flags=re.DOTALL)
        if n != 1:
            raise ValueError(f"block {name!r} has no end; accepted: <!-- end {name} --> below it")
    return text


def current() -> dict[str, str]:
    """File -> its text as it should be."""
    found = {name: with_blocks((ROOT / name).read_text(encoding="utf-8"), own) for name, own in blocks().items()}
    return found | {"RESULTS.md": results.page()}


if __name__ == "__main__":
    drawn, alt = results.picture()
    drawn.savefig(ROOT / results.PICTURE, metadata={"Description": alt})
    for name, text in current().items():
        (ROOT / name).write_text(text, encoding="utf-8")
