"""What more slots gain: the artefacts of a whole study go through the queue of a run, on more and more slots, each for
the time that it is expected to take on one."""

import tempfile

import pandas as pd
from matplotlib.figure import Figure

from jsigr_lib.figures.plotting import figure, panels
from jsigr_lib.pipeline.plan import plan

SLOTS = (1, 2, 4, 8, 16, 32, 64)
STUDIES = {"full": {}, "paper": {"dataset": "fashion-mnist"}}  # whose images nobody has to download
BUSY = 0.95  # share of their time at work from which on slots count as busy


def table(device: str) -> pd.DataFrame:
    """One row per study and number of slots: `ratio` says how many times as fast as one slot they are, `limit` how many
    times any number of slots could be, as artefacts that need each other are made one after the other, and
    `efficiency` for what share of their time the slots work."""
    rows = []
    for profile, settings in STUDIES.items():
        with tempfile.TemporaryDirectory() as runs:
            found = plan(profile=profile, settings=settings, device=device, jobs=1, runs=runs, slots=SLOTS)
        alone = found.slot_minutes[1]
        for slots, minutes in found.slot_minutes.items():
            row = {"study": profile, "artefacts": len(found.artefacts), "slots": slots, "ratio": alone / minutes}
            rows.append({**row, "limit": alone / found.chain_minutes, "efficiency": alone / (slots * minutes)})
    return pd.DataFrame(rows)


def draw(rows: pd.DataFrame) -> tuple[Figure, str]:
    """Speed and efficiency against slots, beside a perfect division of the work."""
    fig = figure(9.6, 3.8)
    speed, share = panels(fig, 1, 2, sharex=True)[0]
    for (study, own), marker in zip(rows.groupby("study"), "os", strict=True):
        speed.plot(own.slots, own.ratio, marker=marker, label=f"{study} profile")
        share.plot(own.slots, own.efficiency, marker=marker)
    speed.plot(SLOTS, SLOTS, color="grey", linestyle=":", label="if no slot ever waited")
    for axes in (speed, share):
        axes.set_xscale("log", base=2)
        axes.set(xlabel="slots", xticks=SLOTS)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    busy = int(rows.groupby("slots").efficiency.min().ge(BUSY).cumprod().sum())
    speed.set_yscale("log", base=2)
    speed.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    speed.set(title="No number of slots beats the longest chain", ylabel="times as fast as one slot")
    share.set(title=f"Up to {SLOTS[busy - 1]} slots hardly any waits", ylim=(0, 1.05), ylabel="share of time at work")
    speed.legend()
    most = rows.groupby("study").ratio.max()
    said = "; ".join(
        f"{study} {ratio:.0f} times as fast on {SLOTS[-1]} slots as on one" for study, ratio in most.items()
    )
    return fig, f"How fast a study is made against the number of slots, and how busy they are. Predicted: {said}."
