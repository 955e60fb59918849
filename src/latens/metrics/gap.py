"""How far one posterior of the latents lies from another that is known better.

Both are known by draws. Coordinates are compared one by one, in units of the reference:

    Δ_d = (μ_d − m_d)/s_d,   ρ_d = σ_d/s_d,   W2²_d = Δ_d² + (ρ_d − 1)²
    KL_d = log ρ_d + (1 + Δ_d²)/(2 ρ_d²) − ½        of N(m_d, s_d²) from N(μ_d, σ_d²)

with m, s of the reference and μ, σ of the approximation. What the two differ by in their
correlations is not seen here; the coverage of region means sees it.
"""

import torch
from torch import Tensor

from latens.errors import ShapeError


def marginal_gap(reference: Tensor, approximate: Tensor, reference_size: Tensor) -> Tensor:
    """Squared shift, squared W2, log of the spread and KL, means or sums over coordinates.

    Squares of differences of means are freed of what Monte Carlo errors add on average,
    s²/n of the reference and σ²/n of the approximation; they can be slightly negative.

    Args:
        reference: Draws, `(n, B, d)`.
        approximate: Independent draws, `(m, B, d)`.
        reference_size: Effective sample size of the reference's means, `(B, d)`.

    Returns:
        `(B, 4)`: mean of Δ², mean of W2², mean of log ρ, sum of KL in nats.

    Raises:
        ShapeError: If there are fewer than 2 draws or the shapes do not fit.
    """
    if reference.shape[1:] != approximate.shape[1:] or min(len(reference), len(approximate)) < 2:
        raise ShapeError(
            "reference, approximate",
            "(n, B, d) and (m, B, d) with 2 draws or more",
            (tuple(reference.shape), tuple(approximate.shape)),
            "Draw both for the same measurements.",
        )
    reference, approximate = reference.double(), approximate.double()
    scale, width = reference.std(0), approximate.std(0)  # (B, d)
    ratio = width / scale
    error = 1 / reference_size.double() + ratio.square() / len(approximate)
    shift = ((approximate.mean(0) - reference.mean(0)) / scale).square() - error
    distance = shift + (ratio - 1).square()
    divergence = ratio.log() + (1 + shift) / (2 * ratio.square()) - 0.5
    return torch.stack(
        [shift.mean(-1), distance.mean(-1), ratio.log().mean(-1), divergence.sum(-1)], -1
    )
