"""Monte Carlo dropout: every draw has a mask of its own.

    mask_m ~ Bernoulli,   x_m ~ N(f(y; mask_m), σ²),   m = 1, …, M

Gal, Ghahramani (2016), Dropout as a Bayesian approximation, https://arxiv.org/abs/1506.02142.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Self

import torch
from torch import Tensor

from latens.distributions import Purpose, draw
from latens.errors import ConfigError
from latens.inference.estimates import DEFAULT_DRAWS, Draws, Posterior
from latens.inference.solver import Solver, frozen
from latens.models import UNet
from latens.problems import InverseProblem
from latens.store import Status


class DropoutPosterior(Posterior):
    """f(y; mask_m) + σ·noise; the mask of a draw depends on its row's key and its number alone."""

    def __init__(
        self, model: UNet, y: Tensor, keys: Sequence[int], seed: int, status: Status
    ) -> None:
        super().__init__(keys, seed, includes_decoder_spread=True, status=status)
        self.model = model
        self.y = y

    def reconstructions(self, count: int) -> Tensor:
        """f(y; mask_m) of `count` masks, `(count, B, *signal_shape)`, differentiable in y."""
        masks = self.noise(Purpose.MASK, count, (self.model.maps,), self.y)  # (M, B, maps)
        return torch.stack([self.model.reconstruct_dropped(self.y, mask) for mask in masks])

    @torch.no_grad()
    def make_draws(self, count: int) -> Draws:
        """One pass of the network for each draw."""
        loc = self.reconstructions(count)
        noise = self.noise(Purpose.SIGNAL, count, loc.shape[2:], self.y)
        around = self.model.around(loc)
        return Draws(draw(around, noise), loc, around.variance)


class MonteCarloDropout(Solver):
    """Predictive distribution of a U-Net trained with dropout.

    The mean averages over masks and the variance is σ² + Var_mask f, as in the paper. Three known
    limits. σ² is noise of every pixel on its own, so region means are too certain but for what
    the masks add. The dropout rate is a setting and not fitted, so Var_mask f does not vanish as
    pairs are added. And σ² was fitted with masks in place, so it already holds their spread: the
    variance of a pixel errs on the large side.

    Args:
        model: Trained U-Net with `dropout` above 0.
        status: Status of the fit.

    Raises:
        ConfigError: If the model has no dropout.
    """

    def __init__(self, model: UNet, status: Status = Status.CONVERGED) -> None:
        if model.dropout == 0:
            raise ConfigError(
                "model",
                "a U-Net trained with dropout",
                "dropout 0",
                "Set `dropout` of the model to 0.1 or so and train it, or use `Predictive`.",
            )
        self.model = model.eval()
        self.status = status

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> DropoutPosterior:
        """Posterior of each measurement, `(B, *measurement_shape)`."""
        return DropoutPosterior(self.model, y, keys, seed, self.status)

    def mean_of(
        self, y: Tensor, keys: Sequence[int], seed: int, draws: int = DEFAULT_DRAWS
    ) -> Tensor:
        """Mean over fixed masks; see `Solver.mean_of`."""
        posterior = DropoutPosterior(self.model, y, keys, seed, self.status)
        with frozen(self.model):
            return posterior.reconstructions(draws).mean(0)

    def with_problem(self, problem: InverseProblem) -> Self:
        return type(self)(deepcopy(self.model).look_through(problem.operator), self.status)
