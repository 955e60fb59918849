"""Cross-validated forecasts: nothing leaks, scores are what they say."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from inference.forecasting.growth_cases import uneven
from latens.data import GrowthSimulation, VolumeSeries
from latens.distributions import NoiseStream
from latens.errors import ConfigError, DataError
from latens.evaluation import forecasts
from latens.evaluation.forecasts import cross_validate, score_forecast
from latens.inference.forecasting import Forecast, Forecaster, LastValue
from latens.inference.forecasting.forecast import patient_noise
from latens.metrics.catalogue.forecast import FORECAST
from latens.metrics.scores import crps_gaussian

METRICS = {metric.name: metric for metric in FORECAST}


class Spy(Forecaster):
    """Remembers what it was shown."""

    label = "spy"
    seen: list[tuple[set[str], set[str], int]] = []  # noqa: RUF012

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
        Spy.seen.append((self.trained, set(history.patients), int(history.visits.max())))
        level = history.last_log_volumes[:, None].expand(draws, -1, 1)
        steps = torch.linspace(-1, 1, draws, dtype=torch.float64)[:, None, None]
        return Forecast((level + steps).clamp(min=history.log_limit), history.log_limit)


def test_ties_are_broken_by_numbers_that_no_forecast_is_made_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = []

    def score(forecast: Forecast, truth: torch.Tensor, uniform: torch.Tensor):
        broken.append(uniform)
        return score_forecast(forecast, truth, uniform)

    monkeypatch.setattr(forecasts, "score_forecast", score)
    cross_validate(Spy, uneven(), folds=2, min_visits=6)
    used = [torch.special.ndtr(patient_noise(s, range(200), (4,))) for s in (0, 1)]
    numbers = torch.cat(broken).flatten()
    assert ((numbers > 0) & (numbers < 1)).all()
    assert not torch.isin(numbers, torch.cat(used)).any()


def test_tested_patients_are_not_learned_from() -> None:
    Spy.seen = []
    series = uneven()
    scores = cross_validate(Spy, series, folds=5, min_visits=6)
    tested = [name for _, names, _ in Spy.seen for name in names]
    enough = {p for p, n in zip(series.patients, series.visits.tolist(), strict=True) if n >= 6}
    assert sorted(tested) == sorted(enough)
    for trained, names, visits in Spy.seen:
        assert not trained & names
        assert visits <= 6
        assert len(trained) == 48  # patients with few visits are learned from too
    assert set(scores.patients) == enough
    assert len(np.unique(scores.fold)) == 5
    truth = series.split_last(6)[2][:, 0].numpy()
    np.testing.assert_array_equal(scores.truth, truth)
    np.testing.assert_allclose(scores.components["absolute_error"], np.abs(scores.median - truth))
    inside = (scores.lower <= truth) & (truth <= scores.upper)
    np.testing.assert_array_equal(scores.components["covered"], inside)


def test_scores_of_a_known_normal() -> None:
    draws = 2 + 0.5 * NoiseStream(0).normal((9_999, 3, 1), torch.float64)
    truth = torch.tensor([[2.0], [2.8], [4.0]], dtype=torch.float64)
    found = score_forecast(Forecast(draws, -10.0), truth, torch.full_like(truth, 0.5))
    np.testing.assert_allclose(found["absolute_error"], [0, 0.8, 2], atol=0.03)
    expected = crps_gaussian(torch.full_like(truth, 2), torch.full_like(truth, 0.5), truth)
    np.testing.assert_allclose(found["crps"], expected, atol=0.01)
    np.testing.assert_allclose(found["width"], 2 * 1.96 * 0.5, atol=0.06)
    np.testing.assert_array_equal(found["covered"], [1, 1, 0])
    np.testing.assert_allclose(found["rank"], [0.5, 0.945, 1.0], atol=0.02)
    outside = 4 - (2 + 1.96 * 0.5)
    assert found["interval_score"][2] == pytest.approx(1.96 + 40 * outside, abs=1.5)


def test_the_spread_of_the_last_value_covers() -> None:
    series, _ = GrowthSimulation(count=400, visits=6, repeat=0.3).make(2)
    scores = cross_validate(lambda: LastValue("last", 6), series, folds=4)
    covered = scores.value(METRICS["forecast_coverage"])
    assert covered.value == pytest.approx(0.95, abs=0.033)  # three binomial standard errors
    assert covered.lower < covered.value < covered.upper
    assert scores.value(METRICS["forecast_rank"]).value == pytest.approx(0.5, abs=0.05)


def test_differences_are_paired() -> None:
    series = uneven()
    first = cross_validate(Spy, series, folds=3, min_visits=5)
    gap = first.difference(first, METRICS["forecast_mae"])
    assert gap.value == 0
    with pytest.raises(ConfigError, match="the same patients"):
        first.difference(cross_validate(Spy, series, folds=3), METRICS["forecast_mae"])


def test_nobody_to_test() -> None:
    with pytest.raises(DataError, match="at least 20 visits"):
        cross_validate(Spy, uneven(), min_visits=20)
