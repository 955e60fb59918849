"""Point forecasts with the spread of their errors on other patients: last value, growth curves.

    ŷ + e,   e one of the errors of the same rule on patients whose outcome is known

The errors keep their atom at zero and their tails, whatever these are. Patients whose last reading
was below the limit of detection have a pool of errors of their own.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from latens.data import VolumeSeries
from latens.errors import DataError
from latens.inference.forecasting.curves import Curve, fit_curve
from latens.inference.forecasting.forecast import (
    Forecast,
    Forecaster,
    Target,
    patient_noise,
    prefixes,
    reading_noise,
    uniform_index,
)

_LEAST_POOL = 20
"""Errors below which the two pools are one."""


class PointForecaster(Forecaster):
    """A rule for one number, with the empirical errors of that rule.

    The spread is that of one visit ahead at the usual gap; it does not widen with the horizon. The
    rule stays between the limit of detection and the largest volume of the other patients, or the
    patient's own if that is larger.

    Args:
        target: Which visit is forecast.
        min_visits: Visits, the one that is forecast included, of the patients whose errors count.
    """

    def __init__(self, target: Target = "next", min_visits: int = 2) -> None:
        super().__init__(target)
        self.min_visits = min_visits
        self.noise = 1.0
        self.ceiling = float("inf")
        self.errors = {True: torch.zeros(0), False: torch.zeros(0)}

    @abstractmethod
    def predict(self, history: VolumeSeries, times: Tensor) -> Tensor:
        """One log volume for each time, `(B, H)`."""

    def fit(self, series: VolumeSeries, seed: int = 0) -> None:
        """Collect the errors of the rule on other patients.

        Raises:
            DataError: If no patient has enough visits.
        """
        self.noise = reading_noise(series)
        self.ceiling = float(series.log_volumes[series.mask].max())
        errors, unseen = [], []
        for history, times, truth in prefixes(series, self.target, self.min_visits):
            errors.append((truth - self._bounded(history, times))[:, 0])
            unseen.append(history.last_log_volumes <= history.log_limit)
        if not errors:
            raise DataError(
                "series",
                f"a patient with {self.min_visits} visits",
                int(series.visits.max()),
                "Add visits, or lower `min_visits`.",
            )
        pooled, below = torch.cat(errors), torch.cat(unseen)
        for kind in (True, False):
            own = pooled[below == kind]
            self.errors[kind] = own if len(own) >= _LEAST_POOL else pooled

    def _bounded(self, history: VolumeSeries, times: Tensor) -> Tensor:
        highest = history.log_volumes.max(1, keepdim=True).values.clamp(min=self.ceiling)
        return self.predict(history, times).clamp(min=history.log_limit).minimum(highest)

    def make_forecast(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Forecast:
        """The rule plus errors drawn with replacement."""
        point = self._bounded(history, times)  # (B, H)
        noise = patient_noise(seed, keys, (draws, times.shape[1]))  # (M, B, H)
        below = (history.last_log_volumes <= history.log_limit)[:, None]  # (B, 1)
        error = torch.where(
            below,
            self.errors[True][uniform_index(noise, len(self.errors[True]))],
            self.errors[False][uniform_index(noise, len(self.errors[False]))],
        )
        return Forecast((point + error).clamp(min=history.log_limit), history.log_limit)


class LastValue(PointForecaster):
    """The last reading again."""

    label = "last value"

    def predict(self, history: VolumeSeries, times: Tensor) -> Tensor:
        """y_last at every time."""
        return history.last_log_volumes[:, None].expand(-1, times.shape[1])


class FittedCurve(PointForecaster):
    """A growth curve of each patient by least squares on the log volume.

    Zeros are left-censored. A curve with p parameters needs p + 1 visits, two of them above the
    limit; with fewer the exponential is fitted, and below three visits the last value stands.

    Args:
        curve: Exponential, logistic or Gompertz.
        target: Which visit is forecast.
        min_visits: Visits, the one that is forecast included, of the patients whose errors count.
    """

    def __init__(self, curve: Curve, target: Target = "next", min_visits: int = 2) -> None:
        super().__init__(target, min_visits)
        self.curve = curve

    @property
    def label(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Name of the curve, with how it is fitted."""
        return f"{self.curve.name}, per patient"

    def predict(self, history: VolumeSeries, times: Tensor) -> Tensor:
        """The curve of each patient at later times."""
        return fit_curve(self.curve, history, times, self.noise)
