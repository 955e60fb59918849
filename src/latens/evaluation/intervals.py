"""Intervals of one evaluation (bootstrap over images) and of a cell (nested seeds).

**Images.** The bootstrap resamples groups of images (subjects), never pixels, and studentises
each replicate by its delta-method standard error. Measured 95 % coverage with 30 / 100 groups
of 1–8 correlated images (500 / 300 runs; the forms chosen here are measured again by
`benchmarks/coverage_of_intervals.py`):
mean squared error, skewed: percentile .906 / .930, BCa .908 / .917, studentised .932 / .943;
fraction of covered pixels at 95 %: .906 / .940, .916 / .927, .946 / .947; spread-skill ratio:
.906 / .927, .908 / .913, .936 / .930.

The number of effective pixels, one over a variance, has none: studentised, on its own scale and on
that of its logarithm, it covers .87 to .96 (`Metric.has_interval`).

Statistics with a kink, such as the mean magnitude of errors where they vanish or the largest of
several rates where they are equal, make every form above fail: for an exact posterior and 30 to
200 groups the studentised one covers .69–.77 (ENCE), .87–.89 (UCE), .81–.88 (worst block).
`norm_interval` uses |f(a) − f(b)| ≤ ‖θ(a) − θ(b)‖ instead, the norm studentised in its turn:
.95–.99 there, and .95 or more away from the kink, wide rather than wrong.

**Seeds.** Fits that share training data are not independent, so the mean of each data seed is
the unit, with a t interval; the test images are shared by every cell, and their variance is
added, not divided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latens.errors import ConfigError, DataError
from latens.metrics.metric import Deviations, Kinked, Metric, Statistic

Array = NDArray[np.float64]

_LEAST_ERROR = 0.1
"""Smallest standard error of a replicate, in units of that of the sample: few distinct rows
can give replicates without any spread, whose studentised value would be infinite."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        value: Estimate.
        lower: Lower bound; NaN where the data cannot give one.
        upper: Upper bound; NaN where the data cannot give one.
        level: Nominal coverage.
        images: Images that entered.
        groups: Independent groups that entered.
    """

    value: float
    lower: float
    upper: float
    level: float
    images: int
    groups: int


def metric_interval(
    metric: Metric,
    rows: ArrayLike,
    groups: Sequence[object] | NDArray,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of a core metric, in the form that covers for it, cut to its support.

    Args:
        metric: Entry of the catalogue.
        rows: Components per image, `(B, p)`.
        groups: Label of the group of each image, `(B,)`; images of one subject share it.
        level: Nominal coverage.
        replicates: Bootstrap replicates.
        seed: Seed of the resampling.

    Returns:
        The estimate with its interval; NaN bounds as in `bootstrap_interval`, and for a metric
        that has none (`Metric.has_interval`).

    Raises:
        ConfigError, DataError: As `bootstrap_interval`.
    """
    if not metric.has_interval:
        sums, sizes = _group_sums(rows, groups, level, replicates)
        value = metric.value(np.asarray(rows, dtype=np.float64))
        return Interval(value, nan, nan, level, int(sizes.sum()), len(sums))
    if isinstance(metric.statistic, Kinked):
        return norm_interval(
            rows, groups, metric.statistic, level, replicates, seed, metric.support
        )
    return bootstrap_interval(
        rows, groups, metric.statistic, level, replicates, seed, metric.support
    )


