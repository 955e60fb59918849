"""Cutting, padding and averaging of images, and what that does to the place of their voxels.

An affine maps indices (i, j, k, 1) of a volume to millimetres; it moves with its volume.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from latens.errors import ConfigError, ShapeError


def check_block(block: int) -> int:
    """`block` itself, once it is known to be at least 1."""
    if block < 1:
        raise ConfigError("block", "at least 1", block, "Use 1 to keep the resolution.")
    return block


def average_blocks(images: np.ndarray, block: int, axes: int, name: str) -> np.ndarray:
    """Mean over blocks of `block` pixels along each of the last `axes` axes.

    Args:
        images: `(..., *spatial)`, any real type.
        block: Edge of a block in pixels.
        axes: Number of spatial axes.
        name: File that an error names.

    Returns:
        `(..., *spatial / block)`, float32.

    Raises:
        ShapeError: If an axis is no multiple of the block.
    """
    leading, spatial = images.shape[: images.ndim - axes], images.shape[images.ndim - axes :]
    if any(n % block for n in spatial):
        raise ShapeError(
            name,
            f"multiples of `block` ({block}) along every axis",
            spatial,
            "Choose another block, or set a size that it divides.",
        )
    total = np.zeros((*leading, *[n // block for n in spatial]), dtype=np.float32)
    for corner in itertools.product(range(block), repeat=axes):
        total += images[(..., *[slice(start, None, block) for start in corner])]
    return total / np.float32(block**axes)


def fit_to_size(
    images: np.ndarray, size: Sequence[int], fill: float
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Crop or pad the last axes about their centre.

    Args:
        images: `(..., *spatial)`.
        size: Pixels wanted along each of the last axes.
        fill: Value of the pixels that are added.

    Returns:
        Images `(..., *size)`, and the index in the old image of the first pixel of the new one,
        negative where pixels were added.
    """
    spatial = images.shape[images.ndim - len(size) :]
    starts = tuple((n - wanted) // 2 for n, wanted in zip(spatial, size, strict=True))
    fitted = np.full((*images.shape[: images.ndim - len(size)], *size), fill, images.dtype)
    source, target = [], []
    for n, wanted, start in zip(spatial, size, starts, strict=True):
        source.append(slice(max(start, 0), min(start + wanted, n)))
        target.append(slice(max(-start, 0), max(-start, 0) + min(wanted, n)))
    fitted[(..., *target)] = images[(..., *source)]
    return fitted, starts


def centred_affine(size: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Affine of a grid with axes towards S, P, L (head, back, left), its middle at the origin.

    Args:
        size: Voxels along D, H, W.
        spacing: Millimetres between them.

    Returns:
        Millimetres (right, anterior, superior) of an index, `(4, 4)`.
    """
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for row, axis, sign in ((0, 2, -1), (1, 1, -1), (2, 0, 1)):  # R = −L, A = −P, S
        affine[row, axis] = sign * spacing[axis]
        affine[row, 3] = -sign * spacing[axis] * (size[axis] - 1) / 2
    return affine


def moved_affine(affine: np.ndarray, start: Sequence[float], step: Sequence[float]) -> np.ndarray:
    """Affine of a grid whose voxel i is the one at start + step · i of the old grid, `(4, 4)`."""
    inner = np.diag([*step, 1.0])
    inner[:3, 3] = start
    return affine @ inner


def averaged_affine(affine: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """Affine of a grid with voxels `factors` times as large over the same field of view."""
    return moved_affine(affine, [(factor - 1) / 2 for factor in factors], factors)
