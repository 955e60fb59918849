"""Points in the space of a patient's effects, placed where their posterior is.

    first round   ε ~ N(0, I)
    later rounds  ε ~ (1 − d)/2 N(m, Σ) + (1 − d)/2 N(m, s² Σ) + d N(0, I)
    m, Σ          weighted mean and covariance of the round before, weights to the power τ

τ is the largest power, up to 1, at which the round is worth enough points: a sharp posterior is
approached in steps. The normal at the mode of the posterior would not do: a patient whose readings
happen to fit one value of an effect has a narrow peak there, with little of the mass below it. The
share d of the prior bounds every weight by the likelihood over d.

References:
    Cappé, Guillin, Marin, Robert (2004), Population Monte Carlo,
    https://doi.org/10.1198/106186004X12803;
    Hesterberg (1995), Weighted average importance sampling and defensive mixture distributions,
    https://doi.org/10.1080/00401706.1995.10484303.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.metrics.importance import effective_size
from latens.models.hierarchical_gompertz import EFFECTS, run_filter
from latens.models.visits import Visits

_SCALES = (1.0, 1.8)
"""Widths of the two normals."""
_PRIOR = 0.1
"""Share d of the prior."""
_ROUNDS, _SEARCHING, _WORTH = 4, 256, 30.0
"""Rounds that place the normals, the points of each, and what a tempered round must be worth."""
_BISECTIONS = 20
_RIDGE = 0.02
"""Share of the prior's covariance in Σ, so that it is never singular."""


@dataclass(frozen=True, eq=False)
class Points:
    """Places in the space of effects with the log of the weight of each.

    Attributes:
        effects: `(S, B, 5)`.
        log_weights: log N(ε; 0, I) − log proposal − log S, `(S, B)`.
    """

    effects: Tensor
    log_weights: Tensor


def prior_points(count: int, patients: int, seed: int) -> Points:
    """Points of N(0, I), the same for all patients."""
    effects = _standard_points(count, EFFECTS, seed)[:, None].expand(-1, patients, -1)
    return Points(effects, torch.full(effects.shape[:2], -math.log(count)).double())


def own_points(theta: Tensor, visits: Visits, count: int, seed: int) -> Points:
    """Points where each patient's effects are, given the readings.

    Args:
        theta: Population parameters, `(p,)`; no gradient goes to where points lie.
        visits: Readings of B patients, those with most visits first.
        count: S, a power of two.
        seed: Key of the points.
    """
    theta = theta.detach()
    points = prior_points(_SEARCHING, len(visits.level), seed)
    for number in range(1, _ROUNDS + 1):
        mean, factor = _moments(points, _posterior_weights(theta, visits, points))
        last = number == _ROUNDS
        points = _mixture_points(mean, factor, count if last else _SEARCHING, seed + number)
    return points


@torch.no_grad()
def _posterior_weights(theta: Tensor, visits: Visits, points: Points) -> Tensor:
    """Weights of p(ε | y, θ), to the power that leaves enough of them, `(S, B)`, sum 1."""
    log_weights = run_filter(theta, points.effects, visits)[0] + points.log_weights
    low = torch.zeros_like(log_weights[0])
    power = torch.ones_like(low)
    enough = effective_size(log_weights) >= _WORTH
    high = power
    for _ in range(_BISECTIONS):
        power = (low + high) / 2
        kept = effective_size(power * log_weights) >= _WORTH
        low, high = torch.where(kept, power, low), torch.where(kept, high, power)
    return (torch.where(enough, 1.0, low) * log_weights).softmax(0)


def _moments(points: Points, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean, `(B, 5)`, and a factor of the covariance, `(B, 5, 5)`."""
    mean = (weights[..., None] * points.effects).sum(0)
    centred = points.effects - mean
    covariance = torch.einsum("sb,sbi,sbj->bij", weights, centred, centred)
    prior = torch.eye(EFFECTS, dtype=covariance.dtype)
    return mean, torch.linalg.cholesky(torch.lerp(covariance, prior, _RIDGE))


def _mixture_points(mean: Tensor, factor: Tensor, count: int, seed: int) -> Points:
    """Points of the mixture of both normals and the prior.

    Args:
        mean: m, `(B, 5)`.
        factor: Factor of Σ, `(B, 5, 5)`.
        count: S.
        seed: Key of the points.
    """
    standard = _standard_points(count, EFFECTS + 1, seed)
    place = torch.special.ndtr(standard[:, -1])  # (S,), which of the three
    own = place >= _PRIOR
    wide = place >= (1 + _PRIOR) / 2
    scale = torch.where(wide, _SCALES[1], _SCALES[0])
    free = standard[:, :-1]
    moved = mean + torch.einsum("bij,sj->sbi", factor, scale[:, None] * free)
    effects = torch.where(own[:, None, None], moved, free[:, None])  # (S, B, 5)
    back = torch.linalg.solve_triangular(factor, (effects - mean)[..., None], upper=False)
    square = back[..., 0].square().sum(-1)  # (S, B)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # (B,)
    share = math.log((1 - _PRIOR) / 2)
    prior = -0.5 * effects.square().sum(-1)  # constants cancel
    parts = [share - 0.5 * square / s**2 - EFFECTS * math.log(s) - log_det for s in _SCALES]
    proposal = torch.stack([*parts, prior + math.log(_PRIOR)]).logsumexp(0)
    return Points(effects, prior - proposal - math.log(count))


def _standard_points(count: int, dim: int, seed: int) -> Tensor:
    """Scrambled Sobol points mapped to N(0, I), `(S, dim)`, S a power of two."""
    sobol = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed)
    uniform = sobol.draw(count, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    return torch.special.ndtri(uniform)
