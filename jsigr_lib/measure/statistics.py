"""Intervals, so that no number is shown without how sure it is. All are at 95 percent."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

DRAWS = 2000
SEED = 0
Interval = Callable[[np.ndarray], tuple[float, float, float]]


def proportion(outcomes: np.ndarray) -> tuple[float, float, float]:
    """Mean of 0/1 outcomes [seeds, images] with its interval: Wilson's over images, or with several seeds `mean`'s."""
    outcomes = np.atleast_2d(outcomes).astype(float)
    if len(outcomes) > 1:
        return mean(outcomes)
    from scipy.stats import binomtest  # here, as it is slow to import and not always needed

    interval = binomtest(int(outcomes.sum()), outcomes.size).proportion_ci(method="wilson")
    return float(outcomes.mean()), float(interval.low), float(interval.high)


def mean(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of values [seeds, images] with a percentile bootstrap interval over images, which stay together, and seeds
    if several; the draws are the same at every call. Of paired differences, it is a paired interval."""
    values = np.atleast_2d(values).astype(float)
    seeds, images = values.shape
    rng = np.random.default_rng(SEED)
    chosen = rng.integers(images, size=(DRAWS, images))
    if seeds == 1:
        draws = values[0][chosen].mean(1)
    else:
        over_seeds = values[rng.integers(seeds, size=(DRAWS, seeds))].mean(1)
        draws = np.take_along_axis(over_seeds, chosen, axis=1).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def columns(name: str, values: np.ndarray, interval: Interval = mean) -> dict[str, float]:
    """What a row of a table says of values [seeds, images]: how many they are, their mean as `name`, its interval."""
    average, low, high = interval(values)
    return {"images": values.shape[1], "seeds": len(values), name: average, "low": low, "high": high}


def table(
    keys: Sequence[str], name: str, values: Mapping[tuple, np.ndarray], interval: Interval = mean
) -> pd.DataFrame:
    """A row per key, with the columns `keys`, and `columns` of its values."""
    rows = [{**dict(zip(keys, key, strict=True)), **columns(name, value, interval)} for key, value in values.items()]
    return pd.DataFrame(rows, columns=[*keys, "images", "seeds", name, "low", "high"])


def differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b, values [seeds, images] of two defences, on the seeds that both have: the first ones."""
    seeds = min(len(a), len(b))
    return a[:seeds].astype(float) - b[:seeds].astype(float)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of a with the same row of b; ties share their mean rank, and a constant row
    correlates 0."""
    a, b = (pd.DataFrame(v).rank(axis=1).to_numpy() for v in (a, b))
    a, b = (v - v.mean(1, keepdims=True) for v in (a, b))
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.zeros(len(a)), where=scale > 0)


def signed_rank(differences: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test of paired differences [seeds, images], their mean over seeds."""
    from scipy.stats import wilcoxon

    over_seeds = np.atleast_2d(differences).mean(0)
    return float(wilcoxon(over_seeds).pvalue) if over_seeds.any() else 1.0


def holm(p: np.ndarray) -> np.ndarray:
    """P-values of many tests, such that one below .05 by luck stays a one-in-twenty event (Holm 1979)."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(steps, 1)[np.argsort(order)]
