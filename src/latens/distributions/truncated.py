"""Normals below a bound: probability, mean, draws; exact however far in the tail."""

import math

import torch
from scipy.special import ndtri_exp
from torch import Tensor

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def log_below(bound: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-probability that N(loc, scale²) lies below a bound: a left-censored reading.

        log P(t < L) = log Φ((L − loc)/scale)

    Args:
        bound: L, as all arguments broadcast; infinite for no bound.
        loc: Mean.
        scale: Standard deviation, above 0.

    Returns:
        Nats, with a gradient that grows linearly in the tail, where that of `ndtr` is 0/0.
    """
    return torch.special.log_ndtr((bound - loc) / scale)


def moments_below(bound: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of N(loc, scale²) truncated to (−∞, L].

        E = loc − scale h,   Var = scale² (1 − b h − h²),   b = (L − loc)/scale,   h = φ(b)/Φ(b)

    The bracket loses its digits far below 0; from b = −30 on its series 1/b² − 6/b⁴ + 50/b⁶ stands
    for it.

    Args:
        bound: L, as all arguments broadcast, finite, float64.
        loc: Mean before truncation.
        scale: Standard deviation before truncation.

    References:
        Johnson, Kotz, Balakrishnan (1994), Continuous univariate distributions 1, section 10.1.
    """
    b = (bound - loc) / scale
    h = (-0.5 * b.square() - _HALF_LOG_2PI - torch.special.log_ndtr(b)).exp()
    far = b < -30
    w = torch.where(far, b, -30.0).square().reciprocal()
    share = torch.where(far, w - 6 * w**2 + 50 * w**3, 1 - b * h - h.square())
    return loc - scale * h, scale**2 * share


def normal_below(bound: Tensor, uniform: Tensor) -> Tensor:
    """The quantile u of N(0, 1) truncated to (−∞, b]: e with log Φ(e) = log u + log Φ(b).

    Below b = −8 `torch.special.ndtr` has no digits left. The root is scipy's; a step of Newton's
    method from it, which changes no digit, has the derivative.

    Args:
        bound: b, any shape, float64, on the CPU.
        uniform: u in (0, 1), a shape that fits.

    Returns:
        e ≤ b, differentiable once in b.
    """
    target = uniform.log() + torch.special.log_ndtr(bound)
    with torch.no_grad():
        root = torch.as_tensor(ndtri_exp(target.numpy()))
        slope = (-0.5 * root.square() - _HALF_LOG_2PI - torch.special.log_ndtr(root)).exp()
    return root + (target - torch.special.log_ndtr(root)) / slope
