"""What every forecaster is: a map from earlier visits and later times to readings."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from latens.data import VolumeSeries
from latens.distributions import Purpose, row_noise
from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.inference.estimates import Interval
from latens.metrics import central_interval

FORECAST_DRAWS = 999
"""M = 999 draws attain the 95 % interval exactly, and their median is one of them."""

Target = Literal["next", "last"]
"""What is forecast: `next`, a visit of which nothing is known but its time; `last`, the visit that
ends a series. The two differ: follow-up ends when a lesion grows."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """Draws of readings to come.

    Attributes:
        draws: Log volume, at least that of the limit of detection, `(M, B, H)`.
        log_limit: Log of the limit of detection.
        diagnostics: Numbers that describe how they were made, by name.
        doubts: What speaks against the draws of each patient, B texts, empty where nothing does;
            none at all from a forecaster that cannot tell.
    """

    draws: Tensor
    log_limit: float
    diagnostics: dict[str, float] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def median(self) -> Tensor:
        """Median log volume, `(B, H)`: the point forecast with the smallest absolute error."""
        return self.draws.kthvalue((len(self.draws) + 1) // 2, dim=0).values

    def interval(self, level: float) -> Interval:
        """Central interval of the log volume from order statistics, `(B, H)`."""
        return Interval(*central_interval(self.draws, level))

    @property
    def unseen(self) -> Tensor:
        """Probability of a volume at or below the limit of detection, `(B, H)`."""
        return (self.draws <= self.log_limit).to(self.draws.dtype).mean(0)


class Forecaster(ABC):
    """Forecasts volumes after it has seen other patients.

    Args:
        target: Which visit is forecast.

    Attributes:
        label: Name in tables.
    """

    label: ClassVar[str]

    def __init__(self, target: Target = "next") -> None:
        if target not in ("next", "last"):
            raise ConfigError("target", "next or last", target, "See `Target`.")
        self.target: Target = target

    @abstractmethod
    def fit(self, series: VolumeSeries, seed: int = 0) -> None:
        """Learn from the whole series of other patients."""

    def forecast(
        self,
        history: VolumeSeries,
        times: Tensor,
        *,
        keys: Sequence[int] | None = None,
        seed: int = 0,
        draws: int = FORECAST_DRAWS,
    ) -> Forecast:
        """Readings at later times.

        Args:
            history: Earlier visits of B patients.
            times: Times to forecast, `(B, H)`, after the last visit and increasing.
            keys: One integer per patient that names the random numbers; default 0, …, B − 1.
            seed: Key of the random numbers.
            draws: M.

        Raises:
            ShapeError: If the times do not fit the patients.
            ConfigError: If a time does not lie after the last visit, or times do not increase.
        """
        check_times(history, times)
        names = range(len(history)) if keys is None else keys
        return self.make_forecast(history, times, names, seed, draws)

    @abstractmethod
    def make_forecast(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Forecast:
        """Readings at times that fit the patients; see `forecast`."""

    @property
    def doubts(self) -> str:
        """What speaks against its bands, whatever is forecast; empty if nothing is known."""
        return ""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that was learned, by name; `restore` is its inverse.

        Raises:
            UnsupportedError: If the forecaster is not made for later use: its spread is that of
                one visit ahead.
        """
        raise UnsupportedError(
            "forecaster",
            "one whose spread grows with the horizon, such as hierarchical Gompertz",
            self.label,
            "Store one of those.",
        )

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what another forecaster of the same settings learned.

        Raises:
            UnsupportedError: As `tensors`.
        """
        self.tensors()


def check_times(history: VolumeSeries, times: Tensor) -> None:
    """Raise unless times `(B, H)` increase and lie after the last visit of each patient."""
    if times.ndim != 2 or len(times) != len(history):
        raise ShapeError(
            "times",
            f"shape (B, H) with B = {len(history)} patients",
            tuple(times.shape),
            "Give one row of times per patient.",
        )
    gaps = torch.diff(times, dim=1, prepend=history.last_times[:, None])
    bad = ~(gaps > 0).all(1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise ConfigError(
            "times",
            "increasing times after the last visit",
            f"{times[row].tolist()} after a visit at {float(history.last_times[row]):g} of "
            f"`{history.patients[row]}`",
            "Forecast later times.",
        )


def patient_noise(seed: int, keys: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise of B patients, `(shape[0], B, *shape[1:])`, float64."""
    return row_noise((seed, Purpose.FORECAST), keys, shape, torch.float64)


def uniform_index(noise: Tensor, count: int) -> Tensor:
    """Integers 0, …, count − 1, each as likely, from standard normal noise of any shape."""
    return (torch.special.ndtr(noise) * count).long().clamp(max=count - 1)


def prefixes(
    series: VolumeSeries, target: Target, min_visits: int
) -> list[tuple[VolumeSeries, Tensor, Tensor]]:
    """The forecasts that known series allow: earlier visits, a time, the reading then.

    Args:
        series: Whole series.
        target: `last`: the last visit of each series with `min_visits` visits or more; `next`:
            every visit from the `min_visits`-th on.
        min_visits: Visits up to and including the one that is forecast, 2 or more.

    Returns:
        Blocks of `(history, times (B', 1), log volumes (B', 1))`.
    """
    if target == "last":
        return [series.split_last(min_visits)]
    blocks = []
    for visits in range(max(min_visits, 2), int(series.visits.max()) + 1):
        rows = (series.visits >= visits).nonzero()[:, 0]
        part = series.take(rows)
        blocks.append(part.first(torch.full((len(rows),), visits)).split_last())
    return blocks


def log_volumes_of(levels: Tensor, last: Tensor, history: VolumeSeries) -> Tensor:
    """Log volumes of levels over the limit of detection.

    A level that equals the last one gives the last log volume to the last bit: whether a reading
    lies in a band that ends there must not depend on rounding.

    Args:
        levels: `(M, B, H)`.
        last: Level of the last reading, `(B,)`.
        history: Earlier visits.
    """
    same = levels == last[:, None]
    exact = history.last_log_volumes[:, None].expand_as(levels)
    return torch.where(same, exact, levels + history.log_limit)


def reading_noise(series: VolumeSeries) -> float:
    """Root mean square of the changes between seen readings, over √2: a bound on their noise.

    The median change is zero in real series, so the mean square is used.
    """
    y, seen = series.log_volumes, series.mask & ~series.censored
    both = seen[:, 1:] & seen[:, :-1]
    change = (y[:, 1:] - y[:, :-1])[both]
    return max(math.sqrt(float(change.square().mean()) / 2) if len(change) else 0.0, 1e-2)
