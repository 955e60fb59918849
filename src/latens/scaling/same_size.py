"""Are two bars met at the same N? The ratio of the two sizes, from draws of both curves."""

from dataclasses import dataclass
from math import inf, isfinite, nan

import numpy as np
from numpy.typing import NDArray

from latens.scaling.forecasts import Forecast
from latens.scaling.plan import ImageError, sizes_met

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SizeRange:
    """What is known of the N at which each drawn curve meets its bar: `low` ≤ N ≤ `high`.

    Args:
        low, high: `(S,)`. Equal where the draw crosses the bar between smallest size and horizon;
            0 and the smallest size where it meets it from the start; the horizon and ∞ where it
            does not meet it up to there.
    """

    low: Array
    high: Array


@dataclass(frozen=True)
class SizeRatio:
    """N of one bar over N of another.

    Attributes:
        value: Median; NaN where it depends on sizes that were not measured.
        lower, upper: Interval; 0 and ∞ where the sizes set no end.
        level: Nominal coverage.
        later: Probability that the first bar needs more samples, as far as draws say which.
        sooner: Probability that it needs fewer; both may be small where most draws cannot say.
    """

    value: float
    lower: float
    upper: float
    level: float
    later: float
    sooner: float


def size_range(
    curve: Forecast, lower: float, upper: float, images: ImageError | None = None, seed: int = 0
) -> SizeRange:
    """Where the draws of a curve enter a range, and what is not known of that.

    Args:
        curve: The draws.
        lower, upper: Range that the curve must lie in.
        images: Error from the test images, or None.
        seed: Seed of its draws.
    """
    n = sizes_met(curve, lower, upper, images, seed)
    smallest, horizon = float(curve.sizes[0]), curve.horizon
    low = np.where(n == 0, 0.0, np.minimum(n, horizon))
    high = np.where(n == 0, smallest, n)
    return SizeRange(low, high)


def size_ratio(first: SizeRange, second: SizeRange, level: float) -> SizeRatio:
    """Ratio of the N of two bars.

    Draws of the two curves are paired at random, as if independent: both come from the same fits,
    and where they move together the interval is too wide rather than too short.

    Args:
        first, second: Sizes of both bars, of equally many draws.
        level: Nominal coverage.
    """
    order = np.random.default_rng(0).permutation(len(second.low))  # both may share their noise
    second = SizeRange(second.low[order], second.high[order])
    with np.errstate(divide="ignore", invalid="ignore"):
        # ∞/∞ and 0/0 bound nothing
        low = np.nan_to_num(first.low / second.high, nan=0.0, posinf=inf)
        high = np.nan_to_num(first.high / second.low, nan=inf, posinf=inf)
    tail = (1 - level) / 2
    middle = [float(np.quantile(side, 0.5, method="inverted_cdf")) for side in (low, high)]
    settled = isfinite(middle[1]) and middle[1] <= middle[0] * (1 + 1e-9)
    return SizeRatio(
        middle[0] if settled else nan,
        float(np.quantile(low, tail, method="inverted_cdf")),
        float(np.quantile(high, 1 - tail, method="inverted_cdf")),
        level,
        float((low > 1).mean()),
        float((high < 1).mean()),
    )
