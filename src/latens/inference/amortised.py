"""Amortised posteriors: one pass of a network, then as many draws as wanted."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions import Purpose, draw
from latens.inference.latent_posterior import LatentPosterior
from latens.inference.solver import Solver
from latens.models import LatentModel
from latens.problems import InverseProblem
from latens.store import Status


class AmortisedPosterior(LatentPosterior):
    """z ~ q(z | y), then x ~ p(x | z, y)."""

    @cached_property
    @torch.no_grad()
    def latent(self) -> Distribution:
        """q(z | y), batch `(B,)`, event `(dim,)`."""
        return self.model.latent_posterior(self.y)

    def latent_draws(self, count: int) -> Tensor:
        """Draws of z, `(count, B, dim)`."""
        return draw(self.latent, self.noise(Purpose.LATENT, count, (self.model.dim,), self.y))


class Amortised(Solver):
    """Amortised posterior of a trained latent model.

    Args:
        model: Trained model.
        problem: Operator and noise, where they are known.
        status: Status of the fit, handed on to every estimate.
    """

    def __init__(
        self,
        model: LatentModel,
        problem: InverseProblem | None,
        status: Status = Status.CONVERGED,
    ) -> None:
        self.model = model.eval()
        self.problem = problem
        self.status = status

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> AmortisedPosterior:
        """Posterior of each measurement, `(B, *measurement_shape)`."""
        return AmortisedPosterior(self.model, self.problem, y, keys, seed, self.status)
