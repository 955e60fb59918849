"""Sizes of two bars compared, and slopes on logarithmic axes, where both are known."""

import numpy as np
import pytest
from scipy import stats

from latens.errors import DataError
from latens.scaling import SizeRange, forecast, log_slope, size_range, size_ratio
from latens.scaling.plan import sizes_met

N = 32.0 * 2 ** np.arange(6)


def table(exponent, seeds=5, noise=0.01):
    rng = np.random.default_rng([1, int(10 * exponent)])
    return N**-exponent * (1 + noise * rng.standard_normal((seeds, 6)))


def known(n):
    return SizeRange(np.full(101, float(n)), np.full(101, float(n)))


def log_normal(median, spread, seed):
    n = median * np.exp(spread * np.random.default_rng(seed).standard_normal(4000))
    return SizeRange(n, n)


def test_the_ratio_of_two_curves_whose_sizes_are_known():
    """N^−½ reaches .1 at 100, N^−1 reaches .02 at 50."""
    slow = size_range(forecast(N, table(0.5)), -np.inf, 0.1)
    fast = size_range(forecast(N, table(1.0)), -np.inf, 0.02)
    found = size_ratio(slow, fast, 0.9)
    assert found.lower < 2 < found.upper
    assert found.value == pytest.approx(2, rel=0.1)
    assert found.upper < 3
    assert found.later > 0.99
    other = size_ratio(fast, slow, 0.9)
    assert other.value == pytest.approx(1 / found.value, rel=0.02)
    assert (other.later, other.sooner) == pytest.approx((found.sooner, found.later), abs=0.01)


def test_the_interval_is_that_of_independent_sizes():
    """Log-normal sizes of equal spread s: their log-ratio has spread √2 s, though seeds agree."""
    found = size_ratio(log_normal(100, 0.3, 5), log_normal(50, 0.3, 5), 0.9)
    half = stats.norm.ppf(0.95) * np.sqrt(2) * 0.3
    assert found.value == pytest.approx(2, rel=0.05)
    assert np.log([found.lower, found.upper]) == pytest.approx(
        np.log(2) + np.array([-half, half]), abs=0.06
    )


def test_sizes_that_were_not_measured_bound_on_one_side():
    early = SizeRange(np.zeros(101), np.full(101, 32.0))
    never = SizeRange(np.full(101, 8192.0), np.full(101, np.inf))
    found = size_ratio(known(64), early, 0.9)
    assert (found.lower, found.upper) == (2, np.inf)
    assert np.isnan(found.value)
    assert found.later == 1
    found = size_ratio(known(64), never, 0.9)
    assert (found.lower, found.upper) == (0, 64 / 8192)
    assert found.sooner == 1
    for same in (early, never):
        found = size_ratio(same, same, 0.9)
        assert (found.lower, found.upper) == (0, np.inf)
        assert (found.later, found.sooner) == (0, 0)


def test_a_range_says_what_its_curve_does_not():
    drawn = forecast(N, table(0.5))
    reached = size_range(drawn, -np.inf, 0.1)
    np.testing.assert_array_equal(reached.low, reached.high)
    np.testing.assert_array_equal(reached.low, sizes_met(drawn, -np.inf, 0.1))
    always = size_range(drawn, -np.inf, 1.0)
    assert (always.low == 0).all()
    assert (always.high == 32).all()
    never = size_range(drawn, -np.inf, 1e-6)
    assert np.isinf(never.high).all()
    np.testing.assert_allclose(never.low, 8 * N[-1])


def cells(values):
    """Cells of `(seeds, sizes)` values, each with two initialisations around it."""
    seed, column, init = np.indices((*values.shape, 2)).reshape(3, -1)
    spread = np.where(init == 0, 0.9, 1.1)
    return N[column], values[seed, column] * spread, seed, init


def test_the_slope_of_a_power_law_is_its_exponent():
    found = log_slope(*cells(3 * N**-0.2 * np.ones((3, 1))))
    assert found.value == pytest.approx(-0.2)
    assert found.upper - found.lower < 1e-9
    alone = log_slope(*cells(3 * N[None] ** 0.1))
    assert alone.value == pytest.approx(0.1)
    assert np.isnan([alone.lower, alone.upper]).all()


def test_its_interval_covers():
    hits = []
    for run in range(400):
        rng = np.random.default_rng([2, run])
        tilt = -0.1 + 0.05 * rng.standard_normal((3, 1))
        found = log_slope(*cells(N**tilt * np.exp(0.1 * rng.standard_normal((3, 6)))))
        hits.append(found.lower <= -0.1 <= found.upper)
    assert abs(np.mean(hits) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 400)


def test_slopes_that_cannot_be_said():
    values = N**-0.2 * np.ones((3, 1))
    n, v, seed, init = cells(values)
    kept = ~((seed == 0) & (n == 32))  # an incomplete data seed is left out
    found = log_slope(n[kept], v[kept], seed[kept], init[kept])
    assert found.value == pytest.approx(-0.2)
    assert np.isnan(log_slope(*cells(0 * values)).value)
    one = n == 32
    assert np.isnan(log_slope(n[one], v[one], seed[one], init[one]).value)
    with pytest.raises(DataError):
        log_slope([32, 32], [1, 1], [0, 0], [0, 0])
