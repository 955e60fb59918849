"""Conformal bands of forecasts: patients are the unit, and the promise is kept."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from latens.data import GrowthSimulation, VolumeSeries
from latens.errors import ConfigError, DataError
from latens.evaluation.forecast_conformal import (
    ForecastCalibration,
    calibrate_forecaster,
    conformalised,
    exceedances,
    require_patients,
)
from latens.evaluation.forecasts import COMPONENTS, ForecastScores, cross_validate
from latens.inference.forecasting import Forecast, Forecaster

N, FOLDS = 400, 10
LIMIT = math.log(2.0)


def scores(seed: int, half_width: float) -> ForecastScores:
    """Forecasts N(m, 1) of readings, with bands of a half-width that may be wrong."""
    rng = np.random.default_rng(seed)
    median = rng.normal(8, 1, N)
    truth = median + rng.normal(0, 1, N)
    zeros = np.zeros(N)
    return ForecastScores(
        "made up",
        tuple(f"p{i}" for i in range(N)),
        np.arange(N) % FOLDS,
        truth,
        median,
        median - half_width,
        median + half_width,
        dict.fromkeys(COMPONENTS, zeros),
        (0.0, 0.0),
    )


@pytest.mark.parametrize("half_width", [0.5, 4.0])
def test_bands_that_are_wrong_cover_their_level_afterwards(half_width: float) -> None:
    """20 simulations of 400 patients: the share covered is .95, within its binomial error."""
    before, covered, widths = [], [], []
    for seed in range(20):
        given = scores(seed, half_width)
        before.append(((given.lower <= given.truth) & (given.truth <= given.upper)).mean())
        found = conformalised(given, LIMIT)
        covered.append(found.components["covered"].mean())
        widths.append(found.components["width"].mean())
        np.testing.assert_array_equal(found.median, given.median)
        assert found.label == "made up, conformal"
    count = round(float(np.sum(covered)) * N)
    # 8000 readings; λ itself varies with 360 calibration patients, which doubles the variance
    error = math.sqrt(2 * 0.95 * 0.05 / (20 * N))
    assert abs(count / (20 * N) - 0.95) < 3 * error
    assert abs(np.mean(before) - 0.95) > 0.04
    assert np.mean(widths) == pytest.approx(2 * stats.norm.ppf(0.975), rel=0.05)


def test_a_fold_is_calibrated_on_the_others_alone() -> None:
    given = scores(0, 1.0)
    found = conformalised(given, LIMIT)
    changed = given.truth.copy()
    changed[given.fold == 3] += 100.0
    moved = conformalised(
        ForecastScores(**{**vars(given), "truth": changed}),
        LIMIT,
    )
    own = given.fold == 3
    np.testing.assert_array_equal(moved.upper[own], found.upper[own])
    assert (moved.upper[~own] > found.upper[~own]).all()


def test_scores_of_the_band_follow_it() -> None:
    given = scores(1, 0.2)
    found = conformalised(given, LIMIT)
    below, above = found.lower - given.truth, given.truth - found.upper
    score = found.upper - found.lower + 40 * (below.clip(0) + above.clip(0))
    np.testing.assert_allclose(found.components["interval_score"], score)
    assert set(found.components) == set(COMPONENTS)


def test_bounds_never_cross_nor_fall_below_the_limit() -> None:
    lower, upper = np.array([1.0, 5.0, 0.7]), np.array([1.2, 9.0, 0.7])
    narrow, wide = (
        ForecastCalibration(f, 0.95, 99).band(lower, upper, LIMIT) for f in (-1.0, 2.0)
    )
    np.testing.assert_allclose(narrow[0], [1.1, 6.0, 0.7])
    np.testing.assert_allclose(narrow[1], [1.1, 8.0, 0.7])
    np.testing.assert_allclose(wide[0], [LIMIT, 3.0, LIMIT])
    np.testing.assert_allclose(wide[1], [3.2, 11.0, 2.7])


def test_exceedances() -> None:
    found = exceedances(np.array([0.0, 0.0]), np.array([1.0, 1.0]), np.array([3.0, 0.5]))
    np.testing.assert_allclose(found, [2.0, -0.5])


def test_too_few_patients_are_named() -> None:
    few = scores(0, 1.0)
    rows = np.arange(20)
    small = ForecastScores(
        few.label,
        few.patients[:20],
        few.fold[rows],
        few.truth[rows],
        few.median[rows],
        few.lower[rows],
        few.upper[rows],
        {name: values[rows] for name, values in few.components.items()},
        few.seconds,
    )
    with pytest.raises(ConfigError, match="19"):
        conformalised(small, LIMIT)
    require_patients(22, 10)
    with pytest.raises(ConfigError, match="19 patients or more"):
        require_patients(21, 10)


class Narrow(Forecaster):
    """The last value, with a band that is far too narrow."""

    label = "narrow"
    shown: list[NDArray[np.int64]] = []  # noqa: RUF012

    def fit(self, series: VolumeSeries, seed: int = 0) -> None:
        self.trained = set(series.patients)

    def make_forecast(
        self,
        history: VolumeSeries,
        times: torch.Tensor,
        keys: Sequence[int],
        seed: int,
        draws: int,
    ) -> Forecast:
        assert not self.trained & set(history.patients)
        Narrow.shown.append(history.visits.numpy())
        level = history.last_log_volumes[:, None].expand(draws, -1, times.shape[1])
        steps = torch.linspace(-1e-3, 1e-3, draws, dtype=torch.float64)[:, None, None]
        return Forecast((level + steps).clamp(min=history.log_limit), history.log_limit)


def test_the_calibration_of_a_stored_forecaster_covers_new_patients() -> None:
    """One visit of each patient, any but the first; then the next visits of patients unseen."""
    simulation = GrowthSimulation(count=400, visits=6, noise=0.3)
    series, _ = simulation.make(0)
    Narrow.shown = []
    found = calibrate_forecaster(Narrow, series, 5)
    assert found.patients == 400
    seen = np.concatenate(Narrow.shown)
    assert set(seen.tolist()) == {1, 2, 3, 4, 5}  # visits before the one that is forecast
    assert calibrate_forecaster(Narrow, series, 5) == found
    new, _ = simulation.make(1)
    covered = []
    for visits in range(1, 6):
        history = new.first(torch.full((400,), visits))
        forecaster = Narrow()
        forecaster.fit(series.take([0]))
        forecaster.trained = set()
        band = forecaster.forecast(history, new.times[:, [visits]]).interval(0.95)
        bounds = found.band(band.lower[:, 0].numpy(), band.upper[:, 0].numpy(), new.log_limit)
        truth = new.log_volumes[:, visits].numpy()
        covered.append(((bounds[0] <= truth) & (truth <= bounds[1])).mean())
    # λ from 400 patients: standard deviation .011 of the coverage, and .005 of its estimate
    assert np.mean(covered) == pytest.approx(0.95, abs=0.035)
    plain = cross_validate(Narrow, series, folds=5)
    assert plain.components["covered"].mean() < 0.1


def test_patients_with_one_visit_are_not_forecast() -> None:
    series, _ = GrowthSimulation(count=60, visits=3).make(0)
    short = series.first(torch.where(torch.arange(60) < 20, 1, 3))
    assert calibrate_forecaster(Narrow, short, 5).patients == 40
    with pytest.raises(DataError, match="two visits"):
        calibrate_forecaster(Narrow, series.first(torch.ones(60, dtype=torch.long)), 5)
