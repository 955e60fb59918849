"""Iterative linear algebra on tensors: conjugate gradients and the largest eigenvalue."""

from collections.abc import Callable

import torch
from torch import Tensor

from latens.errors import NumericalError

Map = Callable[[Tensor], Tensor]


def conjugate_gradient(
    matvec: Map,
    rhs: Tensor,
    event_dims: int,
    tolerance: float,
    max_iterations: int,
    precondition: Map | None = None,
) -> Tensor:
    """Solve M x = b for many right-hand sides in lockstep, M symmetric positive definite.

    Items stop one by one, at ‖b − M x‖ ≤ tolerance · ‖b‖. The residual that decides is
    recomputed from x at the end, since the recursive one drifts. For a singular M and b in its
    range, the result is the solution of smallest norm (without a preconditioner).

    Args:
        matvec: Applies M to `(..., *event)`.
        rhs: Right-hand sides b, `(..., *event)`.
        event_dims: Number of trailing axes over which one system extends.
        tolerance: Relative residual.
        max_iterations: Bound on the applications of M, restarts included.
        precondition: Applies a symmetric positive definite approximation of M⁻¹.

    Returns:
        Solutions, shape of `rhs`.

    Raises:
        NumericalError: If an item does not converge, or M is not positive definite.

    References:
        Saad (2003), Iterative Methods for Sparse Linear Systems, algorithm 9.1.
    """
    axes = tuple(range(-event_dims, 0))

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(axes, keepdim=True)

    target = tolerance * dot(rhs, rhs).sqrt()
    x, iterations = torch.zeros_like(rhs), 0
    residual = rhs
    while iterations < max_iterations:
        direction, previous = torch.zeros_like(rhs), torch.ones_like(target)
        while iterations < max_iterations:
            active = ~(dot(residual, residual).sqrt() <= target)  # true for NaN
            if not active.any():
                break
            scaled = residual if precondition is None else precondition(residual)
            rho = dot(residual, scaled)
            direction = scaled + (rho / previous) * direction
            image = matvec(direction)
            curvature = dot(direction, image)
            if not (curvature > 0)[active].all():
                break
            step = torch.where(active, rho / torch.where(active, curvature, 1), 0)
            x = x + step * direction
            residual = residual - step * image
            previous = torch.where(active, rho, previous)
            iterations += 1
        restarted, residual = residual, rhs - matvec(x)
        if (dot(residual, residual).sqrt() <= target).all():
            return x
        if torch.equal(restarted, residual):
            break
        iterations += 1
    tiny = torch.finfo(rhs.dtype).tiny
    worst = (dot(residual, residual) / dot(rhs, rhs).clamp_min(tiny)).sqrt().max().item()
    raise NumericalError(
        "conjugate_gradient",
        f"relative residual {tolerance:g} within {max_iterations} iterations",
        f"{worst:.2e} after {iterations}",
        "The system is too ill-conditioned or not positive definite: use more noise, a larger "
        "weight, or an operator with a closed form (circular boundary).",
    )


def largest_eigenvalue(
    matvec: Map,
    start: Tensor,
    tolerance: float,
    basis_size: int = 24,
    max_restarts: int = 200,
) -> float:
    """Largest eigenvalue of a symmetric positive semi-definite map, by restarted Lanczos.

    Stops when the residual ‖M v − θ v‖, which bounds the distance of θ to an eigenvalue, is
    below tolerance · θ. A change of θ between iterations would be no such bound.

    Args:
        matvec: Applies M to a tensor of the shape of `start`.
        start: Start vector with a component along the wanted eigenvector (random).
        tolerance: Relative residual.
        basis_size: Lanczos vectors kept at a time, the memory of the iteration.
        max_restarts: Number of bases after which the iteration gives up.

    Returns:
        The eigenvalue θ.

    Raises:
        NumericalError: If the residual stays above the tolerance.

    References:
        Saad (2011), Numerical Methods for Large Eigenvalue Problems, section 6.3.
    """
    ritz, theta, residual = start.flatten(), 0.0, float("inf")
    size = min(basis_size, ritz.numel())
    for _ in range(max_restarts):
        basis = [ritz / ritz.norm()]
        projected = ritz.new_zeros(size, size)
        for k in range(size):
            image = matvec(basis[k].reshape(start.shape)).flatten()
            scale = image.norm()
            for _ in range(2):  # twice is enough to keep the basis orthogonal
                overlaps = torch.stack([q @ image for q in basis])
                projected[: k + 1, k] += overlaps
                image = image - torch.stack(basis, -1) @ overlaps
            beta = image.norm()
            if k + 1 == size or beta <= torch.finfo(beta.dtype).eps * scale:
                break
            projected[k + 1, k] = beta
            basis.append(image / beta)
        k = len(basis)
        values, vectors = torch.linalg.eigh(projected[:k, :k])  # reads the lower triangle
        theta, residual = values[-1].item(), (beta * vectors[-1, -1].abs()).item()
        if residual <= tolerance * theta or theta <= 0:
            return max(theta, 0.0)
        ritz = torch.stack(basis, -1) @ vectors[:, -1]
    raise NumericalError(
        "norm",
        f"relative residual {tolerance:g} within {max_restarts} restarts",
        f"{residual / theta:.2e} at eigenvalue {theta:.6g}",
        "Give a larger `tolerance`.",
    )
