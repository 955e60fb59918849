"""Point estimates: Tikhonov with a weight chosen from pairs, and trained regressors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.errors import UnsupportedError
from latens.inference.estimates import PointEstimate
from latens.inference.solver import Solver
from latens.models import UNet
from latens.problems import InverseProblem, LinearOperator, choose_weight, tikhonov
from latens.store import Status


class TikhonovSolver(Solver):
    """x̂ = x̄ + argmin_u ‖A u − (y − A x̄)‖² + weight ‖u‖², with x̄ the mean training image.

    Args:
        problem: Problem with a linear operator.
        mean: x̄, `(*signal_shape)`.
        weight: Weight of the penalty, in squared units of A.
    """

    def __init__(self, problem: InverseProblem, mean: Tensor, weight: float) -> None:
        self.operator = _linear(problem)
        self.mean = mean
        self.weight = weight

    @classmethod
    def fit(cls, problem: InverseProblem, x: Tensor, y: Tensor) -> "TikhonovSolver":
        """Choose mean and weight from pairs inside N.

        Args:
            problem: Problem with a linear operator.
            x: Signals, `(n, *signal_shape)`.
            y: Measurements, `(n, *measurement_shape)`.
        """
        operator = _linear(problem)
        mean = x.mean(0)
        weight = choose_weight(operator, x - mean, y - operator.A(mean))
        return cls(problem, mean, weight)

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> PointEstimate:
        """Closed form; no randomness."""
        shifted = tikhonov(self.operator, y - self.operator.A(self.mean), self.weight)
        return PointEstimate(self.mean + shifted)


def _linear(problem: InverseProblem) -> LinearOperator:
    if not isinstance(problem.operator, LinearOperator):
        raise UnsupportedError(
            "problem",
            "a LinearOperator",
            type(problem.operator).__name__,
            "Leave `tikhonov` out for this operator.",
        )
    return problem.operator


class Regression(Solver):
    """A trained regressor as a solver.

    Args:
        model: Trained U-Net.
        status: Status of the fit.
    """

    def __init__(self, model: UNet, status: Status = Status.CONVERGED) -> None:
        self.model = model.eval()
        self.status = status

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> PointEstimate:
        """One pass of the network; no randomness."""
        return PointEstimate(self.model.reconstruct(y), self.status)
