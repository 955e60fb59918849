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

CALIBRATION_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Levels of the coverage errors; M = 19 and M = 39 draws attain each of them exactly."""

LEVEL = 0.95
"""Level of coverage and width in the tables; M = 39 draws attain it exactly."""


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
        statistic: Function of component means, `(R, p)` → `(R,)`.
        support: Closed range of possible values; intervals are cut to it.
        interval: Form of the bootstrap over images: `studentised` for a smooth statistic,
            `norm` for `mean_magnitude`, which has a kink at the ideal value.
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
    interval: Literal["studentised", "norm"] = "studentised"

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


def mean_magnitude(means: Array) -> Array:
    """Mean over the components of the magnitude, taken after averaging over images."""
    return np.abs(means).mean(axis=1)


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
