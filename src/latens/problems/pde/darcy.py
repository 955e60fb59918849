"""Darcy flow: from a permeability to the pressure."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.problems.operator import Operator, event_shape, require_event
from latens.problems.pde.assembly import Coefficient
from latens.problems.pde.diffusion import Diffusion
from latens.problems.pde.grid import Grid, sensor_points
from latens.problems.pde.sparse_map import SparseMap
from latens.types import Shape


class Darcy(Operator):
    """Pressure u of the flow through a medium of permeability a on the unit square.

        −∇·(a ∇u) = f,    u = 0 on the boundary

    Bilinear finite elements, assembled by scikit-fem once for all coefficients. Derivatives are
    those of the discrete problem, by one tangent or adjoint solve. The equations are solved in
    float64 on the CPU; a result has the dtype and the device of its input.

    Row i and column j of a field belong to y = i / (height − 1) and x = j / (width − 1).

    Args:
        signal_shape: `(1, height, width)` of the coefficient.
        sensors: Positions (x, y) in the unit square where u is measured, `(m, 2)`, through the
            bilinear elements; None for every node of the coefficient's grid.
        source: f, a number, or its values on the nodes, `(height, width)`.
        coefficient: `nodal`: values of a on the nodes, bilinear between them; `element`: one
            value per element, so that a grid of n × n values has (n + 1) × (n + 1) nodes.
        refine: Elements of the mesh per element of the coefficient's grid, along each axis; the
            discretisation error falls with its square.

    Raises:
        ShapeError: If the signal is no single field on a grid, or an argument does not fit it.
        ConfigError: If a setting is out of range, or a sensor is outside, repeated or not finite.
    """

    def __init__(
        self,
        signal_shape: Shape,
        sensors: Sequence[Sequence[float]] | Tensor | None = None,
        source: float | Tensor = 10.0,
        coefficient: Coefficient = "nodal",
        refine: int = 1,
    ) -> None:
        height, width = field_shape(signal_shape)
        diffusion = Diffusion((height, width), coefficient, refine)
        grid = diffusion.grid
        points = None if sensors is None else sensor_points(sensors)
        measured = (1, grid.height, grid.width) if points is None else (len(points),)
        super().__init__(signal_shape, measured)
        self.diffusion = diffusion
        self._load = diffusion.load(_source(source, grid))[1:-1, 1:-1].clone()
        self._sample = None if points is None else sensor_map(diffusion.fine, points)

    def forward(self, x: Tensor) -> Tensor:
        """Pressure at the sensors, or on the grid, `(..., *measurement_shape)`.

        Args:
            x: Permeability, `(..., *signal_shape)`, positive.

        Raises:
            ShapeError: If `x` does not fit the operator.
            DataError: If a permeability is not finite and positive.
        """
        if self._sample is None:
            return self.field(x)
        u = self._solution(x).flatten(-2)  # (B, 1, fine nodes)
        return self._sample(u).reshape(*x.shape[:-3], *self.measurement_shape).to(x)

    def field(self, x: Tensor) -> Tensor:
        """Pressure on the nodes of the coefficient's grid, `(..., 1, height, width)`."""
        u = self.diffusion.coarse(self._solution(x))
        return u.reshape(*x.shape[:-3], *u.shape[1:]).to(x)

    def _solution(self, x: Tensor) -> Tensor:
        require_event("x", x, self.signal_shape)
        entries = self.diffusion.entries(flat_coefficients(x))
        load = self._load.to(x.device).expand(len(entries), 1, *self._load.shape)
        return self.diffusion.solve(entries, load)


def field_shape(signal_shape: Shape) -> tuple[int, int]:
    """Height and width of a coefficient's array.

    Raises:
        ShapeError: If the shape is not `(1, height, width)`.
    """
    shape = event_shape("signal_shape", signal_shape)
    if len(shape) != 3 or shape[0] != 1:
        raise ShapeError(
            "signal_shape", "(1, height, width)", tuple(signal_shape), "Use one field on a grid."
        )
    return shape[1], shape[2]


def flat_coefficients(x: Tensor) -> Tensor:
    """Coefficients `(..., 1, height, width)` as `(B, values)`, float64."""
    return x.reshape(math.prod(x.shape[:-3]), math.prod(x.shape[-3:])).double()


def sensor_map(grid: Grid, points: Tensor) -> SparseMap:
    """Map from nodal values of a field to those at sensors."""
    return SparseMap(grid.interpolation(points))


def _source(source: float | Tensor, grid: Grid) -> Tensor:
    shape = (grid.height, grid.width)
    values = torch.as_tensor(source, dtype=torch.float64)
    if values.ndim and tuple(values.shape) != shape:
        raise ShapeError(
            "source",
            f"a number, or values on the nodes {shape}",
            tuple(values.shape),
            "Give one value per node of the coefficient's grid.",
        )
    if not torch.isfinite(values).all():
        raise ConfigError("source", "finite values", "NaN or infinity", "Use 10, for example.")
    return values.expand(shape).contiguous()
