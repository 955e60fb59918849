"""Is the error of the mean as large as the stated covariance says, in all directions at once?

Coverage of each direction on its own does not see whether the stated correlations between them are
right; the distance in the metric of the covariance does. Only in a few directions: a covariance of
M draws has rank M − 1.
"""

import torch
from torch import Tensor

from latens.errors import ShapeError
from latens.metrics.reduction import check_draws

_ROUNDING = 1e-12
"""Share of the largest variance below which a direction counts as one without variance."""


def mahalanobis(error: Tensor, covariance: Tensor) -> Tensor:
    """Squared Mahalanobis distance per direction, (x − μ)ᵀ C⁻¹ (x − μ)/k, where C is known.

    Args:
        error: x − μ along k directions, `(B, k)`.
        covariance: C, `(k, k)` or `(B, k, k)`, unit² of the error.

    Returns:
        `(B,)` in [0, ∞], no unit; χ²_k/k for an exact Gaussian posterior, of mean 1. Infinite
        where C allows no error in a direction that has one.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    k = error.shape[-1]
    if error.ndim != 2 or covariance.shape not in ((k, k), (len(error), k, k)):
        raise ShapeError(
            "covariance",
            "(k, k) or (B, k, k) for errors (B, k)",
            (tuple(error.shape), tuple(covariance.shape)),
            "Project signals on a few directions first: `principal_scores`.",
        )
    values, vectors = torch.linalg.eigh(covariance.double().expand(len(error), k, k))
    along = torch.einsum("bkj,bk->bj", vectors, error.double()).square()
    largest = values[:, -1:].clamp_min(0)
    empty = values <= _ROUNDING * largest
    none = along <= _ROUNDING * (largest + along.sum(1, keepdim=True))
    ratio = along / torch.where(empty, torch.ones_like(values), values)
    impossible = torch.full_like(ratio, torch.inf)
    ratio = torch.where(empty, torch.where(none, torch.zeros_like(ratio), impossible), ratio)
    return ratio.mean(1)


def hotelling(draws: Tensor, x: Tensor) -> Tensor:
    """Hotelling's statistic of the truth among draws, where C is the covariance S of M draws.

        F = (M − k)/(M − 1) · M/(M + 1) · (x − x̄)ᵀ S⁻¹ (x − x̄)/k  ~  F_{k, M−k}

    exactly, for truth and draws that are Gaussian and exchangeable. χ²_k/k would be wrong: 8
    directions and 39 draws give a distance of 1.34 on average, not of 1.

    Args:
        draws: Scores of exchangeable draws along k directions, `(M, B, k)`, M ≥ k + 5.
        x: Scores of the truth, `(B, k)`.

    Returns:
        `(B,)` in [0, ∞], no unit; of mean (M − k)/(M − k − 2) and finite variance for an exact
        Gaussian posterior, see `hotelling_mean`.

    Raises:
        ShapeError: If the shapes do not fit or there are too few draws.

    References:
        Hotelling (1931), The generalization of Student's ratio,
        https://doi.org/10.1214/aoms/1177732979
    """
    check_draws(draws, x, least=x[0].numel() + 5)
    draws, x = draws.double(), x.double()
    m, _, k = draws.shape
    mean = draws.mean(0)
    centred = draws - mean
    covariance = torch.einsum("mbi,mbj->bij", centred, centred) / (m - 1)
    return mahalanobis(x - mean, covariance) * (m - k) / (m - 1) * m / (m + 1)


def distance_of_members(members: Tensor) -> Tensor:
    """Squared Mahalanobis distance per direction of each of truth and draws from all of them.

        (θ_m − θ̄)ᵀ S⁻¹ (θ_m − θ̄)/k,   θ̄ and S of truth and draws together

    It treats all alike, so that the rank of the truth among the draws is uniform for every exact
    posterior, Gaussian or not. It grows with `hotelling` of m among the others.

    Args:
        members: Scores of truth and draws along k directions, `(M + 1, B, k)`, k ≤ M.

    Returns:
        `(M + 1, B)` in [0, ∞), no unit, float64; directions in which nothing varies count 0.

    Raises:
        ShapeError: If there are more directions than draws.
    """
    check_draws(members, members[0], least=members.shape[-1] + 1)
    centred = members.double() - members.double().mean(0)
    covariance = torch.einsum("mbi,mbj->bij", centred, centred) / (len(members) - 1)
    each = [mahalanobis(member, covariance) for member in centred]
    return torch.stack(each)


def hotelling_mean(draws: int, directions: int) -> float:
    """Expectation of `hotelling`, (M − k)/(M − k − 2)."""
    freedom = draws - directions
    return freedom / (freedom - 2)
