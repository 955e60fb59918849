"""Fields on the n nodes j/n of a ring of length 1, as trigonometric polynomials."""

import math

import torch
from torch import Tensor


def interpolated(field: Tensor, points: Tensor) -> Tensor:
    """Trigonometric interpolants at points of their own.

    Args:
        field: Values at the nodes, `(..., n)`.
        points: Positions of any size, taken modulo 1, `(..., m)`.

    Returns:
        `(..., m)`.
    """
    count = field.shape[-1]
    spectrum = torch.fft.rfft(field, norm="forward")  # (..., n // 2 + 1)
    k = torch.arange(spectrum.shape[-1], dtype=field.dtype, device=field.device)
    twice = torch.where((k == 0) | (2 * k == count), 1.0, 2.0).to(field)
    angle = 2 * math.pi * points[..., None] * k  # (..., m, n // 2 + 1)
    real, imaginary = (twice * spectrum.real)[..., None, :], (twice * spectrum.imag)[..., None, :]
    return (real * angle.cos() - imaginary * angle.sin()).sum(-1)
