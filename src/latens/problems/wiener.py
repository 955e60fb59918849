"""Wiener filter: the exact posterior of a stationary Gaussian signal, for any linear operator.

    x ~ N(μ, C),   y = A x + b + n,   E[n] = 0,   Var[n] = σ² I
    E[x | y]   = μ + K (y − b − A μ),   K = C Aᵀ S⁻¹,   S = A C Aᵀ + σ² I
    Cov[x | y] = C − K A C

C is a periodic convolution in every channel, channels are uncorrelated. For noise that is not
Gaussian, or depends on the signal, the same formulas are the best linear estimate and the
covariance of its error (LMMSE), where n has the same variance in every element and is
uncorrelated with x.

| symbol | attribute | shape |
|---|---|---|
| μ | `StationaryPrior.mean` | `(C, *spatial)` |
| eigenvalues of C | `StationaryPrior.power` | `(C, *spatial[:-1], spatial[-1] // 2 + 1)` |
| b, σ² | `offset`, `noise_variance` | numbers |
| Var[x \\| y] | `variance` | broadcastable to `(C, *spatial)` |

| class | applies to | K and variance |
|---|---|---|
| `FourierWiener` | circular convolution, denoising | closed form |
| `DenseWiener` | up to 4096 measurements and 2²⁴ entries of A | Cholesky factor of S |
| `IterativeWiener` | every linear operator | conjugate gradients; variance from 256 draws |
"""

from abc import ABC, abstractmethod
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.problems.convolution import Convolution, Identity
from latens.problems.linear_map import linear_map
from latens.problems.linear_operator import (
    DENSE_LIMIT,
    MAX_ITERATIONS,
    LinearOperator,
    solve_tolerance,
)
from latens.problems.linear_solve import conjugate_gradient
from latens.problems.stationary import StationaryPrior, filter_channels, radial_average

DENSE_ENTRIES = 2**24
"""Most entries of A, 128 MiB in float64, for which S is formed and factored."""

BLOCK_ELEMENTS = 2**22
"""Elements of the signals that conjugate gradients treat at a time, 32 MiB in float64."""

VARIANCE_DRAWS = 256
"""Draws behind the variance where it has no closed form; its relative error is 9 %."""

PROBES = 8
"""Random signals from which the preconditioner is made."""


class WienerFilter(ABC):
    """Gaussian posterior of a stationary signal; made by `wiener_filter`.

    Args:
        operator: A.
        prior: μ and C.
        noise_variance: σ², positive.
        offset: b, mean of y − A x.
    """

    def __init__(
        self,
        operator: LinearOperator,
        prior: StationaryPrior,
        noise_variance: float,
        offset: float,
    ) -> None:
        self.operator = operator
        self.prior = prior
        self.noise_variance = noise_variance
        self.offset = offset

    @abstractmethod
    def gain(self, residual: Tensor) -> Tensor:
        """K r for r `(..., *measurement_shape)`, `(..., *signal_shape)`."""

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """Var[x | y] of every element, the same for every y, in float64."""

    def mean(self, y: Tensor) -> Tensor:
        """E[x | y] for y `(..., *measurement_shape)`, `(..., *signal_shape)`."""
        mean = self.prior.mean.to(y.dtype)
        return mean + self.gain(y - self.offset - self.operator.A(mean))

    def deviation(self, noise_x: Tensor, noise_n: Tensor) -> Tensor:
        """Exact draws of x − E[x | y], by Matheron's rule: δ − K (A δ + n) with δ ~ N(0, C).

        Args:
            noise_x: Standard normal, `(..., *signal_shape)`.
            noise_n: Standard normal, `(..., *measurement_shape)`.

        Returns:
            Draws, shape of `noise_x`.

        References:
            Doucet (2010), A note on efficient conditional simulation of Gaussian distributions.
        """
        signal = filter_channels(noise_x, self.prior.power.sqrt(), self.prior.spatial)
        noise = self.noise_variance**0.5 * noise_n
        return signal - self.gain(self.operator.A(signal) + noise)


class FourierWiener(WienerFilter):
    """A Aᵀ is diagonal in Fourier space with eigenvalues |H|²; `response` is |H|²."""

    def __init__(
        self,
        operator: LinearOperator,
        prior: StationaryPrior,
        noise_variance: float,
        offset: float,
        response: Tensor,
    ) -> None:
        super().__init__(operator, prior, noise_variance, offset)
        self.measured = prior.power * response + noise_variance  # eigenvalues of S

    def gain(self, residual: Tensor) -> Tensor:
        back = self.operator.A_adjoint(residual)
        return filter_channels(back, self.prior.power / self.measured, self.prior.spatial)

    @cached_property
    def variance(self) -> Tensor:
        """`(C, 1, ..., 1)`."""
        posterior = self.prior.power * self.noise_variance / self.measured
        return self.prior.with_power(posterior).variance


