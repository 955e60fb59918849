"""Total variation: the sparsest-gradient reconstruction, by a primal-dual iteration.

    min_x  ½ ‖A x − y‖² + weight · TV(x),   lower ≤ x ≤ upper,   TV(x) = Σ_i |(∇x)_i|

(∇x)_i are the forward differences of a pixel in one channel, with Neumann boundary, and |·| is
their Euclidean length (isotropic). With duals q of A x − y and p of ∇x, this is

    min_x max_{q, |p_i| ≤ weight}  ⟨q, A x − y⟩ − ½ ‖q‖² + ⟨p, ∇x⟩

| symbol | attribute | shape |
|---|---|---|
| x | `Point.x` | `(B, C, *spatial)` |
| p | `Point.p` | `(B, D, C, *spatial)`, D spatial axes |
| q | `Point.q` | `(B, *measurement_shape)` |

The iteration is over-relaxed PDHG with step sizes of its own for each image. A is scaled to the
norm of ∇, and dual steps are ω² times the primal ones. ω compares the sizes of p and x: it starts
at 3 · weight · √d · ‖A‖ / ‖A x₀ − y‖, with x₀ the constant image that fits best, and is moved at
iterations 200, 400, 800, … to the ratio of the ways that p and x have gone since. Balancing the
two residuals all the time, and the exact proximal map of the data term, were no faster.

References:
    Chambolle, Pock (2011), A first-order primal-dual algorithm for convex problems with
    applications to imaging, https://doi.org/10.1007/s10851-010-0251-1.
    Condat (2013), A primal–dual splitting method for convex optimization involving Lipschitzian,
    proximable and linear composite terms (relaxation), https://doi.org/10.1007/s10957-012-0245-9.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.errors import ConfigError, SolverError, UnsupportedError
from latens.problems.differences import gradient, gradient_adjoint, magnitude
from latens.problems.duality import Certificate, Point
from latens.problems.linear_operator import LinearOperator, per_item
from latens.problems.linear_solve import largest_eigenvalue
from latens.problems.operator import require_event
from latens.problems.weights import best_weight

RELAXATION = 1.9
"""Factor of every step; below 2 the iteration converges."""

CHECK_EVERY = 25
"""Iterations between two computations of the gap."""

FIRST_RESCALING = 200
"""Iteration at which step sizes are balanced for the first time; then at 400, 800, ...."""

PAIRS = 16
"""Most pairs that the choice of a weight looks at."""


@dataclass(frozen=True, eq=False)
class TotalVariation:
    """Minimisers, and how well each was reached.

    Attributes:
        x: Reconstructions, `(..., *signal_shape)`.
        gap: Primal minus dual objective, relative to the primal one, `(...)`: no image has an
            objective below (1 − gap) times that of `x`.
        iterations: Iterations that each image took, `(...)`.
        converged: Whether the gap reached the tolerance, `(...)`.
    """

    x: Tensor
    gap: Tensor
    iterations: Tensor
    converged: Tensor


class Steps(NamedTuple):
    """Step sizes τ of x, σ of p and of q, each broadcastable to what it moves."""

    x: Tensor
    p: Tensor
    q: Tensor


@torch.no_grad()
def total_variation(
    operator: LinearOperator,
    y: Tensor,
    weight: float,
    lower: float = -math.inf,
    upper: float = math.inf,
    tolerance: float = 1e-4,
    max_iterations: int = 10_000,
) -> TotalVariation:
    """Least squares with a total-variation penalty, for a batch in lockstep.

    An image stops at the first check, every 25 iterations, at which its own relative duality gap
    is below the tolerance; it does not depend on the other images. The gap is an exact bound,
    made from a dual point that is feasible (`Certificate`).

    Args:
        operator: A.
        y: Measurement, `(..., *measurement_shape)`; its dtype is that of the iteration.
        weight: Positive weight, in units of A² times the unit of x.
        lower: Lower bound of x, if there is one.
        upper: Upper bound of x, if there is one.
        tolerance: Relative gap; float32 does not get far below 1e-5. With P the objective of x,
            the exact minimiser x* has ‖A (x − x*)‖² ≤ 2 · gap · P: at 1e-4, about 1 % of the
            norm of the noise.
        max_iterations: Iterations after which an image is given back as it is.

    Returns:
        Reconstructions with their gaps. One that did not converge says so in `converged`.

    Raises:
        ShapeError: If `y` does not fit the operator.
        ConfigError: If the weight is not positive or the bounds are not in order.
        UnsupportedError: If the signal has no spatial axes.
    """
    require_event("y", y, operator.measurement_shape)
    require_settings(operator, weight, lower, upper)
    batch = y.shape[: y.ndim - len(operator.measurement_shape)]
    rows = y.reshape(-1, *operator.measurement_shape)
    certificate = Certificate(operator, weight, lower, upper)
    start = certificate.constant_fit(rows)
    residual = operator.A(start) - rows
    steps = first_steps(operator, residual, weight)
    current = estimate = anchor = Point(start, gradient(0 * start, start.ndim - 2), residual)
    result = torch.empty_like(start)
    gap = torch.empty(len(rows), dtype=torch.float64, device=y.device)
    iterations = torch.zeros(len(rows), dtype=torch.long, device=y.device)
    active = torch.arange(len(rows), device=y.device)
    rescale_at = FIRST_RESCALING
    for iteration in range(max_iterations + 1):
        if iteration % CHECK_EVERY == 0 or iteration == max_iterations:
            result[active], iterations[active] = estimate.x, iteration
            gap[active] = certificate.gap(estimate, rows)
            left = (gap[active] > tolerance).nonzero()[:, 0]  # leaves out what is not a number
            if len(left) == 0:
                break
            active, rows, steps = active[left], rows[left], Steps(*(s[left] for s in steps))
            current, estimate, anchor = (
                Point(*(value[left] for value in point)) for point in (current, estimate, anchor)
            )
        if iteration == rescale_at:
            steps = _rescaled(steps, anchor, estimate)
            anchor, rescale_at = estimate, 2 * rescale_at
        estimate = _step(operator, current, steps, rows, weight, lower, upper)
        current = Point(
            *(a + RELAXATION * (b - a) for a, b in zip(current, estimate, strict=True))
        )
    return TotalVariation(
        result.reshape(*batch, *operator.signal_shape),
        gap.reshape(batch),
        iterations.reshape(batch),
        (gap <= tolerance).reshape(batch),
    )


@torch.no_grad()
def choose_tv_weight(
    operator: LinearOperator,
    x: Tensor,
    y: Tensor,
    candidates: Sequence[float] | None = None,
    tolerance: float = 0.1,
) -> float:
    """Weight of the total variation with the smallest mean squared error over given pairs.

    Searched as in `best_weight`, with minimisers to a relative gap of 1e-3. At most 16 pairs are
    used, fewer of large images (2¹⁶ elements in all, but at least 4 pairs), evenly spaced in the
    order given. They count as used data: take them from the training part, never from the test
    set. Where the error still falls at the smallest candidate (missing pixels and little noise),
    that candidate is the answer.

    Args:
        operator: A.
        x: Signals, `(n, *signal_shape)`.
        y: Their measurements, `(n, *measurement_shape)`.
        candidates: Increasing weights that bracket the best; by default two per decade, over
            five decades below a weight at which every reconstruction is constant.
        tolerance: Relative width of the final bracket.

    Returns:
        The weight.

    Raises:
        ConfigError: If `candidates` are fewer than three, not positive or not increasing.
        SolverError: If the best candidate is the largest one.
    """
    count = min(len(x), PAIRS, max(4, 2**16 // math.prod(operator.signal_shape)))
    chosen = torch.linspace(0, len(x) - 1, count).long()
    x, y = x[chosen], y[chosen]

    def error(weight: float) -> float:
        found = total_variation(operator, y, weight, tolerance=1e-3)
        return (found.x - x).square().mean().item()

    if candidates is None:
        require_settings(operator, 1.0, -math.inf, math.inf)
        top = Certificate(operator, 1.0, -math.inf, math.inf).constant_weight(y)
        if not top > 0:
            raise SolverError("y", "measurements that vary", "constant ones", "Check the pairs.")
        candidates = [top * 10 ** (-step / 2) for step in range(11, 0, -1)]
    try:
        return best_weight(error, candidates, tolerance, worse=1.05)
    except SolverError as border:
        if not math.isclose(border.statistics["weight"], candidates[0]):
            raise
        return candidates[0]  # least variation among all x that explain the measurement


def _step(
    operator: LinearOperator,
    at: Point,
    steps: Steps,
    y: Tensor,
    weight: float,
    lower: float,
    upper: float,
) -> Point:
    x = at.x - steps.x * (gradient_adjoint(at.p) + operator.A_adjoint(at.q))
    x = x.clamp(lower, upper)
    ahead = 2 * x - at.x
    p = at.p + steps.p * gradient(ahead, at.p.shape[1])
    p = p / (magnitude(p) / weight).clamp_min_(1)
    q = (at.q + steps.q * (operator.A(ahead) - y)) / (1 + steps.q)
    return Point(x, p, q)


def first_steps(operator: LinearOperator, residual: Tensor, weight: float) -> Steps:
    signal, dims = operator.signal_shape, len(operator.signal_shape) - 1
    noise = NoiseStream(0, device=residual.device).normal((1, *signal), torch.float64)

    def norm(scale: float, difference: float) -> float:
        """‖(scale · A, difference · ∇)‖, in float64."""

        def square(v: Tensor) -> Tensor:
            data = operator.A_adjoint(operator.A(v))
            return scale**2 * data + difference**2 * gradient_adjoint(gradient(v, dims))

        return math.sqrt(largest_eigenvalue(square, noise, 1e-2))

    a = norm(1.0, 0.0) or 1.0
    scale = math.sqrt(4 * dims) / a  # ‖∇‖² ≤ 4 D
    step = 1 / (1.02 * norm(scale, 1.0))  # 1.02: the eigenvalues are approximate
    size = residual.flatten(1).norm(dim=1) / a  # of x − x₀
    ratio = 3 * weight * math.sqrt(math.prod(signal)) / torch.where(size > 0, size, 1)
    events = len(operator.measurement_shape)
    return Steps(
        per_item(step / ratio, residual, dims + 1),
        per_item(step * ratio, residual, dims + 2),
        per_item(step * ratio * scale**2, residual, events),
    )


def _rescaled(steps: Steps, before: Point, after: Point) -> Steps:
    """Move ω towards the ratio of the ways that p and x have gone, by a factor of at most 4."""
    way_x = (after.x - before.x).flatten(1).norm(dim=1)
    way_p = (after.p - before.p).flatten(1).norm(dim=1)
    ratio = (steps.p.flatten() / steps.x.flatten()).sqrt()
    tiny = torch.finfo(ratio.dtype).tiny
    factor = (way_p / (ratio * way_x).clamp_min(tiny)).clamp(0.25, 4)
    return Steps(
        steps.x / factor.reshape(steps.x.shape),
        steps.p * factor.reshape(steps.p.shape),
        steps.q * factor.reshape(steps.q.shape),
    )


def require_settings(operator: LinearOperator, weight: float, lower: float, upper: float) -> None:
    if not 0 < weight < math.inf:
        raise ConfigError(
            "weight", "a positive number", weight, "Choose it with `choose_tv_weight`."
        )
    if not lower < upper:
        raise ConfigError(
            "lower", f"a number below `upper` ({upper})", lower, "Give the range of the signal."
        )
    if len(operator.signal_shape) < 2:
        raise UnsupportedError(
            "operator",
            "signals (channels, *spatial)",
            f"signal shape {operator.signal_shape}",
            "Total variation needs a grid; leave `tv` out for this operator.",
        )
