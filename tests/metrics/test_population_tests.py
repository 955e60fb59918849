"""Holm's rule and relabellings against their definitions."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from latens.errors import ConfigError, ShapeError
from latens.metrics import (
    PopulationTest,
    chi_square_statistic,
    ecdf_statistic,
    ecdf_test,
    holm,
    holm_adjusted,
    member_ranks,
    random_orders,
    rank_counts,
    relabelling_test,
)
from latens.metrics.relabelling import _sequential


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


def test_holm_agrees_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).uniform(size=30) ** 3
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1])


def test_holm_of_a_list_of_tests():
    tests = [
        PopulationTest("ecdf", name, 1.0, p, 100, 39) for name, p in (("a", 0.04), ("b", 0.01))
    ]
    assert holm_adjusted(tests).tolist() == pytest.approx([0.04, 0.02])
    assert holm([]).shape == (0,)
    with pytest.raises(ConfigError, match="probabilities"):
        holm([0.1, np.nan])


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


def test_one_quantity_agrees_with_the_exact_test():
    """For one quantity relabelling draws from the same null as the exact p-value sums over."""
    rng = np.random.default_rng(3)
    for scale in (1.0, 1.2):
        values = rng.standard_normal((20, 200, 1))
        values[0] *= scale
        ranks = member_ranks(values, random_orders(19, 200, rng))
        _, exact = ecdf_test(ranks[0], 19)
        _, found = relabelling_test(ranks, [ecdf_statistic], rng, 4000)
        error = exact[0] * np.sqrt(1 / 20 + 1 / (4000 * exact[0]))  # of a p-value of 20 hits
        assert found[0] == pytest.approx(exact[0], abs=4 * error)


def test_the_statistic_is_the_maximum_over_quantities():
    rng = np.random.default_rng(4)
    ranks = member_ranks(rng.standard_normal((9, 60, 4)), random_orders(8, 60, rng))
    found, p = relabelling_test(ranks, [ecdf_statistic, chi_square_statistic], rng, 99)
    counts = rank_counts(ranks[0], 8)
    assert found[0] == pytest.approx(ecdf_statistic(counts).max())
    assert found[1] == pytest.approx(chi_square_statistic(counts).max())
    assert ((p >= 0.01) & (p <= 1)).all()


def test_sequential_p_values_by_definition():
    reached = np.zeros(999, dtype=bool)
    assert _sequential(reached) == 1 / 1000
    reached[5:24] = True
    assert _sequential(reached) == 20 / 1000
    reached[[100, 101]] = True
    assert _sequential(reached) == 20 / 101


def test_sequential_p_values_are_exact():
    """P(p ≤ α) ≤ α where each relabelling is as likely as the truth to be the most extreme."""
    rng = np.random.default_rng(7)
    runs = 20_000
    p = []
    for _ in range(runs):
        hits = rng.random(99) < rng.random()  # T* ≥ T with chance 1 − F(T), uniform
        p.append(_sequential(hits))
    for level in (0.05, 0.2, 0.5):
        rate = np.mean(np.array(p) <= level)
        assert level - 0.03 < rate < level + 4 * np.sqrt(level * (1 - level) / runs)


@pytest.mark.parametrize("shift", [0.1, 0.2])
def test_copies_of_a_quantity_cost_nothing(shift: float):
    """Holm over ten copies multiplies p by ten; relabelling sees that they are one."""
    rng = np.random.default_rng(5)
    values = rng.standard_normal((20, 300, 1))
    values[0] += shift
    order = random_orders(19, 300, rng)
    one = relabelling_test(member_ranks(values, order), [ecdf_statistic], rng, 2000)[1][0]
    ten = np.repeat(values, 10, axis=2)
    many = relabelling_test(member_ranks(ten, order), [ecdf_statistic], rng, 2000)[1][0]
    error = one * np.sqrt(2 / 20 + 2 / (2000 * one))  # of two p-values of 20 hits each
    assert many == pytest.approx(one, abs=4 * error)


def test_shapes_are_checked():
    rng = np.random.default_rng(6)
    with pytest.raises(ShapeError, match="truth first"):
        member_ranks(np.zeros((4, 5)), random_orders(3, 5, rng))
    ranks = member_ranks(np.zeros((4, 5, 1)), random_orders(3, 5, rng))
    with pytest.raises(ShapeError, match="member_ranks"):
        relabelling_test(ranks[..., 0], [ecdf_statistic], rng)
    with pytest.raises(ConfigError, match="999"):
        relabelling_test(ranks, [ecdf_statistic], rng, 0)
