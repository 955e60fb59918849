"""Shapes of learning curves: anchors, limits, slopes, prior."""

from math import inf, log

import numpy as np
import pytest
from scipy import stats

from latens.errors import ConfigError
from latens.scaling.shapes import (
    LOG_SPREAD,
    MEDIAN_EXPONENT,
    SHARPNESS,
    Shapes,
    broken_shapes,
    grid_of_powers,
    late_shapes,
    mixed,
    power_shapes,
    powers_between,
)

EVERY = mixed([power_shapes(), broken_shapes(32, 4096), late_shapes(32, 4096)], [0.5, 0.4, 0.1])


def _one(before: float, after: float, place: float) -> Shapes:
    return Shapes(*(np.array([v]) for v in (before, after, place, 1.0)))


def test_weights_are_anchored_and_fall():
    w = EVERY.weights(np.geomspace(32, 1e6, 40), 32.0, 512.0)
    assert (np.diff(w, axis=1) <= 0).all()
    inside = EVERY.weights(np.geomspace(32, 4096, 40), 32.0, 512.0)
    assert (np.diff(inside, axis=1) < 0).all()  # further out the steepest laws round to constants
    ends = EVERY.weights([32.0, 512.0], 32.0, 512.0)
    np.testing.assert_allclose(ends, np.tile([1.0, 0.0], (len(w), 1)), atol=1e-12)


@pytest.mark.parametrize(
    ("before", "after", "place"), [(0.5, 0.5, 1.0), (0.3, 1.2, 200.0), (0.0, 1.2, 200.0)]
)
def test_a_curve_from_its_weights_is_the_curve_of_the_law(
    before: float, after: float, place: float
):
    shape = _one(before, after, place)
    n = np.geomspace(32, 1e5, 30)
    bend = (1 + (n / place) ** (1 / SHARPNESS)) ** (-(after - before) * SHARPNESS)
    law = 0.2 + 7.0 * n**-before * bend
    first, last = law[0], np.interp(log(512), np.log(n), law)
    np.testing.assert_allclose(shape.values(n)[0], n**-before * bend, rtol=1e-12)
    w = shape.weights(n, n[0], n[12])[0]
    np.testing.assert_allclose(law[12] + (first - law[12]) * w, law, rtol=1e-12)
    floor = law[12] + (first - law[12]) * shape.weights([inf], n[0], n[12])[0, 0]
    assert floor == pytest.approx(0.2, rel=1e-10)
    assert last < first


def test_exponents_far_from_the_break():
    shape = _one(0.3, 1.4, 1e4)
    slope = np.diff(np.log(shape.values([1.0, 2.0, 1e8, 2e8])[0]))[[0, 2]] / log(2)
    np.testing.assert_allclose(slope, [-0.3, -1.4], rtol=1e-3)


def test_steep_and_flat_laws_stay_finite():
    w = grid_of_powers([1e-3, 30.0]).weights([32.0, 100.0, 512.0, inf], 32.0, 512.0)
    assert np.isfinite(w).all()
    assert w[0, 3] < -100  # nearly logarithmic: the floor is far below


def test_the_prior_is_the_stated_one():
    exponents = power_shapes(400).before
    expected = stats.lognorm(LOG_SPREAD, scale=MEDIAN_EXPONENT)
    assert stats.kstest(exponents, expected.cdf).statistic < 0.01
    assert expected.ppf([0.05, 0.95]) == pytest.approx([0.27, 3.7], rel=0.02)
    assert EVERY.prior.sum() == pytest.approx(1)
    assert EVERY.prior[EVERY.before != EVERY.after].sum() == pytest.approx(0.5)


def test_a_finer_grid_has_the_mass_of_its_range():
    expected = stats.lognorm(LOG_SPREAD, scale=MEDIAN_EXPONENT)
    fine = powers_between(0.3, 0.5)
    assert fine.prior.sum() == pytest.approx(expected.cdf(0.5) - expected.cdf(0.3))
    assert ((fine.before > 0.3) & (fine.before < 0.5)).all()


def test_errors():
    with pytest.raises(ConfigError, match="first"):
        EVERY.weights([64.0], 512.0, 32.0)
    with pytest.raises(ConfigError, match="shares"):
        mixed([power_shapes()], [0.5])
