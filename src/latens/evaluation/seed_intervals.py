"""Mean over the cells of a sweep, with an interval over data seeds, initialisations and images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from latens.errors import ConfigError, DataError
from latens.evaluation.intervals import check_level


@dataclass(frozen=True)
class SeedInterval:
    """Mean over the cells of one sample size, with its interval.

    Attributes:
        value: Mean of the data-seed means.
        lower: Lower bound; NaN with fewer than two data seeds.
        upper: Upper bound; NaN with fewer than two data seeds.
        level: Nominal coverage.
        standard_error: Standard error of `value`, seeds and images together.
        degrees: Degrees of freedom of the t interval (Satterthwaite).
        data_seeds: Number of data seeds.
        cells: Number of cells.
        data_variance: Variance between data seeds, initialisation taken away, at least 0.
        init_variance: Variance between initialisations within a data seed; NaN if no data
            seed has two.
    """

    value: float
    lower: float
    upper: float
    level: float
    standard_error: float
    degrees: float
    data_seeds: int
    cells: int
    data_variance: float
    init_variance: float


def seed_interval(
    values: ArrayLike,
    data_seed: Sequence[object] | NDArray,
    init_seed: Sequence[object] | NDArray,
    image_variance: float = 0.0,
    image_degrees: float = inf,
    level: float = 0.95,
) -> SeedInterval:
    """Mean over cells, with the t interval of initialisations nested in data seeds.

        y_ij = μ + data_i + init_ij + images,   value = mean_i mean_j y_ij
        se² = Σ_i (ȳ_i − ȳ)² / (k(k−1)) + image variance

    The first term is unbiased for any numbers of initialisations per data seed. The second is
    shared by all cells, so more seeds do not reduce it. Degrees of freedom by Satterthwaite.

    Args:
        values: Metric of each usable cell, `(cells,)`.
        data_seed: Data seed of each cell.
        init_seed: Initialisation seed of each cell; any constant label where a solver
            combines several initialisations.
        image_variance: Variance of the mean over cells that comes from the test images: the
            squared standard error over images of the rows averaged over cells.
        image_degrees: Degrees of freedom of `image_variance`: groups − 1.
        level: Nominal coverage, in (0, 1).

    Returns:
        The mean with its interval. One data seed says nothing about others: NaN bounds.

    Raises:
        DataError: If lengths differ, there is no cell, or a cell occurs twice.
        ConfigError: If the level or the variance is out of range.
    """
    check_level(level)
    if not (image_variance >= 0 and image_degrees > 0):
        raise ConfigError(
            "image_variance",
            "a non-negative variance with positive degrees of freedom",
            (image_variance, image_degrees),
            "Give the squared standard error over images, and the number of groups less one.",
        )
    y = np.asarray(values, dtype=np.float64)
    cells = [(str(d), str(i)) for d, i in zip(data_seed, init_seed, strict=False)]
    if y.ndim != 1 or len(y) == 0 or not len(y) == len(data_seed) == len(init_seed):
        raise DataError(
            "values",
            "one value, data seed and initialisation seed per cell",
            (y.shape, len(data_seed), len(init_seed)),
            "Give equally long lists with at least one cell.",
        )
    if len(set(cells)) < len(cells):
        raise DataError(
            "data_seed",
            "each (data seed, initialisation seed) once",
            f"{len(cells) - len(set(cells))} repeated",
            "Pass the cells of one solver, metric and sample size.",
        )
    _, unit = np.unique([cell[0] for cell in cells], return_inverse=True)
    count = np.bincount(unit)
    seeds = len(count)
    unit_means = np.bincount(unit, y) / count
    value = float(np.mean(unit_means))
    within = len(y) - seeds
    init_variance = float(((y - unit_means[unit]) ** 2).sum() / within) if within else nan
    if seeds < 2 or not np.isfinite(y).all():
        return SeedInterval(value, nan, nan, level, nan, nan, seeds, len(y), nan, init_variance)
    between = float(np.var(unit_means, ddof=1))
    data_variance = between - (init_variance * float((1 / count).mean()) if within else 0.0)
    seed_term = between / seeds
    total = seed_term + image_variance
    denominator = seed_term**2 / (seeds - 1) + image_variance**2 / image_degrees
    degrees = total**2 / denominator if denominator > 0 else float(seeds - 1)
    radius = float(stats.t.ppf((1 + level) / 2, degrees)) * sqrt(total)
    return SeedInterval(
        value,
        value - radius,
        value + radius,
        level,
        sqrt(total),
        degrees,
        seeds,
        len(y),
        max(0.0, data_variance),
        init_variance,
    )