def bootstrap_interval(
    rows: ArrayLike,
    groups: Sequence[object] | NDArray,
    statistic: Statistic,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    support: tuple[float, float] = (-inf, inf),
) -> Interval:
    """Studentised bootstrap over groups of images.

    The estimand weighs every image equally, whatever the size of its group.

    Args:
        rows: Components per image, `(B, p)`.
        groups: Label of the group of each image, `(B,)`.
        statistic: Smooth function of component means, `(R, p)` → `(R,)`.
        level: Nominal coverage, in (0, 1).
        replicates: Bootstrap replicates.
        seed: Seed of the resampling; the same seed and groups give the same resamples, so
            that metrics are resampled together.
        support: Closed range of possible values, to which the interval is cut.

    Returns:
        The estimate with its interval. Bounds are NaN for fewer than two groups, for
        components that are not finite, and for rows that do not vary at all.

    Raises:
        ConfigError: If the level is no probability or there are too few replicates.
        DataError: If rows and groups do not fit.
    """
    sums, sizes = _group_sums(rows, groups, level, replicates)
    count = len(sizes)
    means = sums.sum(axis=0) / sizes.sum()
    value = float(statistic(means[None])[0])
    images = int(sizes.sum())
    if count < 2 or not np.isfinite(sums).all() or not np.isfinite(value):
        return Interval(value, nan, nan, level, images, count)
    step = _step(means, sums, sizes)
    one = np.ones((1, count))
    error = float(_standard_error(statistic, means[None], one, sums, sizes, step)[0])
    if not error > 1e-9 * (abs(value) + 1e-300):
        return Interval(value, nan, nan, level, images, count)
    weights = _resamples(count, replicates, seed)
    replicate_means = (weights @ sums) / (weights @ sizes)[:, None]
    with np.errstate(invalid="ignore"):  # few groups: a statistic may be infinite in a resample
        errors = _standard_error(statistic, replicate_means, weights, sums, sizes, step)
        pivots = (statistic(replicate_means) - value) / np.maximum(errors, _LEAST_ERROR * error)
    pivots = pivots[np.isfinite(pivots)]
    if len(pivots) < 0.9 * replicates:
        return Interval(value, nan, nan, level, images, count)
    low, high = np.quantile(pivots, [(1 - level) / 2, (1 + level) / 2])
    lower, upper = np.clip([value - high * error, value - low * error], *support)
    return Interval(value, float(lower), float(upper), level, images, count)


def norm_interval(
    rows: ArrayLike,
    groups: Sequence[object] | NDArray,
    statistic: Kinked,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    support: tuple[float, float] = (0.0, inf),
) -> Interval:
    """Interval of a statistic with a kink, from the ball around its deviations.

        f(m̂) ± c ‖s‖,   c the quantile of ‖θ* − θ̂‖/‖s*‖ over the resamples

    θ are the deviations, s their delta-method standard errors, s* those in the resample. Because
    |f(a) − f(b)| ≤ ‖θ(a) − θ(b)‖, the interval covers at least as often as the ball does, whether
    θ is zero, has ties, or neither.

    Args:
        rows: Components per image, `(B, p)`.
        groups: Label of the group of each image, `(B,)`.
        statistic: f with its norm and deviations.
        level: Nominal coverage, in (0, 1).
        replicates: Bootstrap replicates.
        seed: Seed of the resampling.
        support: Closed range of possible values, to which the interval is cut.

    Returns:
        The estimate with its interval; NaN bounds as in `bootstrap_interval`.

    Raises:
        ConfigError, DataError: As `bootstrap_interval`.
    """
    sums, sizes = _group_sums(rows, groups, level, replicates)
    count, images = len(sizes), int(sizes.sum())
    means = sums.sum(axis=0) / sizes.sum()
    value = float(statistic(means[None])[0])
    nothing = Interval(value, nan, nan, level, images, count)
    if count < 2 or not np.isfinite(sums).all() or not np.isfinite(value):
        return nothing
    slopes = _slopes(statistic.deviations, means[None], _step(means, sums, sizes))[0]  # (p, J)
    influence = (sums - means * sizes[:, None]) @ slopes  # (G, J)
    size = float(statistic.norm(_linear_errors(np.ones((1, count)), influence, sizes))[0])
    if not size > 1e-9 * abs(value):
        return nothing
    weights = _resamples(count, replicates, seed)
    resampled = statistic.deviations((weights @ sums) / (weights @ sizes)[:, None])
    changes = statistic.norm(resampled - statistic.deviations(means[None]))
    sizes_of_errors = statistic.norm(_linear_errors(weights, influence, sizes))
    pivots = changes / np.maximum(sizes_of_errors, _LEAST_ERROR * size)
    radius = size * float(np.quantile(pivots, level, method="higher"))
    if not np.isfinite(radius):
        return nothing
    lower, upper = np.clip([value - radius, value + radius], *support)
    return Interval(value, float(lower), float(upper), level, images, count)


