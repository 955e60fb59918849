"""Maxima of many log-densities at once: L-BFGS with every row in lockstep.

Each row has its own history, step length and end. A row ends when the gain that a Newton step
promises,

    ½ gᵀ H⁻¹ g < tolerance nats   (H⁻¹ the L-BFGS estimate),

or, converged or not, when no step along the direction gains anything, or with the budget. Rows of
`RowsOfProblems` that have ended, or found their step, are not computed again.

References:
    Nocedal, Wright (2006), Numerical optimization, algorithms 7.4 and 3.1;
    Li, Fukushima (2001), cautious updates, https://doi.org/10.1137/S1052623499354242;
    Kingma, Ba (2015), Adam, https://arxiv.org/abs/1412.6980.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latens.inference.samplers.density import (
    LogDensity,
    value_and_gradient,
    value_and_gradient_of,
)

_MEMORY = 10
_ARMIJO = 1e-4
_HALVINGS = 25
_CAUTION = 1e-10


@dataclass(frozen=True, eq=False)
class Maxima:
    """Where the rows ended.

    Attributes:
        position: `(C, d)`.
        log_density: `(C,)`.
        converged: Rows whose promised gain fell below the tolerance, `(C,)`.
        promised: That gain at the end, `(C,)`, nats.
        gradients: Calls for gradients, each of the rows that still need one.
    """

    position: Tensor
    log_density: Tensor
    converged: Tensor
    promised: Tensor
    gradients: int

    def best_of(self, climbs: int) -> "Maxima":
        """The highest of every `climbs` rows that follow each other, `(C / climbs, d)`."""
        heights = self.log_density.unflatten(0, (-1, climbs))
        best = heights.argmax(1) + climbs * torch.arange(len(heights), device=heights.device)
        return Maxima(
            self.position[best],
            self.log_density[best],
            self.converged[best],
            self.promised[best],
            self.gradients,
        )

    def highest(self, climbs: int, count: int) -> Tensor:
        """Positions of the `count` highest of every `climbs` rows, `(C / climbs, count, d)`."""
        heights = torch.where(self.log_density.isnan(), -torch.inf, self.log_density)
        order = heights.unflatten(0, (-1, climbs)).argsort(1, descending=True)
        rows = self.position.unflatten(0, (-1, climbs))
        return rows.gather(1, order[:, :count, None].expand(-1, -1, rows.shape[-1]))

    @property
    def numbers(self) -> dict[str, float]:
        """How the climbs ended, for `diagnostics`."""
        return {
            "not_converged": float((~self.converged).sum()),
            "promised_gain": float(self.promised.max()),
            "gradients": float(self.gradients),
        }


def maximise(
    log_density: LogDensity,
    start: Tensor,
    *,
    max_iterations: int = 500,
    tolerance: float = 1e-4,
    adam_steps: int = 0,
    adam_rate: float = 0.05,
) -> Maxima:
    """Climb from every start.

    Args:
        log_density: `(C, d)` → `(C,)`.
        start: `(C, d)`.
        max_iterations: Bound on the L-BFGS iterations.
        tolerance: Promised gain at which a row has converged, nats.
        adam_steps: Steps of Adam before, for rough densities.
        adam_rate: Their rate, units of the position.

    Returns:
        The best point of each row.
    """
    with torch.no_grad():
        x = start.detach()
        count = adam_steps
        if adam_steps:
            x = _adam(log_density, x, adam_steps, adam_rate)
        return _lbfgs(log_density, x, max_iterations, tolerance, count)


def _adam(log_density: LogDensity, x: Tensor, steps: int, rate: float) -> Tensor:
    point = x.clone().requires_grad_()
    optimiser = torch.optim.Adam([point], lr=rate, maximize=True)
    for _ in range(steps):
        _, point.grad = value_and_gradient(log_density, point)
        optimiser.step()
    return point.detach()


def _lbfgs(
    log_density: LogDensity, x: Tensor, max_iterations: int, tolerance: float, gradients: int
) -> Maxima:
    value, gradient = value_and_gradient(log_density, x)
    gradients += 1
    history = _History(x)
    active = value.isfinite()
    converged = torch.zeros_like(active)
    promised = torch.full_like(value, torch.inf)
    for _ in range(max_iterations):
        direction = history.direction(gradient)  # uphill
        slope = (direction * gradient).sum(-1)  # (C,)
        promised = torch.where(active, slope / 2, promised)
        arrived = active & history.filled & (promised < tolerance)
        converged = converged | arrived
        active = active & ~arrived
        if not bool(active.any()):
            break
        # Without a history the scale is unknown: try a step of length 1 at most.
        length = torch.where(history.filled, 1.0, 1 / direction.norm(dim=-1).clamp(min=1.0))
        step = torch.zeros_like(value)
        waiting = active
        best = x, value, gradient
        for _ in range(_HALVINGS):
            trial = x + torch.where(waiting, length, step)[:, None] * direction
            new_value, new_gradient = value_and_gradient_of(log_density, trial, waiting)
            gradients += 1
            gains = waiting & (new_value >= value + _ARMIJO * length * slope)
            gains = gains & new_gradient.isfinite().all(-1)
            best = (
                torch.where(gains[:, None], trial, best[0]),
                torch.where(gains, new_value, best[1]),
                torch.where(gains[:, None], new_gradient, best[2]),
            )
            step = torch.where(gains, length, step)
            waiting = waiting & ~gains
            if not bool(waiting.any()):
                break
            length = torch.where(waiting, length / 2, length)
        new_x, new_value, new_gradient = best
        history.add(new_x - x, gradient - new_gradient, active & ~waiting)
        # A failed search forgets the history once; from the plain gradient it ends the row.
        stuck = waiting & ~history.filled
        history.forget(waiting)
        active = active & ~stuck
        x, value, gradient = new_x, new_value, new_gradient
    return Maxima(x, value, converged, promised, gradients)


class _History:
    """Differences of positions and gradients of every row, a ring of the latest."""

    def __init__(self, x: Tensor) -> None:
        self._s = x.new_zeros(_MEMORY, *x.shape)
        self._y = x.new_zeros(_MEMORY, *x.shape)
        self._rho = x.new_zeros(_MEMORY, len(x))
        self._scale = x.new_ones(len(x))

    @property
    def filled(self) -> Tensor:
        """Rows with at least one pair, `(C,)`."""
        return (self._rho > 0).any(0)

    def add(self, s: Tensor, y: Tensor, rows: Tensor) -> None:
        """Keep a pair in rows where the curvature along it is positive."""
        product = (s * y).sum(-1)
        size = s.square().sum(-1)
        kept = rows & (product > _CAUTION * size) & product.isfinite()
        for name, value in (("_s", s), ("_y", y)):
            ring = getattr(self, name)
            shifted = torch.cat([ring[1:], value[None]])
            setattr(self, name, torch.where(kept[None, :, None], shifted, ring))
        rho = torch.cat([self._rho[1:], (1 / product)[None]])
        self._rho = torch.where(kept[None], rho, self._rho)
        self._scale = torch.where(kept, product / y.square().sum(-1), self._scale)

    def forget(self, rows: Tensor) -> None:
        """Drop the pairs of some rows."""
        self._rho = torch.where(rows[None], 0.0, self._rho)
        self._scale = torch.where(rows, 1.0, self._scale)

    def direction(self, gradient: Tensor) -> Tensor:
        """Estimate of H⁻¹ g, uphill, `(C, d)`; the gradient in rows without pairs."""
        q = gradient
        alphas: list[Tensor] = []
        for i in reversed(range(_MEMORY)):
            alpha = self._rho[i] * (self._s[i] * q).sum(-1)
            q = q - alpha[:, None] * self._y[i]
            alphas.append(alpha)
        q = q * self._scale[:, None]
        for i in range(_MEMORY):
            beta = self._rho[i] * (self._y[i] * q).sum(-1)
            q = q + (alphas[_MEMORY - 1 - i] - beta)[:, None] * self._s[i]
        return q


def hessian(log_density: LogDensity, x: Tensor) -> Tensor:
    """−∇² log p at every row, one row of the matrix at a time for all of them.

    Args:
        log_density: `(C, d)` → `(C,)`, twice differentiable.
        x: `(C, d)`.

    Returns:
        Symmetric matrices, `(C, d, d)`.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(log_density(x).sum(), x, create_graph=True)
        rows = [
            torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)[0]
            for i in range(x.shape[1])
        ]
    matrix = -torch.stack(rows, 1).detach()  # (C, d, d)
    return 0.5 * (matrix + matrix.mT)


def gaussian_root(curvature: Tensor) -> tuple[Tensor, Tensor]:
    """R with R Rᵀ = H⁻¹, in float64, and which matrices are not positive definite.

    Directions of no or negative curvature have the spread of the prior N(0, I).

    Args:
        curvature: H, `(C, d, d)`.

    Returns:
        `(C, d, d)` and `(C,)`.
    """
    values, vectors = torch.linalg.eigh(curvature.double())
    indefinite = ~(values > 0).all(-1)
    values = torch.where(values > 0, values, 1.0)
    return vectors / values.sqrt()[:, None], indefinite
