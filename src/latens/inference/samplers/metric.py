"""Metrics: the linear map that makes a posterior round before it is sampled.

    Σ = L Lᵀ   estimate of the posterior covariance, the inverse of the mass matrix
    M = Σ⁻¹,  p = L⁻ᵀ r,  r ~ N(0, I):  trajectories move with velocity L r

A problem has one metric, shared by its chains. With few draws the sample covariance C is
shrunk,

    Σ = w C + (1 − w) diag(C),   w = n/(n + 5 d),

and its diagonal toward its geometric mean, since one draw per dimension says little.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError

Shape = Literal["diagonal", "dense"]

_ITERATIONS = 40  # of the power method; the leading eigenvalue sets a length, three digits do


@dataclass(frozen=True, eq=False)
class Metric:
    """Covariance factors L of P problems.

    Attributes:
        factor: Standard deviations `(P, d)`, or lower triangular matrices `(P, d, d)`.
    """

    factor: Tensor

    def __post_init__(self) -> None:
        if self.factor.ndim not in (2, 3) or (
            self.factor.ndim == 3 and self.factor.shape[1] != self.factor.shape[2]
        ):
            raise ShapeError(
                "factor",
                "(P, d) or (P, d, d)",
                tuple(self.factor.shape),
                "Give one row or one triangular matrix per problem.",
            )

    @property
    def is_dense(self) -> bool:
        """Whether directions are rotated, and not only scaled."""
        return self.factor.ndim == 3

    @classmethod
    def identity(cls, problems: int, dim: int, like: Tensor) -> "Metric":
        """Σ = I for every problem."""
        return cls(like.new_ones(problems, dim))

    def of(self, problems: Tensor) -> "Metric":
        """That of some problems, by their numbers `(Q,)`."""
        return Metric(self.factor[problems])

    def inverse(self, x: Tensor) -> Tensor:
        """L⁻¹ x: from original to whitened units, `(P, K, d)`."""
        if self.is_dense:
            return torch.linalg.solve_triangular(self.factor, x.mT, upper=False).mT
        return x / self.factor[:, None]


def forward(factor: Tensor, r: Tensor) -> Tensor:
    """L r: from whitened to original units, `(P, K, d)`."""
    return r @ factor.mT if factor.ndim == 3 else r * factor[:, None]


def adjoint(factor: Tensor, gradient: Tensor) -> Tensor:
    """Lᵀ g: a gradient in whitened units, `(P, K, d)`."""
    return gradient @ factor if factor.ndim == 3 else gradient * factor[:, None]


def estimate_metric(draws: Tensor, shape: Shape, forces: Tensor | None = None) -> Metric:
    """Metric from pooled draws of each problem.

    Args:
        draws: `(n, P, K, d)`: n iterations of K chains for P problems.
        shape: Whether correlations are used.
        forces: ∇ log p of each draw, same shape. With covariance C of the draws and G of the
            gradients the metric is then the geometric mean of C and G⁻¹, which minimises the
            Fisher divergence between the chains and a Gaussian and is right before they have
            settled.

    Returns:
        The metric; a problem whose draws never moved keeps the identity.

    Raises:
        ConfigError: If `shape` is unknown.
    """
    if shape not in ("diagonal", "dense"):
        raise ConfigError("metric", "diagonal or dense", shape, "Correct the word.")
    variance, factor = _shrunk(draws, shape)
    if forces is None:
        scale = variance.sqrt()
        found = scale if factor is None else scale[..., None] * factor
        return Metric(found.to(draws.dtype))
    steepness, slopes = _shrunk(forces, shape)
    if factor is None or slopes is None:
        return Metric((variance / steepness).pow(0.25).to(draws.dtype))
    mean = _geometric_mean(
        (variance.sqrt()[..., None] * factor), (steepness.sqrt()[..., None] * slopes)
    )
    return Metric(torch.linalg.cholesky(mean).to(draws.dtype))


def _shrunk(draws: Tensor, shape: Shape) -> tuple[Tensor, Tensor | None]:
    """Shrunk variances `(P, d)` and, if dense, a factor of the correlations `(P, d, d)`."""
    pooled = draws.transpose(0, 1).flatten(1, 2).double()  # (P, n K, d)
    count, dim = pooled.shape[1:]
    centred = pooled - pooled.mean(1, keepdim=True)
    variance = centred.square().sum(1) / max(count - 1, 1)  # (P, d)
    moved = (variance > 0).all(-1) & variance.isfinite().all(-1)
    variance = torch.where(moved[:, None], variance, 1.0)
    weight = count / (count + 5.0)
    level = variance.log().mean(-1, keepdim=True)
    shrunk = (weight * variance.log() + (1 - weight) * level).exp()
    if shape == "diagonal":
        return shrunk, None
    weight = count / (count + 5.0 * dim)
    correlated = centred / variance.sqrt()[:, None]
    correlation = correlated.mT @ correlated / max(count - 1, 1)  # (P, d, d)
    correlation = torch.where(moved[:, None, None], correlation, 0.0)
    identity = torch.eye(dim, dtype=torch.float64, device=draws.device)
    shifted = weight * (correlation - identity * moved[:, None, None]) + identity
    return shrunk, torch.linalg.cholesky(shifted)


def _geometric_mean(factor: Tensor, slopes: Tensor) -> Tensor:
    """The geometric mean of F Fᵀ and (S Sᵀ)⁻¹: F (Fᵀ S Sᵀ F)^(−1/2) Fᵀ, `(P, d, d)`."""
    values, vectors = torch.linalg.eigh(factor.mT @ slopes @ slopes.mT @ factor)
    values = values.clamp(min=1e-12 * values.amax(-1, keepdim=True))
    middle = (vectors * values.rsqrt()[:, None]) @ vectors.mT
    mean = factor @ middle @ factor.mT
    return 0.5 * (mean + mean.mT)


def leading_variance(draws: Tensor, metric: Metric) -> Tensor:
    """Largest variance of whitened draws along any direction, by a direction held out.

    The direction comes from the even chains and the variance from the odd ones, and the reverse;
    the larger of the two is kept. The largest eigenvalue of a sample covariance is too large by
    (1 + √(d/n))², up to four times where there are as many draws as dimensions; this is not.

    Args:
        draws: `(n, P, K, d)`.
        metric: Metric that whitens them.

    Returns:
        `(P,)`, at least the mean variance of all directions; 1 where nothing moved.
    """
    iterations, problems, chains, dim = draws.shape
    white = metric.inverse(draws.transpose(0, 1).reshape(problems, -1, dim)).double()
    white = white - white.mean(1, keepdim=True)  # (P, n K, d)
    white = white.unflatten(1, (iterations, chains))
    if chains > 1:
        halves = white[:, :, ::2].flatten(1, 2), white[:, :, 1::2].flatten(1, 2)
    else:
        halves = white[:, ::2].flatten(1, 2), white[:, 1::2].flatten(1, 2)
    found = torch.stack(
        [_variance_along(halves[0], halves[1]), _variance_along(halves[1], halves[0])]
    ).amax(0)
    mean = white.square().mean((1, 2, 3))
    found = torch.maximum(found, mean)
    return torch.where(found.isfinite() & (found > 0), found, 1.0).to(draws.dtype)


def _variance_along(first: Tensor, second: Tensor) -> Tensor:
    """Variance of `second` along the leading principal direction of `first`, `(P,)`."""
    direction = first.new_ones(first.shape[0], first.shape[2], 1)
    for _ in range(_ITERATIONS):
        direction = first.mT @ (first @ direction)  # (P, d, 1)
        direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-300)
    return (second @ direction).square().mean((1, 2))
