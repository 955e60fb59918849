"""Gaussian signal models conditioned on a linear-Gaussian measurement, exactly.

    x ~ N(loc, diag(variance)),   y | x ~ N(A x, σ²I)

    S          = A diag(variance) Aᵀ + σ²I
    E[x | y]   = loc + diag(variance) Aᵀ S⁻¹ (y − A loc)
    y          ~ N(A loc, S)

With a Gaussian decoder, loc and variance are functions of a latent z: then p(y | z) is
`marginal_log_prob` and `draw` samples p(x | z, y).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.distributions import diagonal_normal, draw
from latens.errors import ConfigError, ShapeError, UnsupportedError
from latens.problems.innovation import Innovation, innovation
from latens.problems.inverse_problem import InverseProblem
from latens.problems.linear_operator import LinearOperator
from latens.problems.noise import GaussianNoise
from latens.problems.operator import require_event


def condition(
    loc: Tensor, variance: float | Tensor, y: Tensor, problem: InverseProblem
) -> "ConditionedGaussian":
    """Condition x ~ N(loc, diag(variance)) on a measurement y = A x + noise.

    All leading axes broadcast, so that S latents and B measurements make `(S, B)` posteriors.
    A variance that is constant over space is passed with spatial sizes 1, and with one channel
    where all have the same (or as a number): then everything is a closed form for a circular
    convolution and wherever `LinearOperator.spectrum` is known.

    Args:
        loc: Prior mean, `(..., *signal_shape)`.
        variance: Prior variance, broadcastable to `(..., *signal_shape)`, not negative.
        y: Measurement, `(..., *measurement_shape)`, of the dtype of `loc`.
        problem: Linear operator with Gaussian noise.

    Returns:
        The conditional distribution.

    Raises:
        UnsupportedError: If the operator is not linear or the noise not Gaussian.
        ShapeError: If a tensor does not fit the operator.
        ConfigError: If `variance` is a negative number.
    """
    operator, noise = problem.operator, problem.noise
    if not isinstance(operator, LinearOperator):
        raise UnsupportedError(
            "problem",
            "a LinearOperator, for which the conditional is Gaussian",
            type(operator).__name__,
            "Sample (z, x) jointly instead.",
        )
    if not isinstance(noise, GaussianNoise):
        raise UnsupportedError(
            "problem",
            "GaussianNoise, for which the conditional is Gaussian",
            type(noise).__name__,
            "Sample (z, x) jointly instead.",
        )
    require_event("loc", loc, operator.signal_shape)
    require_event("y", y, operator.measurement_shape)
    variance = _variance(variance, loc, operator)
    return ConditionedGaussian(
        loc, variance, y, problem, innovation(operator, variance, noise.scale**2)
    )


@dataclass(frozen=True, eq=False)
class ConditionedGaussian:
    """p(x | y) of a Gaussian signal and a linear-Gaussian measurement; made by `condition`.

    | symbol | attribute | shape |
    |---|---|---|
    | loc | `loc` | `(..., *signal_shape)` |
    | v | `prior_variance` | broadcastable to `(..., *signal_shape)` |
    | y | `y` | `(..., *measurement_shape)` |
    | S | `innovation` | – |

    Every property is computed when it is read, and nothing is kept.
    """

    loc: Tensor
    prior_variance: Tensor
    y: Tensor
    problem: InverseProblem
    innovation: Innovation

    @property
    def operator(self) -> LinearOperator:
        """A."""
        return self.innovation.operator

    @property
    def mean(self) -> Tensor:
        """E[x | y], `(..., *signal_shape)`.

        Raises:
            NumericalError: If an iterative solve does not converge.
        """
        return self.loc + self._gain(self.y - self.operator.A(self.loc))

    @property
    def variance(self) -> Tensor:
        """Var[x | y] of every element, `(..., *signal_shape)`.

        Raises:
            UnsupportedError: If it needs a dense matrix and there are over 4096 measurements.
        """
        remaining = self.prior_variance - self.innovation.explained_variance()
        return remaining.expand(self._broadcast() + self.operator.signal_shape)

    @property
    def marginal_log_prob(self) -> Tensor:
        """log N(y; A loc, S), the log-density of the measurement without its signal.

        Returns:
            Nats per measurement, `(...)`, constants and log-determinant kept.

        Raises:
            UnsupportedError: If it needs a dense matrix and there are over 4096 measurements.
        """
        return self.innovation.log_prob(self.y - self.operator.A(self.loc))

    def draw(self, noise_x: Tensor, noise_n: Tensor) -> Tensor:
        """Exact draws from p(x | y) by Matheron's rule: simulate, then correct by the gain.

            x = x̃ + diag(v) Aᵀ S⁻¹ (y − ỹ),   x̃ ~ p(x),   ỹ ~ p(y | x̃)

        Args:
            noise_x: Standard normal, `(*sample_shape, ..., *signal_shape)` with the leading
                axes of `mean`.
            noise_n: Standard normal, `(*sample_shape, ..., *measurement_shape)`.

        Returns:
            Draws, shape of `noise_x`.

        Raises:
            ShapeError: If the noise has other axes.
            NumericalError: If an iterative solve does not converge.

        References:
            Doucet (2010), A note on efficient conditional simulation of Gaussian distributions.
        """
        loc = self.loc.expand(self._broadcast() + self.operator.signal_shape)
        signal = diagonal_normal(loc, self.prior_variance.sqrt(), len(self.operator.signal_shape))
        x = draw(signal, noise_x)  # (*sample, ..., *signal)
        simulated = self.problem.simulate(x, noise_n)  # (*sample, ..., *measurement)
        return x + self._gain(self.y - simulated)

    def _gain(self, residual: Tensor) -> Tensor:
        return self.prior_variance * self.operator.A_adjoint(self.innovation.solve(residual))

    def _broadcast(self) -> tuple[int, ...]:
        signal, measurement = self.operator.signal_shape, self.operator.measurement_shape
        return torch.broadcast_shapes(
            self.loc.shape[: self.loc.ndim - len(signal)],
            self.prior_variance.shape[: self.prior_variance.ndim - len(signal)],
            self.y.shape[: self.y.ndim - len(measurement)],
        )


def _variance(variance: float | Tensor, loc: Tensor, operator: LinearOperator) -> Tensor:
    signal = operator.signal_shape
    if not isinstance(variance, Tensor) and not 0 <= variance < math.inf:
        raise ConfigError(
            "variance", "a non-negative number", variance, "Give the square of the scale."
        )
    tensor = torch.as_tensor(variance, dtype=loc.dtype, device=loc.device)
    tensor = tensor.reshape((1,) * (len(signal) - tensor.ndim) + tuple(tensor.shape))
    event = tensor.shape[tensor.ndim - len(signal) :]
    if any(size not in (1, full) for size, full in zip(event, signal, strict=True)):
        raise ShapeError(
            "variance",
            f"a shape that broadcasts to (..., {', '.join(map(str, signal))})",
            tuple(tensor.shape),
            "Give one value per element, or sizes 1 where it is constant.",
        )
    return tensor
