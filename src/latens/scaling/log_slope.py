"""Slope of a curve on logarithmic axes: how fast a ratio changes with the number of samples."""

from math import nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from latens.scaling.fit import Parameter, seed_table


def log_slope(
    n: ArrayLike,
    values: ArrayLike,
    data_seed: "list[object] | NDArray[Any]",
    init_seed: "list[object] | NDArray[Any]",
    level: float = 0.95,
) -> Parameter:
    """d log E / d log N: slope of the line of least squares, mean over data seeds.

    Of the spread-skill ratio it is the over-confidence slope: negative where a solver grows surer
    than its errors allow with more data, zero where it stays as sure as it was. It is that of the
    sizes measured, no law: a ratio that ends at 1 has slope 0 at last.

    Initialisations are averaged within a data seed before the logarithm; the slopes of the data
    seeds are independent, and their mean has a t interval. A data seed without a value at every
    size is left out, for lines through other sizes have other slopes.

    Args:
        n: Sample size of each cell, `(cells,)`.
        values: Metric of each cell, `(cells,)`.
        data_seed: Data seed of each cell.
        init_seed: Initialisation of each cell.
        level: Nominal coverage.

    Returns:
        Slope, without unit. NaN where there are fewer than two sizes, no complete data seed, or a
        value that is not positive; without an interval where there is one data seed.

    Raises:
        DataError: As `fit_scaling`.
    """
    sizes, table = seed_table(n, values, data_seed, init_seed)
    table = table[np.isfinite(table).all(axis=1)]
    if len(sizes) < 2 or not len(table) or not (table > 0).all():
        return Parameter(nan, nan, nan)
    centred = np.log(sizes) - np.log(sizes).mean()
    slopes = np.log(table) @ centred / (centred @ centred)  # (k,)
    value, count = float(slopes.mean()), len(slopes)
    if count < 2:
        return Parameter(value, nan, nan)
    error = float(slopes.std(ddof=1)) / sqrt(count)
    half = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    return Parameter(value, value - half, value + half)
