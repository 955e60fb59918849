"""Stationary Gaussian prior of images: mean image and power spectrum, learned from images.

x ~ N(μ, C),   C = F* diag(P) F in every channel, F the orthonormal Fourier transform
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latens.errors import ConfigError, UnsupportedError
from latens.types import Shape


@dataclass(frozen=True, eq=False)
class StationaryPrior:
    """Gaussian prior whose covariance is a periodic convolution in every channel.

    Attributes:
        mean: μ, `(C, *spatial)`.
        power: Eigenvalues P of the covariance on the grid of `rfftn`, float64, not negative,
            `(C, *spatial[:-1], spatial[-1] // 2 + 1)`.
    """

    mean: Tensor
    power: Tensor

    @property
    def spatial(self) -> Shape:
        """Size of the grid."""
        return tuple(self.mean.shape[1:])

    @property
    def variance(self) -> Tensor:
        """Variance of a pixel, the mean of P over all frequencies, `(C, 1, ..., 1)`."""
        size = self.spatial[-1]
        count = self.power.new_full((size // 2 + 1,), 2.0)  # rfftn keeps one of each pair
        count[0] = 1.0
        if size % 2 == 0:
            count[-1] = 1.0
        axes = tuple(range(1, self.power.ndim))
        return (self.power * count).sum(axes, keepdim=True) / self.mean[0].numel()

    def with_power(self, power: Tensor) -> "StationaryPrior":
        """The same mean with another spectrum."""
        return replace(self, power=power)


def fit_stationary(x: Tensor) -> StationaryPrior:
    """Mean image and power spectrum of images.

    The mean of the periodograms |F(x_i − x̄)|² is unbiased but noisy, with a relative error of
    about 1/√n at every frequency. It is shrunk towards its average over frequencies of the same
    length,

        P = (1 − s) P̂ + s T,   s = Σ_k V̂ar[P̂_k]/T_k² / Σ_k (P̂_k − T_k)²/T_k²   (at most 1),

    with the variance estimated from the spread of the n periodograms, Σ_i (P_i − P̂)² / n(n − 2)
    (unbiased where x is Gaussian; n = 2 leaves s = 1). s vanishes as n grows, unless the spectrum
    is isotropic. A factor 1 + 1/n adds the error of the mean image.

    Args:
        x: Images, `(n, C, *spatial)`, n ≥ 2.

    Returns:
        The prior, with `mean` in the dtype of `x`.

    Raises:
        ConfigError: If there are fewer than two images.
        UnsupportedError: If the images have no spatial axes.

    References:
        Ledoit, Wolf (2004), A well-conditioned estimator for large-dimensional covariance
        matrices, https://doi.org/10.1016/S0047-259X(03)00096-4 (the rule for s).
    """
    n, dims = len(x), x.ndim - 2
    if n < 2:
        raise ConfigError(
            "x", "two or more images, whose spread is the prior", n, "Use a larger N."
        )
    if dims < 1:
        raise UnsupportedError(
            "x",
            "images (n, channels, *spatial)",
            f"shape {tuple(x.shape)}",
            "A stationary prior needs a grid; leave `wiener` out for this signal.",
        )
    axes = tuple(range(-dims, 0))
    wide = x.double()
    mean = wide.mean(0)
    spectra = torch.fft.fftn(wide - mean, dim=axes, norm="ortho").abs().square()
    spectra = spectra * (n / (n - 1))  # (n, C, *spatial), without bias
    power = spectra.mean(0)
    target = radial_average(power, dims)
    scale = torch.where(target > 0, target, 1).square()
    error = ((spectra - power).square().sum(0) / scale).sum(axes, keepdim=True)
    error = error / (n * (n - 2)) if n > 2 else torch.full_like(error, math.inf)
    distance = ((power - target).square() / scale).sum(axes, keepdim=True)
    share = torch.where(distance > error, error / distance, 1)  # (C, 1, ..., 1)
    power = ((1 - share) * power + share * target) * (1 + 1 / n)
    return StationaryPrior(mean.to(x.dtype), power[..., : x.shape[-1] // 2 + 1].contiguous())


def radial_average(values: Tensor, dims: int) -> Tensor:
    """Average over frequencies of equal length.

    Lengths are rounded to whole multiples of 1/n cycles per pixel, n pixels along the longest
    axis.

    Args:
        values: On the grid of `fftn`, `(..., *spatial)`.
        dims: Number of spatial axes.

    Returns:
        The averages, each at all frequencies of its shell, shape of `values`.
    """
    spatial = values.shape[values.ndim - dims :]
    square = torch.zeros(spatial, dtype=torch.float64)
    for axis, size in enumerate(spatial):
        frequency = torch.fft.fftfreq(size, dtype=torch.float64)
        square += frequency.square().reshape([-1 if a == axis else 1 for a in range(dims)])
    shell = (square.sqrt() * max(spatial)).round().long().flatten().to(values.device)
    flat = values.flatten(-dims)
    count = torch.bincount(shell).to(values)  # shells without a frequency hold 0
    sums = flat.new_zeros(*flat.shape[:-1], len(count)).index_add(-1, shell, flat)
    return (sums / count.clamp_min(1))[..., shell].reshape(values.shape)


def filter_channels(value: Tensor, response: Tensor, spatial: Shape) -> Tensor:
    """Periodic convolution of every channel.

    Args:
        value: Signals, `(..., C, *spatial)`.
        response: Real transfer function on the grid of `rfftn`, `(C | 1, *half grid)`.
        spatial: Size of the grid.

    Returns:
        Shape and dtype of `value`.
    """
    axes = tuple(range(-len(spatial), 0))
    spectrum = torch.fft.rfftn(value, dim=axes) * response.to(value.dtype)
    return torch.fft.irfftn(spectrum, s=spatial, dim=axes)
