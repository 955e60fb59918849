"""Weak residuals of diffusion against compactly supported test functions.

    r_c = (∫ a ∇u · ∇v_c dx − ∫ f v_c dx) / ∫ v_c dx,    v_c(x) = φ(|x − x_c|/R)

    φ(s) = (1 − s)⁴₊ (4s + 1)

φ is Wendland's C² function in the plane. By parts, r_c is the mean of −∇·(a ∇u) − f around a
centre, weighted with v_c, in units of f; it needs no derivative of a and no second derivative of
u, so that a may jump.

Integrals are products of Gauss-Legendre rules in the radius and equal weights in the angle; with
n_r radii and n_φ angles, polynomials up to degree min(2 n_r − 7, n_φ − 1) are integrated exactly
against φ.

References:
    Wendland (1995), Piecewise polynomial, positive definite and compactly supported radial
    functions of minimal degree, https://doi.org/10.1007/BF02123482;
    Zang, Bao (2023), ParticleWNN, https://arxiv.org/abs/2305.12433.
"""

import math

import numpy as np
import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError


class WeakForm:
    """Test functions on fixed discs with their quadrature.

    Args:
        centres: x_c, `(n, 2)`, at least `radius` from the boundary of the unit square.
        radius: R.
        radii: n_r.
        angles: n_φ.

    Attributes:
        points: Quadrature points of all discs, `(n q, 2)`, float64, q = n_r n_φ.

    Raises:
        ConfigError: If a disc leaves the unit square or a setting is out of range.
        ShapeError: If the centres are not `(n, 2)`.
    """

    def __init__(self, centres: Tensor, radius: float, radii: int = 5, angles: int = 8) -> None:
        if centres.ndim != 2 or centres.shape[1] != 2 or len(centres) == 0:
            raise ShapeError("centres", "(n, 2), n ≥ 1", tuple(centres.shape), "Give pairs.")
        for name, value, least in (("radii", radii, 4), ("angles", angles, 4)):
            if value < least:
                raise ConfigError(name, f"{least} or more", value, "Raise it.")
        centres = centres.double()
        inside = (centres >= radius - 1e-12) & (centres <= 1 - radius + 1e-12)
        if not (0 < radius < 0.5 and bool(inside.all())):
            raise ConfigError(
                "radius",
                "discs inside the unit square",
                radius,
                "Make the discs smaller, or move the centres inwards.",
            )
        nodes, weights = np.polynomial.legendre.leggauss(radii)
        s = torch.from_numpy((nodes + 1) / 2)  # (n_r,), in units of R
        area = torch.from_numpy(weights / 2) * s * 2 * math.pi / angles
        angle = 2 * math.pi * torch.arange(angles, dtype=torch.float64) / angles
        direction = torch.stack([angle.cos(), angle.sin()], -1)  # (n_φ, 2)
        offset = (s[:, None, None] * direction).flatten(0, 1)  # (q, 2)
        mass = math.pi / 7  # ∫ φ(|x|) dx over the unit disc
        value = (area * (1 - s) ** 4 * (4 * s + 1))[:, None].expand(-1, angles).flatten() / mass
        slope = area * -20 * s * (1 - s) ** 3 / (mass * radius)
        gradient = (slope[:, None, None] * direction).flatten(0, 1)  # (q, 2)
        self.centres, self.radius = centres, radius
        self.points = (centres[:, None] + radius * offset).flatten(0, 1)
        self._value, self._gradient = value, gradient

    def residual(
        self, coefficient: Tensor, gradient: Tensor, source: float | Tensor = 0.0
    ) -> Tensor:
        """r_c of every disc.

        Args:
            coefficient: a at `points`, `(..., n q)`, broadcastable to the leading axes of u.
            gradient: ∇u at `points`, `(..., 2, n q)`.
            source: f, a number, or its values at `points`, `(..., n q)`.

        Returns:
            `(..., n)`, units of f.
        """
        count = len(self.centres)
        flux = (coefficient.unsqueeze(-2) * gradient).unflatten(-1, (count, -1))
        energy = torch.einsum("...knq,qk->...n", flux, self._gradient.to(flux))
        if isinstance(source, Tensor):
            return energy - source.unflatten(-1, (count, -1)) @ self._value.to(flux)
        return energy - source * float(self._value.sum())

    def part(self, rows: Tensor) -> "WeakForm":
        """The same with some of the discs.

        Args:
            rows: Their numbers, `(k,)`.
        """
        some = object.__new__(WeakForm)
        some.centres, some.radius = self.centres[rows], self.radius
        some._value, some._gradient = self._value, self._gradient
        points = self.points.unflatten(0, (len(self.centres), -1))[rows]
        some.points = points.flatten(0, 1)
        return some


def lattice(count: int, radius: float) -> Tensor:
    """Centres of `count`² discs that fill the unit square evenly and touch its boundary.

    Args:
        count: Discs along each axis.
        radius: Their radius.

    Returns:
        `(count², 2)`, float64.

    Raises:
        ConfigError: If the discs do not cover the square's middle lines.
    """
    if count < 1 or 2 * radius * count < 1:
        raise ConfigError(
            "count",
            f"at least {math.ceil(0.5 / radius)} discs of radius {radius} along each axis",
            count,
            "Add discs, or make them larger.",
        )
    axis = torch.linspace(radius, 1 - radius, count, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)
