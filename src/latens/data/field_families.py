"""Families of coefficient fields of the inverse problems of IGNO, each a function of row noise.

| family | field | parameters |
|---|---|---|
| `WaveSums` | 2.1 + sin(ω₁ x) + cos(ω₂ y) | ω ~ U[low, high]² |
| `ExponentialModes` | Σ_k exp(c_k sin(πkx) sin(πky)), k ≤ K | c ~ U(−1, 1), K ~ U{1, …, modes} |
| `TwoValuedFields` | `low` or `high`, thresholded Gaussian field | Li et al. (2021) |
| `GaussianFields` | Gaussian random field | see `GaussianField` |
| `LogGaussianFields` | its exponential | the same |

The first two are those of the published smooth Darcy and EIT fields: formula and numbers
reproduce `smh_inverse_coe.mat` to 3e-7 and both EIT files to rounding. The range of ω is not in
the file (its field has ω = 5.001, 3.372).

A family is drawn on any grid: the same row is the same function, seen on other nodes.

References:
    Bao, Zang (2025), https://arxiv.org/abs/2511.03241;
    Li et al. (2021), appendix A.3, https://arxiv.org/abs/2010.08895.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from latens.data.random_fields import Boundary, GaussianField, two_valued
from latens.distributions.noise import Purpose, row_noise
from latens.errors import ConfigError
from latens.types import Shape


class FieldFamily(ABC):
    """Distribution of coefficient fields.

    Attributes:
        axes: Coordinates of the domain, 2 for the square, 1 for the ring.
        classes: Number of values that a field takes; 0 for a continuum.
    """

    axes: int = 2
    classes: int = 0

    @abstractmethod
    def fields(self, seed: int, rows: Sequence[int], size: Shape) -> Tensor:
        """Fields that depend on the seed and their own row alone.

        Args:
            seed: Seed of the collection.
            rows: Number of each field in the collection.
            size: Nodes along every axis, rows along y.

        Returns:
            `(len(rows), 1, *size)`, float64.
        """


class WaveSums(FieldFamily):
    """2.1 + sin(ω₁ x) + cos(ω₂ y), values in [0.1, 4.1].

    Args:
        low, high: Range of both ω.
    """

    def __init__(self, low: float = math.pi, high: float = 2 * math.pi) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError("low, high", "low < high, finite", (low, high), "Order them.")
        self.low, self.high = low, high

    def fields(self, seed: int, rows: Sequence[int], size: Shape) -> Tensor:
        """See `FieldFamily.fields`."""
        omega = self.low + (self.high - self.low) * _uniform(seed, rows, 2)  # (n, 2)
        x, y = _axes(size)
        across = torch.sin(omega[:, :1] * x)[:, None, :]
        along = torch.cos(omega[:, 1:] * y)[:, :, None]
        return (2.1 + across + along)[:, None]


class ExponentialModes(FieldFamily):
    """Σ_k exp(c_k sin(πkx) sin(πky)), k = 1, …, K.

    Args:
        modes: Largest K.
        fixed: Whether K is `modes` for every field, and not uniform on 1, …, `modes`.
    """

    def __init__(self, modes: int = 4, fixed: bool = False) -> None:
        if modes < 1:
            raise ConfigError("modes", "1 or more", modes, "Use 4.")
        self.modes, self.fixed = modes, fixed

    def fields(self, seed: int, rows: Sequence[int], size: Shape) -> Tensor:
        """See `FieldFamily.fields`."""
        uniform = _uniform(seed, rows, self.modes + 1)
        code = 2 * uniform[:, : self.modes] - 1  # (n, modes)
        k = torch.arange(1, self.modes + 1, dtype=torch.float64)
        count = torch.full((len(rows),), self.modes) if self.fixed else _count(uniform, self.modes)
        used = (k <= count[:, None])[:, :, None, None]
        x, y = _axes(size)
        wave = torch.sin(math.pi * k[:, None] * y)[:, :, None] * torch.sin(
            math.pi * k[:, None] * x
        ).unsqueeze(1)
        return (used * torch.exp(code[:, :, None, None] * wave)).sum(1, keepdim=True)


class TwoValuedFields(FieldFamily):
    """`high` where a Gaussian random field is at least 0, else `low`.

    Args:
        low, high: The two values.
        tau, alpha: Of the field; see `GaussianField`.
        modes: Largest wave number of the field.
    """

    classes = 2

    def __init__(
        self,
        low: float = 5.0,
        high: float = 10.0,
        tau: float = 3.0,
        alpha: float = 2.0,
        modes: int = 28,
    ) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError("low, high", "low < high, finite", (low, high), "Order them.")
        self.low, self.high = low, high
        self.tau, self.alpha, self.modes = tau, alpha, modes

    def fields(self, seed: int, rows: Sequence[int], size: Shape) -> Tensor:
        """See `FieldFamily.fields`."""
        field = GaussianField(size, "neumann", self.tau, self.alpha, modes=self.modes)
        return two_valued(field.draw(seed, rows, torch.float64), self.low, self.high)


class GaussianFields(FieldFamily):
    """Gaussian random fields; see `GaussianField` for the arguments.

    Args:
        boundary, tau, alpha, scale, modes: Of the field.
        axes: 2 for the square, 1 for the interval or, if periodic, the ring.
    """

    def __init__(
        self,
        boundary: Boundary = "periodic",
        tau: float = 5.0,
        alpha: float = 2.0,
        scale: float = 25.0,
        modes: int = 15,
        axes: int = 1,
    ) -> None:
        self.boundary: Boundary = boundary
        self.tau, self.alpha, self.scale, self.modes = tau, alpha, scale, modes
        self.axes = axes

    def fields(self, seed: int, rows: Sequence[int], size: Shape) -> Tensor:
        """See `FieldFamily.fields`."""
        if len(size) != self.axes:
            raise ConfigError("size", f"{self.axes} axes", tuple(size), "Match the family.")
        field = GaussianField(
            size, self.boundary, self.tau, self.alpha, self.scale, modes=self.modes
        )
        return field.draw(seed, rows, torch.float64)


class LogGaussianFields(FieldFamily):
    """Exponentials of Gaussian random fields on the square.

    Args:
        tau, alpha, scale, modes: Of the field; see `GaussianField`.
    """

    def __init__(
        self, tau: float = 3.0, alpha: float = 2.0, scale: float = 5.0, modes: int = 16
    ) -> None:
        self.gaussian = GaussianFields("neumann", tau, alpha, scale, modes, axes=2)

    def fields(self, seed: int, rows: Sequence[int], size: Shape) -> Tensor:
        """See `FieldFamily.fields`."""
        return self.gaussian.fields(seed, rows, size).exp()


def _uniform(seed: int, rows: Sequence[int], count: int) -> Tensor:
    """Uniform numbers of every row, `(n, count)`, float64."""
    noise = row_noise((seed, Purpose.SIGNAL), rows, (1, count), torch.float64)
    return torch.special.ndtr(noise[0])


def _count(uniform: Tensor, modes: int) -> Tensor:
    """K of every row from its last uniform number, `(n,)`."""
    return (uniform[:, -1] * modes).long().clamp(max=modes - 1) + 1


def _axes(size: Shape) -> tuple[Tensor, Tensor]:
    """Coordinates of columns and rows, x `(width,)` and y `(height,)`."""
    if len(size) != 2 or min(size) < 2:
        raise ConfigError("size", "two axes of 2 nodes or more", tuple(size), "Use (29, 29).")
    height, width = (torch.linspace(0, 1, n, dtype=torch.float64) for n in size)
    return width, height
