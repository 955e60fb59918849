"""The density of the latents of a measurement, as samplers and optimisers see it.

Three exact or named densities of one model p(z), p(x | z) and one problem p(y | x):

| target | position v | log-density, up to a constant |
|---|---|---|
| `MarginalTarget` | z | log p(z) + log N(y; A D(z), Σ + A Σ_x(z) Aᵀ) |
| `JointTarget` | (z, ε), x = D(z) + σ(z) ε | log p(z) + log N(ε; 0, I) + log p(y ∣ F(x)) |
| `PlugInTarget` | z | log p(z) + log p(y ∣ F(D(z))) |

The first is exact for a linear operator and Gaussian noise; the second is exact always, in more
dimensions (the Jacobian of x ↔ ε cancels the normalisation of p(x | z)). The third pretends that
the decoder has no spread: it is an ablation, overconfident by construction, and used only by name.

`cvae` has no target: its p(z | y) is learned, not derived from p(y | x).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Independent

from latens.errors import UnsupportedError
from latens.inference.estimates import Draws
from latens.inference.latent_posterior import (
    LatentPosterior,
    collapsed_variance,
    conditions_on_measurement,
    given_measurement,
)
from latens.inference.samplers import LogDensity, RowsOfProblems
from latens.models import Latent, LatentModel
from latens.problems import GaussianNoise, InverseProblem, LinearOperator
from latens.problems.innovation import Innovation, innovation
from latens.store import Status

TargetName = Literal["exact", "plug-in"]


class LatentTarget(ABC):
    """log p(v, y) of B measurements under a model with a prior p(z) = N(0, I).

    Args:
        model: Trained model.
        problem: Operator and noise.
        y: Measurements, `(B, *measurement_shape)`.

    Attributes:
        dim: Dimension of a position v.
    """

    def __init__(self, model: Latent, problem: InverseProblem, y: Tensor) -> None:
        self.model = model
        self.problem = problem
        self.y = y
        self.dim = model.dim

    @abstractmethod
    def log_joint(self, v: Tensor, y: Tensor) -> Tensor:
        """log p(v, y) of rows that belong together, `(C, dim)`, `(C, *measurement)` → `(C,)`."""

    def rows(self, chains: int) -> LogDensity:
        """Density of B · `chains` rows; the chains of measurement b stand together."""
        return RowsOfProblems(self.log_joint, [self.y], chains)

    def extend(self, z: Tensor, noise: Tensor) -> Tensor:
        """A position with given latents, `(..., dim_z)`; `noise` `(..., dim − dim_z)` fills up."""
        return torch.cat([z, noise], -1) if self.dim > self.model.dim else z

    def latents(self, v: Tensor) -> Tensor:
        """z of a position, `(..., dim_z)`."""
        return v[..., : self.model.dim]

    def signal_mean(self, v: Tensor) -> Tensor:
        """E[x | v, y], `(..., B, *signal_shape)` of positions `(..., B, dim)`."""
        decoded = self.model.decode(self.latents(v), self.y)
        if not conditions_on_measurement(self.model, self.problem):
            return decoded.mean
        return given_measurement(decoded, self.y, self.problem).mean

    def _log_prior(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))


class MarginalTarget(LatentTarget):
    """Latents alone: x is integrated out in closed form."""

    def __init__(self, model: Latent, problem: InverseProblem, y: Tensor) -> None:
        super().__init__(model, problem, y)
        self._constant = self._constant_innovation()

    def _constant_innovation(self) -> Innovation | None:
        """S if the decoder's variance is one number for all latents, so that it is made once."""
        with torch.no_grad():
            z = torch.stack([torch.zeros(self.dim), torch.ones(self.dim)]).to(self.y)
            variance = self.model.decode(z, self.y[:1].expand(2, *self.y.shape[1:])).variance
            if not bool((variance == variance.flatten()[0]).all()):
                return None
            shape = (1,) * len(self.problem.signal_shape)
            return self._innovation(variance.flatten()[0].reshape(shape).detach())

    def _innovation(self, variance: Tensor) -> Innovation:
        operator, noise = self.problem.operator, self.problem.noise
        assert isinstance(operator, LinearOperator)
        assert isinstance(noise, GaussianNoise)
        return innovation(operator, variance, noise.scale**2)

    def log_joint(self, v: Tensor, y: Tensor) -> Tensor:
        """log p(z) + log p(y | z)."""
        decoded = self.model.decode(v, y)
        found = self._constant or self._innovation(collapsed_variance(decoded))
        residual = y - self.problem.operator(decoded.mean)  # (C, *measurement)
        return self._log_prior(v) + found.log_prob(residual)


