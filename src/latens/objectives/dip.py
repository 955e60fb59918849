"""Settings of the DIP-VAE-II penalty, and the penalty of a batch that several processes share."""

from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.distributions import Distribution

from latens.errors import ConfigError
from latens.objectives.covariance import CovarianceBuffer, CovariancePenalty, squares
from latens.objectives.distributed import gathered
from latens.objectives.kl_control import Ramp

Estimator = Literal["squares", "buffered"]


@dataclass(frozen=True)
class Dip:
    """Weights of λ_od ‖offdiag Cov z‖²_F + λ_d ‖diag Cov z − 1‖², nats of a whole volume.

    Args:
        off_diagonal: λ_od.
        diagonal: λ_d; 0 penalises the off-diagonal entries alone.
        start: Optimiser step from which the penalty counts.
        ramp: Steps over which it rises linearly to its weights.
        estimator: `squares` (U-statistic, 4 rows or more over all processes) or `buffered`.
        decay: ρ of the buffer.
    """

    off_diagonal: float = 10.0
    diagonal: float = 5.0
    start: int = 0
    ramp: int = 0
    estimator: Estimator = "buffered"
    decay: float = 0.95

    def __post_init__(self) -> None:
        for name in ("off_diagonal", "diagonal"):
            if getattr(self, name) < 0:
                raise ConfigError(f"dip.{name}", "0 or more", getattr(self, name), "Raise it.")
        if not 0 < self.decay < 1:
            raise ConfigError("dip.decay", "between 0 and 1", self.decay, "Use 0.95.")
        Ramp(self.start, self.ramp)

    @property
    def steps(self) -> int:
        """Optimiser steps until the weights are final."""
        return self.start + self.ramp

    @property
    def rows(self) -> int:
        """Rows, over all processes, without which the estimator has no covariance."""
        return 4 if self.estimator == "squares" else 2

    def weights(self, step: int) -> dict[str, float]:
        """λ_od and λ_d at an optimiser step."""
        share = Ramp(self.start, self.ramp)(step)
        return {"dip_off": share * self.off_diagonal, "dip_diagonal": share * self.diagonal}


class DipPenalty(nn.Module):
    """The penalty of a posterior q(z | x), over the rows of all processes.

    Args:
        dim: Number of latents.
        settings: Weights and estimator.
    """

    def __init__(self, dim: int, settings: Dip) -> None:
        super().__init__()
        self.settings = settings
        self.buffer = CovarianceBuffer(dim, settings.decay)

    def forward(self, q: Distribution) -> CovariancePenalty:
        """Both squared norms, scalars, without their weights.

        Outside training every process looks at the same rows, and there is nothing to gather.
        """
        loc, variance = q.mean, q.variance
        if self.training:
            loc, variance = gathered(loc), gathered(variance)
        if self.settings.estimator == "squares":
            return squares(loc, variance)
        return self.buffer(loc, variance)
