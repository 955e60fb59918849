"""Pareto-smoothed importance weights, and the k̂ that says whether to believe them.

The largest weights are replaced by the expected order statistics of a generalised Pareto
distribution fitted to them. Its shape k̂ estimates how many moments the weights have:

| k̂ | |
|---|---|
| < .5 | the central limit theorem holds |
| < .7 | usable |
| ≥ .7 | no number of draws that one can afford is enough |

References:
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling,
    https://arxiv.org/abs/1507.02646;
    Zhang, Stephens (2009), A new and efficient estimation method for the generalized Pareto
    distribution, https://doi.org/10.1198/tech.2009.08017.
"""

import math

import torch
from torch import Tensor

from latens.errors import ShapeError

_PRIOR_SCALE, _PRIOR_COUNT = 3, 10


def pareto_smooth(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Smoothed weights and k̂.

    Args:
        log_weights: log p − log q of S draws, `(S, B)`; −∞ is a weight of zero.

    Returns:
        Log-weights that sum to one over the draws, `(S, B)` float64, and k̂, `(B,)`; ∞ where
        the tail has fewer than 5 draws.

    Raises:
        ShapeError: If there are fewer than 25 draws.
    """
    if log_weights.ndim != 2 or len(log_weights) < 25:
        raise ShapeError(
            "log_weights",
            "(S, B) with 25 draws or more",
            tuple(log_weights.shape),
            "Draw more from the proposal.",
        )
    columns = [_smooth_one(column) for column in log_weights.double().unbind(1)]
    smoothed = torch.stack([column for column, _ in columns], 1)
    shape = torch.tensor([k for _, k in columns], dtype=torch.float64)
    return smoothed, shape


def effective_size(log_weights: Tensor) -> Tensor:
    """Kish's effective number of weighted draws, (Σ w)²/Σ w², over the first axis.

    Args:
        log_weights: `(S, …)`, up to a constant.
    """
    return 1 / log_weights.softmax(0).square().sum(0)


def _smooth_one(log_weights: Tensor) -> tuple[Tensor, float]:
    count = len(log_weights)
    values = log_weights - log_weights.max()
    tail = math.ceil(min(0.2 * count, 3 * math.sqrt(count)))
    order = values.argsort()
    lowest = math.log(torch.finfo(torch.float64).tiny)
    cutoff = max(float(values[order[-tail - 1]]), lowest)
    above = order[values[order] > cutoff]  # ascending
    k = math.inf
    if len(above) > 4:
        excess = values[above].exp() - math.exp(cutoff)
        k, scale = _generalised_pareto(excess)
        if math.isfinite(k):
            place = (torch.arange(len(above), dtype=torch.float64) + 0.5) / len(above)
            quantile = _quantile(place, k, scale)
            values = values.clone()
            values[above] = (quantile + math.exp(cutoff)).log()
            values = values.clamp(max=0.0)
    return values - torch.logsumexp(values, 0), k


def _generalised_pareto(excess: Tensor) -> tuple[float, float]:
    """Shape and scale, with a weak prior that pulls the shape to .5; `excess` ascending."""
    count = len(excess)
    grid = 30 + int(math.sqrt(count))
    place = torch.arange(1, grid + 1, dtype=torch.float64) - 0.5
    quartile = excess[int(count / 4 + 0.5) - 1]
    b = (1 - (grid / place).sqrt()) / (_PRIOR_SCALE * quartile) + 1 / excess[-1]  # (grid,)
    k = torch.log1p(-b[:, None] * excess).mean(1)
    likelihood = count * ((-b / k).log() - k - 1)
    weight = torch.softmax(likelihood, 0)
    kept = weight >= 10 * torch.finfo(torch.float64).eps
    weight = weight[kept] / weight[kept].sum()
    best = float((b[kept] * weight).sum())
    shape = float(torch.log1p(-best * excess).mean())
    scale = -shape / best
    return (count * shape + _PRIOR_COUNT * 0.5) / (count + _PRIOR_COUNT), scale


def _quantile(probability: Tensor, k: float, scale: float) -> Tensor:
    if abs(k) < 1e-15:
        return -scale * torch.log1p(-probability)
    return scale * torch.expm1(-k * torch.log1p(-probability)) / k
