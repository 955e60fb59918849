"""What the components of a mixture do: their use, their meaning, the information in them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, xlogy
from scipy.stats import rankdata

from latens.errors import DataError, ShapeError
from latens.metrics.spread_bins import ence

Array = NDArray[np.float64]

ACTIVE = 0.01
"""Share of the usage from which a component counts as active."""

SPEAKS = 0.15
"""τ from which a component speaks for a class."""

SPARSE = 0.05
"""τ below which an entry counts as zero."""

BINS = 10
"""Bins of σ in its reliability diagram."""

UPPER = 0.1
"""Share of usual scores that the tail beyond them is learned from."""


def usage_entropy(component: ArrayLike) -> float:
    """H(q̄), nats, of the mean usage q̄ = mean q(c | x).

    Args:
        component: q(c | x), `(n, K)`.
    """
    return float(_entropy(_rows(component).mean(0)))


def effective_components(component: ArrayLike) -> float:
    """K_eff = exp H(q̄): K where all components are used alike, 1 where one carries everything.

    Args:
        component: q(c | x), `(n, K)`.
    """
    return float(np.exp(usage_entropy(component)))


def active_components(component: ArrayLike) -> int:
    """Number of components with more than 1 % of the usage; `component` is `(n, K)`."""
    return int((_rows(component).mean(0) > ACTIVE).sum())


def component_entropy(component: ArrayLike) -> Array:
    """H(q(c | x)) of each image, `(n,)` nats; `component` is `(n, K)`."""
    return _entropy(_rows(component))


def component_information(component: ArrayLike) -> float:
    """I(x; c) = H(q̄) − mean H(q(c | x)), nats, in [0, log K]; `component` is `(n, K)`."""
    q = _rows(component)
    return float(_entropy(q.mean(0)) - _entropy(q).mean())


def latent_information(log_density: ArrayLike) -> float:
    """I(x; z) of the aggregate posterior over n images, nats.

        (1/n) Σ_i [ log q(z_i | x_i) − log (1/n) Σ_j q(z_i | x_j) ],   z_i ~ q(z | x_i)

    The mean of q(z | x_j) over the same images stands for q(z), so the value is at most log n: a
    value near log n says only that n images are told apart. KL(q(z | x) ‖ p(z)) on average is
    I(x; z) + KL(q(z) ‖ p(z)), and bounds it from above.

    Args:
        log_density: log q(z_i | x_j), `(n, n)`, drawn image i by row.

    Raises:
        ShapeError: If the table is not square.

    References:
        Hoffman, Johnson (2016), ELBO surgery,
        http://approximateinference.org/2016/accepted/HoffmanJohnson2016.pdf
    """
    table = np.asarray(log_density, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ShapeError("log_density", "(n, n)", table.shape, "One row per draw.")
    return float(
        np.mean(np.diag(table) - np.asarray(logsumexp(table, axis=1)) + np.log(len(table)))
    )


def label_coverage(tau: ArrayLike, component: ArrayLike) -> int:
    """Classes for which an active component speaks louder than for any other.

    Args:
        tau: τ, `(K, Y)`.
        component: q(c | x), `(n, K)`.
    """
    active = _rows(component).mean(0) > ACTIVE
    return len(np.unique(_rows(tau)[active].argmax(1)))


def components_per_label(tau: ArrayLike) -> Array:
    """Number of components with τ above .15, `(Y,)`; `tau` is `(K, Y)`."""
    return (_rows(tau) > SPEAKS).sum(0).astype(np.float64)


def tau_sparsity(tau: ArrayLike) -> float:
    """Share of the entries of τ, `(K, Y)`, below .05; 1 − 1/Y where every row is one-hot."""
    return float((_rows(tau) < SPARSE).mean())


def certainty(component: ArrayLike, tau: ArrayLike) -> Array:
    """max_c q(c | x) · max_y τ_cy of each image: one minus it is the score of strangeness.

    Args:
        component: q(c | x), `(n, K)`.
        tau: τ, `(K, Y)`.

    Returns:
        `(n,)` in [0, 1].
    """
    return (_rows(component) * _rows(tau).max(1)).max(1)


def combined_strangeness(scores: ArrayLike, usual: ArrayLike) -> Array:
    """Several scores of strangeness as one, by their tails among usual images (Fisher's method).

        −Σ_j log p_j,   p_j = (1 + #{usual ≥ score_j}) / (m + 1)                    score_j ≤ u_j
                              (1 + #{usual > u_j}) / (m + 1) · exp(−(score_j − u_j)/e_j)  beyond

    The k = m/10 largest usual scores lie above u_j, by e_j on average: counts end with the
    largest usual score, and the exponential tail goes on. Only usual images enter, never strange
    ones.

    Args:
        scores: `(n, J)`, higher = stranger.
        usual: The same scores of usual images that are not among the n, `(m, J)`, m ≥ 2.

    Returns:
        `(n,)`, nats.

    Raises:
        ShapeError: If the tables do not fit.
        DataError: If a value is not finite.

    References:
        Davison, Smith (1990), Models for exceedances over high thresholds,
        https://doi.org/10.1111/j.2517-6161.1990.tb01796.x
    """
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    reference = np.atleast_2d(np.asarray(usual, dtype=np.float64))
    if table.ndim != 2 or reference.shape[1:] != table.shape[1:] or len(reference) < 2:
        raise ShapeError(
            "usual",
            f"(m, {table.shape[-1]}) with m ≥ 2",
            reference.shape,
            "Give the same scores of usual images.",
        )
    if not (np.isfinite(table).all() and np.isfinite(reference).all()):
        raise DataError("scores", "finite numbers", "NaN or infinity", "Leave such images out.")
    columns = zip(table.T, reference.T, strict=True)
    return np.sum([surprise(score, known) for score, known in columns], axis=0)


def surprise(score: Array, usual: Array) -> Array:
    """−log p of each score by the upper tail of usual ones, as in `combined_strangeness`.

    Args:
        score: `(n,)`, higher = stranger.
        usual: The same score of usual images, `(m,)`, m ≥ 2.

    Returns:
        `(n,)` nats, at least 0.
    """
    known = np.sort(usual)
    count = len(known)
    largest = known[-max(1, round(UPPER * count)) :]
    start = known[-len(largest) - 1]
    mean_excess = (largest.mean() - start) or known.std() or 1.0
    below = np.searchsorted(known, np.minimum(score, start), side="left")
    inside = -np.log((1 + count - below) / (count + 1))
    at_start = -np.log((1 + len(largest)) / (count + 1))
    return np.where(score > start, at_start + (score - start) / mean_excess, inside)


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's correlation of two numbers per image, for example σ and the error.

    Args:
        a: `(n,)`.
        b: `(n,)`.

    Returns:
        A number in [−1, 1]; 0 where either is constant, which says nothing of the other.
    """
    pair = [rankdata(np.asarray(v, dtype=np.float64)) for v in (a, b)]
    first, second = (v - v.mean() for v in pair)
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 0 else 0.0


def scale_reliability(scale: ArrayLike, squared_error: ArrayLike) -> Array:
    """Stated σ against the error, in bins of σ of about equally many images.

    Args:
        scale: σ of each image, `(n,)`, n ≥ 1.
        squared_error: Mean squared error of each, `(n,)`.

    Returns:
        `(J, 3)` with J = min(10, n), or 1 where σ is the same for all: share of the images, root
        of the mean of σ², and root mean square error, of each bin from the smallest σ on.

    Raises:
        ShapeError: If there is no image, or the lengths differ.
    """
    sigma, error = (np.asarray(v, dtype=np.float64) for v in (scale, squared_error))
    if sigma.ndim != 1 or sigma.shape != error.shape or not len(sigma):
        raise ShapeError(
            "scale",
            "one number per image, as many as errors",
            f"{sigma.shape} and {error.shape}",
            "Give one row per image.",
        )
    bins = 1 if np.ptp(sigma) == 0 else min(BINS, len(sigma))
    parts = np.array_split(np.argsort(sigma, kind="stable"), bins)
    return np.array(
        [
            (len(own) / len(sigma), np.sqrt((sigma[own] ** 2).mean()), np.sqrt(error[own].mean()))
            for own in parts
        ]
    )


def scale_calibration_error(scale: ArrayLike, squared_error: ArrayLike) -> float:
    """Expected normalised calibration error of σ per image, see `latens.metrics.ence`.

    The bins are those of `scale_reliability`. With n images it is above zero for an exact σ too.

    Args:
        scale: σ of each image, `(n,)`, above 0.
        squared_error: Mean squared error of each, `(n,)`.

    Returns:
        A number from 0, without a unit.
    """
    share, sigma, error = scale_reliability(scale, squared_error).T
    return float(ence(np.concatenate([share, share * sigma**2, share * error**2])[None])[0])


def _rows(table: ArrayLike) -> Array:
    rows = np.asarray(table, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0 or not (rows >= 0).all():
        raise ShapeError(
            "probabilities",
            "(n, K), not negative, n ≥ 1",
            f"shape {rows.shape}",
            "Give one row of probabilities per image.",
        )
    return rows


def _entropy(p: Array) -> Array:
    return -xlogy(p, p).sum(-1)
