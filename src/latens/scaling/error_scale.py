"""Metric values as errors to which a law applies, and bars on the same scale.

lower is better                v               floor ≥ 0 where no value is negative
higher is better, in dB        10^(−v/10)      floor ≥ 0; of a PSNR the geometric mean of MSE/L²
higher is better, target t     t − v           floor ≥ 0 where no value exceeds t
higher is better               −v              any floor
closer to the target t         v − t           any floor; the sign is kept, since the distance
                                               |v − t| has a kink where the curve crosses t
"""

from dataclasses import dataclass
from math import inf, isfinite, log
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latens.scaling.bars import Bar

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ErrorScale:
    """How a metric becomes an error.

    Args:
        form: `linear` (distance from `origin`, turned if `falls`) or `decibel`.
        origin: Value with error zero; not used for decibels.
        falls: Whether the error falls when the metric rises.
        floor_minimum: Smallest possible error.
    """

    form: Literal["linear", "decibel"]
    origin: float
    falls: bool
    floor_minimum: float

    def error(self, values: ArrayLike) -> Array:
        """Errors of metric values, same shape."""
        v = np.asarray(values, dtype=np.float64)
        if self.form == "decibel":
            return 10 ** (-v / 10)
        return self.origin - v if self.falls else v - self.origin

    def metric(self, errors: ArrayLike) -> Array:
        """Metric values of errors, same shape; NaN where no value has this error."""
        e = np.asarray(errors, dtype=np.float64)
        if self.form == "decibel":
            with np.errstate(divide="ignore", invalid="ignore"):
                return -10 * np.log10(e)
        return self.origin - e if self.falls else e + self.origin

    def bounds(self, bar: Bar) -> tuple[float, float]:
        """Range of the error that a bar allows."""
        if self.form == "decibel":
            return (
                10 ** (-bar.upper / 10) if bar.upper < inf else -inf,
                10 ** (-bar.lower / 10) if bar.lower > -inf else inf,
            )
        ends = float(self.error(bar.lower)), float(self.error(bar.upper))
        return min(ends), max(ends)

    def spread(self, standard_error: float, at: float) -> float:
        """Standard error of the error, from that of the metric at a metric value."""
        if self.form == "decibel":
            return standard_error * log(10) / 10 * float(self.error(at))
        return standard_error


def error_scale(better: str, target: float, unit: str, values: ArrayLike) -> ErrorScale:
    """Scale of a metric.

    Args:
        better: `higher`, `lower` or `target`.
        target: Value of an ideal solver, NaN where there is none.
        unit: Unit of the metric.
        values: All its values, which say whether it keeps to one side of its ideal.
    """
    v = np.asarray(values, dtype=np.float64)
    if better == "target":
        return ErrorScale("linear", target, False, -inf)
    if better == "higher":
        if unit == "dB":
            return ErrorScale("decibel", 0.0, True, 0.0)
        origin = target if isfinite(target) else 0.0
        return ErrorScale("linear", origin, True, 0.0 if (v <= target).all() else -inf)
    return ErrorScale("linear", 0.0, False, 0.0 if (v >= 0).all() else -inf)
