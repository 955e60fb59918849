"""Would the smallest quarter of a sweep have foretold the rest?

The sizes up to N_max/4 are fitted as if the others did not exist. Targets are the values of the
curve that all sizes give at the sizes beyond the quarter, or shares of its value at the last size
of the quarter, which nothing later has a part in. The N at which the whole sweep reaches each is
then compared with the N that the quarter foretold. Both are of the same test images, so their
error does not enter.

A target counts where the whole sweep itself finds its N, with an interval no wider than a factor
of `PINNED`, and if it is a share, beyond the quarter and among the sizes: elsewhere there is no N
to compare with (the curve is flat, or noise, or does not get there).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, log2

import numpy as np
from numpy.typing import NDArray

from latens.scaling.forecasts import Forecast, forecast
from latens.scaling.plan import LEVEL

Array = NDArray[np.float64]

QUARTER = 4
PINNED = 4.0
"""Largest ratio of the ends of the interval of an N that counts as found."""


@dataclass(frozen=True)
class BackTest:
    """One target: what was found, and what had been foretold.

    Attributes:
        target: Value of the curve, on the scale of errors.
        found, found_lower, found_upper: N by all sizes, with its interval.
        foretold, lower, upper: N by the smallest quarter, with its interval; ∞ beyond its
            horizon.
        counts: Whether the whole sweep finds the N.
    """

    target: float
    found: float
    found_lower: float
    found_upper: float
    foretold: float
    lower: float
    upper: float
    counts: bool

    @property
    def contains(self) -> bool:
        """Whether the foretold interval contains the N that was found."""
        return self.lower <= self.found <= self.upper

    @property
    def log2_ratio(self) -> float:
        """log₂ of the foretold N over the one that was found."""
        return log2(self.foretold / self.found) if isfinite(self.foretold) else inf

    @property
    def octaves(self) -> float:
        """Width of the foretold interval, log₂ of the ratio of its ends."""
        return log2(self.upper / self.lower) if isfinite(self.upper) else inf


def quarter_of(sizes: Array) -> NDArray[np.bool_]:
    """Which sizes are at most a quarter of the largest, `(J,)`."""
    return sizes <= sizes[-1] / QUARTER


def back_test(
    sizes: Array,
    table: Array,
    floor_minimum: float = 0.0,
    level: float = LEVEL,
    shares: Sequence[float] | None = None,
) -> list[BackTest]:
    """Back-test of one learning curve.

    Args:
        sizes: Sample sizes, `(J,)`, ascending.
        table: Mean over initialisations for each data seed and size, `(k, J)`.
        floor_minimum: Smallest possible value of the floor.
        level: Nominal coverage.
        shares: Targets as shares of the value at the last size of the quarter, by the quarter;
            default: values of the whole curve at the later sizes.

    Returns:
        One per target; none if the quarter has fewer than three sizes or a data seed has no
        value there.
    """
    quarter = quarter_of(sizes)
    early = table[:, quarter]
    early = early[np.isfinite(early).any(axis=1)]
    if quarter.sum() < 3 or len(early) < 2 or not np.isfinite(early).any(axis=0).all():
        return []
    whole = forecast(sizes, table, floor_minimum)
    part = forecast(sizes[quarter], early, floor_minimum)
    falls = float(np.median(whole.start - whole.end)) >= 0
    if shares is None:
        curves = whole.curves()
        targets = [float(np.median(_at(whole, curves, float(n)))) for n in sizes[~quarter]]
    else:
        value = float(np.median(part.end))
        falls, targets = value >= 0, [value * share for share in shares]  # distances that shrink
    results = []
    for target in targets:
        found, found_lower, found_upper = _arrival(whole, target, falls, level)
        foretold, lower, upper = _arrival(part, target, falls, level)
        counts = sizes[0] < found_lower and found_upper <= PINNED * found_lower
        counts = counts and (shares is None or sizes[quarter][-1] < found <= sizes[-1])
        results.append(
            BackTest(target, found, found_lower, found_upper, foretold, lower, upper, bool(counts))
        )
    return results


def _at(curve: Forecast, curves: Array, size: float) -> Array:
    """Draws of f at a size, interpolated in log N, `(S,)`."""
    logs, at = np.log(curve.grid), np.log(size)
    right = int(np.clip(np.searchsorted(logs, at), 1, len(logs) - 1))
    share = (at - logs[right - 1]) / (logs[right] - logs[right - 1])
    return (1 - share) * curves[:, right - 1] + share * curves[:, right]


def _arrival(curve: Forecast, target: float, falls: bool, level: float) -> tuple[float, ...]:
    """Median and interval of the N at which the target is reached; the smallest size if before."""
    turned, goal = (curve, target) if falls else (curve.mirrored, -target)
    enter = np.maximum(turned.below(goal)[0], curve.sizes[0])
    tail = (1 - level) / 2
    return tuple(
        float(q) for q in np.quantile(enter, [0.5, tail, 1 - tail], method="inverted_cdf")
    )
