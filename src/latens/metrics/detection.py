"""Telling strange images from usual ones.

Scores rise with strangeness; `two_sided` makes such a score of one that strange images may leave
to either side. Ties are never broken: what depends on their order takes its expectation over
random orders. Every function takes weights of the images, many sets of them at once, so that
thousands of resamples cost one pass: a resample is a row of counts.

Throughout, `weights` is `(R, n)`, how often each image occurs in each of R resamples, and the
result `(R,)`; None stands for one row of ones.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latens.metrics.resamples import Array, blocks, check_scores, weight_table

Detection = Callable[[ArrayLike, ArrayLike, ArrayLike | None], Array]
"""A number of `(scores, strange, weights)`, such as `auroc`."""

TRUE_POSITIVE_RATE = 0.95
"""Detection rate at which false alarms are counted."""


def auroc(scores: ArrayLike, strange: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Area under the receiver operating curve.

        P(score of a strange image > score of a usual one) + ½ P(equal)

    Args:
        scores: `(n,)`, higher = stranger; or `(R, n)`, those of each resample.
        strange: True for strange images, `(n,)`.
        weights: `(R, n)`.

    Returns:
        `(R,)` in [0, 1]; 0.5 for a score without information, NaN where a kind is missing.

    Raises:
        DataError: If lengths differ or a score is NaN.
    """
    hits, alarms = _rates(scores, strange, weights)  # (R, T + 1)
    return (np.diff(alarms) * (hits[:, 1:] + hits[:, :-1])).sum(axis=1) / 2


def average_precision(
    scores: ArrayLike, strange: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """Area under the precision-recall curve as a sum of steps, without interpolation.

        AP = Σ_t (recall_t − recall_{t−1}) · precision_t   over distinct thresholds

    It depends on the share of strange images among all, which is its value for a score without
    information: compare it between equal shares only.

    Args:
        scores: `(n,)`, higher = stranger; or `(R, n)`, those of each resample.
        strange: True for strange images, `(n,)`.
        weights: `(R, n)`.

    Returns:
        `(R,)` in [0, 1], NaN where a kind is missing.

    Raises:
        DataError: If lengths differ or a score is NaN.
    """
    caught, raised = _counts(scores, strange, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = caught / (caught + raised)
        recall = caught / caught[:, -1:]
    precision = np.nan_to_num(precision)  # resamples in which the first thresholds are empty
    steps = np.diff(recall, axis=1, prepend=0.0)
    area = (steps * precision).sum(axis=1)
    return np.where(raised[:, -1] > 0, area, np.nan)


def false_positive_rate(
    scores: ArrayLike, strange: ArrayLike, weights: ArrayLike | None = None
) -> Array:
    """False alarms at the highest threshold that finds 95 % of the strange images.

    Args:
        scores: `(n,)`, higher = stranger; or `(R, n)`, those of each resample.
        strange: True for strange images, `(n,)`.
        weights: `(R, n)`.

    Returns:
        `(R,)` in [0, 1], share of the usual images at or above that threshold; NaN where a kind
        is missing.

    Raises:
        DataError: If lengths differ or a score is NaN.
    """
    hits, alarms = _rates(scores, strange, weights)
    reached = hits >= TRUE_POSITIVE_RATE - 1e-9
    first = reached.argmax(axis=1)
    found = alarms[np.arange(len(alarms)), first]
    return np.where(reached.any(axis=1), found, np.nan)


def two_sided(number: Detection) -> Detection:
    """The same number for a score that strange images may leave to either side.

        d(v) = |v − median of the usual images|   in place of v

    Strange images have no part in the median, and a usual image none in the one that it is
    compared with, so that it does not lie nearer to it than others of its kind. A resample has the
    medians of its own usual images: an interval knows how well they are known.

    Args:
        number: `auroc`, `average_precision` or `false_positive_rate`.
    """

    def folded(scores: ArrayLike, strange: ArrayLike, weights: ArrayLike | None = None) -> Array:
        return number(_from_median(scores, strange, weights), strange, weights)

    return folded


def _rates(
    scores: ArrayLike, strange: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Array]:
    """Detection rate and false-alarm rate from the highest threshold down, `(R, T + 1)`."""
    caught, raised = _counts(scores, strange, weights)
    zero = np.zeros((len(caught), 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = np.hstack([zero, caught]) / caught[:, -1:]
        alarms = np.hstack([zero, raised]) / raised[:, -1:]
    return hits, alarms


def _counts(
    scores: ArrayLike, strange: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Array]:
    """Strange and usual images at or above each threshold, falling, `(R, T)`.

    Where every resample has scores of its own, thresholds are places in their order, and one
    between equal scores counts what lies above both.
    """
    values = np.asarray(scores, dtype=np.float64)
    kind = np.asarray(strange, dtype=bool)
    check_scores(values, kind, axes=(1, 2))
    table = weight_table(weights, values.shape[-1])
    if values.ndim == 1:
        order, starts = blocks(-values)
        caught = np.add.reduceat((table * kind)[:, order], starts, axis=1).cumsum(axis=1)
        raised = np.add.reduceat((table * ~kind)[:, order], starts, axis=1).cumsum(axis=1)
        return caught, raised
    order = np.argsort(-values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    last = np.hstack([ordered[:, 1:] != ordered[:, :-1], np.ones((len(values), 1), bool)])
    place = np.where(last, np.arange(1, values.shape[1] + 1), 0)
    place = np.maximum.accumulate(place, axis=1)  # end of the block before, 0 for none
    zero = np.zeros((len(values), 1))
    found = []
    for part in (kind, ~kind):
        own = np.take_along_axis(table * part, order, axis=1).cumsum(axis=1)
        found.append(np.take_along_axis(np.hstack([zero, own]), place, axis=1))
    return found[0], found[1]


def _from_median(scores: ArrayLike, strange: ArrayLike, weights: ArrayLike | None) -> Array:
    """Distance of each score from the median of the other usual ones of its resample, `(R, n)`."""
    values = np.asarray(scores, dtype=np.float64)
    kind = np.asarray(strange, dtype=bool)
    check_scores(values, kind)
    table = weight_table(weights, len(values))
    order = np.argsort(values, kind="stable")
    own = (table * ~kind)[:, order]  # (R, n)
    summed, place = own.cumsum(axis=1), np.arange(len(values))
    half = (summed[:, -1:] - own) / 2
    ends = []
    for side in ("left", "right"):  # half of the others, and more than half
        before, after = (_first(summed, wanted, side) for wanted in (half, half + own))
        ends.append(values[order[np.where(before < place, before, after)]])
    lower, upper = ends
    ordered, distance = values[order], np.empty_like(own)
    with np.errstate(invalid="ignore"):  # scores may be infinite
        centre = np.where(np.isfinite(upper - lower), (lower + upper) / 2, lower)
        distance[:, order] = np.where(ordered == centre, 0.0, np.abs(ordered - centre))
    return distance


def _first(summed: Array, wanted: Array, side: Literal["left", "right"]) -> NDArray[np.intp]:
    """Where each row of ascending sums first reaches (left) or passes (right) what is wanted."""
    rows, columns = summed.shape
    apart = np.arange(rows)[:, None] * (2 * summed[:, -1].max() + 1)  # rows one after the other
    found = np.searchsorted((summed + apart).ravel(), (wanted + apart).ravel(), side=side)
    return np.minimum(
        found.reshape(rows, columns) - np.arange(rows)[:, None] * columns, columns - 1
    )
