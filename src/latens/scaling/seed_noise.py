"""Noise of a data seed along N: how large at each size, and how correlated.

    R(N, N') = (N N')^−p r^|log₂ N − log₂ N'|,   p ∈ POWERS,   r ∈ CORRELATIONS

The subsets of a data seed are nested, so its errors go together along N; with more data they
shrink. Three data seeds determine neither p nor r, so that both are averaged or maximised over.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Moments = tuple[Array, Array, float, float]
"""Σ Rᵢ⁻¹ `(J, J)`, Σ Rᵢ⁻¹ yᵢ `(J,)`, Σ yᵢᵀ Rᵢ⁻¹ yᵢ and Σ log det Rᵢ over data seeds i, each on the
sizes that it has."""

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
CORRELATIONS = (0.0, 0.4, 0.7, 0.9)


def noise_moments(sizes: Array, table: Array) -> list[Moments]:
    """What a Gaussian likelihood needs of the data, for each power and correlation.

    Args:
        sizes: Sample sizes, `(J,)`.
        table: Value of each data seed and size, `(k, J)`, NaN where there is none.
    """
    return [_moments(sizes, table, p, r) for p in POWERS for r in CORRELATIONS]


def _moments(sizes: Array, table: Array, power: float, correlation: float) -> Moments:
    """Moments for one power and correlation."""
    octaves = np.log2(sizes)
    scale = np.exp(-power * (np.log(sizes) - np.log(sizes).mean()))
    distance = np.abs(octaves[:, None] - octaves)
    matrix = (
        scale[:, None] * scale * correlation**distance  # 0⁰ = 1
    )
    precision, linear = np.zeros_like(matrix), np.zeros(len(sizes))
    square = log_determinant = 0.0
    for row in table:
        there = np.flatnonzero(np.isfinite(row))
        part = np.ix_(there, there)
        inverse = np.linalg.inv(matrix[part])
        solved = inverse @ row[there]
        precision[part] += inverse
        linear[there] += solved
        square += float(row[there] @ solved)
        log_determinant += float(np.linalg.slogdet(matrix[part])[1])
    return precision, linear, square, log_determinant
