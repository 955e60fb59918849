"""Deep ensembles: an equally weighted mixture of posteriors."""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose, mixture_moments
from latens.errors import ConfigError, UnsupportedError
from latens.inference.estimates import (
    DEFAULT_DRAWS,
    Draws,
    Estimate,
    HasLogProb,
    HasMarginals,
    PointEstimate,
    Posterior,
)
from latens.inference.solver import Solver
from latens.problems import InverseProblem
from latens.store import worst_status


class EnsemblePosterior(Posterior):
    """(1/K) Σ_k p_k(x | y): each draw comes from one member chosen at random.

    `mean` and `variance` are those of the mixture, E[σ²] + Var[mean], computed from the members'
    own moments and not from the mixed draws.

    Attributes:
        members: Posterior of each member for the same measurements.
    """

    def __init__(self, members: Sequence[Posterior], keys: Sequence[int], seed: int) -> None:
        spread = all(member.includes_decoder_spread for member in members)
        status = worst_status([member.status for member in members])
        super().__init__(keys, seed, includes_decoder_spread=spread, status=status)
        self.members = tuple(members)

    def make_draws(self, count: int) -> Draws:
        """Mixed draws; the member of each (draw, row) is chosen independently."""
        parts = [
            member.draws if count == DEFAULT_DRAWS else member.make_draws(count)
            for member in self.members
        ]
        choice = torch.stack(
            [
                NoiseStream(self.seed, Purpose.MEMBER, key).uniform((count,)) * len(parts)
                for key in self.keys
            ],
            dim=1,
        ).long()  # (M, B)
        return Draws(
            _select([part.values for part in parts], choice),
            _select([part.loc for part in parts], choice),
            _select([part.variance.expand_as(part.loc) for part in parts], choice),
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """log (1/K) Σ_k q_k(x | y) of signals `(..., B, *signal_shape)`, nats, `(..., B)`.

        Raises:
            UnsupportedError: If a member has no density.
        """
        parts = [m.log_prob(x) for m in self.members if isinstance(m, HasLogProb)]
        return self._mixed(parts, "log_prob")

    def marginal_log_prob(self, x: Tensor) -> Tensor:
        """log (1/K) Σ_k q_k(x_i | y) of every element, shape of `x`.

        Raises:
            UnsupportedError: If a member does not know the density of its elements.
        """
        parts = [m.marginal_log_prob(x) for m in self.members if isinstance(m, HasMarginals)]
        return self._mixed(parts, "marginal_log_prob")

    def _mixed(self, parts: list[Tensor], name: str) -> Tensor:
        if len(parts) < len(self.members):
            raise UnsupportedError(
                "members",
                f"posteriors with `{name}`",
                f"{len(self.members) - len(parts)} without",
                "An ensemble has a density where every member has one.",
            )
        return torch.stack(parts).logsumexp(0) - math.log(len(parts))

    def _moments(self) -> tuple[Tensor, Tensor]:
        return mixture_moments(
            torch.stack([member.mean for member in self.members]),
            torch.stack([member.variance for member in self.members]),
        )

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture."""
        return self._moments()[0]

    @property
    def variance(self) -> Tensor:
        """Variance of the mixture: mean of the variances plus variance of the means."""
        return self._moments()[1]


def _select(parts: list[Tensor], choice: Tensor) -> Tensor:
    out = parts[0].clone()
    for k, part in enumerate(parts[1:], start=1):
        rows = (choice == k).reshape(*choice.shape, *[1] * (part.ndim - 2))
        out = torch.where(rows, part, out)
    return out


class Ensemble(Solver):
    """Several solvers as one: posteriors are mixed, point estimates averaged.

    Args:
        members: Two or more solvers of the same kind.
    """

    def __init__(self, members: Sequence[Solver]) -> None:
        if len(members) < 2:
            raise ConfigError(
                "members", "two or more solvers", len(members), "Train more initialisations."
            )
        self.members = tuple(members)

    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> Estimate:
        """Each member gets noise of its own."""
        estimates = [m.solve(y, keys, self._seed(seed, i)) for i, m in enumerate(self.members)]
        posteriors = [e for e in estimates if isinstance(e, Posterior)]
        if len(posteriors) == len(estimates):
            return EnsemblePosterior(posteriors, keys, seed)
        if posteriors:
            raise UnsupportedError(
                "members",
                "either posteriors or point estimates",
                "both",
                "Make one ensemble of each kind.",
            )
        status = worst_status([estimate.status for estimate in estimates])
        mean = torch.stack([estimate.mean for estimate in estimates]).mean(0)
        return PointEstimate(mean, status)

    def mean_of(
        self, y: Tensor, keys: Sequence[int], seed: int, draws: int = DEFAULT_DRAWS
    ) -> Tensor:
        """Mean of the members' means; see `Solver.mean_of`."""
        means = [
            m.mean_of(y, keys, self._seed(seed, i), draws) for i, m in enumerate(self.members)
        ]
        return torch.stack(means).mean(0)

    def with_problem(self, problem: InverseProblem) -> Self:
        return type(self)([member.with_problem(problem) for member in self.members])

    def _seed(self, seed: int, member: int) -> int:
        return seed * len(self.members) + member
