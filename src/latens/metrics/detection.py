"""Telling strange images from usual ones, and wrong answers from right ones.

Scores rise with strangeness (or uncertainty); `two_sided` makes such a score of one that strange
images may leave to either side. Ties are never broken: what depends on their order takes its
expectation over random orders. Every function takes weights of the images, many sets of them at
once, so that thousands of resamples cost one pass: a resample is a row of counts.

Throughout, `weights` is `(R, n)`, how often each image occurs in each of R resamples, and the
result `(R,)`; None stands for one row of ones.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from latens.errors import DataError

Array = NDArray[np.float64]

Detection = Callable[[ArrayLike, ArrayLike, ArrayLike | None], Array]
"""A number of `(scores, strange, weights)`, such as `auroc`."""

TRUE_POSITIVE_RATE = 0.95
"""Detection rate at which false alarms are counted."""

TAIL = (0.1, 0.5)
"""Shares of the usual values above the two that an exponential tail is laid through."""


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
    _check(columns, kind, axes=(2,))
    known = _weights(weights, len(kind))[:, ~kind]  # (R, m)
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


def risk_coverage(uncertainty: ArrayLike, risk: ArrayLike) -> Array:
    """Risk of the images that remain when the most uncertain ones are left out.

    Args:
        uncertainty: `(n,)`, higher = less sure.
        risk: Non-negative error of each image, `(n,)`, any unit.

    Returns:
        `(T, 3)`, one row per distinct threshold, from few images to all: coverage (share of the
        images kept), selective risk (mean risk of those kept), generalised risk (their summed
        risk over the number of all images).

    Raises:
        DataError: If lengths differ or a value is NaN.
    """
    kept, summed = _kept(uncertainty, risk, None)
    total = kept[0, -1]
    return np.stack([kept[0] / total, summed[0] / kept[0], summed[0] / total], axis=1)


def aurc(uncertainty: ArrayLike, risk: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Area under the risk-coverage curve: mean over k of the risk of the k surest images.

        AURC = (1/n) Σ_k (1/k) Σ_{i ≤ k} r_(i)

    The surest images enter many of these means, so that single ones can rule it; see `augrc`.

    Args:
        uncertainty: `(n,)`, higher = less sure.
        risk: Non-negative error of each image, `(n,)`.
        weights: `(R, n)`, whole numbers.

    Returns:
        `(R,)`, unit of the risk; the expectation over random orders of ties.

    Raises:
        DataError: If lengths differ or a value is NaN.

    References:
        Geifman, Uziel, El-Yaniv (2019), Bias-reduced uncertainty estimation for deep neural
        classifiers, https://arxiv.org/abs/1805.08206
    """
    kept, summed = _kept(uncertainty, risk, weights)
    zero = np.zeros((len(kept), 1))
    before, risk_before = np.hstack([zero, kept[:, :-1]]), np.hstack([zero, summed[:, :-1]])
    size = kept - before
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(size > 0, (summed - risk_before) / size, 0.0)
    harmonic = digamma(kept + 1) - digamma(before + 1)  # Σ 1/k over the block
    area = mean * size + (risk_before - before * mean) * harmonic
    return area.sum(axis=1) / kept[:, -1]


def augrc(uncertainty: ArrayLike, risk: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Area under the generalised risk-coverage curve: average risk of undetected failures.

        AUGRC = ∫₀¹ G(c) dc,   G(k/n) = (1/n) Σ_{i ≤ k} r_(i),  linear between

    For risks of 0 and 1 with failure rate f it is f(1−f)(1 − AUROC) + f²/2, AUROC that of
    uncertainty for failures.

    Args:
        uncertainty: `(n,)`, higher = less sure.
        risk: Non-negative error of each image, `(n,)`.
        weights: `(R, n)`.

    Returns:
        `(R,)`, unit of the risk; half the mean risk for an uncertainty without information.

    Raises:
        DataError: If lengths differ or a value is NaN.

    References:
        Traub et al. (2024), Overcoming common flaws in the evaluation of selective
        classification systems, https://arxiv.org/abs/2407.01032
    """
    kept, summed = _kept(uncertainty, risk, weights)
    size = np.diff(kept, axis=1, prepend=0.0)
    before = np.hstack([np.zeros((len(kept), 1)), summed[:, :-1]])
    return (size * (summed + before)).sum(axis=1) / (2 * kept[:, -1] ** 2)


def random_augrc(risk: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """AUGRC of an uncertainty without information, half the mean risk, `(R,)`."""
    values = np.asarray(risk, dtype=np.float64)
    table = _weights(weights, len(values))
    return table @ values / (2 * table.sum(axis=1))


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
    _check(values, kind, axes=(1, 2))
    table = _weights(weights, values.shape[-1])
    if values.ndim == 1:
        order, starts = _blocks(-values)
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
    _check(values, kind)
    table = _weights(weights, len(values))
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


def _kept(
    uncertainty: ArrayLike, risk: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Array]:
    """Images kept and their summed risk at each distinct threshold, `(R, T)`."""
    values = np.asarray(uncertainty, dtype=np.float64)
    error = np.asarray(risk, dtype=np.float64)
    _check(values, error)
    table = _weights(weights, len(values))
    order, starts = _blocks(values)
    kept = np.add.reduceat(table[:, order], starts, axis=1).cumsum(axis=1)
    summed = np.add.reduceat((table * error)[:, order], starts, axis=1).cumsum(axis=1)
    return kept, summed


def _blocks(values: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Ascending order, and where in it each distinct value begins."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return order, starts


def _weights(weights: ArrayLike | None, count: int) -> Array:
    if weights is None:
        return np.ones((1, count))
    table = np.asarray(weights, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != count:
        raise DataError("weights", f"shape (R, {count})", table.shape, "One column per image.")
    return table


def _check(values: Array, other: NDArray, axes: tuple[int, ...] = (1,)) -> None:
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
