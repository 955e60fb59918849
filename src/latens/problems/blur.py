"""Blurs of a known point-spread function, in any number of dimensions."""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.problems.convolution import Convolution
from latens.types import Shape


class GaussianBlur(Convolution):
    """Convolution with an isotropic Gaussian.

    The kernel is sampled at whole pixels up to a radius of 4 widths (rounded) and divided by
    its sum, so that constants pass unchanged under a circular boundary.

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`.
        width: Standard deviation of the Gaussian, in pixels.
        boundary: What lies outside the signal: its periodic copy, or zero.
        relative_cutoff: See `Convolution`.

    Raises:
        ConfigError: If the width is not positive.
        ShapeError: If 2·round(4·width) + 1 pixels exceed a spatial size.
    """

    def __init__(
        self,
        signal_shape: Shape,
        width: float,
        boundary: Literal["circular", "zero"] = "circular",
        relative_cutoff: float | None = None,
    ) -> None:
        if not 0 < width < math.inf:
            raise ConfigError("width", "a positive number of pixels", width, "Give a width > 0.")
        radius = int(4 * width + 0.5)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        profile = torch.exp(-0.5 * (offsets / width) ** 2)
        profile = profile / profile.sum()
        kernel = torch.ones((), dtype=torch.float64)
        for _ in range(len(signal_shape) - 1):
            kernel = kernel[..., None] * profile
        super().__init__(signal_shape, kernel, boundary, relative_cutoff)
        self.width = width


class MotionBlur(Convolution):
    """Average of the signal along a straight line: motion at constant speed while measuring.

        y(i) = ∫ x(i + t d) dt   over t from −½ to ½,   d = displacement

    Between pixels x is interpolated linearly along every axis, and the integral over that
    interpolation is exact. The kernel is symmetric about its centre and sums to 1, so that
    constants pass unchanged under a circular boundary.

    Args:
        signal_shape: Shape of one signal, `(C, *spatial)`.
        displacement: Motion during the measurement, in pixels along every spatial axis, for
            example `[0, 9]` for 9 pixels along the rows of an image. Its sign has no effect.
        boundary: What lies outside the signal: its periodic copy, or zero.
        relative_cutoff: See `Convolution`.

    Raises:
        ConfigError: If the displacement is zero or not finite.
        ShapeError: If it has another number of axes than the signal, or 2·⌈|d|/2⌉ + 1 pixels
            exceed a spatial size.
    """

    def __init__(
        self,
        signal_shape: Shape,
        displacement: list[float],
        boundary: Literal["circular", "zero"] = "circular",
        relative_cutoff: float | None = None,
    ) -> None:
        if len(displacement) != len(signal_shape) - 1:
            raise ShapeError(
                "displacement",
                f"one number per spatial axis of {tuple(signal_shape)}",
                displacement,
                "Give the motion in pixels along every axis, 0 where there is none.",
            )
        if not all(map(math.isfinite, displacement)) or not any(displacement):
            raise ConfigError(
                "displacement",
                "a finite motion other than zero, in pixels",
                displacement,
                "Use `Identity` for a measurement without motion.",
            )
        kernel = _line(displacement)
        super().__init__(signal_shape, kernel, boundary, relative_cutoff)
        self.displacement = tuple(float(extent) for extent in displacement)


def _line(displacement: list[float]) -> Tensor:
    """k[j] = ∫ Π_a hat(t d_a − j_a) dt, with hat(u) = max(0, 1 − |u|), centred.

    Between the times at which a coordinate is whole, the integrand is a polynomial of the
    degree of the number of axes, which Gauss-Legendre nodes integrate exactly.
    """
    breaks = {-0.5, 0.5}
    for extent in displacement:
        reach = int(abs(extent) / 2) if extent else -1
        breaks.update(whole / extent for whole in range(-reach, reach + 1))
    ends = torch.tensor(sorted(breaks), dtype=torch.float64)
    nodes, weights = map(
        torch.from_numpy, np.polynomial.legendre.leggauss(len(displacement) // 2 + 1)
    )
    widths = ends.diff()[:, None]
    times = (ends[:-1, None] + widths * (nodes + 1) / 2).flatten()  # (P,)
    terms = (widths * weights / 2).flatten()
    for axis, extent in enumerate(displacement):
        radius = math.ceil(abs(extent) / 2)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        hat = (1 - (times[:, None] * extent - offsets).abs()).clamp_min(0)  # (P, size)
        terms = terms[..., None] * hat.reshape(len(times), *(1,) * axis, len(offsets))
    return terms.sum(0)
