"""The amortised posterior corrected by importance sampling.

    z_s ~ q(z | y),   w_s ∝ p(z_s, y)/q(z_s | y),   weights smoothed by a Pareto tail

Where the smallest k̂ is not below .7, q(z | y) misses too much of the posterior for any number of
draws: the status says so, and chains are the way to go. What remains are exact draws at the cost
of one decoding each. The weights also estimate the evidence, log p(y) ≈ log mean w.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from latens.distributions import Purpose, draw, row_noise
from latens.errors import ConfigError, UnsupportedError
from latens.inference.estimates import trusted_status
from latens.inference.latent_target import (
    JointTarget,
    LatentTarget,
    TargetPosterior,
    latent_target,
)
from latens.inference.resampling import ImportanceWeights
from latens.inference.solver import Solver
from latens.models import LatentModel
from latens.problems import InverseProblem
from latens.store import Status


class LatentImportance(Solver):
    """Resampled draws of the amortised posterior.

    Args:
        model: Trained `latent`.
        problem: Linear operator and Gaussian noise.
        status: Status of the fit.
        draws: Draws of q(z | y) per measurement.
        block: Draws that are decoded at once.
    """

    def __init__(
        self,
        model: LatentModel,
        problem: InverseProblem | None,
        status: Status = Status.CONVERGED,
        *,
        draws: int = 2000,
        block: int = 100,
    ) -> None:
        if draws < 100:
            raise ConfigError("draws", "100 or more", draws, "Choose for example 2000.")
        self.model = model.eval()
        self.problem = problem
        self.status = status
        self.draws = draws
        self.block = block

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> "ResampledPosterior":
        """Weighted draws of each measurement.

        Raises:
            UnsupportedError: If x cannot be integrated out of p(z, x, y).
        """
        target = latent_target(self.model, self.problem, y)
        if isinstance(target, JointTarget):
            raise UnsupportedError(
                "problem",
                "a linear operator and Gaussian noise, for which x is integrated out",
                f"{type(self.problem).__name__} with other operator or noise",
                "Use chains.",
            )
        proposal = target.model.latent_posterior(y)
        shape = (self.draws, target.dim)
        noise = row_noise((seed, Purpose.START), keys, shape, y.dtype, y.device)
        z = draw(proposal, noise)  # (S, B, dim)
        joint = [
            target.rows(len(part))(part.transpose(0, 1).flatten(0, 1)).unflatten(0, (len(y), -1))
            for part in z.split(self.block)
        ]  # (B, block) each
        log_weights = torch.cat(joint, 1).T - proposal.log_prob(z)  # (S, B)
        return ResampledPosterior(target, z, log_weights, keys, seed, self.status)


class ResampledPosterior(TargetPosterior):
    """Draws of q(z | y), drawn again in proportion to their smoothed weights.

    Attributes:
        k: Pareto k̂ of each measurement, `(B,)`.
        log_evidence: Estimate of log p(y), nats, `(B,)`.
        size: Effective number of draws, 1/Σ w², `(B,)`.
    """

    def __init__(
        self,
        target: LatentTarget,
        z: Tensor,
        log_weights: Tensor,
        keys: Sequence[int],
        seed: int,
        status: Status,
    ) -> None:
        self._weights = weights = ImportanceWeights(log_weights)
        self.k, self.size = weights.k, weights.size
        total = torch.logsumexp(log_weights.double(), 0)
        self.log_evidence = total - math.log(len(log_weights))
        status = trusted_status(status, weights.trusted)
        super().__init__(target, keys, seed, status, weights.numbers)
        self.trusted = weights.trusted
        self._z = z

    def positions(self, count: int) -> Tensor:
        """Draws with replacement, `(count, B, dim)`."""
        chosen = self._weights.resampled(self.keys, self.seed, Purpose.POOL, count)
        return self._z[chosen, torch.arange(len(self.keys))]
