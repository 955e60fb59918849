"""What a metric is: a statistic of means over images, with a name, a target and a definition.

A metric is a function of *means over images* of a few components per image. A bootstrap
replicate is then a weighted mean, and thousands of them are one matrix product:

    per image:     rows (B, p), from the functions of this package
    population:    statistic(rows.mean(axis=0)[None]) → (1,)
    R replicates:  statistic(weights (R, B) @ rows (B, p)) → (R,)
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latens.errors import ConfigError

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Means over images of the components, `(R, p)` → value of the metric, `(R,)`."""

Deviations = Callable[[Array], Array]
"""Means over images of the components, `(R, p)` → deviations, `(R, J)`."""

CALIBRATION_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Levels of the coverage errors; M = 19 and M = 39 draws attain each of them exactly."""

LEVEL = 0.95
"""Level of coverage and width in the tables; M = 39 draws attain it exactly."""


def unchanged(means: Array) -> Array:
    """The means themselves."""
    return means


@dataclass(frozen=True)
class Kinked:
    """A statistic f with a kink, where the bootstrap of a smooth statistic does not cover.

    Magnitudes have a kink where an ideal solver is, maxima where several are largest, as they
    are for it. What is known is that f changes by at most a norm of what the deviations change
    by, |f(a) − f(b)| ≤ ‖θ(a) − θ(b)‖; a norm itself does, by the triangle inequality. An
    interval follows from that, see `evaluation.intervals.norm_interval`.

    Args:
        statistic: f, `(R, p)` → `(R,)`.
        norm: ‖·‖, `(R, J)` → `(R,)`.
        deviations: θ, smooth, `(R, p)` → `(R, J)`.
    """

    statistic: Statistic
    norm: Statistic
    deviations: Deviations = unchanged

    def __call__(self, means: Array) -> Array:
        """f of means over images, `(R, p)` → `(R,)`."""
        return self.statistic(means)


@dataclass(frozen=True)
class Metric:
    """A population statistic of per-image components.

    Args:
        name: Name in every table.
        label: Name in figures.
        unit: Unit, empty if none; `signal` is the unit of the signal.
        better: `higher`, `lower`, or `target` (closer to `target` is better).
        target: Value of an ideal solver where there is one, else NaN.
        definition: One sentence with range, norm and reduction.
        components: Names of the columns of the per-image rows.
        statistic: Function of component means, `(R, p)` → `(R,)`; `Kinked` where it is not
            smooth, which decides the form of its interval.
        support: Closed range of possible values; intervals are cut to it.
        has_interval: False where no form of interval covers what it promises: then none is
            given.
    """

    name: str
    label: str
    unit: str
    better: Literal["higher", "lower", "target"]
    target: float
    definition: str
    components: tuple[str, ...]
    statistic: Statistic
    support: tuple[float, float] = (-inf, inf)
    has_interval: bool = True

    def value(self, rows: Array) -> float:
        """The metric of a set of images.

        Args:
            rows: Components per image, `(B, p)` in the order of `components`.

        Raises:
            ConfigError: If the number of columns is not that of `components`.
        """
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.components):
            raise ConfigError(
                "rows",
                f"(B, {len(self.components)}) for {self.name}",
                rows.shape,
                f"The columns are {', '.join(self.components)}.",
            )
        return float(self.statistic(rows.mean(axis=0)[None])[0])


def first(means: Array) -> Array:
    """The mean of the only component."""
    return means[:, 0]


def mean_of_components(means: Array) -> Array:
    """Signed mean over the components, for example over levels."""
    return means.mean(axis=1)


def mean_of_counted(means: Array) -> Array:
    """Mean over j of the mean of component j over the images that have it.

    The first half of the components are the values, 0 where an image has none, the second half
    whether it has one. A component that no image has is left out; NaN if none is left.
    """
    values, counted = np.split(means, 2, axis=1)
    known = counted > 0
    each = np.where(known, values / np.where(known, counted, 1.0), 0.0)
    with np.errstate(invalid="ignore"):
        return each.sum(axis=1) / known.sum(axis=1)


def mean_magnitude(means: Array) -> Array:
    """Mean over the components of the magnitude, taken after averaging over images."""
    return np.abs(means).mean(axis=1)


def total_magnitude(means: Array) -> Array:
    """Sum over the components of the magnitude, taken after averaging over images."""
    return np.abs(means).sum(axis=1)


def root_mean_square(means: Array) -> Array:
    """Root over the components of the mean square, taken after averaging over images."""
    return np.sqrt(np.square(means).mean(axis=1))


def largest(means: Array) -> Array:
    """Largest of the components, after averaging over images."""
    return means.max(axis=1)


def largest_magnitude(means: Array) -> Array:
    """Largest magnitude of the components, after averaging over images."""
    return np.abs(means).max(axis=1)


MEAN_MAGNITUDE = Kinked(mean_magnitude, norm=mean_magnitude)
ROOT_MEAN_SQUARE = Kinked(root_mean_square, norm=root_mean_square)
LARGEST = Kinked(largest, norm=largest_magnitude)


def effective_elements(means: Array) -> Array:
    """Independent elements whose share of hits would vary as much between images.

        n_eff = c (1 − c)/Var(c_i),   Var(c_i) = mean of c_i² − c²

    The variance of the mean coverage over n images is then c (1 − c)/(n n_eff).

    Args:
        means: Mean over images of the share of hits c_i and of c_i², `(R, 2)`.

    Returns:
        `(R,)` in [1, ∞]: 1 where every image is all hits or none, the number of elements where
        they are independent, ∞ where all images have the same share, NaN where that is 0 or 1.
        With n images it is too large by about a factor n/(n − 1). It is shown without an interval:
        variances have long tails, and the studentised bootstrap of 95 %, of its logarithm too,
        covers .87 to .96 with 30 to 200 groups.
    """
    share, square = means[:, 0], means[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return share * (1 - share) / np.maximum(square - share**2, 0.0)


def ratio(means: Array) -> Array:
    """First component over the second, after averaging over images; NaN where it is 0/0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return means[:, 0] / means[:, 1]


def share(means: Array) -> Array:
    """First component over the sum of all, after averaging over images; NaN where that is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return means[:, 0] / means.sum(axis=1)


def root_ratio(means: Array) -> Array:
    """Square root of `ratio`."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(ratio(means))


def root(means: Array) -> Array:
    """Square root of the only component, 0 where it is negative."""
    return np.sqrt(np.maximum(means[:, 0], 0.0))


def exponential(means: Array) -> Array:
    """exp of the only component: a geometric mean of what it is the logarithm of."""
    return np.exp(means[:, 0])


def difference(means: Array) -> Array:
    """First component minus the second."""
    return means[:, 0] - means[:, 1]
