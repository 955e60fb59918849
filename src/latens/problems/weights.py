"""Choice of one positive number, such as the weight of a penalty, by the error that it makes."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from latens.errors import ConfigError, SolverError


def best_weight(
    error: Callable[[float], float],
    candidates: Sequence[float],
    tolerance: float,
    worse: float = 2.0,
) -> float:
    """Weight with the smallest error.

    Candidates are tried from the largest down, until the error is `worse` times the smallest so
    far. The best candidate is refined between its neighbours by golden section on log(weight).

    Args:
        error: Error at a weight, positive.
        candidates: Increasing weights that bracket the best.
        tolerance: Relative width of the final bracket.
        worse: Ratio of errors, above 1, at which smaller candidates are given up.

    Returns:
        The weight.

    Raises:
        ConfigError: If `candidates` are fewer than three, not positive or not increasing.
        SolverError: If the best candidate is the first or the last one.
    """
    grid = _logarithms(candidates)

    def log_error(log_weight: float) -> float:
        return error(math.exp(log_weight))

    errors = _errors_from_above(log_error, grid, worse)
    best = min(errors, key=errors.__getitem__)
    if best in (0, len(grid) - 1) or not math.isfinite(errors[best]):
        raise SolverError(
            "candidates",
            "a grid with its best weight inside",
            f"the best at the border, {math.exp(grid[best]):.3g}",
            "Widen the grid; if it is wide already, the measurement holds no noise or no "
            "signal, and this method is no baseline for it.",
            statistics={"weight": math.exp(grid[best]), "error": errors[best]},
        )
    return math.exp(golden_section(log_error, grid[best - 1], grid[best + 1], tolerance))


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


def _errors_from_above(
    error: Callable[[float], float], grid: list[float], worse: float
) -> dict[int, float]:
    errors: dict[int, float] = {}
    for index in reversed(range(len(grid))):
        errors[index] = error(grid[index])
        if errors[index] > worse * min(errors.values()):
            break
    return errors


def _logarithms(candidates: Sequence[float]) -> list[float]:
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
