"""Noise models: the distribution of a measurement around its noiseless value."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from latens.errors import ConfigError


class NoiseModel(nn.Module, ABC):
    """Noise that acts on every element of a measurement on its own."""

    @abstractmethod
    def elementwise(self, clean: Tensor) -> Distribution:
        """Distribution of each measured element, with the shape of `clean` as batch shape."""

    @abstractmethod
    def fisher(self, clean: Tensor) -> Tensor:
        """Local Fisher information of each element about its clean value, shape of `clean`.

        I(c) = E[(∂ log p(y | c) / ∂c)²], in 1/(unit of y)².
        """

    def forward(self, clean: Tensor, event_dims: int) -> Independent:
        """Distribution of the whole measurement.

        Args:
            clean: Noiseless measurement, `(*batch, *measurement_shape)`.
            event_dims: Number of axes of one measurement.

        Returns:
            Distribution with batch shape `(*batch)` and event shape `measurement_shape`; its
            `log_prob` is in nats per measurement, constants kept.
        """
        return Independent(self.elementwise(clean), event_dims, validate_args=False)

    def whiten(self, residual: Tensor, clean: Tensor) -> Tensor:
        """Residual in units of the local noise: √I(clean) · residual.

        Args:
            residual: Measurement minus its expectation, shape of `clean` or broadcastable.
            clean: Noiseless measurement.

        Returns:
            Dimensionless residual of about unit variance.
        """
        return self.fisher(clean).sqrt() * residual


class GaussianNoise(NoiseModel):
    """Additive white Gaussian noise of known standard deviation, y ~ N(clean, scale² I).

    Args:
        scale: Standard deviation, in units of the measurement.

    Raises:
        ConfigError: If the scale is not positive.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ConfigError(
                "scale",
                "a positive standard deviation",
                scale,
                "Give the noise level of the measurement; without noise there is no likelihood.",
            )
        self.scale = float(scale)

    def elementwise(self, clean: Tensor) -> Normal:
        scale = torch.tensor(self.scale, dtype=clean.dtype, device=clean.device)
        return Normal(clean, scale, validate_args=False)

    def fisher(self, clean: Tensor) -> Tensor:
        return torch.full_like(clean, self.scale**-2)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"
