"""Tikhonov regularisation, the linear reconstruction that every learned solver must beat."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from latens.errors import ConfigError, SolverError
from latens.problems.linear_operator import LinearOperator

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


def choose_weight(
    operator: LinearOperator,
    x: Tensor,
    y: Tensor,
    candidates: Sequence[float] | None = None,
    tolerance: float = 1e-3,
) -> float:
    """Tikhonov weight with the smallest mean squared error over given pairs.

    Candidates are tried from the largest down, until the error is twice the smallest so far:
    below that lie worse weights, and systems too ill-conditioned to solve. The best candidate is
    refined between its neighbours by golden section on log(weight). The pairs count as used
    data: take them from the training or calibration part, never from the test set.

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
    grid = _candidates(operator, candidates)

    def error(log_weight: float) -> float:
        return (tikhonov(operator, y, math.exp(log_weight)) - x).square().mean().item()

    with torch.no_grad():
        errors = _errors_from_above(error, grid)
        best = min(errors, key=errors.__getitem__)
        if best in (0, len(grid) - 1) or not math.isfinite(errors[best]):
            raise SolverError(
                "candidates",
                "a grid with its best weight inside",
                f"the best at the border, {math.exp(grid[best]):.3g}",
                "Widen the grid; if it is wide already, the measurement holds no noise or no "
                "signal, and Tikhonov is no baseline for it.",
                statistics={"weight": math.exp(grid[best]), "mse": errors[best]},
            )
        return math.exp(golden_section(error, grid[best - 1], grid[best + 1], tolerance))


def golden_section(
    function: Callable[[float], float], lower: float, upper: float, tolerance: float
) -> float:
    """Minimise a unimodal function of one number.

    Args:
        function: Maps a float to a float.
        lower: Lower end of the bracket.
        upper: Upper end of the bracket.
        tolerance: Width of the final bracket.

    Returns:
        Its midpoint.
    """
    ratio = (math.sqrt(5) - 1) / 2
    left, right = upper - ratio * (upper - lower), lower + ratio * (upper - lower)
    f_left, f_right = function(left), function(right)
    while upper - lower > tolerance:
        if f_left <= f_right:
            upper, right, f_right = right, left, f_left
            left = upper - ratio * (upper - lower)
            f_left = function(left)
        else:
            lower, left, f_left = left, right, f_right
            right = lower + ratio * (upper - lower)
            f_right = function(right)
    return (lower + upper) / 2


def _errors_from_above(error: Callable[[float], float], grid: list[float]) -> dict[int, float]:
    errors: dict[int, float] = {}
    for index in reversed(range(len(grid))):
        errors[index] = error(grid[index])
        if errors[index] > 2 * min(errors.values()):
            break
    return errors


def _candidates(operator: LinearOperator, candidates: Sequence[float] | None) -> list[float]:
    if candidates is None:
        low, high = DECADES
        steps = int(2 * (high - low)) + 1
        square = operator.norm() ** 2
        return [
            math.log(square * 10 ** (low + (high - low) * i / (steps - 1))) for i in range(steps)
        ]
    weights = [float(weight) for weight in candidates]
    increasing = all(a < b for a, b in pairwise(weights))
    if len(weights) < 3 or not weights[0] > 0 or not increasing or weights[-1] == math.inf:
        raise ConfigError(
            "candidates",
            "three or more positive, increasing weights",
            weights if len(weights) < 8 else f"{len(weights)} values",
            "Leave it out for a logarithmic grid.",
        )
    return [math.log(weight) for weight in weights]
