"""Agreement of scores with labels, and its bootstrap over sources and seeds."""

import numpy as np
import pytest
from scipy import stats

from jsigr_lib.measure import agreement
from jsigr_lib.measure.agreement import distance, estimate, interval, kendall, pearson, rmse, spearman

RNG = np.random.default_rng(3)
SCORES, LABELS = RNG.normal(size=(3, 30)).round(1), RNG.normal(size=(3, 30)).round(1)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(pearson, stats.pearsonr), (spearman, stats.spearmanr), (kendall, stats.kendalltau)]
)
def test_correlations_are_scipys(ours, theirs):
    expected = [theirs(a, b).statistic for a, b in zip(SCORES, LABELS, strict=True)]
    assert ours(SCORES, LABELS) == pytest.approx(expected)


def test_errors_by_hand():
    assert rmse(np.array([[0.0, 3.0]]), np.array([[4.0, 3.0]])) == pytest.approx([8**0.5])
    assert distance(np.array([[0.0, 3.0]]), np.array([[4.0, 2.0]])) == pytest.approx([2.5])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("statistic", [pearson, spearman, kendall])
def test_a_constant_row_correlates_0(statistic):
    assert statistic(np.ones((1, 5)), np.arange(5.0)[None]) == [0]


def test_sources_are_drawn_whole():
    """Scores that agree within every source alone: whatever is drawn, the correlation is 1."""
    labels = np.arange(12.0).reshape(3, 4)
    value, draws = estimate(spearman, np.stack([labels, 2 * labels]), labels)
    assert value == pytest.approx(1) and draws == pytest.approx(np.ones(agreement.DRAWS))


def test_wider_with_sources_and_seeds_that_differ():
    zero = np.zeros((2, 6, 5))
    alike, apart = zero + 1.0, zero + np.linspace(0, 2, 6)[None, :, None]
    seeds = zero + np.array([0.0, 2.0])[:, None, None]
    widths = []
    for one in (alike, apart, seeds):
        value, low, high = interval(*estimate(distance, one, zero))
        assert value == pytest.approx(1) and low <= value <= high
        widths.append(high - low)
    assert widths[0] == pytest.approx(0) and min(widths[1:]) > 0.5


def test_draws_are_the_same_at_every_call_so_that_differences_are_paired():
    scores = RNG.normal(size=(2, 6, 5))
    one, two = (estimate(rmse, scores + shift, scores)[1] for shift in (1.0, 1.5))
    assert two - one == pytest.approx(np.full(agreement.DRAWS, 0.5))
