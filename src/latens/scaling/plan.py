"""The N at which a learning curve meets a bar, with its interval, or why that cannot be said."""

from dataclasses import dataclass, replace
from math import inf, isfinite, nan

import numpy as np
from numpy.typing import NDArray

from latens.errors import ConfigError
from latens.scaling.curve_tests import SeedCurves
from latens.scaling.forecasts import HORIZON, Forecast

Array = NDArray[np.float64]

LEVEL = 0.9
"""Nominal coverage of the interval of N."""

THROUGHOUT = "met throughout"
REACHED = "reached"
LOST = "lost"
OUT_OF_RANGE = "not within range"
NEVER = "floor misses the bar"
UNKNOWN = "cannot say"
NO_DATA = "uses no training data"

SIGNIFICANT = 0.05
"""Size of the test of the floor, which must agree before a bar is called out of reach at any N."""

ENOUGH_SEEDS = 5
"""Data seeds up to which more of them are advised."""


@dataclass(frozen=True)
class ImageError:
    """Error of a whole curve that comes from the choice of test images, the same at every N.

    Args:
        standard_error: In units of the curve; relative to it if `proportional`.
        degrees: Degrees of freedom: groups of images − 1.
        proportional: Whether it multiplies the curve (errors) or shifts it (signed distances).
    """

    standard_error: float
    degrees: float
    proportional: bool

    def shifted(self, bound: float, draws: int, seed: int) -> Array:
        """Bound for the curve on these images so that the population's meets `bound`, `(S,)`."""
        generator = np.random.default_rng([seed, 1])
        error = self.standard_error * generator.standard_t(max(self.degrees, 1.0), draws)
        if self.proportional:
            return bound / np.maximum(1 + error, 0.05)
        return bound - error


@dataclass(frozen=True)
class Extent:
    """What a run has beside one of its curves: it tells what more would help.

    Args:
        sizes: Training sizes of the run.
        data_seeds: Its data seeds.
        checked: Data seeds of which deep checks were made, at three sizes, where the metric is
            one of theirs; 0 for another metric.
    """

    sizes: int = 0
    data_seeds: int = 0
    checked: int = 0

    @property
    def seeds(self) -> str:
        """What the data seeds of the curve are, in words."""
        return "checked data seeds" if self.checked else "data seeds"

    def lacking_sizes(self, measured: int) -> tuple[str, str]:
        """Reason and advice for a curve of fewer than three sizes."""
        if self.sizes < 3:
            return f"{measured} sizes", "Run three sizes or more."
        of = "the three sizes that are checked" if self.checked else f"{self.sizes} sizes"
        advice = "Add sizes, or see in the report what is missing at the others."
        return f"measured at {measured} of {of}", advice

    def lacking_seeds(self) -> tuple[str, str]:
        """Reason and advice for a curve of one data seed."""
        if self.checked == 1:
            more = ", and `data_seeds` with it" if self.data_seeds < 3 else ""
            advice = f"Raise `checked_data_seeds` to 3 or more{more}."
            return "deep checks were made on one data seed", advice
        if self.data_seeds < 2:
            return "one data seed", "Run three data seeds or more."
        reason = f"measured on one of {self.checked or self.data_seeds} {self.seeds}"
        return reason, "See in the report what is missing on the others."


ALONE = Extent()
"""A curve of which no run is known."""


@dataclass(frozen=True)
class Answer:
    """When a bar is met.

    Attributes:
        verdict: `met throughout`: at the smallest size already; `reached` at `n`; `lost` from `n`
            on; `not within range`: not up to the horizon; `floor misses the bar` at any N;
            `cannot say`; `uses no training data`.
        n: Sample size, median of the posterior; NaN unless `reached` or `lost`.
        lower, upper: Interval of N; 0 if it may be met already at the smallest size, ∞ if it
            may lie beyond the horizon. NaN where there is none.
        level: Nominal coverage of the interval.
        met: Probability that the bar is met at the largest measured size.
        floor_p: p-value of the score test of E_∞ = bar, without any prior; NaN if not tested.
        reason: Why there is no N, or what to know about it; may be empty.
        advice: What would help; may be empty.
    """

    verdict: str
    n: float = nan
    lower: float = nan
    upper: float = nan
    level: float = LEVEL
    met: float = nan
    floor_p: float = nan
    reason: str = ""
    advice: str = ""


