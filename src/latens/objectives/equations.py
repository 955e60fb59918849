"""What a neural operator must know of an equation: its domains, its conditions, its residual.

| equation | coefficient a | solution u | built in |
|---|---|---|---|
| `DarcyEquation` | permeability on the square | pressure | u = 0 on the boundary |
| `EITEquation` | conductivity on the square | a potential per pattern | the patterns |
| `BurgersEquation` | velocity at t = 0 on the ring | velocity on ring × [0, T] | period, mean |

Arrays of nodes are those of `latens.problems.pde`: rows along y, columns along x.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.nets.boundary import BoundaryCondition, Free, WaveBoundary, ZeroBoundary
from latens.nets.jets import Jet
from latens.nets.moving import entered
from latens.objectives.energy import Energy, cell_quadrature
from latens.objectives.residuals import burgers_residual, diffusion_residual, laplace_residual
from latens.objectives.weak_form import WeakForm, lattice
from latens.problems.pde.grid import Grid
from latens.types import Shape

Form = Literal["weak", "strong"]


class Field(Protocol):
    """A batch of functions, `(B, P)` or `(B, patterns, P)` at P points."""

    def value(self, points: Tensor) -> Tensor:
        """Values at points `(P, axes)`."""
        ...

    def jet(self, points: Tensor) -> Jet:
        """Values and derivatives at points."""
        ...


class NodalField:
    """Bilinear interpolant of fields on the nodes of the unit square.

    Args:
        nodes: `(B, 1, height, width)`.
    """

    def __init__(self, nodes: Tensor) -> None:
        self.nodes = nodes

    def value(self, points: Tensor) -> Tensor:
        """Values at points (x, y), `(B, P)`."""
        grid = (2 * points.to(self.nodes) - 1).expand(len(self.nodes), 1, *points.shape)
        sampled = nn.functional.grid_sample(
            self.nodes, grid, padding_mode="border", align_corners=True
        )
        return sampled[:, 0, 0]

    def jet(self, points: Tensor) -> Jet:
        """Raises `UnsupportedError`: the derivative jumps at every edge."""
        raise UnsupportedError(
            "form",
            "'weak', for coefficients known on nodes",
            "'strong'",
            "Set `form: weak`, which needs no derivative of the coefficient.",
        )


class Equation(nn.Module, ABC):
    """Domains, conditions and residual of a partial differential equation.

    Attributes:
        coefficient_axes, solution_axes: Coordinates of a and of u.
        periodic: Whether both have period 1 along the first coordinate.
        condition: Built-in boundary condition of u.
        reads_nodes: Whether the residual needs no derivative of the coefficient, so that the data
            themselves can stand in it.
        discs: Number of test functions or points at which residuals may be asked for.
        moves: Whether u is decoded in the frame that moves with the mean of a, up to `time`.
    """

    coefficient_axes: int = 2
    solution_axes: int = 2
    periodic: bool = False
    reads_nodes: bool = False
    moves: bool = False
    time: float = 0.0
    condition: BoundaryCondition
    discs: int

    @property
    def patterns(self) -> int:
        """Solutions per coefficient."""
        return self.condition.patterns

    @abstractmethod
    def coefficient_points(self, shape: Shape) -> Tensor:
        """Positions of the values of a, `(P, coefficient_axes)`, float64."""

    @abstractmethod
    def solution_points(self, shape: Shape) -> Tensor:
        """Positions of the values of u for one pattern, `(P, solution_axes)`, float64."""

    def entered(self, a: Tensor, u: Tensor) -> Tensor:
        """Solutions as they are decoded, in the frame of the equation; here u itself.

        Args:
            a: Coefficients on their nodes, `(B, 1, *grid)`.
            u: Solutions on theirs, `(B, patterns, *grid)`.
        """
        return u

    def energy(self, nodes: Tensor) -> Energy | None:
        """Quadrature of the energy of which solutions are the minimum; null where there is none.

        Args:
            nodes: Coefficients on their nodes, `(B, 1, *grid)`.

        Returns:
            Sums of float64.
        """
        return None

    @abstractmethod
    def residual(self, coefficient: Field, solution: Field, rows: Tensor) -> Tensor:
        """Residuals in natural units, of order one for a wrong solution.

        Args:
            coefficient: a, `(B, P)` at P points.
            solution: u, `(B, patterns, P)`.
            rows: Numbers of the test functions or points, below `discs`, `(k,)`.

        Returns:
            `(B, n)`, n a multiple of k.
        """


class DiffusionEquation(Equation):
    """Common part of the equations −∇·(a ∇u) = f on the unit square.

    Args:
        form: `weak`: against Wendland functions on a lattice of discs; `strong`: at their
            centres, for coefficients that are decoded and smooth.
        count: Discs along each axis.
        radius: Their radius.
    """

    source: float = 0.0

    def __init__(self, form: Form, count: int, radius: float) -> None:
        super().__init__()
        if form not in ("weak", "strong"):
            raise ConfigError("form", "'weak' or 'strong'", repr(form), "Choose one.")
        self.form = form
        self.reads_nodes = form == "weak"
        self.weak = WeakForm(lattice(count, radius), radius)
        self.discs = count * count

    def coefficient_points(self, shape: Shape) -> Tensor:
        """Nodes of the grid, row by row."""
        if len(shape) != 3:
            raise ShapeError("shape", "(k, height, width)", shape, "Use fields on a grid.")
        return Grid(shape[1], shape[2]).points()

    def solution_points(self, shape: Shape) -> Tensor:
        """Nodes of the grid, row by row."""
        return self.coefficient_points(shape)

    def energy(self, nodes: Tensor) -> Energy:
        """See `Equation.energy`."""
        points, weights = cell_quadrature(*nodes.shape[-2:])
        values = NodalField(nodes.double()).value(points)  # (B, P)
        share = weights / (values @ weights)[:, None]
        return Energy(points, share * values, share * self.source)


class DarcyEquation(DiffusionEquation):
    """−∇·(a ∇u) = f, u = 0 on the boundary; residuals are divided by f.

    Args:
        source: f, a constant other than 0.
        form, count, radius: See `DiffusionEquation`.
    """

    def __init__(
        self,
        source: float = 10.0,
        form: Form = "weak",
        count: int = 14,
        radius: float = 0.06,
    ) -> None:
        super().__init__(form, count, radius)
        if source == 0 or not math.isfinite(source):
            raise ConfigError("source", "a finite number other than 0", source, "Use 10.")
        self.source = source
        self.condition = ZeroBoundary()

    def residual(self, coefficient: Field, solution: Field, rows: Tensor) -> Tensor:
        """See `Equation.residual`, `(B, k)`."""
        part = self.weak.part(rows)
        if self.form == "strong":
            a, u = coefficient.jet(part.centres), solution.jet(part.centres)
            wide = Jet(a.value[:, None], a.first[:, None], a.second[:, None])
            return diffusion_residual(wide, u, self.source).flatten(1) / self.source
        a, u = coefficient.value(part.points), solution.jet(part.points)
        return part.residual(a[:, None], u.first, self.source).flatten(1) / self.source


class EITEquation(DiffusionEquation):
    """−∇·(a ∇u_l) = 0 with u_l given on the boundary; the Laplace form, per (2π)².

    Args:
        patterns: Numbers l of the boundary patterns; None for all twenty.
        form, count, radius: See `DiffusionEquation`; the weak residual is divided by the mean
            of the coefficient over all points.
    """

    def __init__(
        self,
        patterns: Sequence[int] | None = None,
        form: Form = "weak",
        count: int = 10,
        radius: float = 0.08,
    ) -> None:
        super().__init__(form, count, radius)
        self.condition = WaveBoundary(tuple(range(1, 21)) if patterns is None else patterns)

    def residual(self, coefficient: Field, solution: Field, rows: Tensor) -> Tensor:
        """See `Equation.residual`, `(B, patterns · k)`."""
        part = self.weak.part(rows)
        unit = (2 * math.pi) ** 2
        if self.form == "strong":
            a, u = coefficient.jet(part.centres), solution.jet(part.centres)
            wide = Jet(a.value[:, None], a.first[:, None], a.second[:, None])
            return laplace_residual(wide, u).flatten(1) / unit
        a, u = coefficient.value(part.points), solution.jet(part.points)
        relative = a / a.mean(-1, keepdim=True)
        return part.residual(relative[:, None], u.first).flatten(1) / unit


class BurgersEquation(Equation):
    """∂u/∂t + u ∂u/∂x = ν ∂²u/∂x², u(x, 0) = a(x), period 1; nodes of u are those at time T.

    Solutions are decoded in the frame that moves with the mean velocity (`latens.nets.moving`),
    where the equation is the same and the initial state is a less its mean.

    Half of the residuals are those of the equation inside, half those of the initial condition.

    Args:
        viscosity: ν.
        time: T.
        count: Points along each axis of ring × [0, T].
    """

    coefficient_axes = 1
    periodic = True
    moves = True

    def __init__(
        self, viscosity: float = 0.1 / math.pi, time: float = 1.0, count: int = 32
    ) -> None:
        super().__init__()
        for name, value in (("viscosity", viscosity), ("time", time), ("count", count)):
            if not 0 < value < math.inf:
                raise ConfigError(name, "a positive number", value, "See the docstring.")
        self.viscosity, self.time, self.count = viscosity, time, count
        self.condition = Free()
        self.discs = count * count

    def coefficient_points(self, shape: Shape) -> Tensor:
        """Nodes j/n of the ring."""
        if len(shape) != 2:
            raise ShapeError("shape", "(k, n)", shape, "Use fields on a ring.")
        return torch.arange(shape[1], dtype=torch.float64)[:, None] / shape[1]

    def solution_points(self, shape: Shape) -> Tensor:
        """The same nodes at time T."""
        x = self.coefficient_points(shape)
        return torch.cat([x, torch.full_like(x, self.time)], 1)

    def entered(self, a: Tensor, u: Tensor) -> Tensor:
        """See `Equation.entered`."""
        return entered(u, a.mean(-1), self.time)

    def residual(self, coefficient: Field, solution: Field, rows: Tensor) -> Tensor:
        """See `Equation.residual`, `(B, 2k)`; u in the moving frame."""
        x = (rows % self.count).double() / self.count
        t = self.time * ((rows // self.count).double() + 0.5) / self.count
        inside = solution.jet(torch.stack([x, t], 1))
        start = solution.value(torch.stack([x, torch.zeros_like(x)], 1))
        ring = torch.arange(self.count, dtype=torch.float64)[:, None] / self.count
        mean = coefficient.value(ring).mean(-1, keepdim=True)
        initial = start[:, 0] - (coefficient.value(x[:, None]) - mean)
        equation = burgers_residual(inside, self.viscosity)[:, 0]
        return torch.cat([equation, initial], 1)
