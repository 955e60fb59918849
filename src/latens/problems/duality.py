"""How far a point is from the minimum of a total-variation problem, as an exact bound.

For any q and any p with |p_i| ≤ weight, and t = Aᵀq + ∇ᵀp,

    D(p, q) = −⟨q, y⟩ − ½ ‖q‖² + Σ_i min {t_i x_i : lower ≤ x_i ≤ upper}

is below every primal objective. Without bounds, the last term is finite for t = 0 alone, which
no iterate satisfies; `Certificate` moves p and q to the nearest t that gives a finite bound.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from latens.problems.differences import Poisson, gradient, gradient_adjoint, magnitude
from latens.problems.linear_operator import LinearOperator


class Point(NamedTuple):
    """Primal and dual variables; see `latens.problems.total_variation`."""

    x: Tensor
    p: Tensor
    q: Tensor


class Certificate:
    """Relative duality gap of the points of one problem, in float64 for any dtype.

    Args:
        operator: A.
        weight: Weight of the total variation.
        lower: Lower bound of x, or −inf.
        upper: Upper bound of x, or inf.
    """

    def __init__(
        self, operator: LinearOperator, weight: float, lower: float, upper: float
    ) -> None:
        self.operator = operator
        self.weight, self.lower, self.upper = weight, lower, upper
        channels, *spatial = operator.signal_shape
        device = next((buffer.device for buffer in operator.buffers()), torch.device("cpu"))
        ones = torch.ones(1, *spatial, dtype=torch.float64, device=device)
        identity = torch.eye(channels, dtype=torch.float64, device=device)
        self.constants = identity.reshape(channels, channels, *[1] * len(spatial)) * ones
        self.images = operator.A(self.constants).flatten(1)  # A of constants, (C, m)
        self.inverse = torch.linalg.pinv(self.images @ self.images.mT, hermitian=True)
        self.poisson = Poisson(tuple(spatial), device)

    def constant_fit(self, y: Tensor) -> Tensor:
        """Constant image that fits best within the bounds, `(B, *signal_shape)`.

        Args:
            y: Measurements, `(B, *measurement_shape)`.
        """
        levels = y.double().flatten(1) @ self.images.mT @ self.inverse  # (B, C)
        fit = torch.tensordot(levels, self.constants, 1)
        return fit.clamp(self.lower, self.upper).to(y.dtype)

    def constant_weight(self, y: Tensor) -> float:
        """A weight above which the minimiser is constant for each of some measurements."""
        wide = y.double()
        q = self.operator.A(self.constant_fit(wide)) - wide
        p = gradient(self.poisson(-self.operator.A_adjoint(q)), self.poisson.axes)
        return magnitude(p).max().item()

    def gap(self, point: Point, y: Tensor) -> Tensor:
        """(P(x) − D(p, q)) / P(x), `(B,)`; P is at least the rounding error of ½ ‖y‖².

        Args:
            point: x within the bounds, and any p and q.
            y: Measurements, `(B, *measurement_shape)`.
        """
        kind = torch.finfo(y.dtype)
        rounding = (0.5 * kind.eps * _sum(y.double().square())).clamp_min(kind.tiny)
        x, p, q = (value.double() for value in point)
        primal = self._primal(x, y.double())
        return (primal - self._dual(p, q, y.double())) / torch.maximum(primal, rounding)

    def _primal(self, x: Tensor, y: Tensor) -> Tensor:
        misfit = 0.5 * _sum((self.operator.A(x) - y).square())
        return misfit + self.weight * _sum(magnitude(gradient(x, self.poisson.axes)))

    def _dual(self, p: Tensor, q: Tensor, y: Tensor) -> Tensor:
        """D at a feasible point near (p, q), `(B,)`.

        t is cut to signs with a finite minimum, then q is changed in the span of A·constants
        until the sums over channels agree, then p by the smallest change that gives this t, and
        both are shrunk until |p| ≤ weight, or more if that raises D.
        """
        t = self._finite(self.operator.A_adjoint(q) + gradient_adjoint(p))
        sums = t.flatten(2).sum(-1)  # (B, C)
        excess = q.flatten(1) @ self.images.mT - sums
        q = (q.flatten(1) - excess @ self.inverse @ self.images).reshape(q.shape)
        missing = t - self.operator.A_adjoint(q) - gradient_adjoint(p)
        p = p + gradient(self.poisson(missing), self.poisson.axes)
        linear = self._least(t) - _sum(q * y)
        square = _sum(q.square())
        largest = self.weight / magnitude(p).flatten(1).amax(1)
        best = torch.where(square > 0, linear / square, math.inf)  # of the factor
        factor = torch.minimum(best.clamp_min(0), largest)
        factor = torch.where(factor < math.inf, factor, 0)
        return factor * linear - 0.5 * factor.square() * square

    def _finite(self, t: Tensor) -> Tensor:
        if self.upper == math.inf:
            t = t.clamp_min(0)
        if self.lower == -math.inf:
            t = t.clamp_max(0)
        # sums that no q can reach: A maps some constants to zero
        sums = t.flatten(2).sum(-1)
        reached = sums @ (self.inverse @ self.images @ self.images.mT)
        reachable = (sums - reached).abs().amax(1) <= 1e-9 * sums.abs().amax(1)
        return torch.where(reachable.reshape(-1, *[1] * (t.ndim - 1)), t, 0)

    def _least(self, t: Tensor) -> Tensor:
        """Σ_i min {t_i x_i : lower ≤ x_i ≤ upper}, `(B,)`."""
        least = torch.zeros_like(t)
        if self.lower > -math.inf:
            least = least + self.lower * t.clamp_min(0)
        if self.upper < math.inf:
            least = least + self.upper * t.clamp_max(0)
        return _sum(least)


def _sum(value: Tensor) -> Tensor:
    return value.flatten(1).sum(1)
