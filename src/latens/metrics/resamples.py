"""Scores of images in many resamples at once: checks, weights and order."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latens.errors import DataError

Array = NDArray[np.float64]


def blocks(values: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Ascending order, and where in it each distinct value begins."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return order, starts


def weight_table(weights: ArrayLike | None, count: int) -> Array:
    """Weights of the images of each resample, `(R, n)`, ones for None."""
    if weights is None:
        return np.ones((1, count))
    table = np.asarray(weights, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != count:
        raise DataError("weights", f"shape (R, {count})", table.shape, "One column per image.")
    return table


def check_scores(values: Array, other: NDArray, axes: tuple[int, ...] = (1,)) -> None:
    """Raise where scores, of so many axes, and another list differ in length or have a NaN."""
    if values.ndim not in axes or values.size == 0 or values.shape[-1:] != other.shape:
        raise DataError(
            "scores",
            f"one number per image, shape {other.shape}",
            values.shape,
            "Give equally long lists with at least one image.",
        )
    if np.isnan(values).any() or np.isnan(other.astype(np.float64)).any():
        raise DataError(
            "scores", "numbers", "NaN", "Leave images without a score out, and say how many."
        )
