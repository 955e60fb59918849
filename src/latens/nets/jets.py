"""Functions of a position with their first and second derivatives along every coordinate.

A jet is carried through a network layer by layer (forward-mode Taylor), so that the derivatives
of all functions at all points cost 1 + 2c products with each weight, for c coordinates, and no
graph is differentiated:

    h = σ(a),   ∂h = σ′(a) ∂a,   ∂²h = σ′(a) ∂²a + σ″(a) (∂a)²
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Derivatives = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""A univariate function: its value, first and second derivative."""


@dataclass(frozen=True)
class Jet:
    """Values and derivatives of functions at P points with c coordinates.

    Args:
        value: `(..., P)`.
        first: ∂/∂x_i, `(..., c, P)`.
        second: ∂²/∂x_i², `(..., c, P)`.
    """

    value: Tensor
    first: Tensor
    second: Tensor

    @property
    def laplacian(self) -> Tensor:
        """Sum of the second derivatives, `(..., P)`."""
        return self.second.sum(-2)

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Value, first and second derivatives."""
        return self.value, self.first, self.second

    def function(self, index: int) -> "Jet":
        """One function of a list, value `(P,)` of `(J, P)`."""
        return Jet(self.value[index], self.first[index], self.second[index])

    def __add__(self, other: "Jet") -> "Jet":
        return Jet(self.value + other.value, self.first + other.first, self.second + other.second)

    def __mul__(self, other: "Jet") -> "Jet":
        """Product of functions, by Leibniz' rule."""
        a, b = self.value.unsqueeze(-2), other.value.unsqueeze(-2)
        return Jet(
            self.value * other.value,
            self.first * b + a * other.first,
            self.second * b + 2 * self.first * other.first + a * other.second,
        )

    def through(self, function: Derivatives) -> "Jet":
        """A univariate function of every value."""
        value, slope, curvature = function(self.value)
        slope, curvature = slope.unsqueeze(-2), curvature.unsqueeze(-2)
        first = slope * self.first
        return Jet(value, first, slope * self.second + curvature * self.first.square())

    def combined(self, weight: Tensor) -> "Jet":
        """Linear combinations Σ_j W_kj f_j of J functions.

        Args:
            weight: W, `(..., K, J)`, for jets whose value is `(J, P)`.

        Returns:
            Jet with value `(..., K, P)`.
        """
        count, points = self.first.shape[-2:]
        stacked = torch.cat([self.value.unsqueeze(-2), self.first, self.second], -2)
        mixed = weight @ stacked.flatten(-2)  # (..., K, (1 + 2c) P)
        mixed = mixed.unflatten(-1, (1 + 2 * count, points))
        return Jet(mixed[..., 0, :], mixed[..., 1 : 1 + count, :], mixed[..., 1 + count :, :])


def coordinates(points: Tensor) -> Jet:
    """The coordinate functions themselves.

    Args:
        points: `(P, c)`.

    Returns:
        Jet with value `(c, P)`.
    """
    count, size = points.shape
    eye = torch.eye(size, dtype=points.dtype, device=points.device)
    first = eye[:, :, None].expand(size, size, count)
    return Jet(points.mT, first, torch.zeros_like(first))


def constant_function(points: Tensor, value: float = 1.0) -> Jet:
    """One constant function at points `(P, c)`, value `(1, P)`."""
    count, size = points.shape
    flat = points.new_zeros(1, size, count)
    return Jet(points.new_full((1, count), value), flat, flat)


def joined(jets: list[Jet]) -> Jet:
    """Functions of several jets in one list, along the axis of functions."""
    return Jet(
        torch.cat([jet.value for jet in jets], -2),
        torch.cat([jet.first for jet in jets], -3),
        torch.cat([jet.second for jet in jets], -3),
    )


def outer(first: Jet, second: Jet) -> Jet:
    """Products of every function of one list with every function of another, `(I · J, P)`."""
    wide = Jet(*(part.unsqueeze(1) for part in first.parts))
    product = wide * Jet(*(part.unsqueeze(0) for part in second.parts))
    return Jet(*(part.flatten(0, 1) for part in product.parts))


def tanh(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """tanh with its derivatives."""
    value = torch.tanh(a)
    slope = 1 - value.square()
    return value, slope, -2 * value * slope


def sine(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin with its derivatives."""
    value = torch.sin(a)
    return value, torch.cos(a), -value


def cosine(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """cos with its derivatives."""
    value = torch.cos(a)
    return value, -torch.sin(a), -value


def waves(jet: Jet, numbers: int) -> Jet:
    """cos(2πkt) and sin(2πkt), k = 1, …, `numbers`, of every function t of a jet.

    Returns:
        Jet with 2 · numbers functions per function: the cosines, then the sines.
    """
    k = 2 * math.pi * torch.arange(1, numbers + 1, dtype=jet.value.dtype)
    eye = torch.eye(jet.value.shape[-2], dtype=jet.value.dtype)
    phase = jet.combined(torch.kron(k[:, None], eye).to(jet.value.device))
    return joined([phase.through(cosine), phase.through(sine)])
