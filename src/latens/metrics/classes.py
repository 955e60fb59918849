"""Numbers of a classifier: accuracy and calibration of its probabilities."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latens.errors import DataError, ShapeError

Array = NDArray[np.float64]

SUM_TOLERANCE = 1e-4
"""How far probabilities of single precision may be from a sum of one."""


def correct(probabilities: ArrayLike, labels: ArrayLike) -> Array:
    """Whether the most probable class is the right one.

    Args:
        probabilities: p(y | x), `(n, Y)`.
        labels: Class, `(n,)`.

    Returns:
        `(n,)`, 1 or 0.

    Raises:
        ShapeError: If lengths differ.
        DataError: If rows are no probabilities.
    """
    p, y = _checked(probabilities, labels)
    return (p.argmax(1) == y).astype(np.float64)


def class_log_loss(probabilities: ArrayLike, labels: ArrayLike) -> Array:
    """−log p(y | x) of the right class, `(n,)` nats; arguments as those of `correct`."""
    p, y = _checked(probabilities, labels)
    with np.errstate(divide="ignore"):
        return -np.log(p[np.arange(len(y)), y])


def brier(probabilities: ArrayLike, labels: ArrayLike) -> Array:
    """Σ_y (p_y − 1{y})², `(n,)` in [0, 2]; arguments as those of `correct`."""
    p, y = _checked(probabilities, labels)
    return ((p - np.eye(p.shape[1])[y]) ** 2).sum(1)


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> Array:
    """Confidence against accuracy in bins of equal width.

    Args:
        probabilities: p(y | x), `(n, Y)`.
        labels: Class, `(n,)`.
        bins: Number of bins of the largest probability.

    Returns:
        `(bins, 3)`: share of the images, mean confidence, accuracy; the last two are NaN in an
        empty bin.

    Raises:
        ShapeError: If lengths differ.
        DataError: If rows are no probabilities.
    """
    p, y = _checked(probabilities, labels)
    confidence, right = p.max(1), p.argmax(1) == y
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, confidence, bins) / count
        accuracy = np.bincount(place, right, bins) / count
    return np.stack([count / len(y), mean, accuracy], axis=1)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> float:
    """Σ_j share_j |accuracy_j − confidence_j| over bins of the largest probability.

    With n images it is above zero for a calibrated classifier too, by about the square root of
    (number of used bins)/n times the spread of a bin.

    Args:
        probabilities: p(y | x), `(n, Y)`.
        labels: Class, `(n,)`.
        bins: Number of bins of equal width.

    Returns:
        A number in [0, 1].

    References:
        Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks,
        https://arxiv.org/abs/1706.04599
    """
    share, confidence, accuracy = reliability(probabilities, labels, bins).T
    used = share > 0
    return float((share[used] * np.abs(accuracy[used] - confidence[used])).sum())


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Array, NDArray[np.int64]]:
    p = np.asarray(probabilities, dtype=np.float64)
    y = np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1] or len(y) == 0:
        raise ShapeError(
            "probabilities",
            "(n, Y) with one label per image, n ≥ 1",
            f"{p.shape} and labels {y.shape}",
            "Give one row per image.",
        )
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= p.shape[1]:
        raise DataError(
            "labels",
            f"integers from 0 to {p.shape[1] - 1}",
            f"{y.dtype} from {y.min()} to {y.max()}",
            "Leave images of unknown class out.",
        )
    if not (p >= 0).all() or np.abs(p.sum(1) - 1).max() > SUM_TOLERANCE:
        raise DataError(
            "probabilities", "rows that sum to one", "other rows", "Apply a softmax first."
        )
    return p, y.astype(np.int64)
