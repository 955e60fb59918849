"""Holm's rule and relabellings against their definitions."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from latens.errors import ConfigError, ShapeError
from latens.metrics import (
    chi_square_statistic,
    ecdf_statistic,
    ecdf_test,
    holm,
    labellings,
    member_ranks,
    random_orders,
    rank_counts,
    rank_statistics,
    relabelling_test,
)


def test_holm_is_the_closed_test_of_bonferroni():
    """p̃_j is the largest Bonferroni p-value over all sets of hypotheses that hold j."""
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.6])
    closed = np.zeros(5)
    for chosen in product([False, True], repeat=5):
        inside = np.array(chosen)
        if inside.any():
            value = min(1.0, inside.sum() * p[inside].min())
            closed = np.maximum(closed, np.where(inside, value, 0))
    np.testing.assert_allclose(holm(p), closed)
    with pytest.raises(ConfigError, match="probabilities"):
        holm([0.1, np.nan])


def test_holm_agrees_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).uniform(size=30) ** 3
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1])


def test_ranks_of_every_member():
    rng = np.random.default_rng(1)
    values = rng.standard_normal((6, 7, 3))
    ranks = member_ranks(values, random_orders(5, 7, rng))
    np.testing.assert_array_equal(ranks, stats.rankdata(values, axis=0) - 1)


def test_ties_are_broken_evenly():
    """Of four equal members and one below, each of the four takes every rank equally often."""
    images = 6000
    values = np.ones((5, images, 1))
    values[3] = 0
    ranks = member_ranks(values, random_orders(4, images, np.random.default_rng(2)))[..., 0]
    assert (ranks[3] == 0).all()
    for member in (0, 1, 2, 4):
        assert stats.chisquare(np.bincount(ranks[member], minlength=5)[1:]).pvalue > 1e-3


SCORES = (ecdf_statistic, chi_square_statistic)


def ranks_of(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return member_ranks(values, random_orders(len(values) - 1, values.shape[1], rng))


def test_one_quantity_agrees_with_the_exact_test():
    """For one quantity relabelling draws from the same null as the exact p-value sums over."""
    rng = np.random.default_rng(3)
    for scale in (1.0, 1.2):
        values = rng.standard_normal((20, 200, 1))
        values[0] *= scale
        ranks = ranks_of(values, rng)
        _, exact = ecdf_test(ranks[0], 19)
        statistic = rank_statistics(ranks, [ecdf_statistic])
        found = relabelling_test([statistic], 19, 200, rng, 4000)
        error = np.sqrt(exact[0] * (1 - exact[0]) / 4000)
        assert found.p_value[0] == pytest.approx(exact[0], abs=4 * error + 1 / 4000)


def test_the_statistic_is_the_maximum_over_quantities():
    rng = np.random.default_rng(4)
    ranks = ranks_of(rng.standard_normal((9, 60, 4)), rng)
    found = relabelling_test([rank_statistics(ranks, SCORES)], 8, 60, rng, 99)
    counts = rank_counts(ranks[0], 8)
    assert found.statistic[0] == pytest.approx(ecdf_statistic(counts).max())
    assert found.statistic[1] == pytest.approx(chi_square_statistic(counts).max())
    assert ((found.p_value >= 0.01) & (found.p_value <= 1)).all()


def test_statistics_of_labellings_by_their_definition():
    """Member `chosen[i]` of image i is called the truth; blocks are only memory."""
    rng = np.random.default_rng(8)
    ranks = ranks_of(rng.standard_normal((6, 30, 3)), rng)
    chosen = labellings(5, 30, 7, rng)
    found = rank_statistics(ranks, SCORES)(chosen)
    for label, column in zip(chosen, found.T, strict=True):
        counts = rank_counts(np.stack([ranks[m, i] for i, m in enumerate(label)]), 5)
        np.testing.assert_allclose(column, [score(counts).max() for score in SCORES])


def test_adjustment_is_the_closed_test_of_the_smallest_p_value():
    """p̃_j is the largest p-value of "the smallest p of K is as small" over all K that hold j."""
    rng = np.random.default_rng(9)
    values = rng.standard_normal((8, 40, 4))
    values[0, :, 0] += 0.9
    values[0, :, 1] *= 1.4
    values[..., 2] = values[..., 0] + 0.3 * values[..., 2]
    statistics = [rank_statistics(ranks_of(values[..., [k]], rng), SCORES[:1]) for k in range(4)]
    seed = np.random.default_rng(10)
    found = relabelling_test(statistics, 7, 40, seed, 199)
    chosen = labellings(7, 40, 199, np.random.default_rng(10))
    chosen = np.concatenate([np.zeros((1, 40), int), chosen])
    null = np.concatenate([statistic(chosen) for statistic in statistics])
    p = (null[:, None, :] >= null[:, :, None] - 1e-9).mean(axis=2)
    closed = np.zeros(4)
    for subset in product([False, True], repeat=4):
        inside = np.array(subset)
        if inside.any():
            smallest = p[inside].min(axis=0)
            share = (smallest <= smallest[0] + 1e-12).mean()
            closed = np.maximum(closed, np.where(inside, share, 0))
    np.testing.assert_allclose(found.p_value, p[:, 0])
    np.testing.assert_allclose(found.p_adjusted, closed)
    assert closed.min() < 0.05 < closed.max()


def test_one_alarm_or_more_has_the_chance_that_is_allowed():
    """Three families that depend on each other, one false alarm or more at 20 %: exact."""
    rng = np.random.default_rng(7)
    runs, alarms, by_holm = 400, 0, 0
    for _ in range(runs):
        values = rng.standard_normal((5, 20, 3))
        values[..., 1] = values[..., 0] + 0.2 * values[..., 1]
        parts = [rank_statistics(ranks_of(values[..., [k]], rng), SCORES) for k in range(3)]
        found = relabelling_test(parts, 4, 20, rng, 79)
        alarms += found.p_adjusted.min() <= 0.2
        by_holm += holm(found.p_value).min() <= 0.2
    slack = 3.5 * np.sqrt(0.2 * 0.8 / runs)
    assert 0.2 - slack - 0.03 < alarms / runs < 0.2 + slack  # ties take a little
    assert by_holm < alarms


def test_copies_of_a_quantity_cost_nothing():
    """Holm over ten copies multiplies p by ten; relabelling sees that they are one."""
    rng = np.random.default_rng(5)
    values = rng.standard_normal((20, 300, 1))
    values[0] += 0.25
    statistic = rank_statistics(ranks_of(values, rng), [ecdf_statistic])
    one = relabelling_test([statistic], 19, 300, np.random.default_rng(1), 499)
    ten = relabelling_test([statistic] * 10, 19, 300, np.random.default_rng(1), 499)
    np.testing.assert_allclose(ten.p_adjusted, one.p_value[0])
    assert one.p_value[0] < 0.1


def test_shapes_are_checked():
    rng = np.random.default_rng(6)
    with pytest.raises(ShapeError, match="truth first"):
        member_ranks(np.zeros((4, 5)), random_orders(3, 5, rng))
    ranks = member_ranks(np.zeros((4, 5, 1)), random_orders(3, 5, rng))
    with pytest.raises(ShapeError, match="member_ranks"):
        rank_statistics(ranks[..., 0], [ecdf_statistic])
    with pytest.raises(ConfigError, match="999"):
        relabelling_test([rank_statistics(ranks, [ecdf_statistic])], 3, 5, rng, 0)
