"""Intervals, so that no number is shown without how sure it is. All are at 95 percent."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

NORMAL = 1.959963984540054  # the 97.5 % point of the standard normal distribution
Interval = Callable[[np.ndarray], tuple[float, float, float]]


def proportion(outcomes: np.ndarray) -> tuple[float, float, float]:
    """Mean of 0/1 outcomes [seeds, images] with Wilson's interval, which stays between 0 and 1. With several seeds it
    is that of as many independent outcomes as would be as sure of their mean as these are."""
    outcomes = np.atleast_2d(outcomes).astype(float)
    average, variance, freedom = _spread(outcomes)
    if outcomes[..., 0].size == 1 or not variance:
        independent, z2 = outcomes.shape[-1], NORMAL**2
    else:
        independent, z2 = average * (1 - average) / variance, _quantile(freedom) ** 2
    centre = (average + z2 / (2 * independent)) / (1 + z2 / independent)
    half = np.sqrt(z2 * (average * (1 - average) / independent + z2 / (4 * independent**2))) / (1 + z2 / independent)
    return average, min(max(centre - half, 0.0), average), max(min(centre + half, 1.0), average)


def mean(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of values [seeds, images], or [sources, seeds, images], with Student's interval. Every axis is a random
    factor, as another run would have other seeds and other images: the variances of the means along each add up
    (crossed factors; what they share is counted twice, so that the interval errs on the wide side), and so do their
    degrees of freedom (Satterthwaite 1946). An axis of length 1 counts as fixed. Of paired differences, it is a paired
    interval."""
    average, variance, freedom = _spread(np.atleast_2d(values).astype(float))
    half = _quantile(freedom) * np.sqrt(variance)
    return average, average - half, average + half


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    """The mean over all axes, its variance, and the degrees of freedom of that."""
    along = [np.moveaxis(values, axis, 0).reshape(n, -1).mean(1) for axis, n in enumerate(values.shape) if n > 1]
    parts = [(means.var(ddof=1) / len(means), len(means) - 1) for means in along]
    variance = sum(part for part, _ in parts)
    if not variance:
        return float(values.mean()), 0.0, np.inf
    return float(values.mean()), float(variance), float(variance**2 / sum(part**2 / free for part, free in parts))


def _quantile(freedom: float) -> float:
    from scipy.special import stdtrit  # here, as it is slow to import and not always needed

    return float(stdtrit(freedom, 0.975)) if np.isfinite(freedom) else NORMAL


def columns(name: str, values: np.ndarray, interval: Interval = mean) -> dict[str, float]:
    """What a row of a table says of values [seeds, images]: how many they are, their mean as `name`, its interval."""
    average, low, high = interval(values)
    return {"images": values.shape[-1], "seeds": values.shape[-2], name: average, "low": low, "high": high}


def table(
    keys: Sequence[str], name: str, values: Mapping[tuple, np.ndarray], interval: Interval = mean
) -> pd.DataFrame:
    """A row per key, with the columns `keys`, and `columns` of its values."""
    rows = [{**dict(zip(keys, key, strict=True)), **columns(name, value, interval)} for key, value in values.items()]
    return pd.DataFrame(rows, columns=[*keys, "images", "seeds", name, "low", "high"])


def differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b, values [..., seeds, images] of two defences, on the seeds that both have: the first ones."""
    seeds = min(a.shape[-2], b.shape[-2])
    return a[..., :seeds, :].astype(float) - b[..., :seeds, :].astype(float)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of a with the same row of b; ties share their mean rank, and a constant row
    correlates 0."""
    a, b = (pd.DataFrame(v).rank(axis=1).to_numpy() for v in (a, b))
    a, b = (v - v.mean(1, keepdims=True) for v in (a, b))
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.zeros(len(a)), where=scale > 0)


def partial_rank_correlation(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> np.ndarray:
    """`rank_correlation` of what is left of each row of a and of b once the ranks of the same row of `given` have told
    all that they can (the residuals of regressions on them); 0 if they have told all."""
    ab, of_a, of_b = (rank_correlation(*pair) for pair in ((a, b), (a, given), (b, given)))
    left = np.sqrt(((1 - of_a**2) * (1 - of_b**2)).clip(0))
    return np.divide(ab - of_a * of_b, left, out=np.zeros(len(a)), where=left > 1e-6)


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