def met_between(
    curve: Forecast, lower: float | Array, upper: float | Array
) -> tuple[Array, Array]:
    """Range of N in which each drawn curve lies between two values.

    Args:
        curve: The draws.
        lower, upper: Range, or one per draw, `(S,)`; infinite where it has no end.

    Returns:
        First N and the N from which on it has left again, each `(S,)`; as `Forecast.below`.
    """
    enter_upper, leave_upper = curve.below(upper)
    enter_lower, leave_lower = curve.mirrored.below(-np.asarray(lower))
    enter = np.maximum(enter_upper, enter_lower)
    leave = np.minimum(leave_upper, leave_lower)
    empty = enter >= leave
    return np.where(empty, inf, enter), np.where(empty, inf, leave)


def sizes_met(
    curve: Forecast, lower: float, upper: float, images: ImageError | None = None, seed: int = 0
) -> Array:
    """N from which on each drawn curve lies in a range, `(S,)`.

    0 where it does at the smallest size already, ∞ where it does not up to the horizon or has left
    again at the largest measured size.
    """
    enter, leave = met_between(curve, *_bounds(len(curve.start), lower, upper, images, seed))
    return np.where(leave <= float(curve.sizes[-1]), inf, enter)


def answer(
    curve: Forecast,
    table: Array,
    lower: float,
    upper: float,
    images: ImageError | None = None,
    level: float = LEVEL,
    seed: int = 0,
    extent: Extent = ALONE,
) -> Answer:
    """When a learning curve meets a bar.

    The interval holds the uncertainty of seeds, of the law and, if given, of the test images.
    No N beyond the horizon, `HORIZON` times the largest size, is ever named.

    Args:
        curve: Draws of the curve.
        table: Values the draws are of, `(k, J)`, for the test of the floor.
        lower, upper: Range that the curve must lie in; one end may be infinite.
        images: Error from the test images; None leaves it out, as for a comparison on the same
            images.
        level: Nominal coverage.
        seed: Seed of the draws of the image error.
        extent: What the run has, for the advice.

    Raises:
        ConfigError: If the range is empty or without an end, or the level is no probability.
    """
    if not (lower < upper and (isfinite(lower) or isfinite(upper))):
        raise ConfigError("lower", "a range with a finite end", (lower, upper), "Give one bar.")
    if not 0 < level < 1:
        raise ConfigError("level", "a probability in (0, 1)", level, "Use 0.9, not 90.")
    said = _judged(curve, table, (lower, upper), images, level, seed, extent)
    if said.verdict == UNKNOWN and images is not None:
        alone = _judged(curve, table, (lower, upper), None, level, seed, extent)
        if alone.verdict != UNKNOWN:
            return replace(said, advice="More test images: on these alone it would be settled.")
    return said


def without_curve(
    sizes: Array,
    table: Array,
    lower: float,
    upper: float,
    level: float = LEVEL,
    extent: Extent = ALONE,
) -> Answer:
    """Answer where no curve can be followed: no training data, too few sizes or data seeds.

    Args:
        sizes: Sample sizes, `(J,)`; 0 alone for a solver that uses no training data.
        table: Values, `(k, J)`.
        lower, upper: Range that the curve must lie in.
        level: Nominal coverage that the answer would have had.
        extent: What the run has, for the reason and the advice.
    """
    if len(sizes) == 1 and sizes[0] == 0:
        value = float(np.nanmean(table))
        inside = lower <= value <= upper
        return Answer(
            NO_DATA, level=level, met=float(inside), reason="met" if inside else "not met"
        )
    trained = int((np.asarray(sizes) > 0).sum())
    reason, advice = extent.lacking_sizes(trained) if trained < 3 else extent.lacking_seeds()
    return Answer(UNKNOWN, level=level, reason=reason, advice=advice)