class DenseWiener(WienerFilter):
    """K as a matrix."""

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor]:
        m = prod(self.operator.measurement_shape)
        rows = self.operator.matrix()  # (m, d)
        covered = filter_channels(
            rows.reshape(m, *self.prior.mean.shape), self.prior.power, self.prior.spatial
        ).reshape(m, -1)  # A C
        noise = self.noise_variance * torch.eye(m, dtype=rows.dtype, device=rows.device)
        factor = torch.linalg.cholesky(covered @ rows.mT + noise)
        white = torch.linalg.solve_triangular(factor, covered, upper=False)
        gain = torch.linalg.solve_triangular(factor.mT, white, upper=True)  # Kᵀ
        return gain, white.square().sum(0)

    def gain(self, residual: Tensor) -> Tensor:
        flat = residual.flatten(-len(self.operator.measurement_shape))
        return (flat @ self._factors[0].to(flat)).unflatten(-1, self.operator.signal_shape)

    @cached_property
    def variance(self) -> Tensor:
        """`(C, *spatial)`."""
        removed = self._factors[1].reshape(self.operator.signal_shape)
        return (self.prior.variance - removed).clamp_min(0)


class IterativeWiener(WienerFilter):
    """K = C^½ (C^½ AᵀA C^½ + σ² I)⁻¹ C^½ Aᵀ, by conjugate gradients in float64.

    The preconditioner replaces AᵀA by a convolution with the same average over each shell of
    frequencies. It is exact for isotropic convolutions, and for masks on average over masks.
    """

    @cached_property
    def _preconditioner(self) -> Tensor:
        spatial = self.prior.spatial
        power = self.prior.power
        axes = tuple(range(-len(spatial), 0))
        noise = NoiseStream(0, device=power.device)
        probes = noise.normal((PROBES, *self.operator.signal_shape), torch.float64)
        image = self.operator.A_adjoint(self.operator.A(probes))
        product = torch.fft.fftn(probes, dim=axes).conj() * torch.fft.fftn(image, dim=axes)
        eigenvalues = radial_average(product.real.mean(0) / prod(spatial), len(spatial))
        half = eigenvalues[..., : spatial[-1] // 2 + 1].clamp_min(0)
        return 1 / (power * half + self.noise_variance)

    def gain(self, residual: Tensor) -> Tensor:
        flat = residual.reshape(-1, *self.operator.measurement_shape)
        rows = max(1, BLOCK_ELEMENTS // prod(self.operator.signal_shape))
        parts = [self._gain(part.double()) for part in flat.split(rows)]
        leading = residual.shape[: residual.ndim - len(self.operator.measurement_shape)]
        return torch.cat(parts).to(residual.dtype).reshape(*leading, *self.operator.signal_shape)

    def _gain(self, residual: Tensor) -> Tensor:
        operator, root = self.operator, self.prior.power.sqrt()

        def colour(value: Tensor) -> Tensor:
            return filter_channels(value, root, self.prior.spatial)

        def normal(value: Tensor) -> Tensor:
            image = operator.A_adjoint(operator.A(colour(value)))
            return colour(image) + self.noise_variance * value

        def smooth(value: Tensor) -> Tensor:
            """C^½ (C^½ AᵀA C^½ + σ² I)⁻¹ C^½, symmetric."""
            solution = conjugate_gradient(
                normal,
                colour(value),
                len(operator.signal_shape),
                solve_tolerance(self.prior.mean.dtype),
                MAX_ITERATIONS,
                lambda r: filter_channels(r, self._preconditioner, self.prior.spatial),
            )
            return colour(solution)

        return linear_map(operator.A_adjoint(residual), smooth, smooth)

    @cached_property
    def variance(self) -> Tensor:
        """`(C, *spatial)`, from draws that no y enters."""
        signal, measurement = self.operator.signal_shape, self.operator.measurement_shape
        rows = max(1, BLOCK_ELEMENTS // max(prod(signal), prod(measurement)))
        total = torch.zeros(signal, dtype=torch.float64, device=self.prior.power.device)
        for start in range(0, VARIANCE_DRAWS, rows):
            count = min(rows, VARIANCE_DRAWS - start)
            noise = NoiseStream(0, 1, start, device=total.device)
            x = noise.normal((count, *signal), torch.float64)
            n = noise.normal((count, *measurement), torch.float64)
            total += self.deviation(x, n).square().sum(0)
        return total / VARIANCE_DRAWS


def wiener_filter(
    operator: LinearOperator,
    prior: StationaryPrior,
    noise_variance: float,
    offset: float = 0.0,
) -> WienerFilter:
    """The cheapest representation of the posterior for this operator.

    Args:
        operator: A.
        prior: μ and C.
        noise_variance: σ², positive, the same for all elements.
        offset: Mean b of y − A x.

    Raises:
        NumericalError: When applied, if conjugate gradients do not converge.
    """
    if isinstance(operator, Identity):
        one = torch.ones((), dtype=torch.float64, device=prior.power.device)
        return FourierWiener(operator, prior, noise_variance, offset, one)
    if isinstance(operator, Convolution) and operator.boundary == "circular":
        response = operator.power_spectrum(prior.power)
        return FourierWiener(operator, prior, noise_variance, offset, response)
    m, d = prod(operator.measurement_shape), prod(operator.signal_shape)
    small = m <= DENSE_LIMIT and m * d <= DENSE_ENTRIES
    return (DenseWiener if small else IterativeWiener)(operator, prior, noise_variance, offset)
