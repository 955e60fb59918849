"""Noise models: the distribution of a measurement around its noiseless value."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from latens.errors import ConfigError, DataError, ShapeError


class NoiseModel(nn.Module, ABC):
    """Noise that acts on every element of a measurement on its own.

    A subclass writes `elementwise` and `fisher`, and `score` where it has a closed form. A level
    that is None is unknown: `estimate` finds it from pairs, and every other use of the model
    raises `ConfigError` before that.

    Attributes:
        components: Standard normal numbers behind each measured element.
    """

    components: ClassVar[int] = 1

    @abstractmethod
    def elementwise(self, clean: Tensor) -> Distribution:
        """Distribution of each measured element, with the shape of `clean` as batch shape."""

    @abstractmethod
    def fisher(self, clean: Tensor) -> Tensor:
        """Local Fisher information of each element about its clean value, shape of `clean`.

        I(c) = E[(∂ log p(y | c) / ∂c)²], in 1/(unit of y)².
        """

    def score(self, y: Tensor, clean: Tensor) -> Tensor:
        """∂ log p(y | clean)/∂clean of each element, in 1/(unit of y).

        Args:
            y: Measurement.
            clean: Noiseless measurement, of a shape that broadcasts with that of `y`.

        Returns:
            Shape of both; itself differentiable.
        """
        y, clean = torch.broadcast_tensors(y, clean)
        pull = torch.func.vjp(lambda c: self.elementwise(c).log_prob(y), clean)[1]
        return pull(torch.ones_like(clean))[0]

    @property
    def is_known(self) -> bool:
        """True if every level is known."""
        return True

    def estimate(self, y: Tensor, clean: Tensor) -> "NoiseModel":
        """Maximum-likelihood estimate of the unknown levels from pairs.

        All elements count alike; levels that are given are kept.

        Args:
            y: Measurements, any shape.
            clean: Their noiseless values, shape of `y`.

        Returns:
            A model whose levels are known; this one if they are known already.

        Raises:
            ShapeError: If the shapes differ.
            DataError: If values are not finite, or hold no noise.
        """
        return self

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

    def standardise(self, y: Tensor, clean: Tensor) -> Tensor:
        """Residual in units of the local standard deviation: (y − E[y | clean])/√Var[y | clean].

        Args:
            y: Measurement.
            clean: Noiseless measurement, of a shape that broadcasts with that of `y`.

        Returns:
            Dimensionless; at the true clean value of mean 0 and variance 1 exactly.
        """
        distribution = self.elementwise(clean)
        return (y - distribution.mean) / distribution.stddev

    def whiten(self, residual: Tensor, clean: Tensor) -> Tensor:
        """Residual as a step of the clean value in units of what can be told: √I(clean)·residual.

        To first order, a change r of the clean value changes the expected log-likelihood by
        −‖√I r‖²/2. Only for Gaussian noise is √I the inverse standard deviation of y; in
        general √I ≥ |∂E[y]/∂clean|/√Var[y], see `standardise`.

        Args:
            residual: Difference of clean values, shape of `clean` or broadcastable.
            clean: Noiseless measurement.

        Returns:
            Dimensionless.
        """
        return self.fisher(clean).sqrt() * residual


def check_level(argument: str, level: float | None) -> float | None:
    """A positive level as a float, or None where it is unknown.

    Raises:
        ConfigError: If it is a number, but not a positive one.
    """
    if level is not None and not 0 < level < math.inf:
        raise ConfigError(
            argument,
            "a positive standard deviation" if argument == "scale" else "a positive number",
            level,
            "Give the noise level of the measurement, or None to estimate it from pairs; without "
            "noise there is no likelihood.",
        )
    return None if level is None else float(level)


def known_level(argument: str, level: float | None) -> float:
    """The level, or a `ConfigError` if it is unknown."""
    if level is None:
        raise ConfigError(
            argument,
            "a known noise level",
            None,
            "Estimate it with `noise.estimate(y, clean)`, which returns a model that knows it, "
            "or give its value.",
        )
    return level


def check_pairs(y: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64 vectors, or an error.

    Raises:
        ShapeError: If the shapes differ.
        DataError: If there are no values, values that are not finite, or no noise.
    """
    if y.shape != clean.shape:
        raise ShapeError(
            "clean",
            f"the shape of y, {tuple(y.shape)}",
            tuple(clean.shape),
            "Apply the operator to the signals: `problem.operator(x)`.",
        )
    y, clean = y.detach().double().flatten(), clean.detach().double().flatten()
    remedy = "Give measurements together with their noiseless values."
    if not len(y) or not bool(torch.isfinite(y).all() & torch.isfinite(clean).all()):
        raise DataError("y, clean", "finite values, at least one", "none or others", remedy)
    if bool((y == clean).all()):
        raise DataError("y", "measurements with noise", "values equal to the clean ones", remedy)
    return y, clean


class GaussianNoise(NoiseModel):
    """Additive white Gaussian noise, y ~ N(clean, scale² I).

    Args:
        scale: Standard deviation, in units of the measurement; None if it is unknown.

    Raises:
        ConfigError: If the scale is not positive.
    """

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self._scale = check_level("scale", scale)

    @property
    def scale(self) -> float:
        """Standard deviation; raises `ConfigError` where it is unknown."""
        return known_level("scale", self._scale)

    @property
    def is_known(self) -> bool:
        return self._scale is not None

    def elementwise(self, clean: Tensor) -> Normal:
        scale = torch.tensor(self.scale, dtype=clean.dtype, device=clean.device)
        return Normal(clean, scale, validate_args=False)

    def score(self, y: Tensor, clean: Tensor) -> Tensor:
        return (y - clean) / self.scale**2

    def fisher(self, clean: Tensor) -> Tensor:
        return torch.full_like(clean, self.scale**-2)

    def estimate(self, y: Tensor, clean: Tensor) -> "GaussianNoise":
        """scale² = mean of (y − clean)²: no bias, and −1/(4n) relative in the scale itself."""
        if self.is_known:
            return self
        y, clean = check_pairs(y, clean)
        return GaussianNoise((y - clean).square().mean().sqrt().item())

    def extra_repr(self) -> str:
        return f"scale={self._scale}" if self._scale is None else f"scale={self._scale:g}"
