"""Tikhonov regularisation, the linear reconstruction that every learned solver must beat."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from latens.errors import ConfigError
from latens.problems.linear_operator import LinearOperator
from latens.problems.weights import best_weight

DECADES = (-10.0, 4.0)
"""Range of the default candidates for weight/‖A‖², as powers of ten."""


def tikhonov(operator: LinearOperator, y: Tensor, weight: float) -> Tensor:
    """Regularised least squares.

        argmin_x ‖A x − y‖² + weight ‖x‖²  =  Aᵀ (A Aᵀ + weight·I)⁻¹ y

    It is the posterior mean for white Gaussian x and noise, with weight = σ²/Var[x].

    Args:
        operator: A.
        y: Measurement, `(..., *measurement_shape)`.
        weight: Positive weight, in squared units of A.

    Returns:
        Reconstruction, `(..., *signal_shape)`; linear in `y` and differentiable.

    Raises:
        ShapeError: If `y` does not fit the operator.
        ConfigError: If the weight is not positive.
        NumericalError: If an iterative solve does not converge.
    """
    if not 0 < weight < math.inf:
        raise ConfigError("weight", "a positive number", weight, "Choose it with `choose_weight`.")
    return operator.A_adjoint(operator.gram_solve(y, weight))


@torch.no_grad()
def choose_weight(
    operator: LinearOperator,
    x: Tensor,
    y: Tensor,
    candidates: Sequence[float] | None = None,
    tolerance: float = 1e-3,
) -> float:
    """Tikhonov weight with the smallest mean squared error over given pairs.

    Searched as in `best_weight`: from large weights down, since below the best lie worse ones
    and systems too ill-conditioned to solve. The pairs count as used data: take them from the
    training or calibration part, never from the test set.

    Args:
        operator: A.
        x: Signals, `(..., *signal_shape)`.
        y: Their measurements, `(..., *measurement_shape)`.
        candidates: Increasing weights that bracket the best; by default two per decade from
            1e-10 to 1e4 times ‖A‖².
        tolerance: Relative width of the final bracket.

    Returns:
        The weight.

    Raises:
        ConfigError: If `candidates` are fewer than three, not positive or not increasing.
        SolverError: If the best candidate is the first or the last one.
        NumericalError: If an iterative solve does not converge.
    """

    def error(weight: float) -> float:
        return (tikhonov(operator, y, weight) - x).square().mean().item()

    grid = _default_candidates(operator) if candidates is None else candidates
    return best_weight(error, grid, tolerance)


def _default_candidates(operator: LinearOperator) -> list[float]:
    low, high = DECADES
    steps = int(2 * (high - low)) + 1
    square = operator.norm() ** 2
    return [square * 10 ** (low + (high - low) * i / (steps - 1)) for i in range(steps)]
