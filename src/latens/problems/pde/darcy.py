"""Darcy flow: from a permeability to the pressure."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.problems.pde.assembly import Coefficient
from latens.problems.pde.grid import Grid
from latens.problems.pde.measured import DiffusionOperator
from latens.types import Shape


class Darcy(DiffusionOperator):
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
        super().__init__(
            signal_shape,
            (),
            lambda grid: (1, grid.height, grid.width),
            sensors,
            coefficient,
            refine,
        )
        load = self.diffusion.load(_source(source, self.diffusion.grid))
        self._load = load[1:-1, 1:-1].clone()

    def solution(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """See `DiffusionOperator.solution`; one pressure each."""
        entries = self.diffusion.entries(a)
        load = self._load.to(a.device).expand(len(a), 1, *self._load.shape)
        return entries, self.diffusion.solve(entries, load)

    def unsampled(self, entries: Tensor, u: Tensor) -> Tensor:
        """Pressure on the nodes of the coefficient's grid."""
        return self.diffusion.coarse(u)

    def field(self, x: Tensor) -> Tensor:
        """Pressure on the nodes of the coefficient's grid, `(..., 1, height, width)`."""
        return self.on_nodes(x)


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
