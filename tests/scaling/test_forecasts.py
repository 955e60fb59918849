"""Draws of a learning curve: against quadrature, exact curves, awkward designs, calibration."""

from math import inf, log, sqrt

import numpy as np
import pytest

from latens.errors import DataError
from latens.scaling import forecasts as module
from latens.scaling.forecasts import HORIZON, Forecast, forecast
from latens.scaling.seed_noise import CORRELATIONS, POWERS
from latens.scaling.shapes import LOG_SPREAD, MEDIAN_EXPONENT, grid_of_powers

SIZES = 32.0 * 2 ** np.arange(5)


def _noisy(law: np.ndarray, seeds: int, noise: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return law * (1 + noise * rng.standard_normal((seeds, len(law))))


def _arrival(curve: Forecast, target: float, level: float = 0.9) -> tuple[float, float, float]:
    enter, _ = curve.below(target)
    tail = (1 - level) / 2
    quantiles = np.quantile(enter, [tail, 0.5, 1 - tail], method="inverted_cdf")
    return tuple(float(q) for q in quantiles)


def _quadrature(sizes: np.ndarray, table: np.ndarray, exponents: list[float]) -> dict[str, float]:
    """Posterior means by brute force over both ends of the curve and log σ, floor ≥ 0."""
    ends = np.stack(
        np.meshgrid(np.linspace(0.6, 1.4, 81), np.linspace(0.2, 0.9, 81), indexing="ij"), axis=-1
    ).reshape(-1, 2)
    log_sigma = np.linspace(log(0.005), log(1.0), 60)
    total, share = np.zeros(4), 0.0
    logs = np.log(sizes)
    for exponent in exponents:
        g = sizes**-exponent
        w = (g - g[-1]) / (g[0] - g[-1])
        floor = ends[:, 1] + (ends[:, 0] - ends[:, 1]) * (-g[-1] / (g[0] - g[-1]))
        curves = ends[:, :1] * w + ends[:, 1:] * (1 - w)
        for power in POWERS:
            scale = np.exp(-power * (logs - logs.mean()))
            for correlation in CORRELATIONS:
                octaves = np.abs(np.log2(sizes)[:, None] - np.log2(sizes))
                matrix = np.outer(scale, scale) * correlation**octaves
                inverse = np.linalg.inv(matrix)
                residual = table[:, None] - curves  # (k, ends, J)
                square = np.einsum("kej,jl,kel->e", residual, inverse, residual)
                cells = table.size
                root = len(table) * np.linalg.slogdet(matrix)[1] / 2
                density = np.exp(
                    -root
                    - cells * log_sigma[:, None]
                    - square / 2 * np.exp(-2 * log_sigma[:, None])
                    - 30
                ).sum(axis=0)
                # the share of the floor is uniform, not f at the last size
                density = density * (floor >= 0) / (1 - g[-1] / g[0])
                moments = density @ np.stack(
                    [np.ones_like(floor), ends[:, 0], ends[:, 1], floor], 1
                )
                total += moments
                if exponent == exponents[0]:
                    share += moments[0]
    return {
        "start": total[1] / total[0],
        "end": total[2] / total[0],
        "floor": total[3] / total[0],
        "share": share / total[0],
    }


def test_draws_agree_with_quadrature(monkeypatch: pytest.MonkeyPatch):
    sizes = np.array([32.0, 64.0, 128.0])
    table = _noisy(0.05 + 5.0 * sizes**-0.5, seeds=3, noise=0.05)
    exponents = [0.45, 0.8]
    monkeypatch.setattr(module, "_plausible_powers", lambda *_: grid_of_powers(exponents))
    curve = forecast(sizes, table, broken_share=0.0, late_share=0.0, power_share=0.0, draws=60_000)
    expected = _quadrature(sizes, table, exponents)
    assert 0.1 < expected["share"] < 0.9  # otherwise the weights would not be tested
    # a draw follows the first exponent where its floor does
    ratio = (curve.start - curve.floor) / (curve.end - curve.floor)
    first = np.isclose(ratio, 4**0.45)
    assert (first | np.isclose(ratio, 4**0.8)).all()
    for name, draws in (
        ("start", curve.start),
        ("end", curve.end),
        ("floor", curve.floor),
        ("share", first.astype(float)),
    ):
        error = 5 * draws.std() / sqrt(len(draws)) + 2e-3  # five errors, and that of the grid
        assert draws.mean() == pytest.approx(expected[name], abs=error), name
    assert curve.floor.min() >= 0
    assert curve.broken == 0


@pytest.mark.parametrize(("floor", "amplitude", "exponent"), [(0.1, 3.0, 0.6), (0.0, 2.0, 0.4)])
def test_an_almost_noiseless_curve_is_continued(floor: float, amplitude: float, exponent: float):
    def law(n):
        return floor + amplitude * np.asarray(n) ** -exponent

    curve = forecast(SIZES, _noisy(law(SIZES), 3, 1e-4), broken_share=0.0, late_share=0.0)
    low, n, high = _arrival(curve, float(law(1024.0)))
    assert low < 1024 * 1.001  # paths are tabulated, 12 points per octave
    assert high > 1024 / 1.001
    assert n == pytest.approx(1024, rel=0.02)
    assert _arrival(curve, float(law(90.0)))[1] == pytest.approx(90, rel=0.05)


def test_a_floor_of_zero_is_recognised():
    power = forecast(SIZES, _noisy(2 * SIZES**-0.4, 5, 0.01))
    floored = forecast(SIZES, _noisy(0.2 + 2 * SIZES**-0.6, 5, 0.01))
    assert (power.floor == 0).mean() > 0.3  # 0.2 before the data
    assert (floored.floor == 0).mean() < 0.1


def test_below_inverts_each_draw():
    curve = forecast(SIZES, _noisy(0.05 + 5 * SIZES**-0.5, 3, 0.03), draws=500)
    target = 0.35
    enter, leave = curve.below(target)
    values = curve.curves()
    for draw in range(0, 500, 7):
        met = values[draw] <= target
        if enter[draw] == 0:
            assert met[0]
        elif enter[draw] < inf:
            assert not met[curve.grid < enter[draw] * 0.999].any()
            assert met[curve.grid > enter[draw] * 1.001].all()
        else:
            assert not met.any()
    falling = curve.start > curve.end
    assert (leave[falling] == inf).all()
    assert ((enter > 0) & (enter < inf)).mean() > 0.9


def test_a_rising_curve_leaves():
    rising = 1 - 3 * SIZES**-0.5
    curve = forecast(SIZES, _noisy(rising, 3, 0.002), floor_minimum=-inf)
    enter, leave = curve.below(0.75)  # 3 N^−.5 = .25 at N = 144
    assert (enter == 0).mean() > 0.99
    assert np.median(leave) == pytest.approx(144, rel=0.05)
    enter, leave = curve.mirrored.below(-0.75)
    assert np.median(enter) == pytest.approx(144, rel=0.05)
    assert (leave == inf).all()


def test_the_unit_does_not_matter_and_seeds_may_miss_sizes():
    table = _noisy(0.05 + 5 * SIZES**-0.5, 4, 0.03)
    once, scaled = forecast(SIZES, table), forecast(SIZES, 1e4 * table)
    np.testing.assert_allclose(_arrival(scaled, 3000.0), _arrival(once, 0.3), rtol=1e-6)
    table[0, 3:] = np.nan
    table[2, 0] = np.nan
    missing = _arrival(forecast(SIZES, table), 0.3)
    assert missing[0] < _arrival(once, 0.3)[1] < missing[2]


def test_more_seeds_narrow_the_interval():
    law = 0.05 + 5 * SIZES**-0.5
    few, many = (_arrival(forecast(SIZES, _noisy(law, k, 0.05)), 0.3) for k in (3, 24))
    assert log(many[2] / many[0]) < 0.7 * log(few[2] / few[0])


def test_a_floor_that_data_exclude_is_never_drawn():
    """Its weight is zero in floating point, so that there is nothing to draw from."""
    curve = forecast(SIZES, _noisy(0.95 + 1.6 / SIZES, 40, 0.001))
    assert (curve.floor > 0.9).all()


def test_a_late_fall_is_possible_and_nothing_more():
    """Of a curve that is flat so far no N is named, and none of those beyond the data excluded."""
    late = 0.5 / (1 + (SIZES / 512) ** 2)
    low, _, high = _arrival(forecast(SIZES[:3], _noisy(late[:3], 3, 0.005)), float(late[-1]))
    assert low < SIZES[-1]
    assert high == inf
    sure, _, _ = _arrival(
        forecast(SIZES[:3], _noisy(late[:3], 3, 0.005), late_share=0.0), float(late[-1])
    )
    assert sure > low


def test_equal_values_everywhere():
    curve = forecast(SIZES, np.full((3, 5), 0.3))
    assert np.isfinite(curve.curves()).all()
    np.testing.assert_allclose(curve.curves()[:, 0], 0.3, rtol=1e-4)


def test_the_interval_of_n_covers():
    """Laws from the prior, noise from one of its members: 90 % within three binomial errors."""
    runs, hits = 120, 0
    sizes = SIZES[:4]
    octave = np.log2(sizes)
    root = np.linalg.cholesky(0.7 ** np.abs(octave[:, None] - octave))
    for run in range(runs):
        rng = np.random.default_rng([11, run])
        exponent = MEDIAN_EXPONENT * np.exp(LOG_SPREAD * rng.standard_normal())
        floor = rng.uniform(0, 0.8)
        law = floor + (1 - floor) * (sizes / 32) ** -exponent
        errors = rng.standard_normal((4, 4)) @ root.T
        curve = forecast(sizes, law * (1 + 0.02 * errors), draws=1000)
        beyond = 2 * sizes[-1]
        low, _, high = _arrival(curve, floor + (1 - floor) * (beyond / 32) ** -exponent)
        hits += low <= beyond <= high
    tolerance = 3 * sqrt(0.9 * 0.1 / runs)
    assert 0.9 - tolerance < hits / runs
    assert HORIZON == 8


def test_errors():
    with pytest.raises(DataError, match="two or more data seeds"):
        forecast(SIZES, np.ones((1, 5)))
    with pytest.raises(DataError, match="three or more sizes"):
        forecast(SIZES[:2], np.ones((3, 2)))
    with pytest.raises(DataError, match="ascending"):
        forecast(SIZES[::-1], np.ones((3, 5)))