def _judged(
    curve: Forecast,
    table: Array,
    bar: tuple[float, float],
    images: ImageError | None,
    level: float,
    seed: int,
    extent: Extent,
) -> Answer:
    """The answer with this image error."""
    bounds = _bounds(len(curve.start), *bar, images, seed)
    enter, leave = met_between(curve, *bounds)
    last, tail = float(curve.sizes[-1]), (1 - level) / 2
    met = float(((enter <= last) & (leave > last)).mean())
    lost = (enter < inf) & (leave <= last)
    if lost.mean() >= 0.5:
        n, bottom, top = _quantiles(np.where(lost, leave, inf), tail)
        reason = f"met at small N, missed from about N = {_round(n)} on"
        return Answer(LOST, n, bottom, top, level, met, reason=reason)
    n, bottom, top = _quantiles(np.where(lost, inf, enter), tail)
    if bottom == inf:
        return _beyond(curve, table, bar, bounds, level, met)
    if n == 0 and top <= last:
        later = float(np.median(leave))
        warning = f"may be lost near N = {_round(later)}" if later < inf else ""
        return Answer(THROUGHOUT, nan, 0.0, top, level, met, reason=warning)
    if n == inf or (bottom == 0 and top == inf):
        reason, advice = _open(curve, bottom, top), _advice(curve, extent)
        return Answer(UNKNOWN, nan, bottom, top, level, met, reason=reason, advice=advice)
    advice = _advice(curve, extent) if top == inf else ""
    reason = f"no upper end up to N = {curve.horizon:.0f}" if top == inf else ""
    return Answer(REACHED, n, bottom, top, level, met, reason=reason, advice=advice)


def _open(curve: Forecast, bottom: float, top: float) -> str:
    """What remains open."""
    horizon = f"{curve.horizon:.0f}"
    if bottom == 0 and top == inf:
        return f"met at the smallest size, or not by N = {horizon}: both are possible"
    if bottom > 0:
        return f"not before N = {_round(bottom)}; whether by N = {horizon} is open"
    return f"more likely not by N = {horizon} than by then"


def _bounds(
    draws: int, lower: float, upper: float, images: ImageError | None, seed: int
) -> tuple[Array, Array]:
    ends = []
    for bound in (lower, upper):
        if images is None or not isfinite(bound):
            ends.append(np.full(draws, bound))
        else:
            ends.append(images.shifted(bound, draws, seed))
    return ends[0], ends[1]


def _beyond(
    curve: Forecast,
    table: Array,
    bar: tuple[float, float],
    bounds: tuple[Array, Array],
    level: float,
    met: float,
) -> Answer:
    """Not within the horizon: because of the floor, or because it is too far."""
    possible = float(((curve.floor >= bounds[0]) & (curve.floor <= bounds[1])).mean())
    side = bar[1] if np.median(curve.floor) > bar[1] else bar[0]
    p = SeedCurves(curve.sizes, table).test_value(inf)(side) if isfinite(side) else nan
    if possible <= (1 - level) / 2 and p < SIGNIFICANT:
        reason = f"the floor of the curve misses the bar (p = {p:.2g})"
        return Answer(NEVER, nan, inf, inf, level, met, p, reason)
    reason = f"not by N = {curve.horizon:.0f}, {HORIZON:g} times the largest size"
    return Answer(OUT_OF_RANGE, nan, curve.horizon, inf, level, met, p, reason)


def _quantiles(n: Array, tail: float) -> tuple[float, float, float]:
    """Median and both ends; values may be infinite, so nothing is interpolated."""
    middle, bottom, top = np.quantile(n, [0.5, tail, 1 - tail], method="inverted_cdf")
    return float(middle), float(bottom), float(top)


def _advice(curve: Forecast, extent: Extent) -> str:
    size = f"measure N = {2 * float(curve.sizes[-1]):.0f}"
    if curve.data_seeds < ENOUGH_SEEDS:
        return f"More {extent.seeds} ({ENOUGH_SEEDS} instead of {curve.data_seeds}), or {size}."
    return f"{size[0].upper()}{size[1:]}."


def _round(n: float) -> str:
    """A size with three digits."""
    return f"{float(f'{n:.3g}'):g}"
