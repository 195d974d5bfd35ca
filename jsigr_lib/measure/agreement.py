"""How well scores agree with labels, over pictures that come in groups: many are made of one source, and what is drawn
anew in a bootstrap is the source."""

from collections.abc import Callable

import numpy as np
from scipy.stats import kendalltau, rankdata

DRAWS, SEED = 1000, 0
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(scores [n, pictures], labels [n, pictures]) -> one value per row."""


def pearson(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """PLCC of each row, without the curve that some fit first; 0 where a row is constant."""
    a, b = (values - values.mean(1, keepdims=True) for values in (scores, labels))
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.zeros(len(a)), where=scale > 0)


def spearman(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """SRCC of each row: `pearson` of the ranks, of which ties share their mean."""
    return pearson(rankdata(scores, axis=1), rankdata(labels, axis=1))


def kendall(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """KRCC of each row, tau-b; 0 where a row is constant."""
    return np.array([np.nan_to_num(kendalltau(a, b).statistic) for a, b in zip(scores, labels, strict=True)])


def rmse(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.sqrt(((scores - labels) ** 2).mean(1))


def distance(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """mean |scores - others| of each row."""
    return np.abs(scores - others).mean(1)


def estimate(statistic: Statistic, scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The statistic of scores [seeds, sources, variants], in the mean over seeds, and its draws [DRAWS] over sources
    and seeds. `labels` have the same shape, or that of one seed. The draws are the same at every call, so that
    differences of draws are those of a paired bootstrap."""
    labels = np.broadcast_to(labels, scores.shape)
    seeds, sources = scores.shape[:2]
    rng = np.random.default_rng(SEED)
    chosen, of_seeds = rng.integers(sources, size=(DRAWS, sources)), rng.integers(seeds, size=(DRAWS, seeds))
    pairs = list(zip(scores, labels, strict=True))
    each = [statistic(a[chosen].reshape(DRAWS, -1), b[chosen].reshape(DRAWS, -1)) for a, b in pairs]
    value = np.mean([statistic(a.reshape(1, -1), b.reshape(1, -1)) for a, b in pairs])
    return float(value), np.take_along_axis(np.stack(each, 1), of_seeds, 1).mean(1)


def interval(value: float, draws: np.ndarray) -> tuple[float, float, float]:
    """The value with its percentile interval."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return value, float(low), float(high)
