"""Amortised posteriors: one pass of a network, then as many draws as wanted."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from torch.distributions import Distribution

from latens.distributions import Purpose, draw
from latens.inference.estimates import DEFAULT_DRAWS
from latens.inference.latent_posterior import LatentPosterior
from latens.inference.solver import Solver, frozen
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

    def mean_of(
        self, y: Tensor, keys: Sequence[int], seed: int, draws: int = DEFAULT_DRAWS
    ) -> Tensor:
        """Mean over draws with fixed noise; see `Solver.mean_of`."""
        posterior = AmortisedPosterior(self.model, self.problem, y, keys, seed, self.status)
        noise = posterior.noise(Purpose.LATENT, draws, (self.model.dim,), y)
        with frozen(self.model):
            return posterior.mean_given(draw(self.model.latent_posterior(y), noise))

    def with_problem(self, problem: InverseProblem) -> Self:
        model = deepcopy(self.model).look_through(problem.operator)
        return type(self)(model, None if self.problem is None else problem, self.status)
