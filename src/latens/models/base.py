"""What training and inference may ask of every model."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from latens.distributions import NoiseStream, diagonal_normal, draw
from latens.errors import ConfigError
from latens.nets import Units
from latens.objectives import LossTerms
from latens.problems import InverseProblem
from latens.types import Shape


class Model(nn.Module, ABC):
    """A trainable description of signals x and measurements y.

    Args:
        signal_shape: `(C, *spatial)` of x.
        measurement_shape: `(C', *spatial')` of y.

    Attributes:
        stages: Names of the training stages, in order; each has its own budget of steps.
        needs_problem: True if training simulates measurements itself.
        signal_units, measurement_units: Standard units, fitted to the training pairs.
    """

    stages: ClassVar[tuple[str, ...]] = ("likelihood",)
    needs_problem: ClassVar[bool] = False

    def __init__(self, signal_shape: Shape, measurement_shape: Shape) -> None:
        super().__init__()
        self.signal_shape = tuple(signal_shape)
        self.measurement_shape = tuple(measurement_shape)
        self.signal_units = Units()
        self.measurement_units = Units()

    @property
    def event_size(self) -> int:
        """D, the number of elements of a signal."""
        return prod(self.signal_shape)

    def stage_event_size(self, stage: str) -> int:
        """Number of elements of the event whose likelihood a stage maximises."""
        return self.event_size

    def fit_units(self, x: Tensor, y: Tensor) -> None:
        """Set the units from training pairs, `(n, *signal_shape)`, `(n, *measurement_shape)`."""
        self.signal_units.fit(x)
        self.measurement_units.fit(y)

    def in_signal_units(self, standard: Independent) -> Independent:
        """The distribution of a signal in data units, from the one in standard units."""
        base = standard.base_dist
        loc = self.signal_units.inverse(base.loc)  # pyright: ignore[reportAttributeAccessIssue]
        scale = self.signal_units.scale * base.scale  # pyright: ignore[reportAttributeAccessIssue]
        return diagonal_normal(loc, scale, len(self.signal_shape))

    @abstractmethod
    def terms(
        self, stage: str, x: Tensor, y: Tensor, noise: NoiseStream, problem: InverseProblem | None
    ) -> LossTerms:
        """Loss terms of a batch of pairs.

        Args:
            stage: One of `stages`.
            x: Signals, `(B, *signal_shape)`.
            y: Measurements, `(B, *measurement_shape)`.
            noise: Source of every random number of this step.
            problem: The inverse problem, where `needs_problem`.
        """

    def stage_parameters(self, stage: str) -> Iterable[nn.Parameter]:
        """Parameters that a stage trains."""
        return self.parameters()


class LatentModel(Model):
    """A model with latents z, a prior, and an amortised posterior given a measurement.

    Attributes:
        dim: Number of latents.
        is_posterior: True if draws target p(x | y) as the training set grows.
    """

    is_posterior: ClassVar[bool] = True

    def __init__(self, signal_shape: Shape, measurement_shape: Shape, dim: int) -> None:
        super().__init__(signal_shape, measurement_shape)
        if dim < 1:
            raise ConfigError("dim", "1 latent or more", dim, "Choose for example 8.")
        self.dim = dim

    @abstractmethod
    def latent_posterior(self, y: Tensor) -> Distribution:
        """Amortised distribution of z given y, batch `(B,)`, event `(dim,)`."""

    @abstractmethod
    def decode(self, z: Tensor, y: Tensor) -> Independent:
        """p(x | z, y) as the decoder has it; z `(*leading, B, dim)`, y `(B, *measurement)`."""

    @abstractmethod
    def inference_pair(self, x: Tensor, y: Tensor) -> tuple[Distribution, Distribution]:
        """q(z | ·) of the training objective and the prior it is compared with."""

    def standard_prior(self, batch: int, like: Tensor) -> Independent:
        """N(0, I) over the latents, batch `(batch,)`."""
        zeros = like.new_zeros(batch, self.dim)
        return diagonal_normal(zeros, torch.ones_like(zeros), 1)

    def draw_latents(self, distribution: Distribution, noise: NoiseStream) -> Tensor:
        """One draw of the latents, `(B, dim)`."""
        shape = (*distribution.batch_shape, *distribution.event_shape)
        return draw(distribution, noise.normal(shape))
