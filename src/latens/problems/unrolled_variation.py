"""Total variation by a fixed number of iterations, which can be differentiated in y.

The iteration of `latens.problems.total_variation`, without bounds, with step sizes that do not
depend on y:

    x' = x − τ (∇ᵀp + Aᵀq),   a = 2x' − x
    p' = Π(p + σ ∇a),         Π(v)_i = v_i / max(1, |v_i|/weight)
    q' = (q + s (A a − y))/(1 + s)
    (x, p, q) ← (x, p, q) + ρ ((x', p', q') − (x, p, q))

from a start x₀, p = 0, q = A x₀ − y. All but Π is linear, and Π has a derivative but where
|v_i| = weight, a set of measure zero: the gradient is the exact one of what was computed, by the
adjoint of each step. It keeps v of every iteration, of a part of the rows at a time, and runs
the iteration again for that: a gradient takes as long as three values.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from latens.errors import ConfigError
from latens.problems.differences import gradient, gradient_adjoint, magnitude
from latens.problems.duality import Certificate, Point
from latens.problems.linear_operator import LinearOperator
from latens.problems.operator import require_event
from latens.problems.total_variation import RELAXATION, Steps, first_steps, require_settings

KEPT_ELEMENTS = 2**24
"""Elements of v that are kept at a time, 64 MiB in float32."""


class UnrolledVariation:
    """x̂(y) after a fixed number of iterations.

    Args:
        operator: A.
        weight: Positive weight, as for `total_variation`.
        iterations: Their number, the accuracy: see `total_variation` for one that is asked for.
        typical: Measurements that the step sizes are chosen for, `(n, *measurement_shape)`.

    Raises:
        ConfigError: If the weight is not positive, or there is no iteration.
        ShapeError: If `typical` does not fit the operator.
        UnsupportedError: If the signal has no spatial axes.
    """

    def __init__(
        self, operator: LinearOperator, weight: float, iterations: int, typical: Tensor
    ) -> None:
        require_event("typical", typical, operator.measurement_shape)
        require_settings(operator, weight, float("-inf"), float("inf"))
        if iterations < 1:
            raise ConfigError("iterations", "1 or more", iterations, "Use for example 100.")
        self.operator, self.weight, self.iterations = operator, weight, iterations
        with torch.no_grad():
            certificate = Certificate(operator, weight, float("-inf"), float("inf"))
            residual = operator.A(certificate.constant_fit(typical)) - typical
            middle = residual.flatten(1).norm(dim=1).argsort()[len(residual) // 2]
            self.steps = first_steps(operator, residual[middle : middle + 1], weight)

    def __call__(self, y: Tensor, start: Tensor) -> Tensor:
        """Reconstructions, differentiable once in both arguments.

        Args:
            y: Measurements, `(B, *measurement_shape)`.
            start: x₀, `(B, *signal_shape)`.

        Returns:
            `(B, *signal_shape)`.
        """
        return _Unrolled.apply(y, start, self)  # pyright: ignore[reportReturnType]

    def run(self, y: Tensor, start: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """The iteration without a graph; appends the v of each step to `kept`."""
        operator, steps = self.operator, Steps(*(s.to(y.dtype) for s in self.steps))
        axes = start.ndim - 2
        at = Point(start, gradient(0 * start, axes), operator.A(start) - y)
        moved = at
        for _ in range(self.iterations):
            x = at.x - steps.x * (gradient_adjoint(at.p) + operator.A_adjoint(at.q))
            ahead = 2 * x - at.x
            v = at.p + steps.p * gradient(ahead, axes)
            if kept is not None:
                kept.append(v)
            p = v / (magnitude(v) / self.weight).clamp_min_(1)
            q = (at.q + steps.q * (operator.A(ahead) - y)) / (1 + steps.q)
            moved = Point(x, p, q)
            at = Point(*(a + RELAXATION * (b - a) for a, b in zip(at, moved, strict=True)))
        return moved.x

    def pull(self, y: Tensor, start: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """Jᵀ of a cotangent of x̂, in y and in the start."""
        kept: list[Tensor] = []
        self.run(y, start, kept)
        operator, steps = self.operator, Steps(*(s.to(y.dtype) for s in self.steps))
        axes, y_bar = start.ndim - 2, torch.zeros_like(y)
        zero = Point(0 * start, 0 * kept[-1], 0 * y)
        direct, x_bar, p_bar, q_bar = zero, cotangent, zero.p, zero.q
        for v in reversed(kept):
            p_bar = self._project(v, p_bar)
            q_bar = q_bar / (1 + steps.q)
            ahead = gradient_adjoint(steps.p * p_bar) + operator.A_adjoint(steps.q * q_bar)
            y_bar = y_bar - steps.q * q_bar
            x_bar = x_bar + 2 * ahead
            back = steps.x * x_bar
            at = Point(
                direct.x + x_bar - ahead,
                direct.p + p_bar - gradient(back, axes),
                direct.q + q_bar - operator.A(back),
            )
            direct = Point(*((1 - RELAXATION) * value for value in at))
            x_bar, p_bar, q_bar = (RELAXATION * value for value in at)
        # `at` is the cotangent of the first point, whose p is 0
        return y_bar - at.q, at.x + operator.A_adjoint(at.q)

    def _project(self, v: Tensor, cotangent: Tensor) -> Tensor:
        """Derivative of Π at v, which is symmetric."""
        length = magnitude(v)
        outside = length > self.weight
        size = torch.where(outside, length, 1)
        normal = v / size
        along = (normal * cotangent).sum(1, keepdim=True)
        return torch.where(outside, self.weight / size * (cotangent - along * normal), cotangent)


class _Unrolled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, start: Tensor, solver: UnrolledVariation) -> Tensor:
        ctx.save_for_backward(y, start)
        ctx.solver = solver
        return solver.run(y, start)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        y, start = ctx.saved_tensors
        solver: UnrolledVariation = ctx.solver
        axes = start.ndim - 2
        size = max(1, KEPT_ELEMENTS // (solver.iterations * axes * start[0].numel()))
        parts = [
            solver.pull(*(value[i : i + size] for value in (y, start, cotangent)))
            for i in range(0, len(y), size)
        ]
        y_bar, start_bar = (torch.cat(values) for values in zip(*parts, strict=True))
        return y_bar, start_bar, None
