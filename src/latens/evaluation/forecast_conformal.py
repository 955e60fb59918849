"""Forecast bands that are widened, or narrowed, until they keep their level.

    e_i = max(lower_i − y_i, y_i − upper_i)           exceedance of patient i, log volume
    λ = the ⌈(n + 1)(1 − α)⌉-th smallest e_i          of patients that the forecaster has not seen
    band: [lower − λ, upper + λ], not below the limit of detection

Conformalised quantile regression (Romano, Patterson, Candès 2019). A patient is the exchangeable
unit and counts once. In the comparison λ of a fold comes from the out-of-fold forecasts of the
patients of all others (cross-conformal prediction, Vovk 2015,
https://doi.org/10.1007/s10472-013-9368-4). λ was found for their forecasters and not for this one,
so that it holds as far as the forecasters of the folds are alike: ten folds of many patients are,
two folds of twenty are not. What is attained is measured and shown beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from latens.data import VolumeSeries, grouped_folds
from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError, DataError
from latens.evaluation.forecasts import ForecastScores
from latens.inference.forecasting import Forecaster
from latens.metrics import LEVEL, interval_score
from latens.metrics.conformal import exceedance, split_quantile, units_needed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ForecastCalibration:
    """By how much the bands of a forecaster are moved outwards.

    Args:
        factor: λ, log volume; negative where bands were too wide.
        level: Level of the band, and of the promise.
        patients: Patients that it was found on.
    """

    factor: float
    level: float
    patients: int

    def band(self, lower: Array, upper: Array, log_limit: float) -> tuple[Array, Array]:
        """The calibrated band of log volumes; bounds never cross.

        Args:
            lower: Lower bounds, any shape.
            upper: Upper bounds.
            log_limit: Log of the limit of detection, below which nothing is told apart.
        """
        middle = (lower + upper) / 2
        below = np.maximum(np.minimum(lower - self.factor, middle), log_limit)
        return below, np.maximum(np.maximum(upper + self.factor, middle), below)


def require_patients(tested: int, folds: int) -> None:
    """Raise unless the other folds of every fold have patients enough for the level.

    Args:
        tested: Patients that are forecast.
        folds: Folds that they are dealt to evenly.

    Raises:
        ConfigError: Naming how many are needed.
    """
    others, needed = tested - -(-tested // folds), units_needed(LEVEL)
    if others < needed:
        raise ConfigError(
            "conformal",
            f"{needed} patients or more in the other folds of each, for bands at {LEVEL:.0%}",
            others,
            "Add patients or folds, or leave it out.",
        )


def exceedances(lower: Array, upper: Array, truth: Array) -> Array:
    """e of every patient, `(n,)`, from `(n,)` each."""
    read, low, high = (
        torch.from_numpy(np.asarray(values, dtype=np.float64))[:, None]
        for values in (truth, lower, upper)
    )
    return exceedance(read, low, high, 1.0)[:, 0].numpy()


def conformalised(scores: ForecastScores, log_limit: float) -> ForecastScores:
    """The same forecasts with bands that were calibrated on the patients of the other folds.

    Raises:
        ConfigError: If the other folds have too few patients for the level; it names how many
            are needed.
    """
    distance = exceedances(scores.lower, scores.upper, scores.truth)
    lower, upper = scores.lower.copy(), scores.upper.copy()
    for k in np.unique(scores.fold):
        own = scores.fold == k
        others = distance[~own]
        calibration = ForecastCalibration(split_quantile(others, LEVEL), LEVEL, len(others))
        lower[own], upper[own] = calibration.band(lower[own], upper[own], log_limit)
    truth = scores.truth
    low, high, read = (torch.from_numpy(v)[:, None] for v in (lower, upper, truth))
    components = {
        **scores.components,
        "covered": ((lower <= truth) & (truth <= upper)).astype(np.float64),
        "width": upper - lower,
        "interval_score": interval_score(low, high, read, LEVEL).numpy(),
    }
    label = f"{scores.label}, conformal"
    return replace(scores, label=label, lower=lower, upper=upper, components=components)


def calibrate_forecaster(
    make: Callable[[], Forecaster], series: VolumeSeries, folds: int, seed: int = 0
) -> ForecastCalibration:
    """λ for forecasts of the next visit of any patient.

    One visit of each patient, the second or a later one drawn at random, is forecast from those
    before it by a forecaster of the other folds, so that a patient counts once and every visit
    stands for those that `latens forecast` will be asked for.

    Args:
        make: A new forecaster for each fold.
        series: All patients; those with one visit are not forecast.
        folds: Number of folds.
        seed: Key of the folds, of the visits and of every draw.

    Raises:
        ConfigError: If there are too few patients for the level, naming how many are needed.
        DataError: If no patient has two visits.
    """
    several = series.visits >= 2
    if not bool(several.any()):
        raise DataError("series", "patients with two visits or more", "none", "Add visits.")
    uniform = NoiseStream(seed, Purpose.POOL).uniform((len(series),), torch.float64)
    places = 1 + (uniform * (series.visits - 1)).long()  # of the visit that is forecast
    found = []
    for train, test in grouped_folds(series.patients, folds, seed):
        rows = np.asarray([row for row in test if bool(several[row])], dtype=np.int64)
        if not len(rows):
            continue
        forecaster = make()
        forecaster.fit(series.take(train), seed)
        own = series.take(rows)
        at = places[rows]
        times = own.times.gather(1, at[:, None])
        truth = own.log_volumes.gather(1, at[:, None])[:, 0]
        forecast = forecaster.forecast(own.first(at), times, keys=rows.tolist(), seed=seed)
        band = forecast.interval(LEVEL)
        found.append(
            exceedances(band.lower[:, 0].numpy(), band.upper[:, 0].numpy(), truth.numpy())
        )
    distances = np.concatenate(found)
    return ForecastCalibration(split_quantile(distances, LEVEL), LEVEL, len(distances))
