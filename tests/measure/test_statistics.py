import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import binomtest, rankdata, spearmanr, t, ttest_1samp

from jsigr_lib.measure import statistics
from jsigr_lib.measure.statistics import (
    differences,
    holm,
    mean,
    partial_rank_correlation,
    proportion,
    rank_correlation,
    signed_rank,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(50, 100, 0.4038, 0.5962), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (81, 263, 0.2553, 0.3662)],
)
def test_one_seed_has_wilsons_interval(successes, trials, low, high):
    """The last row is the example of Newcombe 1998."""
    outcomes = np.arange(trials) < successes
    assert_allclose(proportion(outcomes), (successes / trials, low, high), atol=5e-5)
    assert proportion(outcomes[None]) == proportion(outcomes)


@pytest.mark.parametrize("trials", [1, 3, 30, 200, 1000])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 1])
def test_one_seed_against_scipy(trials, share):
    successes = round(share * trials)
    expected = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="wilson")
    found = proportion(np.arange(trials) < successes)
    assert_allclose(found, (successes / trials, expected.low, expected.high), atol=1e-12)


@pytest.mark.parametrize("outcome", [0, 1])
def test_interval_of_equal_outcomes_contains_them_and_stays_a_share(outcome):
    """To the last bit: matplotlib refuses an error bar of negative length."""
    for trials in range(1, 400):
        average, low, high = proportion(np.full(trials, outcome))
        assert 0 <= low <= average == outcome <= high <= 1, trials


def test_several_seeds_count_as_wilsons_interval_of_fewer_outcomes():
    """Equal seeds are one seed; seeds that share no image's luck are many images."""
    outcomes = np.random.default_rng(0).random(400) < 0.7
    again, alone = np.array(proportion(np.tile(outcomes, (3, 1)))), np.array(proportion(outcomes))
    assert_allclose(again, alone, atol=1e-3)
    assert_allclose(alone[1:], binomtest(int(outcomes.sum()), 400).proportion_ci(method="wilson"), atol=1e-12)


def test_the_interval_of_a_share_of_several_seeds_by_hand():
    """Wilson's, of as many outcomes as have the variance that the two means add up to, with Student's point."""
    outcomes = np.array([[1, 1, 0, 1, 0], [1, 0, 0, 1, 0], [1, 1, 1, 1, 0]])
    p, parts = 9 / 15, [outcomes.mean(1).var(ddof=1) / 3, outcomes.mean(0).var(ddof=1) / 5]
    variance = sum(parts)
    z2 = t.ppf(0.975, variance**2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 4)) ** 2
    n = p * (1 - p) / variance
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    assert_allclose(proportion(outcomes), (p, centre - half, centre + half), atol=1e-12)


def test_one_source_is_no_other_factor():
    outcomes = np.arange(40) < 25
    assert proportion(outcomes[None, None]) == proportion(outcomes)
    assert proportion(np.ones((2, 3, 40))) == proportion(np.ones(40))  # nor are sources and seeds that agree on all


def test_values_that_are_all_alike_have_no_interval():
    assert mean(np.full((3, 5), 2.0)) == (2, 2, 2)


def test_interval_of_one_seed_is_students():
    values = np.random.default_rng(0).normal(2, 3, 12)
    expected = ttest_1samp(values, 0).confidence_interval()
    assert_allclose(mean(values), (values.mean(), *expected), atol=1e-12)
    assert mean(values) == mean(values[None])


def test_interval_of_seeds_that_agree_on_no_image_is_students_over_seeds():
    """As the images' means are all alike, what is left is a t-test of the seeds' means."""
    per_seed = np.array([0.1, 0.4, 0.25])
    values = np.repeat(per_seed[:, None], 50, axis=1)
    assert_allclose(mean(values)[1:], ttest_1samp(per_seed, 0).confidence_interval(), atol=1e-12)


