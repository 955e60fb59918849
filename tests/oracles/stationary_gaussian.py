"""Closed-form posterior of a stationary Gaussian field that was blurred and made noisy.

    x ~ N(loc, C),   y = h * x + n,   n ~ N(0, σ²I)

on a periodic grid, where C and the blur are diagonal in Fourier space with eigenvalues P (power)
and H (transfer). Then x | y is Gaussian too, with

    gain  G = P H̄ / (P |H|² + σ²)      mean      loc + F⁻¹ G F (y − h * loc)
    power Q = P σ² / (P |H|² + σ²)      variance  mean of Q, equal for all pixels

Nothing here uses `latens.problems`: the transfer function may be measured on any operator.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StationaryGaussian:
    """Oracle for signals `(..., *spatial)`; channels are leading axes, all alike.

    Args:
        power: Eigenvalues P of the prior covariance on the grid of `fftn`, `(*spatial)`, real,
            even and positive.
        transfer: Transfer function H of the blur on the same grid, `(*spatial)`, complex.
        noise_scale: Standard deviation σ of the measurement noise.
        loc: Prior mean, the same for all pixels.
    """

    power: Tensor
    transfer: Tensor
    noise_scale: float
    loc: float = 0.0

    @property
    def axes(self) -> tuple[int, ...]:
        """Spatial axes, counted from the end."""
        return tuple(range(-self.power.ndim, 0))

    @property
    def measured_power(self) -> Tensor:
        """Eigenvalues P|H|² + σ² of the covariance of y, `(*spatial)`."""
        return self.power * self.transfer.abs().square() + self.noise_scale**2

    @property
    def posterior_power(self) -> Tensor:
        """Eigenvalues Q of the covariance of x given y, `(*spatial)`."""
        return self.power * self.noise_scale**2 / self.measured_power

    @property
    def prior_variance(self) -> float:
        """Prior variance of every pixel."""
        return self.power.mean().item()

    @property
    def posterior_variance(self) -> float:
        """Posterior variance of every pixel, for every y; it is the MMSE per pixel."""
        return self.posterior_power.mean().item()

    @property
    def mmse(self) -> float:
        """Smallest mean squared error that any reconstruction can have, E tr Cov(x | y) / d."""
        return self.posterior_variance

    def filter(self, x: Tensor, response: Tensor) -> Tensor:
        """Multiply by `response` in Fourier space, `(..., *spatial)`."""
        return torch.fft.ifftn(torch.fft.fftn(x, dim=self.axes) * response, dim=self.axes).real

    def blur(self, x: Tensor) -> Tensor:
        """h * x."""
        return self.filter(x, self.transfer)

    def sample_prior(self, noise: Tensor) -> Tensor:
        """Signals from standard normal noise of their shape, `(..., *spatial)`."""
        return self.loc + self.filter(noise, self.power.sqrt())

    def measure(self, x: Tensor, noise: Tensor) -> Tensor:
        """Measurements of signals, with standard normal noise of their shape."""
        return self.blur(x) + self.noise_scale * noise

    def posterior_mean(self, y: Tensor) -> Tensor:
        """E[x | y], `(..., *spatial)`: the Wiener filter."""
        gain = self.power * self.transfer.conj() / self.measured_power
        expected = self.blur(torch.full_like(self.power, self.loc))
        return self.loc + self.filter(y - expected, gain)

    def sample_posterior(self, y: Tensor, noise: Tensor) -> Tensor:
        """Exact draws from p(x | y) from standard noise, `(*sample_shape, ..., *spatial)`."""
        return self.posterior_mean(y) + self.filter(noise, self.posterior_power.sqrt())

    def region_covariance(self, weights: Tensor) -> Tensor:
        """Posterior covariance of linear functionals w·x, such as means over regions.

        Args:
            weights: Functionals, `(R, *spatial)`; 1/size on the pixels of a region.

        Returns:
            `(R, R)`, W Cov(x | y) Wᵀ.
        """
        smooth = self.filter(weights, self.posterior_power)
        return smooth.flatten(1) @ weights.flatten(1).mT

    def log_evidence(self, y: Tensor) -> Tensor:
        """log p(y) in nats, summed over the spatial axes, `(...)`."""
        residual = y - self.blur(torch.full_like(self.power, self.loc))
        quadratic = (residual * self.filter(residual, 1 / self.measured_power)).sum(self.axes)
        constant = self.power.numel() * math.log(2 * math.pi)
        return -0.5 * (quadratic + self.measured_power.log().sum() + constant)


def impulse_transfer(operator: Callable[[Tensor], Tensor], spatial: tuple[int, ...]) -> Tensor:
    """Transfer function of a periodic convolution, from its response to one bright pixel.

    Args:
        operator: Maps `(1, 1, *spatial)` in float64 to the same shape.
        spatial: Size of the grid.
    """
    impulse = torch.zeros((1, 1, *spatial), dtype=torch.float64)
    impulse[(0, 0, *(0,) * len(spatial))] = 1.0
    return torch.fft.fftn(operator(impulse)[0, 0])


def gaussian_power(spatial: tuple[int, ...], length: float, variance: float) -> Tensor:
    """Power of a field whose correlation is a Gaussian bump of a length, plus 1 % white.

    Args:
        spatial: Size of the grid.
        length: Correlation length in pixels.
        variance: Variance of a pixel.

    Returns:
        Eigenvalues of the covariance, `(*spatial)`, with mean `variance`.
    """
    square = torch.zeros(spatial, dtype=torch.float64)
    for axis, n in enumerate(spatial):
        frequency = 2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64)
        shape = [1] * len(spatial)
        shape[axis] = n
        square = square + frequency.square().reshape(shape)
    smooth = torch.exp(-0.5 * length**2 * square)
    return variance * (0.99 * smooth / smooth.mean() + 0.01)