class JointTarget(LatentTarget):
    """Latents and the decoder's own noise: exact for every operator and noise."""

    def __init__(self, model: Latent, problem: InverseProblem, y: Tensor) -> None:
        super().__init__(model, problem, y)
        self.dim = model.dim + math.prod(problem.signal_shape)

    def signal_mean(self, v: Tensor) -> Tensor:
        """x, which the position determines."""
        z, noise = v.split([self.model.dim, self.dim - self.model.dim], -1)
        decoded = self.model.decode(z, self.y)
        return decoded.mean + decoded.stddev * noise.unflatten(-1, self.problem.signal_shape)

    def log_joint(self, v: Tensor, y: Tensor) -> Tensor:
        """log p(z) + log p(ε) + log p(y | x)."""
        z, noise = v.split([self.model.dim, self.dim - self.model.dim], -1)
        decoded: Independent = self.model.decode(z, y)
        shaped = noise.unflatten(-1, self.problem.signal_shape)
        x = decoded.mean + decoded.stddev * shaped  # (C, *signal)
        return self._log_prior(z) + self._log_prior(noise) + self.problem.log_likelihood(y, x)


class PlugInTarget(LatentTarget):
    """The decoder's mean in place of x: an ablation."""

    def log_joint(self, v: Tensor, y: Tensor) -> Tensor:
        """log p(z) + log p(y | F(D(z)))."""
        mean = self.model.decode(v, y).mean
        return self._log_prior(v) + self.problem.log_likelihood(y, mean)


class TargetPosterior(LatentPosterior):
    """A posterior whose draws are positions of a target."""

    def __init__(
        self,
        target: LatentTarget,
        keys: Sequence[int],
        seed: int,
        status: Status,
        diagnostics: dict[str, float],
    ) -> None:
        super().__init__(target.model, target.problem, target.y, keys, seed, status, diagnostics)
        self.target = target

    @abstractmethod
    def positions(self, count: int) -> Tensor:
        """Exchangeable draws of v, `(count, B, dim)`."""

    def latent_draws(self, count: int) -> Tensor:
        """Draws of z, `(count, B, dim_z)`."""
        return self.target.latents(self.positions(count))

    @torch.no_grad()
    def make_draws(self, count: int) -> Draws:
        """Draws of x: the position itself says it, or p(x | z, y) does."""
        if not isinstance(self.target, JointTarget):
            return super().make_draws(count)
        x = self.target.signal_mean(self.positions(count))
        return Draws(x, x, torch.zeros((), dtype=x.dtype))


def latent_target(
    model: LatentModel, problem: InverseProblem | None, y: Tensor, name: TargetName = "exact"
) -> LatentTarget:
    """The density of the latents of B measurements.

    Args:
        model: Trained `Latent`.
        problem: Operator and noise, of known level.
        y: Measurements, `(B, *measurement_shape)`.
        name: `exact` chooses the marginal where it has a closed form and the joint elsewhere;
            `plug-in` is the ablation.

    Raises:
        UnsupportedError: If the model has no density of its own, or the problem is unknown.
    """
    if not isinstance(model, Latent):
        raise UnsupportedError(
            "model",
            "a model p(z) p(x | z) to which p(y | x) can be multiplied, such as `latent`",
            type(model).__name__,
            "Its p(z | y) is learned from pairs and is drawn from directly.",
        )
    if problem is None:
        raise UnsupportedError(
            "problem",
            "an operator and a noise model, for p(y | x)",
            None,
            "State both, or use the amortised posterior.",
        )
    if name == "plug-in":
        return PlugInTarget(model, problem, y)
    if conditions_on_measurement(model, problem):
        return MarginalTarget(model, problem, y)
    return JointTarget(model, problem, y)
