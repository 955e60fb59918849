"""The sample-size law: exact curves, unidentified curves, awkward designs."""

from math import inf, isnan

import numpy as np
import pytest
from scipy import stats

from latens.errors import ConfigError, DataError
from latens.scaling.curve_tests import SeedCurves
from latens.scaling.fit import ANOTHER_LAW, MISFIT, ScalingFit, fit_scaling

SIZES = 32.0 * 2 ** np.arange(7)


def _fit(table: np.ndarray, sizes: np.ndarray = SIZES, **options: float) -> ScalingFit:
    """Fit of values `(data seeds, initialisations, sizes)`; NaN = no such cell."""
    index = np.indices(table.shape).reshape(3, -1)
    keep = np.isfinite(table.ravel())
    seeds, inits, column = index[:, keep]
    return fit_scaling(sizes[column], table.ravel()[keep], seeds, inits, **options)


def _table(
    floor: float, amplitude: float, exponent: float, seeds: int = 5, noise: float = 0.05
) -> np.ndarray:
    rng = np.random.default_rng(0)
    law = amplitude * SIZES**-exponent
    shared = rng.standard_normal((seeds, 1, 1)) + rng.standard_normal((seeds, 1, len(SIZES)))
    own = rng.standard_normal((seeds, 2, len(SIZES)))
    return floor + law + noise * (np.abs(law) + 0.02 * abs(floor)) * (shared + own)


@pytest.mark.parametrize(
    ("floor", "amplitude", "exponent"), [(0.05, 1.0, 0.5), (0.3, 20.0, 1.2), (30.0, -60.0, 0.4)]
)
def test_noiseless_curves_are_recovered(floor: float, amplitude: float, exponent: float):
    fit = _fit(np.tile(floor + amplitude * SIZES**-exponent, (3, 2, 1)))
    assert fit.floor.value == pytest.approx(floor, rel=1e-4)
    assert fit.amplitude.value == pytest.approx(amplitude, rel=1e-3)
    assert fit.exponent.value == pytest.approx(exponent, rel=1e-4)


@pytest.mark.parametrize(
    ("floor", "amplitude", "exponent"), [(0.05, 1.0, 0.5), (0.3, 20.0, 1.2), (30.0, -60.0, 0.4)]
)
def test_noisy_curves(floor: float, amplitude: float, exponent: float):
    fit = _fit(_table(floor, amplitude, exponent, seeds=8))
    assert fit.status == "ok"
    assert (fit.sizes, fit.data_seeds) == (7, 8)
    for parameter, truth in (
        (fit.floor, floor),
        (fit.amplitude, amplitude),
        (fit.exponent, exponent),
    ):
        assert parameter.lower < parameter.value < parameter.upper
        assert parameter.lower < truth < parameter.upper
    assert fit.aic["floor"] < min(fit.aic["power"], fit.aic["constant"])
    assert np.linalg.eigvalsh(fit.covariance).min() > -1e-9 * np.trace(fit.covariance)
    half = (fit.exponent.upper - fit.exponent.lower) / 2
    assert 0.2 < np.sqrt(fit.covariance[2, 2]) * 2.36 / half < 3


def test_predictions_narrow_inside_and_widen_outside():
    fit = _fit(_table(0.05, 1.0, 0.5))
    n = np.array([64.0, 512.0, 1e5])
    value, lower, upper = fit.predict(n)
    assert ((lower < value) & (value < upper)).all()
    np.testing.assert_allclose(value, fit.curve(n))
    relative = (upper - lower) / value
    assert relative[2] > relative[1]
    _, narrow_lower, narrow_upper = fit.predict(n, level=0.5)
    assert (narrow_upper - narrow_lower < upper - lower).all()
    _, lower, upper = fit.predict([1e15])
    assert lower[0] == pytest.approx(fit.floor.lower, rel=0.02)
    assert upper[0] == pytest.approx(fit.floor.upper, rel=0.02)


def test_the_size_for_a_target():
    fit = _fit(_table(0.05, 1.0, 0.5))
    needed = fit.size_for(0.1)
    assert needed.lower < needed.value < needed.upper
    assert needed.lower < 400 < needed.upper
    assert fit.curve(needed.value) == pytest.approx(0.1)
    _, lower, upper = fit.predict([needed.lower, needed.upper])
    assert lower[0] == pytest.approx(0.1, rel=0.01)
    assert upper[1] == pytest.approx(0.1, rel=0.01)
    never = fit.size_for(0.01)
    assert never.value == inf
    assert never.lower == never.upper == inf


def test_a_pure_power_law_has_no_identified_floor():
    fit = _fit(_table(0.0, 1.0, 0.5))
    assert fit.status == "floor not identified"
    assert fit.floor.lower == 0.0
    assert fit.aic["power"] < fit.aic["floor"] + 2


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_flat_curves_are_not_identified(seeds: int):
    rng = np.random.default_rng(1)
    fit = _fit(0.4 + 0.02 * rng.standard_normal((seeds, 2, 7)))
    assert fit.status == "not identified"
    assert fit.amplitude.lower <= 0 <= fit.amplitude.upper
    assert fit.aic["constant"] < fit.aic["power"]


