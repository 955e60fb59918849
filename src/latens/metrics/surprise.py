"""How surprising the scores of an image are: p-values against usual images, and of several scores.

`strangest` makes one score of several; `weights` are those of `metrics.detection`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latens.errors import DataError
from latens.metrics.detection import Detection
from latens.metrics.resamples import Array, check_scores, weight_table

TAIL = (0.1, 0.5)
"""Shares of the usual values above the two that an exponential tail is laid through."""


def upper_p_value(values: ArrayLike, usual: ArrayLike) -> Array:
    """p-value of each value being as usual, against larger ones; `usual` is never that of itself.

        p = (1 + #{usual ≥ v})/(1 + n)

    P(p ≤ a) ≤ a where v is exchangeable with the n usual values. The smallest is 1/(1 + n).

    Args:
        values: `(B,)`.
        usual: `(n,)`.

    Returns:
        `(B,)` in (0, 1].

    References:
        Phipson, Smyth (2010), Permutation p-values should never be zero, Statistical
        Applications in Genetics and Molecular Biology 9, https://doi.org/10.2202/1544-6115.1585
    """
    known = np.sort(np.asarray(usual, dtype=np.float64))
    below = np.searchsorted(known, np.asarray(values, dtype=np.float64), side="left")
    return (1.0 + len(known) - below) / (1 + len(known))


def two_sided_p_value(values: ArrayLike, usual: ArrayLike) -> Array:
    """p-value against values on either side: twice the smaller of both ranks, at most 1.

        p = min(1, 2 min(1 + #{usual ≥ v}, 1 + #{usual ≤ v})/(1 + n))

    As `upper_p_value`; the smallest is 2/(1 + n).
    """
    v, known = np.asarray(values, dtype=np.float64), np.asarray(usual, dtype=np.float64)
    smaller = np.minimum(upper_p_value(v, known), upper_p_value(-v, -known))
    return np.minimum(1.0, 2 * smaller)


def smallest_p_value(
    number: Detection, two_sided: Sequence[bool], groups: Sequence[str]
) -> Detection:
    """The same number of several scores at once: of how small the smallest of their p-values is.

    A resample has p-values of its own usual images: an interval knows how well they are known.

    Args:
        number: `auroc`, `average_precision` or `false_positive_rate`.
        two_sided, groups: As `strangest`.

    Returns:
        A number of scores `(n, k)`, of strange images or not, and of weights.
    """

    def combined(scores: ArrayLike, strange: ArrayLike, weights: ArrayLike | None = None) -> Array:
        found = strangest(scores, strange, two_sided, groups, weights)
        return number(found, strange, weights)

    return combined


def strangest(
    scores: ArrayLike,
    strange: ArrayLike,
    two_sided: Sequence[bool],
    groups: Sequence[str],
    weights: ArrayLike | None = None,
) -> Array:
    """How small the smallest p-value of each image is among several scores, in nats.

        max_j −log p_j

    with p_j of `upper_p_value` or `two_sided_p_value`, each image against the usual images of
    other groups. A value beyond all of these has the smallest p-value there is however far it
    lies, so that few usual images could not tell a far one from the largest of their own. There
    the tail goes on as an exponential one,

        −log p = −log 1/(1 + n) + (v − u_max)/e                                         v > u_max

    with e = (u_.9 − u_.5)/ln 5 of all usual values, the scale of an exponential tail through these
    two quantiles, on which no single image has a say. Wherever the smallest p-values of two images
    differ and no value lies beyond, the order is theirs.

    Args:
        scores: `(n, k)`, higher = stranger; those strange on either side on a scale on which
            distances to both sides compare. May be infinite.
        strange: True for strange images, which no image is compared with, `(n,)`.
        two_sided: Whether each score is strange on either side, `(k,)`.
        groups: Images of one group are not compared with each other, `(n,)`. Give a strange image
            that of a usual one, any where it has none of its own: p-values against more images
            than the usual ones have can be smaller than all of theirs.
        weights: `(R, n)`.

    Returns:
        `(R, n)` ≥ 0; infinite beyond usual values of which these quantiles are equal.

    Raises:
        DataError: If lengths differ or a score is NaN.

    References:
        Tippett (1931), The methods of statistics, on the smallest of several p-values.
    """
    columns = np.asarray(scores, dtype=np.float64).T  # (k, n)
    kind = np.asarray(strange, dtype=bool)
    check_scores(columns, kind, axes=(2,))
    known = weight_table(weights, len(kind))[:, ~kind]  # (R, m)
    if len(groups) != len(kind):
        raise DataError("groups", f"{len(kind)} labels", len(groups), "Give one to each image.")
    _, label = np.unique([str(group) for group in groups], return_inverse=True)
    apart = label[~kind][:, None] != label  # (m, n)
    total = known @ apart  # (R, n)
    found = np.zeros_like(total)
    for column, both in zip(columns, two_sided, strict=True):
        for value in (column, -column) if both else (column,):
            usual = value[~kind]
            above = known @ ((usual[:, None] >= value) & apart)
            further = _further(value, usual, known, label, label[~kind])
            surprise = further - np.log((1 + above) / (1 + total))
            found = np.maximum(found, surprise - (np.log(2) if both else 0.0))
    return found


def _further(
    value: Array, usual: Array, weights: Array, label: NDArray, usual_label: NDArray
) -> Array:
    """How far each value lies beyond the usual ones of other groups, in units of e, `(R, n)`."""
    order = np.argsort(-usual, kind="stable")
    ordered, table, group = usual[order], weights[:, order], usual_label[order]
    present = table > 0
    top = present.argmax(axis=1)  # (R,)
    others = present & (group != group[top][:, None])
    of_others = np.where(others.any(axis=1), ordered[others.argmax(axis=1)], np.inf)
    own = label == group[top][:, None]  # (R, n)
    largest = np.where(own, of_others[:, None], ordered[top][:, None])
    summed = table.cumsum(axis=1)
    first, second = ((summed > part * summed[:, -1:]).argmax(axis=1) for part in TAIL)
    with np.errstate(divide="ignore", invalid="ignore"):  # scores may be infinite
        scale = (ordered[first] - ordered[second]) / np.log(TAIL[1] / TAIL[0])
        found = np.where(value > largest, (value - largest) / scale[:, None], 0.0)
    return np.where(np.isnan(found), np.inf, found)
