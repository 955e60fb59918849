"""Draws of N(0, 1) below a bound, exact however far in the tail."""

import math

import torch
from torch import Tensor

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_TAIL = -2.0
"""Log-probability below which the quantile is found by Newton's method."""
_ITERATIONS = 8


def normal_below(bound: Tensor, uniform: Tensor) -> Tensor:
    """The quantile u of N(0, 1) truncated to (−∞, b]: e with Φ(e) = u Φ(b).

    Below b = −8 `torch.special.ndtr` has no digits left; so log Φ(e) = log u + log Φ(b) is solved.
    Its left side is concave, so that Newton's iterates from e = −√(−2 log Φ) rise to the root.

    Args:
        bound: b, any shape, float64.
        uniform: u in (0, 1), a shape that fits.

    Returns:
        e ≤ b, differentiable once in b.
    """
    target = uniform.log() + torch.special.log_ndtr(bound)
    with torch.no_grad():
        root = -(-2 * target).clamp(min=0).sqrt()
        for _ in range(_ITERATIONS):
            root = root + (target - torch.special.log_ndtr(root)) / _slope(root)
        root = torch.where(target < _TAIL, root, torch.special.ndtri(target.exp()))
        slope = _slope(root)
    return root + (target - torch.special.log_ndtr(root)) / slope


def _slope(e: Tensor) -> Tensor:
    """d log Φ / de = φ(e)/Φ(e)."""
    return (-0.5 * e.square() - _HALF_LOG_2PI - torch.special.log_ndtr(e)).exp()
