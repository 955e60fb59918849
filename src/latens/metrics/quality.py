"""Reconstruction quality: one number per image, the truth known.

The range L that PSNR and SSIM need is a constant of the data set, given by the caller; a range
taken from each image would be another metric.
"""

import torch
from torch import Tensor

from latens.errors import ConfigError, DataError, ShapeError
from latens.metrics.reduction import check_draws, check_pair, event_mean

WINDOW = 11
"""Side of the SSIM window, in pixels."""

WINDOW_SCALE = 1.5
"""Standard deviation of the Gaussian SSIM window, in pixels."""


def mse(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error ‖x̂ − x‖² / d.

    Args:
        x_hat: Reconstruction, `(B, *event)`.
        x: Truth, `(B, *event)`.

    Returns:
        `(B,)` in [0, ∞), squared unit of the signal, mean over the d elements of the event.

    Raises:
        ShapeError: If the shapes differ.
    """
    check_pair(x_hat, x)
    return event_mean((x_hat - x) ** 2)


def nmse(x_hat: Tensor, x: Tensor) -> Tensor:
    """Normalised squared error ‖x̂ − x‖² / ‖x‖², Euclidean norms over the event.

    Args:
        x_hat: Reconstruction, `(B, *event)`.
        x: Truth, `(B, *event)`, not identically zero.

    Returns:
        `(B,)` in [0, ∞), no unit; 1 is the error of the zero image. Infinite where the truth
        is zero everywhere and the reconstruction is not.

    Raises:
        ShapeError: If the shapes differ.
    """
    check_pair(x_hat, x)
    return event_mean((x_hat - x) ** 2) / event_mean(x**2)


def psnr(x_hat: Tensor, x: Tensor, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio 10 log₁₀(L² / MSE) with a fixed L.

    Args:
        x_hat: Reconstruction, `(B, *event)`.
        x: Truth, `(B, *event)`.
        data_range: L, the range of the data set (not of the image), unit of the signal.

    Returns:
        Decibel per image, `(B,)`, MSE averaged over the event; infinite for an exact
        reconstruction. The population value is the mean of these decibels.

    Raises:
        ShapeError: If the shapes differ.
        ConfigError: If `data_range` is not positive.

    References:
        Leuschner et al. (2021), LoDoPaB-CT, "PSNR-FR".
    """
    return 10 * torch.log10(_positive_range(data_range) ** 2 / mse(x_hat, x))


def psnr_of_draws(draws: Tensor, x: Tensor, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio of single posterior draws, mean over the draws.

        (1/M) Σ_m 10 log₁₀(L² / MSE(x^(m), x))

    Args:
        draws: Exchangeable draws, `(M, B, *event)`.
        x: Truth, `(B, *event)`.
        data_range: L, the range of the data set, unit of the signal.

    Returns:
        Decibel per image, `(B,)`, MSE averaged over the event; infinite where a draw is the
        truth.

    Raises:
        ShapeError: If the shapes do not fit.
        ConfigError: If `data_range` is not positive.
    """
    check_draws(draws, x, least=1)
    return torch.stack([psnr(draw, x, data_range) for draw in draws]).mean(dim=0)


def ssim(x_hat: Tensor, x: Tensor, data_range: float) -> Tensor:
    """Structural similarity with a Gaussian window, in two or three dimensions.

        SSIM = (2 μₐ μ_b + C₁)(2 s_ab + C₂) / ((μₐ² + μ_b² + C₁)(sₐ² + s_b² + C₂))

    μ, s² and s_ab are moments under an 11-tap Gaussian window of standard deviation 1.5 per
    axis, C₁ = (0.01 L)², C₂ = (0.03 L)². The map is averaged over the windows that lie inside
    the image, as in the reference code of Wang (2004), and over channels. A volume gets a 3-D
    window, which is not the mean over its slices. The window is applied axis by axis (33
    products per voxel instead of 1331) in float64.

    Args:
        x_hat: Reconstruction, `(B, C, H, W)` or `(B, C, D, H, W)`.
        x: Truth, same shape.
        data_range: L, the range of the data set, unit of the signal.

    Returns:
        `(B,)` in [−1, 1], 1 for equality, no unit, dtype of `x_hat`.

    Raises:
        ShapeError: If the shapes differ or an axis is shorter than the window.
        ConfigError: If `data_range` is not positive.

    References:
        Wang, Bovik, Sheikh, Simoncelli (2004), Image quality assessment, eq. 13,
        https://doi.org/10.1109/TIP.2003.819861
    """
    check_pair(x_hat, x)
    data_range = _positive_range(data_range)
    if x.ndim not in (4, 5) or min(x.shape[2:]) < WINDOW:
        raise ShapeError(
            "x",
            f"two or three spatial axes of at least {WINDOW} elements, (B, C, *spatial)",
            tuple(x.shape),
            "SSIM is not defined on images smaller than its window; use PSNR or NMSE there.",
        )
    a, b = x_hat.to(torch.float64), x.to(torch.float64)
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = (_window_mean(a * a) - mean_a**2).clamp_min(0)
    variance_b = (_window_mean(b * b) - mean_b**2).clamp_min(0)
    covariance = _window_mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return event_mean(luminance * structure).to(x_hat.dtype)


def data_chi2(residual: Tensor) -> Tensor:
    """Data residual χ² per measurement, the mean of (y − E[y | x̂])² / Var[y | x̂].

    The variance is that of the noise model at x̂, so that the expectation at the true signal is
    1 for every noise model, Poisson counts included. For few counts it has heavier tails than
    `poisson_deviance`, whose expectation on the other hand is not 1 there; both agree where
    counts are many.

    Args:
        residual: (y − E[y | x̂]) / √Var[y | x̂], `(B, *measurement_shape)`, no unit; for Gaussian
            noise Σ^{−1/2}(y − A x̂).

    Returns:
        `(B,)` in [0, ∞), mean over the m elements; about 1 − (effective degrees of freedom)/m
        for a good estimate, 1 for the true signal.

    Raises:
        ShapeError: If there is no batch axis.
    """
    check_pair(residual, residual, "residual")
    return event_mean(residual**2)


def poisson_deviance(counts: Tensor, expected: Tensor) -> Tensor:
    """Poisson deviance per measurement, 2 Σ [y log(y/ŷ) − (y − ŷ)]/m.

    Twice the log-likelihood that is lost against ŷ = y. At the true ŷ an element has expectation
    1 where counts are many, 1.05 at ŷ = 5, 1.16 at 1.5, .47 at .1 and 0 in the dark.

    Args:
        counts: y ≥ 0, `(B, *measurement_shape)`, photons; need not be whole numbers.
        expected: ŷ > 0, same shape.

    Returns:
        `(B,)` in [0, ∞), nats, mean over the m elements; y log y is 0 at y = 0.

    Raises:
        ShapeError: If the shapes differ.
        DataError: If counts are negative, or expected counts not positive.

    References:
        McCullagh, Nelder (1989), Generalized linear models, table 2.1.
    """
    check_pair(counts, expected, "counts")
    if bool((counts < 0).any()) or bool((expected <= 0).any()):
        raise DataError(
            "counts",
            "counts of 0 or more and expected counts above 0",
            f"{counts.min().item():.3g} and {expected.min().item():.3g} at the least",
            "Divide the measurement by the gain; counts with read-out noise are those of "
            "`PoissonGaussianNoise.shifted_counts`.",
        )
    deviance = torch.xlogy(counts, counts / expected) - (counts - expected)
    return 2 * event_mean(deviance.clamp_min(0))  # below 0 by rounding alone


def oracle_gap(error: Tensor, mmse: Tensor) -> float:
    """What a reconstruction loses against the best there is, (MSE(R) − MMSE)/MMSE.

    Args:
        error: ‖x̂ − x‖²/d of each image, `(B,)`.
        mmse: tr Cov(x | y)/d of the exact posterior at each measurement, `(B,)`, same unit.

    Returns:
        No unit, means over images before the ratio: of expectation 0 for the exact posterior
        mean, which noise takes below 0 too, and 1 for one draw of the exact posterior.

    Raises:
        ShapeError: If the shapes differ.
        ConfigError: If the MMSE is not positive.
    """
    if error.shape != mmse.shape or error.ndim != 1:
        raise ShapeError(
            "mmse",
            f"one value per image, the shape of error {tuple(error.shape)}",
            tuple(mmse.shape),
            "Repeat an MMSE that is the same for every measurement.",
        )
    best = float(mmse.double().mean())
    if not 0 < best < float("inf"):
        raise ConfigError(
            "mmse",
            "a positive mean",
            best,
            "Where the measurement determines the signal there is no gap to compare with.",
        )
    return float(error.double().mean()) / best - 1


def _window_mean(image: Tensor) -> Tensor:
    """Gaussian-weighted mean of every window inside the image, one axis after the other."""
    offset = torch.arange(WINDOW, dtype=image.dtype, device=image.device) - WINDOW // 2
    weight = torch.exp(-0.5 * (offset / WINDOW_SCALE) ** 2)
    weight = weight / weight.sum()
    for axis in range(2, image.ndim):
        valid = image.shape[axis] - WINDOW + 1
        total = weight[0] * image.narrow(axis, 0, valid)
        for tap in range(1, WINDOW):
            total = total.add(image.narrow(axis, tap, valid), alpha=float(weight[tap]))
        image = total
    return image


def _positive_range(data_range: float) -> float:
    if not 0 < data_range < float("inf"):
        raise ConfigError(
            "data_range",
            "a positive, finite range",
            data_range,
            "Give the range of the data set, for example 1.0 for pixels in [0, 1].",
        )
    return float(data_range)
