"""Bringing images in arbitrary units to a common scale."""

from collections.abc import Sequence

import numpy as np

from latens.errors import DataError

LOWEST, HIGHEST = 0.1, 99.9
"""Percentiles between which the robust range of an image lies."""
SMALLEST_SPREAD = 1e-6
"""Standard deviation of a constant in float32, relative to it."""


def robust_range(image: np.ndarray) -> tuple[float, float]:
    """Percentiles 0.1 and 99.9 of the values; the extremes where these two coincide."""
    low, high = np.percentile(image, (LOWEST, HIGHEST))
    if low == high:
        low, high = image.min(), image.max()
    return float(low), float(high)


def to_unit(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """(image − low)/(high − low), clipped to [0, 1], float32; zero if the range is empty."""
    width = high - low or 1.0
    return np.clip((image - low) / width, 0, 1).astype(np.float32)


def standardise(images: np.ndarray, brain: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Give each channel of each scan mean 0 and standard deviation 1 over its brain.

    Args:
        images: `(B, C, *spatial)`, real numbers, finite within the brain.
        brain: `(B, 1, *spatial)`, bool.
        names: What an error calls each channel of a scan, C of them.

    Returns:
        `(B, C, *spatial)`, float32; 0 outside the brain.

    Raises:
        DataError: If a brain is empty, or a channel is constant or not finite on it.
    """
    result = np.zeros(images.shape, dtype=np.float32)
    for image, mask, target in zip(images, brain[:, 0], result, strict=True):
        if not mask.any():
            raise DataError(
                "brain", "a mask with a voxel in it", "an empty one", "Check how it was made."
            )
        for channel, name, out in zip(image, names, target, strict=True):
            values = channel[mask].astype(np.float64)
            loc, scale = values.mean(), values.std()
            if not np.isfinite(loc):
                broken = int((~np.isfinite(values)).sum())
                raise DataError(
                    name,
                    "finite values within the brain",
                    f"{broken} that are NaN or infinite",
                    "Repair the file, or leave the subject out.",
                )
            if scale <= SMALLEST_SPREAD * abs(loc) or scale == 0:
                raise DataError(
                    name,
                    "values that differ within the brain",
                    f"the constant {loc:g}",
                    "Export this modality again, or leave the subject out.",
                )
            out[mask] = (values - loc) / scale
    return result
