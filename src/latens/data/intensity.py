"""Bringing images in arbitrary units to the range from 0 to 1."""

import numpy as np

LOWEST, HIGHEST = 0.1, 99.9
"""Percentiles between which the robust range of an image lies."""


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
