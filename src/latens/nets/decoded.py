"""A batch of decoded fields: g + m (scale · v + loc), v from a MultiONet, at any points."""

from dataclasses import dataclass

from torch import Tensor

from latens.nets.boundary import BoundaryCondition
from latens.nets.jets import Jet, constant_function
from latens.nets.multionet import MultiONet


@dataclass(frozen=True, eq=False)
class DecodedField:
    """Functions of a position, one per row of coefficients.

    Args:
        net: Where the basis comes from.
        coefficients: `(..., K)`, or `(..., patterns, K)` for a condition with several patterns.
        condition: Multiplier m and lift g.
        scale, loc: Units of v.
    """

    net: MultiONet
    coefficients: Tensor
    condition: BoundaryCondition
    scale: Tensor | float = 1.0
    loc: Tensor | float = 0.0

    def value(self, points: Tensor) -> Tensor:
        """Values at points `(P, axes)`, `(..., P)`."""
        offset, basis = affine_basis(self.net, self.condition, self.scale, self.loc, points)
        return offset + self.coefficients @ basis

    def jet(self, points: Tensor) -> Jet:
        """Values with derivatives at points `(P, axes)`."""
        points = points.to(self.coefficients)
        made = self.net.jet(points).combined(self._scaled)
        value = made.value + self.loc
        multiplier = self.condition.multiplier(points)
        lift = self.condition.lift(points)
        if self.condition.patterns == 1:
            lift = lift.function(0)
        return Jet(value, made.first, made.second) * multiplier + lift

    def affine(self, points: Tensor) -> tuple[Jet, Jet]:
        """Offset and basis of `jet` as functions of the coefficients, at points `(P, axes)`.

        Returns:
            Offset, value `(P,)` or `(patterns, P)`, and basis, value `(K, P)`.
        """
        points = points.to(self.coefficients)
        multiplier, lift = self.condition.multiplier(points), self.condition.lift(points)
        if self.condition.patterns == 1:
            lift = lift.function(0)
        basis = Jet(*(part * self.scale for part in self.net.jet(points).parts))
        constant = constant_function(points).function(0)
        loc = Jet(*(part * self.loc for part in constant.parts))
        return loc * multiplier + lift, basis * multiplier

    @property
    def _scaled(self) -> Tensor:
        return self.coefficients * self.scale


def affine_basis(
    net: MultiONet,
    condition: BoundaryCondition,
    scale: Tensor | float,
    loc: Tensor | float,
    points: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fields of a decoder at fixed points as affine functions of their coefficients.

    Args:
        net, condition, scale, loc: See `DecodedField`.
        points: `(P, axes)`.

    Returns:
        Offset g + m loc, `(P,)` or `(patterns, P)`, and basis m scale φ, `(K, P)`.
    """
    points = points.to(next(net.parameters()))
    multiplier = condition.multiplier(points).value
    lift = condition.lift(points).value  # (patterns, P)
    offset = lift + multiplier * loc
    if condition.patterns == 1:
        offset = offset[0]
    return offset, net.basis(points) * multiplier * scale
