"""Forecasts of volume series against what was read later, by grouped cross-validation."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.data import VolumeSeries, grouped_folds
from latens.distributions import Purpose, row_noise
from latens.errors import ConfigError
from latens.evaluation.intervals import Interval, bootstrap_interval, metric_interval
from latens.inference.forecasting import Forecast, Forecaster
from latens.metrics import crps, interval_score, rank
from latens.metrics.catalogue.forecast import FORECAST
from latens.metrics.metric import LEVEL, Metric, first

Array = NDArray[np.float64]

COMPONENTS = tuple(component for metric in FORECAST for component in metric.components)


@dataclass(frozen=True, eq=False)
class ForecastScores:
    """Scores of one forecaster, one row per patient.

    Attributes:
        label: Name of the forecaster.
        patients: Name of each patient, n.
        fold: Fold in which each was tested, `(n,)`.
        truth: Log volume read, `(n,)`.
        median, lower, upper: Median and band of the forecast, `(n,)`.
        components: Name → scores, `(n,)`; see `FORECAST`.
        seconds: Time of all fits and of all forecasts.
        diagnostics: Numbers of each fold, by name.
    """

    label: str
    patients: tuple[str, ...]
    fold: NDArray[np.int64]
    truth: Array
    median: Array
    lower: Array
    upper: Array
    components: Mapping[str, Array]
    seconds: tuple[float, float]
    diagnostics: Mapping[str, list[float]] = field(default_factory=dict)

    def rows(self, metric: Metric) -> Array:
        """Components of a metric per patient, `(n, p)`."""
        return np.stack([self.components[name] for name in metric.components], axis=1)

    def value(self, metric: Metric, level: float = 0.95, seed: int = 0) -> Interval:
        """A metric with its bootstrap interval over patients."""
        return metric_interval(metric, self.rows(metric), self.patients, level, seed=seed)

    def difference(
        self, other: "ForecastScores", metric: Metric, level: float = 0.95, seed: int = 0
    ) -> Interval:
        """A metric less that of another forecaster on the same patients, with its interval.

        Raises:
            ConfigError: If the patients are not the same.
        """
        if self.patients != other.patients:
            raise ConfigError(
                "other",
                "scores of the same patients in the same order",
                f"{len(other.patients)} others",
                "Score both on the same folds.",
            )
        rows = self.rows(metric) - other.rows(metric)
        return bootstrap_interval(rows, self.patients, first, level, seed=seed)


def score_forecast(forecast: Forecast, truth: Tensor, uniform: Tensor) -> dict[str, Array]:
    """Scores of every patient, mean over the horizon.

    Args:
        forecast: Draws, `(M, B, H)`.
        truth: Log volumes, at least that of the limit of detection, `(B, H)`.
        uniform: Uniform numbers that break ties of ranks, `(B, H)`.

    Returns:
        Component → `(B,)`.
    """
    band = forecast.interval(LEVEL)
    inside = (band.lower <= truth) & (truth <= band.upper)
    ranks = rank(forecast.draws, truth, uniform).to(truth.dtype)
    found = {
        "absolute_error": (forecast.median - truth).abs().mean(1),
        "crps": crps(forecast.draws, truth),
        "interval_score": interval_score(band.lower, band.upper, truth, LEVEL),
        "covered": inside.to(truth.dtype).mean(1),
        "width": (band.upper - band.lower).mean(1),
        "rank": ((ranks + 0.5) / (len(forecast.draws) + 1)).mean(1),
    }
    return {name: values.numpy().astype(np.float64) for name, values in found.items()}


def cross_validate(
    make: Callable[[], Forecaster],
    series: VolumeSeries,
    *,
    folds: int = 10,
    min_visits: int = 6,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> ForecastScores:
    """Forecast the last visit of every patient from the earlier ones, out of fold.

    Patients with fewer visits are never tested, but are learned from.

    Args:
        make: A new forecaster for each fold.
        series: All patients.
        folds: Number of folds.
        min_visits: Visits of a patient who is tested.
        seed: Key of the folds and of every draw.
        groups: Group of each patient that stays whole; default: every patient is one.

    Returns:
        Scores of the tested patients, in the order of the series.

    Raises:
        DataError: If no patient has enough visits.
        ConfigError: If there are fewer groups than folds.
    """
    names = series.patients if groups is None else tuple(groups)
    tested = (series.visits >= min_visits).nonzero()[:, 0].numpy()
    place = {int(row): k for k, row in enumerate(tested)}
    _, times, truth = series.split_last(min_visits)  # `(n, 1)`, in the order of `tested`
    histories = series.first(series.visits - 1)
    n = len(tested)
    fold_of = np.zeros(n, dtype=np.int64)
    scores = {name: np.zeros(n) for name in COMPONENTS}
    shown = {name: np.zeros(n) for name in ("median", "lower", "upper")}
    diagnostics: dict[str, list[float]] = {}
    fitting = forecasting = 0.0
    label = ""
    for k, (train, test) in enumerate(grouped_folds(names, folds, seed)):
        rows = [int(row) for row in test if int(row) in place]
        if not rows:
            continue
        forecaster = make()
        label = forecaster.label
        begin = time.perf_counter()
        forecaster.fit(series.take(train), seed)
        middle = time.perf_counter()
        at = np.asarray([place[row] for row in rows])
        forecast = forecaster.forecast(histories.take(rows), times[at], keys=rows, seed=seed)
        fitting += middle - begin
        forecasting += time.perf_counter() - middle
        noise = row_noise((seed, Purpose.POOL), rows, (1,), torch.float64)
        ties = torch.special.ndtr(noise)[0][:, None]
        for name, values in score_forecast(forecast, truth[at], ties).items():
            scores[name][at] = values
        band = forecast.interval(LEVEL)
        for name, values in zip(shown, (forecast.median, band.lower, band.upper), strict=True):
            shown[name][at] = values[:, 0].numpy()
        fold_of[at] = k
        for name, value in forecast.diagnostics.items():
            diagnostics.setdefault(name, []).append(value)
    return ForecastScores(
        label,
        tuple(series.patients[row] for row in tested),
        fold_of,
        truth[:, 0].numpy(),
        shown["median"],
        shown["lower"],
        shown["upper"],
        scores,
        (fitting, forecasting),
        diagnostics,
    )
