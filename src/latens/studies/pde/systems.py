"""Inverse problems of the study: grids, reference solutions, and what sensors read.

All solutions, those behind training, held-out and test pairs and those of the twin, come from one
grid, `refine` times finer than the nodes that the model sees, for the family's own function there.
The twin thus shares its discretisation error with the truth; decoders are taught it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError
from latens.objectives.equations import (
    BurgersEquation,
    DarcyEquation,
    EITEquation,
    Equation,
    Form,
)
from latens.problems import Operator
from latens.problems.pde import EIT, Burgers, Darcy, Grid
from latens.problems.pde.eit import pattern_numbers
from latens.types import Shape

BLOCK = 64
"""Fields that are solved at once."""


class System(ABC):
    """An equation with its grids.

    Args:
        nodes: Nodes along each axis of the grid that the model is trained on.
        refine: Elements of the solver per element of that grid.

    Attributes:
        axes: Coordinates of the coefficient.
        floor: Smallest coefficient that the solver is given; None where any sign is allowed.
        anywhere: Whether sensors may stand anywhere in the domain.
    """

    axes: int = 2
    floor: float | None = 0.01
    anywhere: bool = True

    def __init__(self, nodes: int, refine: int) -> None:
        for name, value, least in (("nodes", nodes, 8), ("refine", refine, 1)):
            if value < least:
                raise ConfigError(name, f"{least} or more", value, "Raise it.")
        self.nodes, self.refine = nodes, refine

    @property
    def grid(self) -> Shape:
        """Nodes of the model's grid."""
        return (self.nodes,) * self.axes

    @property
    def fine(self) -> Shape:
        """Nodes of the solver's grid."""
        return (self.refine * (self.nodes - 1) + 1,) * self.axes

    @property
    def patterns(self) -> int:
        """Solutions per coefficient."""
        return 1

    def coarse(self, fine: Tensor) -> Tensor:
        """Values on the model's grid of fields on the solver's."""
        return fine[(..., *[slice(None, None, self.refine)] * self.axes)]

    @abstractmethod
    def equation(self) -> Equation:
        """Domains, conditions and residual."""

    @abstractmethod
    def solutions(self, fine: Tensor) -> Tensor:
        """u on the model's grid, `(n, patterns, *grid)`, of fields on the solver's grid."""

    @abstractmethod
    def operator(self, sensors: Tensor) -> Operator:
        """Readings of a field on the solver's grid."""

    def sensors(self, count: int, seed: int) -> Tensor:
        """Random positions in the inner 96 % of the domain, `(count, axes)`, float64."""
        noise = NoiseStream(seed, Purpose.MASK).uniform((count, self.axes), torch.float64)
        return 0.02 + 0.96 * noise


class DarcySystem(System):
    """−∇·(a ∇u) = f, u = 0 on the boundary, sensors of u.

    Args:
        nodes, refine: See `System`.
        source: f.
        form: Residual that the model is taught where `network.evidence` asks for one: `weak`,
            against Wendland functions, or `strong`, at their centres, for continuous fields.
    """

    def __init__(
        self, nodes: int = 29, refine: int = 2, source: float = 10.0, form: Form = "weak"
    ) -> None:
        super().__init__(nodes, refine)
        self.source = source
        self.form: Form = form

    def equation(self) -> Equation:
        """See `System.equation`."""
        return DarcyEquation(self.source, self.form)

    def solutions(self, fine: Tensor) -> Tensor:
        """See `System.solutions`."""
        solver = Darcy((1, *self.fine), source=self.source)
        return self.coarse(in_blocks(solver, fine))

    def operator(self, sensors: Tensor) -> Operator:
        """See `System.operator`."""
        return Darcy((1, *self.fine), sensors, source=self.source)


class EITSystem(System):
    """−∇·(a ∇u_l) = 0 with u_l given on the boundary; mean fluxes around every boundary node.

    Fluxes belong to the nodes of the model's grid, whatever the mesh, and so does a: between its
    nodes it is interpolated, since a flux feels the mesh far more than a solution does.

    Args:
        nodes, refine: See `System`.
        patterns: Numbers l of the boundary patterns; None for all twenty.
        form: See `DarcySystem`.
    """

    anywhere = False

    def __init__(
        self,
        nodes: int = 32,
        refine: int = 1,
        patterns: Sequence[int] | None = None,
        form: Form = "weak",
    ) -> None:
        super().__init__(nodes, refine)
        self.numbers = pattern_numbers(patterns)
        self.form: Form = form

    @property
    def fine(self) -> Shape:
        """Nodes at which the solver is given a coefficient: those of the model."""
        return self.grid

    @property
    def patterns(self) -> int:
        """See `System.patterns`."""
        return len(self.numbers)

    def coarse(self, fine: Tensor) -> Tensor:
        """See `System.coarse`; they are the same."""
        return fine

    def equation(self) -> Equation:
        """See `System.equation`."""
        return EITEquation(self.numbers, self.form)

    def solutions(self, fine: Tensor) -> Tensor:
        """See `System.solutions`."""
        solver = EIT((1, *self.grid), self.numbers, refine=self.refine)
        return in_blocks(solver.potential, fine)

    def operator(self, sensors: Tensor) -> Operator:
        """Boundary fluxes; there is nowhere else to measure them."""
        return EIT((1, *self.grid), self.numbers, refine=self.refine)

    def sensors(self, count: int, seed: int) -> Tensor:
        """The boundary nodes of the model's grid, counter-clockwise from (0, 0)."""
        grid = Grid(*self.grid)
        return grid.points()[grid.boundary()]


class BurgersSystem(System):
    """∂u/∂t + u ∂u/∂x = ν ∂²u/∂x² on a ring; sensors of the final state.

    Args:
        nodes, refine: See `System`.
        viscosity: ν.
        time: Final time.
        steps: Time steps of the solver.
    """

    axes = 1
    floor = None

    def __init__(
        self,
        nodes: int = 64,
        refine: int = 2,
        viscosity: float = 0.1 / pi,
        time: float = 1.0,
        steps: int = 400,
    ) -> None:
        super().__init__(nodes, refine)
        self.viscosity, self.time, self.steps = viscosity, time, steps

    @property
    def fine(self) -> Shape:
        """See `System.fine`; a ring has no last node."""
        return (self.refine * self.nodes,)

    def equation(self) -> Equation:
        """See `System.equation`."""
        return BurgersEquation(self.viscosity, self.time)

    def solutions(self, fine: Tensor) -> Tensor:
        """See `System.solutions`."""
        return self.coarse(in_blocks(self._solver(None), fine))

    def operator(self, sensors: Tensor) -> Operator:
        """See `System.operator`."""
        return self._solver(sensors.flatten())

    def _solver(self, sensors: Tensor | None) -> Burgers:
        return Burgers((1, *self.fine), sensors, self.viscosity, self.time, self.steps)


def in_blocks(function, fields: Tensor) -> Tensor:
    """A function of a batch, `BLOCK` rows at a time, without derivatives."""
    with torch.no_grad():
        return torch.cat([function(part) for part in fields.split(BLOCK)])
