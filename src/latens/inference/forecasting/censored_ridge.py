"""Ridge regression of readings of which some are only known to lie below a limit.

    y_i ~ N(wᵀz_i + β, σ²);   seen: y_i,   censored: y_i < L
    maximised:  Σ_seen log N(y_i; wᵀz_i + β, σ²) + Σ_censored log Φ((L − wᵀz_i − β)/σ) − λ‖w‖²/2σ²

Expectation and maximisation: a censored reading is replaced by its mean below the limit, and its
variance there is part of σ². In w/σ, β/σ and 1/σ the objective is concave: its maximum is the one.

References:
    Tobin (1958), Estimation of relationships for limited dependent variables,
    https://doi.org/10.2307/1907382; Olsen (1978), Note on the uniqueness of the maximum likelihood
    estimator for the Tobit model, https://doi.org/10.2307/1913082.
"""

import torch
from torch import Tensor

from latens.distributions import moments_below
from latens.errors import DataError

_ROUNDS = 500
_CLOSE = 1e-9
"""Change of a replaced reading, in standard deviations of the readings, that ends the rounds."""


def censored_ridge(
    z: Tensor, y: Tensor, censored: Tensor, limit: float, penalty: float
) -> tuple[Tensor, Tensor]:
    """Weights and offset of a regression with left-censored readings.

    Args:
        z: Predictors, `(n, k)`, float64.
        y: Readings, `(n,)`, float64; not looked at where censored.
        censored: Readings below the limit, `(n,)`.
        limit: L, unit of the readings.
        penalty: λ, in units of the variance of the predictors.

    Returns:
        w, `(k,)`, and β, `()`. Without a censored reading that of ridge regression in one step.

    Raises:
        DataError: If all readings are censored, which leaves weights and offset unknown.
    """
    if bool(censored.all()):
        raise DataError(
            "series",
            "a volume above the limit of detection among those that a reading is fitted to",
            f"none of {len(y)}",
            "Add visits with a lesion that can be seen, or lower the limit.",
        )
    centred, middle = z - z.mean(0), z.mean(0)
    gram = centred.mT @ centred + penalty * torch.eye(z.shape[1]).to(z)
    floor = torch.tensor(limit).to(y)
    full = torch.where(censored, floor, y)
    spread, unseen = full.std(correction=0).clamp(min=1e-6), torch.zeros_like(full)
    weights, offset = torch.zeros_like(middle), full.mean()
    for _ in range(_ROUNDS):
        weights = torch.linalg.solve(gram, centred.mT @ (full - full.mean()))
        offset = full.mean() - middle @ weights
        told = z @ weights + offset
        squares = (full - told).square().sum() + unseen.sum() + penalty * weights.square().sum()
        scale = (squares / len(full)).sqrt().clamp(min=1e-6 * float(spread))
        below, variance = moments_below(floor, told, scale)
        found = torch.where(censored, below, full)
        change = float((found - full).abs().max() / spread)
        full, unseen = found, torch.where(censored, variance, 0.0)
        if change < _CLOSE:
            break
    return weights, offset
