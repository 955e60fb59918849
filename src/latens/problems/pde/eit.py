"""Electrical impedance tomography: from a conductivity to currents through the boundary."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from latens.errors import ConfigError
from latens.problems.pde.assembly import Coefficient
from latens.problems.pde.measured import DiffusionOperator
from latens.types import Shape

PATTERNS = 20
"""Number of published boundary patterns."""


class EIT(DiffusionOperator):
    """Boundary currents or inner potentials of a conductivity a on the unit square.

        −∇·(a ∇u_l) = 0,    u_l = cos(2π(x cos θ_l + y sin θ_l)) on the boundary,   θ_l = πl/20

    What is measured is, without sensors, the mean flux a ∂u_l/∂n around every boundary node
    (weighted by its hat function, through the weak form; see `Diffusion.boundary_flux`), counter-
    clockwise from (0, 0); with sensors, the potential u_l there. Elements, derivatives and
    arithmetic are those of `Darcy`.

    Args:
        signal_shape: `(1, height, width)` of the coefficient.
        patterns: Numbers l of the boundary patterns, from 1 to 20; None for all of them.
        sensors: Positions (x, y) in the unit square where potentials are measured, `(m, 2)`;
            None for boundary fluxes.
        coefficient: `nodal` or `element`; see `Darcy`.
        refine: Elements of the mesh per element of the coefficient's grid, along each axis.

    Raises:
        ShapeError: If the signal is no single field on a grid.
        ConfigError: If a pattern is unknown or repeated, another setting is out of range, or a
            sensor is outside, repeated or not finite.
    """

    def __init__(
        self,
        signal_shape: Shape,
        patterns: Sequence[int] | None = None,
        sensors: Sequence[Sequence[float]] | Tensor | None = None,
        coefficient: Coefficient = "nodal",
        refine: int = 1,
    ) -> None:
        numbers = pattern_numbers(patterns)
        super().__init__(
            signal_shape,
            (len(numbers),),
            lambda grid: (len(numbers), len(grid.boundary())),
            sensors,
            coefficient,
            refine,
        )
        self.patterns = numbers
        diffusion = self.diffusion
        rim = diffusion.fine.points()[diffusion.fine.boundary()]
        self._boundary = diffusion.scatter_boundary(boundary_values(numbers, rim))
        self._boundary_load = diffusion.boundary_load(self._boundary)

    def solution(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """See `DiffusionOperator.solution`; one potential per pattern."""
        entries, fine = self.diffusion.entries(a), self.diffusion.fine
        inner = (len(self.patterns), fine.height - 2, fine.width - 2)
        load = self._boundary_load(a).unflatten(-1, inner)
        return entries, self.diffusion.solve(entries, load) + self._boundary.to(a.device)

    def unsampled(self, entries: Tensor, u: Tensor) -> Tensor:
        """Fluxes through the boundary."""
        return self.diffusion.boundary_flux(entries, u)

    def potential(self, x: Tensor) -> Tensor:
        """Potentials on the nodes of the coefficient's grid, `(..., patterns, height, width)`."""
        return self.on_nodes(x)


def boundary_values(patterns: Sequence[int], points: Tensor) -> Tensor:
    """Published boundary patterns at some points.

    Args:
        patterns: Numbers l.
        points: Positions (x, y), `(m, 2)`.

    Returns:
        cos(2π(x cos θ_l + y sin θ_l)), `(patterns, m)`.
    """
    angles = math.pi / PATTERNS * torch.tensor(patterns, dtype=points.dtype)
    directions = torch.stack([angles.cos(), angles.sin()], -1)
    return torch.cos(2 * math.pi * directions @ points.mT)


def pattern_numbers(patterns: Sequence[int] | None) -> tuple[int, ...]:
    """Numbers of the boundary patterns, all of them for None.

    Raises:
        ConfigError: If one is unknown or repeated, or there is none.
    """
    if patterns is None:
        return tuple(range(1, PATTERNS + 1))
    numbers = tuple(patterns)
    known = all(isinstance(n, int) and 1 <= n <= PATTERNS for n in numbers)
    if not numbers or not known or len(set(numbers)) != len(numbers):
        raise ConfigError(
            "patterns",
            f"distinct numbers from 1 to {PATTERNS}",
            list(numbers),
            "Leave it out for all of them.",
        )
    return numbers
