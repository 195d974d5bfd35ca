"""What benchmarks/results says, as tables and sentences for the README files."""

import pandas as pd
from results import table

from jsigr_lib.findings.words import listed, number
from jsigr_lib.store.paths import ROOT

BENCHMARKS = ROOT / "benchmarks" / "results"
DEFAULT, FAST = "J-SIGR, q = .1", "fast adv. training"


def benchmark(part: str) -> pd.DataFrame:
    return pd.read_csv(BENCHMARKS / f"{part}.csv")


def of_steps() -> pd.Series:
    """Label -> time of a training step, in standard steps."""
    return benchmark("frontier").set_index("label").cost


def cost(costs: pd.Series) -> str:
    named = {FAST: "fast adversarial training", "PGD-7 training": "PGD-7 training"}
    others = listed(f"{name} {number(costs[label])}" for label, name in named.items())
    own = f"**A training step of J-SIGR takes {number(costs[DEFAULT])} standard steps**"
    return f"{own} ({others}; small CNN, two CPU threads)."


def frontier() -> str:
    rows = []
    for row in benchmark("frontier").itertuples():
        left = [
            f"{getattr(row, of):.3f} [{getattr(row, f'{of}_low'):.3f}, {getattr(row, f'{of}_high'):.3f}]"
            for of in ("transfer", "white_box")
        ]
        rows.append([row.label, f"{row.cost:.2f}", f"{row.clean:.3f}", *left, f"{row.agreement:.2f}"])
    return table(["defence", "time of a step", "clean", "transferred", "white-box PGD-20", "agreement"], rows)


def peers() -> str:
    """Each peer's ratio on the small CNN and on ResNet-8, beside ours."""
    rows = []
    for part, what in (("steps", "a training step"), ("attacks", "PGD-20"), ("maps", "a perturbation map")):
        of = benchmark(part)
        of = of[of.attack == "PGD-20"] if part == "attacks" else of
        ratio = of.set_index(["case", "network"]).ratio
        cases = list(dict.fromkeys(of.case))
        rows += [
            [
                what,
                case,
                *(f"{ratio[case, net]:.2f}" if (case, net) in ratio else "" for net in ("small-cnn", "resnet8")),
            ]
            for case in cases
        ]
    ours = benchmark("strength").ours.value_counts()
    said = ", ".join(f"{ours.get(one, 0)} {one}" for one in ("equal", "stronger", "weaker"))
    strength = f"Our attacks beside theirs: of {ours.sum()} comparisons {said} ([strength.csv](results/strength.csv))."
    return table(["what", "case", "small CNN", "ResNet-8"], rows) + f"\n\n{strength}"


def networks() -> str:
    of = benchmark("costs").set_index("network")
    lstm, others = of.loc["LSTM"], of.drop("LSTM")
    own, plain = (f"{others[one].min():.2f} to {others[one].max():.2f}" for one in ("default", "double_backprop"))
    return (
        f"**On other people's networks** (`costs`) J-SIGR's default step takes {own} standard steps, by plain double "
        f"backprop {plain}; on the LSTM {lstm.default:.2f}, and {lstm.double_backprop:.2f}."
    )


def explorer() -> str:
    waits = benchmark("explorer")
    first = waits.wait.str.startswith("map chosen")
    moves, firsts = (waits[some & (waits.unit == "ms")]["median"].max() / 1000 for some in (~first, first))
    lab = waits[waits.wait.str.startswith("make lab")]["median"].item()
    return (
        f"On two CPU cores the picture follows a slider within {moves:.2f} seconds, exact perturbation maps included, "
        f"on garments and on photographs; the first picture of a map takes {firsts:.2f} seconds at most, and `make "
        f"lab` {lab:.0f} seconds ([explorer.csv](../benchmarks/results/explorer.csv))."
    )
