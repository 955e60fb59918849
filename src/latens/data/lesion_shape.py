"""Volume, place and shape of a lesion, measured on its mask.

With voxel volume v (mm³), area A, and λ₁ ≥ λ₂ ≥ λ₃ the variances of the voxel centres along
their principal axes (mm²):

    log volume         log V,  V = n v                     mm³
    centroid           mean of the voxel centres           −1 to 1 along each axis of the grid
    sphericity         π^(1/3) (6V)^(2/3) / A              1 for a ball
    elongation         √(λ₂/λ₁)                            1 if the two longest axes are equal
    flatness           √(λ₃/λ₁)                            1 if the shortest is no shorter
    surface to volume  A / V                               1/mm

The faces of voxels overrate the area of a smooth surface by half. It is counted instead on
lines in the 13 directions of the neighbours of a voxel (Crofton), weighted by the share w_k of
all directions that each stands for, Δ_k apart:  A = 2 Σ_k w_k n_k v/Δ_k,  n_k crossings.

References:
    Legland, Kiêu and Devaux (2007), Computation of Minkowski measures on 2D and 3D binary images,
    https://doi.org/10.5566/ias.v26.p83-92; names and definitions of the shape features:
    Zwanenburg et al. (2020), https://doi.org/10.1148/radiol.2020191145.
"""

import functools
import itertools
import math

import numpy as np

from latens.data.subjects import TARGETS
from latens.errors import ShapeError
from latens.types import Shape


def lesion_targets(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """What a mask says about the lesion.

    Args:
        mask: `(D, H, W)`, bool.
        spacing: Millimetres between voxels along D, H, W, `(3,)`.

    Returns:
        Columns `TARGETS`, `(8,)`, float64; for an empty mask −inf, then NaN.

    Raises:
        ShapeError: If the mask has not three axes.
    """
    if mask.ndim != 3 or len(spacing) != 3:
        raise ShapeError("mask", "shape (D, H, W)", mask.shape, "Give one mask at a time.")
    voxels = np.argwhere(mask)
    if not len(voxels):
        return np.asarray([-math.inf] + [math.nan] * (len(TARGETS) - 1))
    step = np.asarray(spacing, dtype=np.float64)
    volume = len(voxels) * step.prod()
    centroid = (2 * voxels.mean(axis=0) + 1) / mask.shape - 1
    window = tuple(
        slice(low, high + 1)
        for low, high in zip(voxels.min(axis=0), voxels.max(axis=0), strict=True)
    )
    area = surface_area(mask[window], step)
    points = (voxels - voxels.mean(axis=0)) * step
    variances = np.linalg.eigvalsh(points.T @ points / len(points)).clip(min=0)
    longest = variances[2]
    ratios = np.sqrt(variances[[1, 0]] / longest) if longest > 0 else np.ones(2)  # one voxel
    sphericity = math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area
    return np.asarray([math.log(volume), *centroid, sphericity, *ratios, area / volume])


def surface_area(mask: np.ndarray, spacing: np.ndarray) -> float:
    """Area of the surface of a mask by Crofton's formula; outside the array nothing is set.

    Args:
        mask: `(D, H, W)`, bool.
        spacing: Millimetres between voxels, `(3,)`.

    Returns:
        Square millimetres.
    """
    step = np.asarray(spacing, dtype=np.float64)
    padded = np.pad(np.asarray(mask, dtype=bool), 1)
    total = 0.0
    for direction, weight in _directions(tuple(step.tolist())):
        here, there = _shifted(padded.shape, direction)
        crossings = np.count_nonzero(padded[here] != padded[there])
        apart = np.linalg.norm(np.asarray(direction) * step)
        total += weight * crossings * step.prod() / apart
    return 2 * float(total)


def _shifted(
    shape: Shape, direction: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Two windows of an array, the second one step further along a direction."""
    here = tuple(slice(max(0, -k), n - max(0, k)) for k, n in zip(direction, shape, strict=True))
    there = tuple(slice(max(0, k), n - max(0, -k)) for k, n in zip(direction, shape, strict=True))
    return here, there


@functools.lru_cache(maxsize=64)
def _directions(spacing: tuple[float, ...]) -> list[tuple[tuple[int, ...], float]]:
    """Thirteen directions, one of each opposite pair, and the share that each stands for."""
    from scipy.spatial import SphericalVoronoi

    steps = [k for k in itertools.product((-1, 0, 1), repeat=3) if any(k)]
    towards = np.asarray(steps) * np.asarray(spacing)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    shares = SphericalVoronoi(towards).calculate_areas() / (4 * math.pi)
    return [(k, 2 * share) for k, share in zip(steps, shares, strict=True) if k > (0, 0, 0)]
