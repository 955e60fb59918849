"""Is the spread of the draws the size of the error?

Draws are centred on the truth before anything is averaged. The mean of M equal float32 numbers
is not that number, and where every draw equals the truth a spread of 0 would meet an error of
1e-8.
"""

import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.metrics.reduction import check_draws, event_mean


def spread_skill_components(draws: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Variance of the draws beside the squared error of their mean.

        SSR = √( mean_images c₀ / mean_images c₁ ) → 1 for an exact posterior
        c₀ = (M+1)/M · mean_event Var_M,   c₁ = mean_event (x̄ − x)²

    Var_M divides by M − 1; the factor (M+1)/M accounts for the noise of a mean of M draws.

    Args:
        draws: Exchangeable draws, `(M, B, *event)`, M ≥ 2.
        x: Truth, `(B, *event)`.
        mask: Elements that count, boolean, broadcastable to `x`.

    Returns:
        `(B, 2)` = (c₀, c₁), squared unit of the signal, mean over the event. The ratio is
        taken after averaging over images, never per image.

    Raises:
        ShapeError: If the shapes do not fit.

    References:
        Fortin et al. (2014), Why should ensemble spread match the RMSE of the ensemble mean?,
        https://doi.org/10.1175/JHM-D-14-0008.1
    """
    check_draws(draws, x, least=2)
    count = draws.shape[0]
    centred = draws - x
    variance = event_mean(centred.var(dim=0), mask) * (count + 1) / count
    return torch.stack([variance, event_mean(centred.mean(dim=0) ** 2, mask)], dim=1)


def draw_mse_components(draws: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared error of a single draw beside that of the posterior mean.

    For an exact posterior a single draw has twice the error of the mean. The first column
    averages ‖x^(m) − x‖² over the draws; the second multiplies ‖x̄ − x‖² by M/(M+1), which
    takes away the noise of a mean of M draws.

    Args:
        draws: Exchangeable draws, `(M, B, *event)`, M ≥ 2.
        x: Truth, `(B, *event)`.
        mask: Elements that count, boolean, broadcastable to `x`.

    Returns:
        `(B, 2)`, squared unit of the signal, mean over the event. The ratio of their means
        over images is 2 for an exact posterior; it carries the same information as the
        spread-skill ratio: (M+1)/M + (M−1)/M · SSR².

    Raises:
        ShapeError: If the shapes do not fit.
    """
    check_draws(draws, x, least=2)
    count = draws.shape[0]
    centred = draws - x
    single = torch.stack([event_mean(error**2, mask) for error in centred]).mean(dim=0)
    mean = event_mean(centred.mean(dim=0) ** 2, mask) * count / (count + 1)
    return torch.stack([single, mean], dim=1)


def z_variance_divisor(draws: int) -> float:
    """Expected (x − x̄)²/s² for M exchangeable Gaussian draws, (M²−1)/(M(M−3)).

    Args:
        draws: M ≥ 4; below, the expectation is infinite.

    Raises:
        ConfigError: If M is below 4.
    """
    if draws < 4:
        raise ConfigError(
            "draws", "at least 4 draws", draws, "With fewer, the expected z-variance is infinite."
        )
    return (draws**2 - 1) / (draws * (draws - 3))


def z_variance(draws: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Variance of the standardised error, corrected for the number of draws.

        mean_event (x − x̄)²/s² ÷ (M²−1)/(M(M−3))

    Elements at which every draw equals the truth hold nothing to calibrate and are left out;
    elements with zero spread and some error count as infinite. An image without any element
    left is NaN.

    Args:
        draws: Exchangeable draws, `(M, B, *event)`, M ≥ 4 (at least 6 for a finite variance
            of the metric).
        x: Truth, `(B, *event)`.
        mask: Elements that count, boolean, broadcastable to `x`.

    Returns:
        `(B,)` in [0, ∞], no unit; expectation 1 for an exact Gaussian posterior, above 1 where
        the posterior is too sure.

    Raises:
        ShapeError: If the shapes do not fit.
        ConfigError: If M is below 4.
    """
    check_draws(draws, x, least=2)
    divisor = z_variance_divisor(draws.shape[0])
    centred = draws - x
    variance = centred.var(dim=0)
    error = centred.mean(dim=0) ** 2
    informative = (variance > 0) | (error > 0)
    if mask is not None:
        informative = informative & mask
    ratio = torch.where(informative, error / variance, torch.zeros_like(error))
    count = informative.expand_as(x).flatten(1).sum(dim=1)  # zero: 0/0, NaN for that image
    return ratio.flatten(1).sum(dim=1) / count / divisor


def member_variance_components(means: Tensor, variances: Tensor) -> Tensor:
    """Variance of a mixture of K members, split by its origin.

        Var = c₀ + c₁,   c₀ = (1/K) Σ_k (μ_k − μ̄)²,   c₁ = (1/K) Σ_k σ_k²

    c₀ is what the members disagree about, which more data would settle; c₁ is what each of them
    leaves open. The mixture *is* its K members, so that c₀ divides by K.

    Args:
        means: μ_k, `(K, B, *event)`, K ≥ 2.
        variances: σ_k², same shape.

    Returns:
        `(B, 2)` = (between, within), squared unit of the signal, mean over the event; their sum
        is the variance of the mixture.

    Raises:
        ShapeError: If the shapes differ or there are fewer than two members.
    """
    check_draws(means, variances[0], least=2)
    if means.shape != variances.shape:
        raise ShapeError(
            "variances",
            f"the shape of means, {tuple(means.shape)}",
            tuple(variances.shape),
            "Give one variance per member.",
        )
    between = event_mean(means.var(dim=0, correction=0))
    return torch.stack([between, event_mean(variances.mean(dim=0))], dim=1)
