"""Which law describes a learning curve best: Akaike's criterion, corrected for few values.

    constant   E                         power    a N^−α
    floor      E + a N^−α                broken   E + a N^−α₁ (1 + (N/d)^(1/s))^(−(α₂ − α₁) s)

Maximum likelihood under the noise of `seed_noise`, whose three parameters (σ, p, r) are counted in
every law; the broken law is tried from six sizes on.
"""

from math import inf, log, nan

import numpy as np
from numpy.typing import NDArray

from latens.scaling.curve_tests import EXPONENTS
from latens.scaling.seed_noise import noise_moments
from latens.scaling.shapes import Shapes, broken_shapes, grid_of_powers

Array = NDArray[np.float64]

LAWS = ("constant", "power", "floor", "broken")
SIZES_FOR_A_BREAK = 6

_NOISE_PARAMETERS = 3
_SHAPE_PARAMETERS = {"constant": 1, "power": 2, "floor": 3, "broken": 5}


def law_criteria(sizes: Array, table: Array, floor_minimum: float = 0.0) -> dict[str, float]:
    """AICc of each law; smaller is better.

    Args:
        sizes: Sample sizes, `(J,)`, ascending, J ≥ 3.
        table: Mean over initialisations for each data seed and size, `(k, J)`, NaN where a
            data seed has no usable cell.
        floor_minimum: Smallest possible value of E.

    Returns:
        By name of the law; NaN where the law is not tried or has too many parameters for the
        number of values.

    References:
        Hurvich and Tsai (1989), Regression and time series model selection in small samples,
        https://doi.org/10.1093/biomet/76.2.297
        Caballero et al. (2022), Broken neural scaling laws, https://arxiv.org/abs/2210.14891
    """
    values = int(np.isfinite(table).sum())
    deviance = {
        "constant": _deviance(sizes, table, None, floor_minimum, free_floor=True)[0],
        "power": _power_deviance(sizes, table, 0.0, free_floor=False),
        "floor": _power_deviance(sizes, table, floor_minimum, free_floor=True),
    }
    if len(sizes) >= SIZES_FOR_A_BREAK:
        broken = broken_shapes(float(sizes[0]), float(sizes[-1]), count=14, places=10)
        deviance["broken"] = _deviance(sizes, table, broken, floor_minimum, free_floor=True)[0]
    return {law: _corrected(deviance.get(law, nan), law, values) for law in LAWS}


def best_law(criteria: dict[str, float]) -> str:
    """Name of the law with the smallest criterion; empty if none is known."""
    known = {law: value for law, value in criteria.items() if value == value}
    return min(known, key=lambda law: known[law]) if known else ""


def _corrected(deviance: float, law: str, values: int) -> float:
    k = _SHAPE_PARAMETERS[law] + _NOISE_PARAMETERS
    if values <= k + 1:
        return nan
    return deviance + 2 * k + 2 * k * (k + 1) / (values - k - 1)


def _power_deviance(sizes: Array, table: Array, floor_minimum: float, free_floor: bool) -> float:
    """Smallest −2 log L over exponents, on a grid that is refined around the best."""
    grid = EXPONENTS
    for _ in range(3):
        smallest, best = _deviance(sizes, table, grid_of_powers(grid), floor_minimum, free_floor)
        step = grid[1] / grid[0]
        grid = np.geomspace(grid[best] / step, grid[best] * step, 21)
    return smallest


def _deviance(
    sizes: Array, table: Array, shapes: Shapes | None, floor_minimum: float, free_floor: bool
) -> tuple[float, int]:
    """Smallest −2 log L over noise and shapes, up to a constant, and the place of the shape."""
    values = int(np.isfinite(table).sum())
    tiny = (1e-12 * float(np.nanmax(np.abs(table))) + 1e-300) ** 2
    if shapes is not None:
        g = shapes.values(sizes)
        g = g / g[:, :1]  # the amplitude takes up the scale
    best, place = inf, 0
    for precision, linear, square, log_determinant in noise_moments(sizes, table):
        total, right = float(precision.sum()), float(linear.sum())
        if shapes is None:
            rests = np.array([square - right**2 / total])
        else:
            gg = np.einsum("kj,jl,kl->k", g, precision, g)
            gy, g1 = g @ linear, g @ precision.sum(axis=1)
            centred = gg - g1**2 / total
            slope = (gy - g1 * right / total) / np.maximum(centred, 1e-300)
            floor = (right - slope * g1) / total
            explained = right**2 / total + np.maximum(centred, 0) * slope**2
            # at the smallest floor the slope is that of the rest
            held = _held(floor_minimum, square, right, total, gy, g1, gg)
            inside = (floor >= floor_minimum) & free_floor
            rests = np.where(inside, square - explained, held)
        shape = int(np.argmin(rests))
        rest = max(float(rests[shape]), 0.0)
        rest += values * tiny * float(np.trace(precision)) / len(sizes)
        deviance = values * log(rest / values) + log_determinant
        if deviance < best:
            best, place = deviance, shape
    return best, place


def _held(
    floor: float, square: float, right: float, total: float, gy: Array, g1: Array, gg: Array
) -> Array:
    """Weighted squares that remain with the floor held, `(K,)`; ∞ if it is not finite."""
    if floor == -inf:
        return np.full_like(gg, inf)
    shifted = square - 2 * floor * right + floor**2 * total
    return shifted - (gy - floor * g1) ** 2 / gg
