"""Trained regressors as solvers, and their point estimates."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Self

import torch
from torch import Tensor

from latens.inference.estimates import DEFAULT_DRAWS, PointEstimate
from latens.inference.solver import Solver, frozen
from latens.models import UNet
from latens.problems import InverseProblem
from latens.store import Status


class OfRegressor(Solver):
    """A solver whose reconstruction is one pass of a trained regressor.

    Args:
        model: Trained U-Net.
        status: Status of the fit.
    """

    def __init__(self, model: UNet, status: Status = Status.CONVERGED) -> None:
        self.model = model.eval()
        self.status = status

    def mean_of(
        self, y: Tensor, keys: Sequence[int], seed: int, draws: int = DEFAULT_DRAWS
    ) -> Tensor:
        """One pass of the network; see `Solver.mean_of`."""
        with frozen(self.model):
            return self.model.reconstruct(y)

    def with_problem(self, problem: InverseProblem) -> Self:
        return type(self)(deepcopy(self.model).look_through(problem.operator), self.status)


class Regression(OfRegressor):
    """A trained regressor as a solver, without uncertainty."""

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> PointEstimate:
        """One pass of the network; no randomness."""
        return PointEstimate(self.model.reconstruct(y), self.status)
