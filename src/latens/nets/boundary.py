"""Boundary conditions that a decoded field satisfies exactly: u = g + m v, m = 0 on the boundary.

| class | m | g | for |
|---|---|---|---|
| `Free` | 1 | 0 | coefficients |
| `ZeroBoundary` | 16 x (1 − x) y (1 − y) | 0 | Darcy |
| `WaveBoundary` | the same | cos(2π(x cos θ_l + y sin θ_l)) | EIT |

g is a function of the inner points too, so that no extension has to be solved for.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latens.nets.jets import Jet, constant_function, coordinates, cosine
from latens.problems.pde.eit import PATTERNS


class BoundaryCondition(nn.Module, ABC):
    """Multiplier m and lift g of a field.

    Attributes:
        patterns: Number of boundary patterns, each with a lift of its own.
    """

    patterns: int = 1

    @abstractmethod
    def multiplier(self, points: Tensor) -> Jet:
        """m at `(P, c)` points, value `(P,)`."""

    @abstractmethod
    def lift(self, points: Tensor) -> Jet:
        """g of every pattern, value `(patterns, P)`."""


class Free(BoundaryCondition):
    """No condition."""

    def multiplier(self, points: Tensor) -> Jet:
        """1."""
        return constant_function(points).function(0)

    def lift(self, points: Tensor) -> Jet:
        """0."""
        return constant_function(points, 0.0)


class ZeroBoundary(Free):
    """u = 0 on the boundary of the unit square."""

    def multiplier(self, points: Tensor) -> Jet:
        """16 x (1 − x) y (1 − y), of maximum 1."""
        bumps = coordinates(points).through(_bump)
        return bumps.function(0) * bumps.function(1)


class WaveBoundary(ZeroBoundary):
    """u = cos(2π(x cos θ_l + y sin θ_l)) on the boundary, θ_l = πl/20: the patterns of EIT.

    Args:
        patterns: Numbers l.
    """

    directions: Tensor

    def __init__(self, patterns: Sequence[int]) -> None:
        super().__init__()
        self.patterns = len(patterns)
        angles = math.pi / PATTERNS * torch.tensor(patterns, dtype=torch.float64)
        waves = 2 * math.pi * torch.stack([angles.cos(), angles.sin()], -1)
        self.register_buffer("directions", waves, persistent=False)

    def lift(self, points: Tensor) -> Jet:
        """The wave itself, everywhere."""
        return coordinates(points).combined(self.directions.to(points)).through(cosine)


def _bump(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """4 t (1 − t) with its derivatives."""
    return 4 * t * (1 - t), 4 - 8 * t, torch.full_like(t, -8.0)
