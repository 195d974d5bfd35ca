"""From measurements to tables, and from tables to files that are either complete or not there."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.timing import measure
from jsigr_lib.networks.counting import peak_bytes

SPREAD = (0.1, 0.9)  # low and high: quantiles of a ratio over the rounds; a spread, no confidence interval


def compare(
    cases: dict[str, Callable[[], object]], *, baseline: str, rounds: int, device: torch.device | str = "cpu"
) -> pd.DataFrame:
    """Time and peak memory of named cases: one row each, see `ratios`; peak_mb is in 10^6 bytes, above what was held.
    A case with an attribute `steps` takes so many at each call, and its time is that of one.

    Times are ratios to the baseline, as seconds say more of the machine than of the code; on CUDA, where machines are
    of few kinds, `milliseconds` is the median of a call.
    """
    seconds = measure(cases, rounds=rounds, device=device)
    steps = {name: getattr(case, "steps", 1) for name, case in cases.items()}
    seconds = {name: [value / steps[name] for value in values] for name, values in seconds.items()}
    peaks = {name: peak_bytes(case, device) for name, case in cases.items()}
    return tabulate(seconds, peaks, baseline=baseline, device=device)


def tabulate(
    seconds: dict[str, list[float]], peaks: dict[str, int], *, baseline: str, device: torch.device | str
) -> pd.DataFrame:
    """The same from what was measured elsewhere: seconds per round and peak bytes of each case."""
    table = ratios(seconds, baseline)
    if torch.device(device).type == "cuda":
        table["milliseconds"] = [1000 * np.median(values) for values in seconds.values()]
    table["peak_mb"] = [peaks[name] / 1e6 for name in seconds]
    return table


def ratios(values: dict[str, list[float]], baseline: str) -> pd.DataFrame:
    """Each case against the baseline: the median over rounds of the ratio within a round, and its spread.

    Columns: case, ratio, low, high (`SPREAD`), rounds.
    """
    reference = np.asarray(values[baseline])
    rows = []
    for case, own in values.items():
        ratio = np.asarray(own) / reference
        low, high = np.quantile(ratio, SPREAD)
        rows.append({"case": case, "ratio": np.median(ratio), "low": low, "high": high, "rounds": len(own)})
    return pd.DataFrame(rows)


def labelled(table: pd.DataFrame, **labels: str) -> pd.DataFrame:
    """The table with constant columns in front."""
    for position, (name, value) in enumerate(labels.items()):
        table.insert(position, name, value)
    return table


def write(out: Path, name: str, table: pd.DataFrame) -> None:
    """<name>.csv and <name>.md below `out`, rounded to three digits."""
    table = table.round(3)
    _replace(out / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    _replace(out / f"{name}.md", table.to_markdown(index=False) + "\n")


def write_environment(out: Path, part: str, environment: dict) -> None:
    """environment.json: for each part, on what and with what it was measured. Other parts' entries stay."""
    path = out / "environment.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    _replace(path, json.dumps({**known, part: environment}, indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
