"""What operators on solutions of −∇·(a ∇u) = f share: shapes, sensors, fields on nodes."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from latens.errors import ShapeError
from latens.problems.operator import Operator, event_shape, require_event
from latens.problems.pde.assembly import Coefficient
from latens.problems.pde.diffusion import Diffusion
from latens.problems.pde.grid import Grid, sensor_points
from latens.problems.pde.sparse_map import SparseMap
from latens.types import Shape


class DiffusionOperator(Operator):
    """From a coefficient to its solutions at sensors, or to what else is measured of them.

    Args:
        signal_shape: `(1, height, width)` of the coefficient.
        leading: Leading axes of what sensors measure: `()`, or `(patterns,)`.
        otherwise: Shape of what is measured without sensors, of the coefficient's grid.
        sensors: Positions (x, y) in the unit square, `(m, 2)`, or None.
        coefficient, refine: See `Diffusion`.

    Attributes:
        diffusion: The discrete operator.

    Raises:
        ShapeError: If the signal is no single field on a grid.
        ConfigError: If a setting is out of range, or a sensor is outside, repeated or not finite.
    """

    def __init__(
        self,
        signal_shape: Shape,
        leading: Shape,
        otherwise: Callable[[Grid], Shape],
        sensors: Sequence[Sequence[float]] | Tensor | None,
        coefficient: Coefficient,
        refine: int,
    ) -> None:
        diffusion = Diffusion(_field_shape(signal_shape), coefficient, refine)
        points = None if sensors is None else sensor_points(sensors)
        measured = otherwise(diffusion.grid) if points is None else (*leading, len(points))
        super().__init__(signal_shape, measured)
        self.diffusion = diffusion
        self._sample = None
        if points is not None:
            self._sample = SparseMap(diffusion.fine.interpolation(points))

    @abstractmethod
    def solution(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Stiffness matrices and solutions on the mesh, of flat coefficients `(B, values)`.

        Returns:
            `(B, 5, H, W)` and `(B, k, H, W)`, float64.
        """

    @abstractmethod
    def unsampled(self, entries: Tensor, u: Tensor) -> Tensor:
        """What is measured of solutions without sensors, `(B, ...)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Measurement, `(..., *measurement_shape)`.

        Args:
            x: Coefficient, `(..., *signal_shape)`, positive.

        Raises:
            ShapeError: If `x` does not fit the operator.
            DataError: If a coefficient is not finite and positive.
        """
        entries, u = self._solved(x)
        sample = self._sample
        y = self.unsampled(entries, u) if sample is None else sample(u.flatten(-2))
        return y.reshape(*x.shape[:-3], *self.measurement_shape).to(x)

    def on_nodes(self, x: Tensor) -> Tensor:
        """Solutions on the nodes of the coefficient's grid, `(..., k, height, width)`."""
        u = self.diffusion.coarse(self._solved(x)[1])
        return u.reshape(*x.shape[:-3], *u.shape[1:]).to(x)

    def _solved(self, x: Tensor) -> tuple[Tensor, Tensor]:
        require_event("x", x, self.signal_shape)
        flat = x.reshape(math.prod(x.shape[:-3]), math.prod(self.signal_shape))
        return self.solution(flat.double())


def _field_shape(signal_shape: Shape) -> tuple[int, int]:
    shape = event_shape("signal_shape", signal_shape)
    if len(shape) != 3 or shape[0] != 1:
        raise ShapeError(
            "signal_shape", "(1, height, width)", tuple(signal_shape), "Use one field on a grid."
        )
    return shape[1], shape[2]