def _group_sums(
    rows: ArrayLike, groups: Sequence[object] | NDArray, level: float, replicates: int
) -> tuple[Array, Array]:
    """Sum of the rows of each group, `(G, p)`, and images per group, `(G,)`."""
    check_level(level)
    if replicates < 100:
        raise ConfigError(
            "replicates", "at least 100", replicates, "Quantiles of few replicates are noise."
        )
    table = np.asarray(rows, dtype=np.float64)
    if table.ndim != 2 or len(table) == 0 or len(table) != len(groups):
        raise DataError(
            "rows",
            f"shape (B, p) with one row for each of the {len(groups)} group labels",
            table.shape,
            "Give one row and one label per image.",
        )
    _, index = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    sizes = np.bincount(index).astype(np.float64)
    sums = np.zeros((len(sizes), table.shape[1]))
    np.add.at(sums, index, table)
    return sums, sizes


@lru_cache(maxsize=1)
def _resamples(groups: int, replicates: int, seed: int) -> Array:
    """How often each group occurs in each resample, `(R, G)`, read-only."""
    generator = np.random.default_rng(seed)
    chances = np.full(groups, 1 / groups)
    counts = generator.multinomial(groups, chances, size=replicates).astype(np.float64)
    counts.flags.writeable = False  # kept for the next metric of the same images
    return counts


def _standard_error(
    statistic: Statistic, means: Array, weights: Array, sums: Array, sizes: Array, step: Array
) -> Array:
    """Delta-method standard error of the statistic for each weighting of the groups, `(R,)`."""
    gradient = _slopes(statistic, means, step)  # (R, p)
    influence = gradient @ sums.T - (gradient * means).sum(axis=1)[:, None] * sizes  # (R, G)
    count = weights.sum(axis=1)
    variance = (weights * influence**2).sum(axis=1) * count / (count - 1)
    return np.sqrt(variance) / (weights @ sizes)


def _linear_errors(weights: Array, influence: Array, sizes: Array) -> Array:
    """Standard errors of means of a linear influence, for each weighting of the groups.

    Args:
        weights: `(R, G)`.
        influence: Summed over the images of each group, `(G, J)`.
        sizes: Images of each group, `(G,)`.

    Returns:
        `(R, J)`.
    """
    images = (weights @ sizes)[:, None]
    mean = (weights @ influence) / images
    cross = weights @ (influence * sizes[:, None])
    square = weights @ influence**2 - 2 * mean * cross + mean**2 * (weights @ sizes**2)[:, None]
    count = weights.sum(axis=1, keepdims=True)
    return np.sqrt(np.maximum(square, 0.0) * count / (count - 1)) / images


def _step(means: Array, sums: Array, sizes: Array) -> Array:
    """Steps of the numerical derivatives, `(p,)`: small beside what groups differ by."""
    spread = np.sqrt(np.mean((sums / sizes[:, None] - means) ** 2, axis=0))
    return 1e-4 * (spread + 1e-6 * np.abs(means)) + 1e-12


def _slopes(function: Statistic | Deviations, means: Array, step: Array) -> Array:
    """Central differences by each component, `(R, p)`, or `(R, p, J)` of deviations."""
    columns = []
    for column, width in enumerate(step):
        shift = np.zeros(len(step))
        shift[column] = width
        difference = function(means + shift) - function(means - shift)
        columns.append(difference / (2 * width))
    return np.stack(columns, axis=1)


def check_level(level: float) -> None:
    """Raise `ConfigError` where a level is no probability in (0, 1)."""
    if not 0 < level < 1:
        raise ConfigError("level", "a probability in (0, 1)", level, "Use 0.95, not 95.")
