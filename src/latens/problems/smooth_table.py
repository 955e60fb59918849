"""A smooth function of one number, known at equidistant points."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor


class SmoothTable:
    """Cubic spline through f at equidistant points; constant outside them.

    Twice differentiable inside, by every transform of `torch.func`.

    Args:
        function: f of an array `(count,)`, evaluated once.
        start: First point.
        stop: Last point.
        count: Number of points.
    """

    def __init__(
        self, function: Callable[[np.ndarray], np.ndarray], start: float, stop: float, count: int
    ) -> None:
        points = np.linspace(start, stop, count)
        values = function(points)
        spline = CubicSpline((points - start) / (points[1] - points[0]), values)
        self.last = float(values[-1])
        self._start = start
        self._step = float(points[1] - points[0])
        self._coefficients = torch.from_numpy(np.ascontiguousarray(spline.c.T))  # (count − 1, 4)

    def __call__(self, x: Tensor) -> Tensor:
        """f at points of any shape, in their dtype."""
        intervals = len(self._coefficients)
        place = ((x - self._start) / self._step).clamp(0, intervals)
        index = place.detach().floor().clamp_max(intervals - 1).long()
        rest = place - index
        cubic, square, linear, constant = self._coefficients.to(x)[index].unbind(-1)
        return ((cubic * rest + square) * rest + linear) * rest + constant
