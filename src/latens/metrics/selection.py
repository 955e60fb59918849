"""Risk of the images that remain when the most uncertain ones are left out.

Ties are never broken: what depends on their order takes its expectation over random orders.
`weights` are those of `metrics.detection`.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma

from latens.metrics.resamples import Array, blocks, check_scores, weight_table


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
    table = weight_table(weights, len(values))
    return table @ values / (2 * table.sum(axis=1))


def _kept(
    uncertainty: ArrayLike, risk: ArrayLike, weights: ArrayLike | None
) -> tuple[Array, Array]:
    """Images kept and their summed risk at each distinct threshold, `(R, T)`."""
    values = np.asarray(uncertainty, dtype=np.float64)
    error = np.asarray(risk, dtype=np.float64)
    check_scores(values, error)
    table = weight_table(weights, len(values))
    order, starts = blocks(values)
    kept = np.add.reduceat(table[:, order], starts, axis=1).cumsum(axis=1)
    summed = np.add.reduceat((table * error)[:, order], starts, axis=1).cumsum(axis=1)
    return kept, summed