def test_curves_of_another_shape():
    rng = np.random.default_rng(2)
    rising_faster = (SIZES / 1000) ** 2 * (1 + 0.01 * rng.standard_normal((4, 2, 7)))
    step = np.where(SIZES > 200, 0.1, 1.0) * (1 + 0.05 * rng.standard_normal((4, 2, 7)))
    flat = np.zeros((3, 2, 7)), np.full((3, 2, 7), 0.3)
    for table, status in (
        (rising_faster, ANOTHER_LAW),
        (step, ANOTHER_LAW),
        (flat[0], "not identified"),
        (flat[1], "not identified"),
    ):
        fit = _fit(table)
        assert fit.status == status
        assert fit.checked == (status != ANOTHER_LAW)
        assert fit.predict([50.0])[0].shape == (1,)


def test_three_sizes_check_no_law():
    table = _table(0.05, 1.0, 0.5)
    assert not _fit(table[:, :, :3], SIZES[:3]).checked
    assert _fit(table[:, :, :4], SIZES[:4]).checked


@pytest.mark.parametrize("shared", [0.0, 0.6])
@pytest.mark.parametrize("seeds", [3, 6])
def test_a_law_that_holds_is_seldom_rejected(shared: float, seeds: int):
    """At most .01 of 500 curves, and a little more for the estimated variances."""
    rng = np.random.default_rng([7, seeds, int(10 * shared)])
    rejected = 0
    for _ in range(500):
        law = 0.1 + rng.uniform(0.2, 3) * SIZES ** -rng.uniform(0.2, 1.2)
        common = rng.standard_normal((seeds, 1)) * shared**0.5
        own = rng.standard_normal((seeds, len(SIZES))) * (1 - shared) ** 0.5
        curves = SeedCurves(SIZES, law * (1 + 0.05 * (common + own)))
        misfit = curves.estimate(0.0)[3]
        rejected += curves.p_value_of_misfit(misfit) <= MISFIT
    assert rejected <= stats.binom.ppf(0.999, 500, 2 * MISFIT)


def test_too_few_sizes_or_seeds_speak_against_no_law():
    rng = np.random.default_rng(3)
    for shape in ((3, 3), (1, 7)):
        curves = SeedCurves(SIZES[: shape[1]], rng.standard_normal(shape))
        assert curves.p_value_of_misfit(curves.misfit) == 1


def test_one_data_seed_has_an_estimate_and_no_interval():
    fit = _fit(_table(0.05, 1.0, 0.5, seeds=1))
    assert fit.status == "one data seed"
    assert fit.exponent.value > 0
    assert isnan(fit.exponent.lower)
    assert np.isnan(fit.predict([64])[1]).all()
    assert isnan(fit.size_for(0.1).upper)


def test_two_sizes_are_too_few():
    fit = _fit(_table(0.05, 1.0, 0.5)[..., :2])
    assert fit.status == "too few sizes"
    assert isnan(fit.floor.value)
    assert np.isnan(fit.predict([64])[0]).all()


def test_missing_cells_and_their_order():
    table = _table(0.05, 1.0, 0.5, seeds=6)
    table[0, :, 5:] = np.nan
    table[1, 1, :] = np.nan
    table[2, :, 0] = np.nan
    fit = _fit(table)
    assert fit.status == "ok"
    assert fit.exponent.lower < 0.5 < fit.exponent.upper
    again = _fit(table[::-1])
    assert again.exponent.upper == pytest.approx(fit.exponent.upper)


def test_the_unit_of_the_metric_does_not_matter():
    table = _table(0.05, 1.0, 0.5)
    once, scaled = _fit(table), _fit(1e4 * table)
    assert scaled.exponent.lower == pytest.approx(once.exponent.lower, rel=1e-4)
    assert scaled.floor.upper == pytest.approx(1e4 * once.floor.upper, rel=1e-3)


def test_errors():
    good = ([32, 64], [1.0, 0.5], [0, 0], [0, 0])
    with pytest.raises(DataError, match="not finite"):
        fit_scaling([32, 64], [1.0, np.nan], [0, 0], [0, 0])
    with pytest.raises(DataError, match="repeated"):
        fit_scaling([32, 32], [1.0, 0.5], [0, 0], [0, 0])
    with pytest.raises(DataError, match="equally long"):
        fit_scaling([32, 64], [1.0, 0.5], [0], [0, 0])
    with pytest.raises(ConfigError, match="level"):
        fit_scaling(*good, level=1.0)
    with pytest.raises(ConfigError, match="positive"):
        _fit(_table(0.05, 1.0, 0.5)).predict([0])
