"""Point estimates of trained regressors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.inference.estimates import PointEstimate
from latens.inference.solver import Solver
from latens.models import UNet
from latens.store import Status


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
