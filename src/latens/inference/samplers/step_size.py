"""Step sizes by dual averaging, one per problem.

    log ε_{t+1} = μ − √t/γ · (1/(t + t₀)) Σ (δ − α_s),   log ε̄ averages them with weights t^−κ

α is the *arithmetic* mean over the chains of a problem of the acceptance probability.

References:
    Hoffman, Gelman (2014), The No-U-Turn Sampler, section 3.2, https://arxiv.org/abs/1111.4246.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

_GAMMA, _OFFSET, _KAPPA = 0.05, 10.0, 0.75


@dataclass
class DualAveraging:
    """State of the adaptation; every tensor is `(P,)` float64.

    Attributes:
        centre: μ, toward which log ε is drawn.
        log_step: log ε, used while adapting.
        log_average: log ε̄, used afterwards.
        shortfall: Running mean of δ − α.
        count: Updates since the last restart.
    """

    centre: Tensor
    log_step: Tensor
    log_average: Tensor
    shortfall: Tensor
    count: Tensor

    @classmethod
    def start(cls, step: Tensor) -> "DualAveraging":
        """Adaptation that starts at given step sizes `(P,)` and tries larger ones."""
        log_step = step.double().log()
        zeros = torch.zeros_like(log_step)
        return cls(log_step + 2.302585, log_step, log_step.clone(), zeros, zeros.clone())

    def update(self, acceptance: Tensor, target: float, largest: Tensor) -> "DualAveraging":
        """State after one more mean acceptance `(P,)` in [0, 1], step sizes up to `largest`."""
        count = self.count + 1
        weight = 1 / (count + _OFFSET)
        shortfall = (1 - weight) * self.shortfall + weight * (target - acceptance.double())
        log_step = self.centre - count.sqrt() / _GAMMA * shortfall
        log_step = torch.minimum(log_step, largest.double().log())
        share = count**-_KAPPA
        log_average = share * log_step + (1 - share) * self.log_average
        return DualAveraging(self.centre, log_step, log_average, shortfall, count)

    @property
    def step(self) -> Tensor:
        """ε, `(P,)`."""
        return self.log_step.exp()

    @property
    def average(self) -> Tensor:
        """ε̄, `(P,)`."""
        return self.log_average.exp()

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
