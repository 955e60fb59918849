"""Draws of N(0, 1) below a bound, exact however far in the tail."""

import math

import torch
from scipy.special import ndtri_exp
from torch import Tensor

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


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
