"""From latents to what sensors would read: by the decoder of the solution, or by a solver.

| predictor | reading | cost per latent vector |
|---|---|---|
| `DecodedSensors` | decoded solution at the sensors | branch network and one product |
| `FittedSensors` | a network fitted to what these sensors read | the same |
| `SolvedSensors` | finite elements for the decoded coefficient | one solve |

All are differentiable in the latents, the last by an adjoint solve. `FittedSensors` are in
`latens.inference.fields.fitted`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.models.igno import IGNO
from latens.nets.decoded import affine_basis
from latens.nets.moving import left
from latens.problems import Operator
from latens.problems.pde.burgers import ring_points
from latens.problems.pde.grid import sensor_points

BLOCK = 64
"""Coefficients that are solved at once: factors of a mesh of 57 × 57 nodes take 1.4 MB each."""


@dataclass(frozen=True, eq=False)
class Linear:
    """Readings that are linear in few features, G(w) = offset + k(w) basis.

    Args:
        features: k, `(C, dim)` → `(C, K)`.
        basis: `(K, m)`.
        offset: `(m,)`.
    """

    features: Callable[[Tensor], Tensor]
    basis: Tensor
    offset: Tensor

    def __call__(self, w: Tensor) -> Tensor:
        """Readings `(C, m)`."""
        return self.offset + self.features(w) @ self.basis


class Predictor(Protocol):
    """Readings of m sensors as a function of w.

    Attributes:
        size: m.
    """

    size: int

    @property
    def linear(self) -> Linear | None:
        """The same as a linear map of few features; None where there are none."""
        ...

    def __call__(self, w: Tensor) -> Tensor:
        """Readings `(C, m)` at latents w, `(C, dim)`."""
        ...


class DecodedSensors:
    """Readings of the decoded solution, at rest where it is decoded in a moving frame.

    Args:
        model: Trained model.
        sensors: Positions in the domain of the coefficient: (x, y) for equations on the square,
            x for the ring, where the final state is read. Any number, anywhere inside.

    Raises:
        ShapeError, ConfigError: If they are no positions, outside, repeated or not finite.
    """

    def __init__(self, model: IGNO, sensors: Sequence[Sequence[float]] | Tensor) -> None:
        self.model = model
        self.points = solution_positions(model, sensors)
        net, units, equation = model.solution_net, model.measurement_units, model.equation
        known = model.outputs if equation.moves else self.points
        with torch.no_grad():
            offset, basis = affine_basis(net, equation.condition, units.scale, 0.0, known)
            self.basis = net.mixing @ basis  # (features, P)
            self._mean = mean_of_coefficient(model) if equation.moves else None
        self.offset = offset.reshape(-1, len(known))  # (patterns, P)
        self.size = equation.patterns * len(self.points)
        self.linear = None
        if equation.patterns == 1 and not equation.moves:
            self.linear = Linear(self._features, self.basis, self.offset[0])

    def _features(self, w: Tensor) -> Tensor:
        return self.model.solution_features(w)[..., 0, :]

    def __call__(self, w: Tensor) -> Tensor:
        """Readings, pattern after pattern, `(C, patterns · m)`."""
        readings = self.offset + self.model.solution_features(w) @ self.basis
        if self._mean is not None:
            time, x = self.model.equation.time, self.points[:, 0].to(w)
            readings = left(readings, self._mean(w), time, x)
        return readings.flatten(-2)


def mean_of_coefficient(model: IGNO) -> Linear:
    """Mean of the decoded coefficient over its nodes, `(C, 1)`; the trunk is evaluated here."""
    net, field = model.coefficient_net, model.coefficient(model.nodes.new_zeros(1, model.dim))
    offset, basis = affine_basis(net, field.condition, field.scale, field.loc, model.nodes)
    at_nodes = (net.mixing @ basis).mean(-1, keepdim=True)  # (features, 1)
    return Linear(lambda w: net.features(torch.tanh(w)), at_nodes, offset.mean().reshape(1))


class SolvedSensors:
    """Readings of the solver's solution for the decoded coefficient.

    Args:
        model: Trained model.
        operator: Solver with its sensors, for coefficients on a grid of the model's domain, of
            any resolution.
        floor: Smallest coefficient that the solver is given, in data units; the decoder's
            Gaussian may fall below zero where the true coefficient almost does.

    Raises:
        ConfigError: If the floor is not positive where the equation needs it.
    """

    def __init__(self, model: IGNO, operator: Operator, floor: float | None) -> None:
        if floor is not None and not floor > 0:
            raise ConfigError("floor", "a positive number, or None", floor, "Use 0.01.")
        self.model, self.operator, self.floor = model, operator, floor
        self.linear = None
        self.size = prod(operator.measurement_shape)
        self._points = model.equation.coefficient_points(operator.signal_shape)

    def coefficient(self, w: Tensor) -> Tensor:
        """E[a | w] on the solver's grid, `(C, *signal_shape)`, float64."""
        values = self.model.coefficient(w).value(self._points).double()
        if self.model.values == "two-valued":
            low, high = self.model.classes.double()
            values = low + (high - low) * torch.sigmoid(values)
        elif self.floor is not None:
            # Smooth, so that gradients live on below it: floor + softplus of the rest.
            width = self.floor
            values = self.floor + width * torch.nn.functional.softplus(
                (values - self.floor) / width
            )
        return values.unflatten(-1, self.operator.signal_shape)

    def __call__(self, w: Tensor) -> Tensor:
        """Readings `(C, m)`."""
        parts = [self.operator(self.coefficient(part)).flatten(1) for part in w.split(BLOCK)]
        return torch.cat(parts).to(w.dtype)


def solution_positions(model: IGNO, sensors: Sequence[Sequence[float]] | Tensor) -> Tensor:
    """Positions of sensors in the domain of the solution, `(m, solution_axes)`, float64."""
    if not model.equation.periodic:
        return sensor_points(sensors)
    given = torch.as_tensor(sensors, dtype=torch.float64)
    if given.ndim == 2 and given.shape[1] != 1:
        raise ShapeError("sensors", "shape (m,)", tuple(given.shape), "The ring has one axis.")
    x = ring_points(given.flatten())[:, None]
    final = model.equation.solution_points(model.measurement_shape)[0, 1]
    return torch.cat([x, final.expand(len(x), 1)], 1)