def test_sources_are_a_random_factor():
    """Two sources that disagree leave less certainty than one."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3, 500)) * 0.1 + np.array([0.0, 0.5])[:, None, None]
    _, low, high = mean(values)
    assert high - low > 5 * np.subtract(*mean(values[0])[:0:-1])
    assert_allclose(mean(values[:1]), mean(values[0]), atol=1e-12)


@pytest.mark.parametrize(("seeds", "least"), [(2, 0.84), (3, 0.89), (5, 0.9)])
@pytest.mark.parametrize("ratio", [0, 1, 6])
def test_interval_covers_the_truth(seeds, ratio, least):
    """600 studies of 300 images, whose seeds' means spread `ratio` times as much as the images' mean. The standard
    error of a coverage of .9 is .012. At 6 it is .88 for two seeds, .93 for three, .94 for five, where a percentile
    bootstrap of seeds and images has .73, .81 and .88."""
    rng, images, studies = np.random.default_rng(0), 300, 600
    own = ratio / np.sqrt(images) * rng.normal(size=(studies, seeds, 1))
    values = own + rng.normal(size=(studies, 1, images)) + rng.normal(size=(studies, seeds, images))
    covered = np.mean([low <= 0 <= high for _, low, high in map(mean, values)])
    assert (least if ratio == 6 else 0.91) <= covered <= (0.99 if ratio else 1)


def test_images_stay_together_across_seeds():
    """The same row four times is no more evidence than the row once."""
    values = np.random.default_rng(0).normal(size=200)
    _, low, high = mean(values)
    _, low_4, high_4 = mean(np.tile(values, (4, 1)))
    assert high_4 - low_4 == pytest.approx(high - low, rel=0.1)


def test_rank_correlation_against_scipy():
    rng = np.random.default_rng(0)
    a = np.concatenate([rng.normal(size=(3, 40)), rng.integers(4, size=(3, 40))])
    b = np.concatenate([rng.normal(size=(3, 40)) + a[:3], rng.integers(3, size=(3, 40))])
    expected = [spearmanr(*rows).statistic for rows in zip(a, b, strict=True)]
    assert_allclose(rank_correlation(a, b), expected, atol=1e-12)


def test_rank_correlation_with_ties_against_scipy():
    """Selections and maps of blank images: most places share a few values."""
    rng = np.random.default_rng(1)
    a, b = rng.integers(2, size=(20, 30)), np.maximum(rng.normal(size=(20, 30)), 0)
    b[:10] += a[:10]
    expected = [spearmanr(*rows).statistic for rows in zip(a, b, strict=True)]
    assert_allclose(rank_correlation(a, b), expected, atol=1e-12)
    assert_allclose(rank_correlation(b, a), expected, atol=1e-12)
    assert np.mean(expected[:10]) > 0.5 > np.abs(expected[10:]).mean()


def test_rank_correlation_ends_and_constant_rows():
    a = np.array([[1, 2, 3], [1, 2, 3], [5, 5, 5], [1, 2, 3], [0, 0, 0]])
    b = np.array([[2, 4, 9], [9, 4, 2], [1, 2, 3], [7, 7, 7], [0, 0, 0]])
    assert_allclose(rank_correlation(a, b), [1, -1, 0, 0, 0], atol=1e-15)


def test_differences_are_of_the_seeds_that_both_have():
    a, b = np.arange(6).reshape(3, 2), np.array([[True, False], [True, True]])
    assert_allclose(differences(a, b), [[-1, 1], [1, 2]])
    assert_allclose(differences(b, a), [[1, -1], [-1, -2]])


def test_rank_correlation_of_pairs():
    """The shortest rows that have an order."""
    assert_allclose(rank_correlation([[1, 2], [1, 2], [3, 3]], [[5, 9], [9, 5], [1, 2]]), [1, -1, 0], atol=1e-15)


def test_partial_rank_correlation_by_hand():
    """Of correlations .8, .6 and .8 of the ranks, (.8 - .6 * .8) / (.8 * .6) is left."""
    a, b, given = [[1, 2, 3, 4]], [[1, 2, 4, 3]], [[2, 1, 4, 3]]
    assert_allclose([rank_correlation(*pair)[0] for pair in ((a, b), (a, given), (b, given))], [0.8, 0.6, 0.8])
    assert_allclose(partial_rank_correlation(a, b, given), (0.8 - 0.6 * 0.8) / (0.8 * 0.6))


def test_partial_rank_correlation_is_that_of_the_residuals_of_regressions():
    rng = np.random.default_rng(0)
    given = rng.integers(0, 30, (5, 60)).astype(float)  # with ties
    a, b = (given + 10 * rng.normal(size=given.shape) for _ in range(2))
    found = partial_rank_correlation(a, b, given)
    for row, *ranked in zip(found, *(rankdata(values, axis=1) for values in (a, b, given)), strict=True):
        left = [y - np.polyval(np.polyfit(ranked[2], y, 1), ranked[2]) for y in ranked[:2]]
        assert row == pytest.approx(np.corrcoef(left)[0, 1])
    assert (np.abs(found) < rank_correlation(a, b)).all()


def test_nothing_is_left_of_what_is_given():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 4, 30))
    assert_allclose(partial_rank_correlation(a, b, np.exp(a)), 0)
    assert_allclose(partial_rank_correlation(a, b, b), 0)
    assert_allclose(partial_rank_correlation(a, b, np.ones_like(a)), rank_correlation(a, b))
    assert_allclose(partial_rank_correlation(a, a, b), 1)


def test_signed_rank_by_hand():
    """Of the 2^5 equally likely signs of five ranks, all positive or all negative are 2, and a lone negative sign at
    the smallest rank belongs to 4 that are as extreme."""
    assert signed_rank(np.array([1.0, 2, 3, 4, 5])) == 2 / 32
    assert signed_rank(np.array([-1.0, 2, 3, 4, 5])) == 4 / 32
    assert signed_rank(np.array([1.0, -2, -3, -4, -5])) == 4 / 32


def test_signed_rank_tests_the_mean_over_seeds():
    """Each seed alone would say otherwise."""
    assert signed_rank(np.array([[9.0, -1, -1, -1, -1], [-7, 5, 7, 9, 11]])) == 2 / 32


def test_signed_rank_of_no_difference_at_all():
    assert signed_rank(np.zeros(5)) == signed_rank(np.array([[1.0, -2], [-1, 2]])) == 1


def test_holm_by_hand():
    """Ascending: .01 times 4, .02 times 3, .03 times 2 but not below the one before, and .9 as it is."""
    assert_allclose(holm(np.array([0.9, 0.02, 0.01, 0.03])), [0.9, 0.06, 0.04, 0.06])
    assert_allclose(holm(np.array([0.6, 0.7])), [1, 1])


def test_table_has_a_row_per_key_and_its_columns_even_without_one():
    columns = ["defence", "layers", "images", "seeds", "gain", "low", "high"]
    table = statistics.table(columns[:2], "gain", {("pgd", 2): np.array([[1, 3]]), ("jsigr", 1): np.zeros((2, 1))})
    assert list(table) == columns
    assert table.iloc[:, :5].to_numpy().tolist() == [["pgd", 2, 2, 1, 2.0], ["jsigr", 1, 1, 2, 0.0]]
    assert list(statistics.table(columns[:2], "gain", {})) == columns


def test_a_row_says_how_many_values_there_are_and_their_interval():
    values = np.arange(24).reshape(2, 3, 4) % 2  # sources, seeds, images
    row = {"images": 4, "seeds": 3, "right": 0.5, "low": 0.5, "high": 0.5}
    assert statistics.columns("right", values, lambda values: (0.5, 0.5, 0.5)) == row
    _, low, high = proportion(values)
    table = statistics.table(["defence"], "right", {("pgd",): values}, proportion)
    assert table.to_dict("records") == [{"defence": "pgd", **row, "low": low, "high": high}]
    with pytest.raises(ValueError, match="shorter"):
        statistics.table(["defence", "attack"], "right", {("pgd",): values})
