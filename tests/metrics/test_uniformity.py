"""Tests of ranks against brute force over all histograms, and against SciPy."""

from itertools import product
from math import factorial, log

import numpy as np
import pytest
from scipy import stats

from latens.errors import ConfigError
from latens.metrics import (
    chi_square_statistic,
    chi_square_test,
    ecdf_band,
    ecdf_statistic,
    ecdf_test,
    rank_counts,
)
from latens.metrics.uniformity import block_edges


def _all_histograms(images: int, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Every histogram of n ranks and its probability under uniformity."""
    cells = draws + 1
    every = np.array(
        [c for c in product(range(images + 1), repeat=cells) if sum(c) == images], dtype=np.int64
    )
    weight = [factorial(images) / np.prod([factorial(c) for c in h]) for h in every]
    return every, np.array(weight) / cells**images


def _ranks_of(histogram: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(histogram)), histogram)


@pytest.mark.parametrize(("images", "draws"), [(5, 1), (7, 2), (6, 3), (10, 2), (4, 4)])
def test_the_p_value_of_the_ecdf_is_the_sum_over_all_histograms(images: int, draws: int):
    every, probability = _all_histograms(images, draws)
    statistic = np.array([_by_definition(h) for h in every])
    np.testing.assert_allclose(ecdf_statistic(every), statistic, rtol=1e-10)
    for histogram, value in zip(every, statistic, strict=True):
        exact = probability[statistic >= value - 1e-9].sum()
        found, p = ecdf_test(_ranks_of(histogram), draws)
        assert found == pytest.approx(value)
        assert p == pytest.approx(exact, abs=1e-12)


def _by_definition(histogram: np.ndarray) -> float:
    images, cells = int(histogram.sum()), len(histogram)
    smallest = 1.0
    for k in range(1, cells):
        below = int(histogram[:k].sum())
        law = stats.binom(images, k / cells)
        smallest = min(smallest, 2 * law.cdf(below), 2 * law.sf(below - 1))
    return -log(smallest)


@pytest.mark.parametrize(("images", "draws", "level"), [(6, 3, 0.9), (10, 2, 0.95), (5, 2, 0.5)])
def test_the_band_is_the_test_as_a_picture(images: int, draws: int, level: float):
    every, probability = _all_histograms(images, draws)
    lower, upper = ecdf_band(images, draws, level)
    curve = np.cumsum(every, axis=1)[:, :-1] / images - np.arange(1, draws + 1) / (draws + 1)
    inside = ((curve >= lower - 1e-12) & (curve <= upper + 1e-12)).all(axis=1)
    assert probability[inside].sum() >= level
    for histogram, stays in zip(every, inside, strict=True):
        assert (ecdf_test(_ranks_of(histogram), draws)[1] > 1 - level) == stays


def test_the_band_of_many_ranks_by_simulation():
    images, draws = 300, 39
    rng = np.random.default_rng(0)
    counts = rng.multinomial(images, np.full(draws + 1, 1 / (draws + 1)), size=20_000)
    lower, upper = ecdf_band(images, draws)
    curve = np.cumsum(counts, axis=1)[:, :-1] / images - np.arange(1, draws + 1) / (draws + 1)
    inside = ((curve >= lower - 1e-12) & (curve <= upper + 1e-12)).all(axis=1)
    assert inside.mean() == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / 20_000))
    assert np.allclose(lower, -upper[::-1])
    widest = (upper - lower).argmax()
    assert abs(widest - draws / 2) < 4


def test_chi_square_agrees_with_scipy_on_equal_blocks():
    rng = np.random.default_rng(1)
    ranks = rng.integers(0, 40, size=(500, 3))
    statistic, p = chi_square_test(ranks, 39)
    for q in range(3):
        blocks = np.bincount(ranks[:, q] // 4, minlength=10)
        found = stats.chisquare(blocks)
        assert statistic[q] == pytest.approx(found.statistic)
        assert p[q] == pytest.approx(found.pvalue)


@pytest.mark.parametrize(
    ("images", "draws", "blocks"),
    [
        (500, 8, 9),
        (500, 20, 7),
        (500, 39, 10),
        (500, 100, 12),
        (500, 1, 2),
        (100, 19, 5),
        (20, 8, 3),
    ],
)
def test_blocks(images: int, draws: int, blocks: int):
    edges = block_edges(images, draws)
    assert len(edges) == blocks + 1
    assert edges[0] == 0
    assert edges[-1] == draws + 1
    sizes = np.diff(edges)
    assert sizes.max() - sizes.min() <= (0 if (draws + 1) % blocks == 0 else 1)
    assert images / blocks >= 6


def test_expected_counts_are_exact_where_blocks_are_unequal():
    counts = rank_counts(np.repeat(np.arange(101), 10), 100)  # perfectly even
    assert chi_square_statistic(counts) == pytest.approx(0, abs=1e-12)


def test_many_quantities_at_once():
    rng = np.random.default_rng(2)
    ranks = rng.integers(0, 9, size=(50, 2, 3))
    for test in (ecdf_test, chi_square_test):
        statistic, p = test(ranks, 8)
        assert statistic.shape == p.shape == (2, 3)
        alone = test(ranks[:, 1, 2], 8)
        assert (statistic[1, 2], p[1, 2]) == (pytest.approx(alone[0]), pytest.approx(alone[1]))


def test_ranks_outside_are_refused():
    with pytest.raises(ConfigError, match="M = 8"):
        ecdf_test(np.array([0, 9]), 8)
    with pytest.raises(ConfigError, match="none"):
        chi_square_test(np.zeros((0, 2), dtype=int), 8)
    with pytest.raises(ConfigError, match="probability"):
        ecdf_band(10, 3, 95)
