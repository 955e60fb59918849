"""What training and inference may ask of every model."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from math import inf, prod
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from latens.distributions import NoiseStream, diagonal_normal, draw
from latens.errors import ConfigError, ShapeError
from latens.nets import Units
from latens.objectives import LossTerms, data_misfit
from latens.problems import InverseProblem, Operator
from latens.types import Shape


class View(nn.Module):
    """What networks see of a measurement: `Operator.view` as a module.

    Args:
        operator: Operator whose measurements are seen.
    """

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, y: Tensor) -> Tensor:
        return self.operator.view(y)


class Model(nn.Module, ABC):
    """A trainable description of signals x and measurements y.

    Args:
        signal_shape: `(C, *spatial)` of x.
        measurement_shape: `(C', *spatial')` of what the networks see of y.
        consistency: Weight λ of operator consistency; see `latens.objectives.consistency`.

    Attributes:
        view: Map from a measurement to what the networks see of it; the identity, unless
            measurements are no images and `look_through` was called.
        stages: Names of the training stages, in order; each has its own budget of steps.
        signal_units, measurement_units: Standard units, fitted to the training pairs.
    """

    stages: ClassVar[tuple[str, ...]] = ("likelihood",)

    def __init__(
        self, signal_shape: Shape, measurement_shape: Shape, consistency: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= consistency < inf:
            raise ConfigError(
                "consistency",
                "a weight of 0 or more",
                consistency,
                "Use 0 for none; 0.1 is already strong where noise is weak.",
            )
        self.consistency = float(consistency)
        self.signal_shape = tuple(signal_shape)
        self.measurement_shape = tuple(measurement_shape)
        self.signal_units = Units()
        self.measurement_units = Units()
        self.view: nn.Module = nn.Identity()

    def look_through(self, operator: Operator) -> Self:
        """See measurements through the operator's `view` from now on; returns the model.

        Raises:
            ShapeError: If the view has another shape than the networks were built for.
        """
        if operator.view_shape != self.measurement_shape:
            raise ShapeError(
                "operator",
                f"a view of shape {self.measurement_shape}, for which the networks were built",
                operator.view_shape,
                "Build the model with `operator.view_shape` as its measurement_shape.",
            )
        self.view = View(operator)
        return self

    def seen(self, y: Tensor) -> Tensor:
        """What the networks see of a measurement, in standard units, `(B, *measurement_shape)`."""
        return self.measurement_units(self.view(y))

    @property
    def needs_problem(self) -> bool:
        """True if training needs the operator and the noise."""
        return self.consistency > 0

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
        self.measurement_units.fit(self.view(y))

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

    def training_terms(
        self,
        stage: str,
        x: Tensor,
        y: Tensor,
        noise: NoiseStream,
        problem: InverseProblem | None,
        step: int,
    ) -> LossTerms:
        """Terms that are trained with at an optimiser step; those of `terms` by default.

        Models whose weights change while they train differ here, and not in `terms`, which
        chooses the weights: validation losses of different steps are comparable.
        """
        return self.terms(stage, x, y, noise, problem)

    @property
    def schedule_steps(self) -> int:
        """Optimiser steps until every weight of the objective is final; none by default."""
        return 0

    def schedule(self, step: int) -> dict[str, float]:
        """Named weights and levels at an optimiser step, for logs; none by default."""
        return {}

    def watched(self, terms: LossTerms) -> dict[str, float]:
        """Terms of a training batch that are logged beside the loss; none by default."""
        return {}

    def with_consistency(
        self, terms: LossTerms, reconstruction: Tensor, y: Tensor, problem: InverseProblem | None
    ) -> LossTerms:
        """Terms with the misfit of a reconstruction added, where the model has a weight for it.

        Args:
            terms: Terms of the objective.
            reconstruction: x̂, `(B, *signal_shape)`.
            y: Measurements, `(B, *measurement_shape)`.
            problem: The inverse problem.

        Raises:
            ConfigError: If there is a weight and no problem.
        """
        if self.consistency == 0:
            return terms
        if problem is None:
            raise ConfigError(
                "problem",
                "an operator and a noise model, which operator consistency compares with",
                None,
                "State the operator of your measurements, or set `consistency: 0`.",
            )
        misfit = data_misfit(problem, y, reconstruction)
        extras = {**terms.extras, "consistency": misfit}
        weights = {**terms.weights, "consistency": self.consistency}
        return replace(terms, extras=extras, weights=weights)

    def fit_closed_form(self, x: Tensor, y: Tensor) -> None:
        """Set, after training, what training pairs determine in closed form; nothing by default.

        Args:
            x: All signals that were trained on, `(n, *signal_shape)`; indexed, never used whole.
            y: What is known of them.
        """

    def fit_scale(self, x: Tensor, y: Tensor, noise: NoiseStream) -> None:
        """Set, after training, a σ that gradients leave too large; nothing by default.

        Args:
            x: Signals that were not trained on, `(n, *signal_shape)`.
            y: Their measurements.
            noise: Source of every random number.
        """

    def before_step(self, step: int, x: Tensor, y: Tensor) -> None:
        """Update what is state and no parameter before a training step; nothing by default.

        Args:
            step: Optimiser step, from 0.
            x: Signals of the batch, `(B, *signal_shape)`.
            y: What is known of them.
        """

    def stage_parameters(self, stage: str) -> Iterable[nn.Parameter]:
        """Parameters that a stage trains."""
        return self.parameters()

    @property
    def waiting_steps(self) -> int:
        """Optimiser steps of which the first ones leave some parameters as they are."""
        return 0

    def waiting_parameters(self) -> Iterable[nn.Parameter]:
        """Those parameters; their warm-up, and that of the KL, begins when they do."""
        return ()


class LatentModel(Model):
    """A model with latents z, a prior, and an amortised posterior given a measurement.

    Attributes:
        dim: Number of latents.
        is_posterior: True if draws target p(x | y) as the training set grows.
    """

    is_posterior: ClassVar[bool] = True

    def __init__(
        self, signal_shape: Shape, measurement_shape: Shape, dim: int, consistency: float = 0.0
    ) -> None:
        super().__init__(signal_shape, measurement_shape, consistency)
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
