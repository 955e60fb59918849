"""Gaussian random fields by spectral sampling, and two-valued fields made of them.

    x = Σ_k √λ_k ξ_k φ_k,    λ_k = scale² (κ_k² + τ²)^(−α),    ξ_k ~ N(0, 1)

has the covariance operator scale² (−Δ + τ²)^(−α), with the boundary behaviour of its basis φ:

| boundary | φ_k along one axis | κ_k | nodes |
|---|---|---|---|
| neumann | 1, √2 cos(πkx) | πk | j / (n − 1) |
| dirichlet | √2 sin(πkx) | πk | j / (n − 1) |
| periodic | 1, √2 cos(2πkx), √2 sin(2πkx) | 2πk | j / n |

In several axes φ is a product and κ² a sum. Smoothness grows with α (Matérn ν = α − d/2), the
correlation length is about 1/τ.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from latens.distributions.noise import Purpose, row_noise
from latens.errors import ConfigError, ShapeError
from latens.types import Shape

Boundary = Literal["neumann", "dirichlet", "periodic"]


class GaussianField:
    """Zero-mean Gaussian random field on the nodes of the unit interval, square or cube.

    The field is evaluated at its nodes exactly, whatever their number, so that one field can be
    drawn on several grids from the same noise.

    Args:
        size: Nodes along every axis, at least 2.
        boundary: Behaviour at the boundary; see the table above.
        tau: τ, positive: an inverse length.
        alpha: α, above half the number of axes, so that the variance is finite.
        scale: Square root of the factor of the covariance.
        modes: Largest wave number along every axis; n − 1 of the longest axis where None, half
            of it for a periodic field.

    Raises:
        ConfigError: If a setting is unknown or out of range.

    References:
        Li et al. (2021), Fourier neural operator for parametric partial differential equations,
        appendix A.3, https://arxiv.org/abs/2010.08895 (Darcy: neumann, τ = 3, α = 2; Burgers:
        periodic, scale 25, τ = 5, α = 2).
    """

    def __init__(
        self,
        size: Shape,
        boundary: Boundary = "neumann",
        tau: float = 3.0,
        alpha: float = 2.0,
        scale: float = 1.0,
        modes: int | None = None,
    ) -> None:
        if not size or min(size) < 2:
            raise ConfigError("size", "at least 2 nodes along every axis", tuple(size), "Use 29.")
        if boundary not in ("neumann", "dirichlet", "periodic"):
            raise ConfigError(
                "boundary", "'neumann', 'dirichlet' or 'periodic'", repr(boundary), "Choose one."
            )
        for name, value, bound in (("tau", tau, 0), ("alpha", alpha, len(size) / 2)):
            if not bound < value < math.inf:
                raise ConfigError(name, f"a number above {bound:g}", value, "See the docstring.")
        if not 0 < scale < math.inf:
            raise ConfigError("scale", "a positive number", scale, "Use 1, for example.")
        if modes is not None and modes < 1:
            raise ConfigError("modes", "at least 1", modes, "Leave it out.")
        longest = max(size)
        default = (longest - 1) // 2 if boundary == "periodic" else longest - 1
        self.size = tuple(size)
        self.boundary = boundary
        self.modes = max(1, default) if modes is None else modes
        bases = [_basis(n, boundary, self.modes) for n in self.size]
        self._bases = [basis for basis, _ in bases]
        squares = _outer_sum([wave.square() for _, wave in bases])
        self.eigenvalues = scale**2 * (squares + tau**2) ** -alpha

    @property
    def noise_shape(self) -> Shape:
        """Shape of the standard normal noise of one field, an axis per axis of the field."""
        return tuple(self.eigenvalues.shape)

    def __call__(self, noise: Tensor) -> Tensor:
        """Fields from standard normal noise.

        Args:
            noise: ξ, `(..., *noise_shape)`.

        Returns:
            `(..., 1, *size)`, dtype and device of the noise.

        Raises:
            ShapeError: If the trailing axes are not `noise_shape`.
        """
        axes = len(self.size)
        if noise.ndim < axes or tuple(noise.shape[-axes:]) != self.noise_shape:
            raise ShapeError(
                "noise", f"trailing axes {self.noise_shape}", tuple(noise.shape), "Reshape it."
            )
        field = noise * self.eigenvalues.sqrt().to(noise)
        for axis, basis in enumerate(self._bases, -axes):
            field = (field.movedim(axis, -1) @ basis.to(noise).mT).movedim(-1, axis)
        return field.unsqueeze(-axes - 1)

    def draw(self, seed: int, rows: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Fields that depend on the seed and their own row alone, `(len(rows), 1, *size)`.

        Args:
            seed: Seed of the collection.
            rows: Number of each field in the collection.
            dtype: Of the fields; the noise is drawn in float64.
        """
        noise = row_noise((seed, Purpose.SIGNAL), rows, (1, *self.noise_shape), torch.float64)
        return self(noise[0]).to(dtype)

    def covariance(self) -> Tensor:
        """Covariance of the values on the nodes, row by row, `(nodes, nodes)`, float64."""
        basis = self._bases[0]
        for other in self._bases[1:]:
            basis = torch.kron(basis, other)
        return (basis * self.eigenvalues.flatten()) @ basis.mT


def two_valued(field: Tensor, low: float, high: float, threshold: float = 0.0) -> Tensor:
    """A field of two values: `high` where it is at least the threshold, else `low`.

    Args:
        field: Any shape.
        low: Value below the threshold, for example 5.
        high: Value above it, for example 10, 100 or 1000.
        threshold: Level of the interface; 0 gives both values half of the square on average.

    Raises:
        ConfigError: If the two values are equal or not finite.
    """
    if low == high or not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError("high", f"a finite value other than `low` ({low:g})", high, "Change it.")
    return torch.where(field >= threshold, high, low).to(field)


def _basis(count: int, boundary: Boundary, modes: int) -> tuple[Tensor, Tensor]:
    """Basis functions of one axis on its nodes, `(n, functions)`, and their wave numbers κ."""
    steps = torch.arange(count, dtype=torch.float64)
    waves = math.pi * torch.arange(1, modes + 1, dtype=torch.float64)
    constant = torch.ones(count, 1, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    root = math.sqrt(2)
    if boundary == "periodic":
        phase = 2 * steps[:, None] / count * waves
        waves = torch.cat([zero, 2 * waves, 2 * waves])
        return torch.cat([constant, root * phase.cos(), root * phase.sin()], 1), waves
    phase = steps[:, None] / (count - 1) * waves
    if boundary == "dirichlet":
        functions = root * phase.sin()
        functions[[0, -1]] = 0  # sin(πk) to rounding
        return functions, waves
    return torch.cat([constant, root * phase.cos()], 1), torch.cat([zero, waves])


def _outer_sum(axes: list[Tensor]) -> Tensor:
    total = axes[0]
    for values in axes[1:]:
        total = total[..., None] + values
    return total
