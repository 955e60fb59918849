"""Exact moments of what an affine latent model believes, and the optimum of `Direct`.

With `latens.nets.Linear` everything is affine and Gaussian:

    z ~ N(μ(y), diag σ²),   x | z, y ~ N(f(z, y), R),   f affine in z
    x | y ~ N(f(μ(y), y), J diag(σ²) Jᵀ + R),   J_k = f(μ + e_k, y) − f(μ, y)

so that mean and covariance follow from K + 1 decodings, without a draw. The decodings go through
the library's own functions; the moments do not.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.inference import Amortised
from latens.inference.latent_posterior import conditions_on_measurement
from latens.models import LatentModel
from latens.problems import GaussianNoise, InverseProblem, condition
from oracles.few_modes import FewModes
from oracles.stationary_gaussian import StationaryGaussian

TEST = 12
"""Key of the test measurements."""


@dataclass(frozen=True)
class AffinePosterior:
    """x | y ~ N(mean, factor factorᵀ + residual) of an affine model; made by `implied_posterior`.

    Attributes:
        mean: `(B, C, *spatial)`.
        factor: J diag(σ), the same for every y, `(K, *spatial)` (one channel).
        residual: Oracle whose posterior covariance is that of x given z and y.
    """

    mean: Tensor
    factor: Tensor
    residual: StationaryGaussian

    @property
    def pixel_variance(self) -> Tensor:
        """Variance of every pixel, `(*spatial)`."""
        return self.factor.square().sum(0) + self.residual.posterior_variance

    def functional_variance(self, weights: Tensor) -> Tensor:
        """Variance of w·x for functionals w `(R, *spatial)`, `(R,)`."""
        along = weights.flatten(1) @ self.factor.flatten(1).mT  # (R, K)
        return along.square().sum(1) + self.residual.region_covariance(weights).diagonal()


@torch.no_grad()
def implied_posterior(
    model: LatentModel, problem: InverseProblem, transfer: Tensor, y: Tensor
) -> AffinePosterior:
    """Exact mean and covariance of the draws of `Amortised(model, problem)`.

    Args:
        model: Model with the architecture `Linear`, one channel.
        problem: Circular blur and Gaussian noise.
        transfer: Transfer function of the blur, `(*spatial)`.
        y: Measurements, `(B, 1, *spatial)`, of the dtype of the model.
    """
    assert isinstance(problem.noise, GaussianNoise)
    conditions = conditions_on_measurement(model, problem)

    def expected(z: Tensor) -> Tensor:
        decoded = model.decode(z, y)
        if not conditions:
            return decoded.mean
        variance = decoded.variance[..., :1, :1]
        return condition(decoded.mean, variance, y, problem).mean

    latent = model.latent_posterior(y)
    mean = expected(latent.mean)  # (B, 1, *spatial)
    steps = torch.eye(model.dim, dtype=y.dtype)[:, None] * latent.stddev[:1]  # (K, 1, K)
    factor = expected(latent.mean + steps) - mean  # (K, B, 1, *spatial)
    decoder_variance = model.decode(latent.mean[:1], y[:1]).variance.flatten()[0].double()
    blind = torch.zeros_like(transfer) if not conditions else transfer
    white = decoder_variance.expand(transfer.shape)
    residual = StationaryGaussian(white, blind, problem.noise.scale)
    return AffinePosterior(mean.double(), factor[:, 0, 0].double(), residual)


@dataclass(frozen=True)
class DirectOptimum:
    """Best decoder x | z ~ N(W z + b, τ²I) and q(z | y) of the objective of `Direct`.

    For a fixed decoder the best q(z | y) ∝ p(z) exp E[log p(x | z) | y] is Gaussian, and
    E[log p(x | z) | y] = log p(m | z) − tr C / (2τ²) with m = E[x | y], C = Cov(x | y). What is
    left to maximise is

        E log N(m; b, W Wᵀ + τ²I) − tr C / (2τ²),

    probabilistic PCA of the posterior *means* that pays for the whole posterior variance. With
    eigenvectors u_k and eigenvalues g_1 ≥ g_2 ≥ … of Cov(m):

        τ²     = (tr C + Σ_{k > K} g_k) / (D − K)
        W      = [u_k √(g_k − τ²)]_{k ≤ K}
        x | y  ~ N(b + Σ_k (1 − τ²/g_k) u_k u_kᵀ (m − b), τ²I + Σ_k τ² (1 − τ²/g_k) u_k u_kᵀ)

    as long as g_K > τ². So τ² is the average variance of a pixel, right for pixels, and every
    principal direction has at most 2τ² whatever its own posterior variance.

    Attributes:
        observation_variance: τ².
        shrinkage: 1 − τ²/g_k, `(K,)`.
    """

    observation_variance: float
    shrinkage: Tensor

    def functional_variance(self, along: Tensor, square_norm: Tensor) -> Tensor:
        """Variance of w·x given y, `(R,)`.

        Args:
            along: w·u_k, `(R, K)`.
            square_norm: ‖w‖², `(R,)`.
        """
        return self.observation_variance * (square_norm + along.square() @ self.shrinkage)


def direct_optimum(
    mean_eigenvalues: Tensor, posterior_trace: float, kept: int, size: int
) -> DirectOptimum:
    """The optimum of `Direct` with `kept` latents.

    Args:
        mean_eigenvalues: Eigenvalues g of Cov(E[x | y]), `(r,)`, in falling order, r ≥ `kept`.
        posterior_trace: tr Cov(x | y).
        kept: K.
        size: D, number of pixels.
    """
    rest = mean_eigenvalues[kept:].sum().item()
    variance = (posterior_trace + rest) / (size - kept)
    assert mean_eigenvalues[kept - 1] > variance, "a latent is unused at the optimum"
    return DirectOptimum(variance, 1 - variance / mean_eigenvalues[:kept])


def field_direct_optimum(field: FewModes) -> DirectOptimum:
    """The optimum of `Direct` with one latent for each mode of a field."""
    gap = field.oracle.power - field.oracle.posterior_power
    eigenvalues = gap.flatten().sort(descending=True).values
    trace = field.oracle.posterior_power.sum().item()
    return direct_optimum(eigenvalues, trace, len(field.modes), gap.numel())


@dataclass(frozen=True)
class Assessment:
    """An affine model against the truth; made by `assess`.

    Attributes:
        mean_error: ‖m̂ − m‖/‖m‖ of each measurement, `(B,)`.
        pixel, region, mode: Implied variance over exact variance, one value for each pixel,
            4 × 4 region mean and mode.
        drawn_region: Variance of draws over implied variance, for each region mean.
    """

    mean_error: Tensor
    pixel: Tensor
    region: Tensor
    mode: Tensor
    drawn_region: Tensor


def assess(
    model: LatentModel, field: FewModes, measurements: int, images: int, draws: int
) -> Assessment:
    """Compare a model with the exact posterior of a field, in float64.

    Args:
        model: Trained model; converted to float64.
        measurements: Measurements for the mean error.
        images: Measurements for draws.
        draws: Draws for each of them.
    """
    model.double()
    y = field.pairs(measurements, NoiseStream(TEST))[1].double()
    implied = implied_posterior(model, field.problem, field.oracle.transfer, y)
    exact = field.oracle.posterior_mean(y)
    error = (implied.mean - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    regions = field.regions(4)
    sample = Amortised(model, field.problem)(y[:images]).sample(draws)  # (M, B, 1, *spatial)
    along = sample.flatten(2) @ regions.flatten(1).mT  # (M, B, R)
    region = implied.functional_variance(regions)
    return Assessment(
        error,
        implied.pixel_variance.flatten() / field.oracle.posterior_variance,
        region / field.oracle.region_covariance(regions).diagonal(),
        implied.functional_variance(field.modes)
        / field.oracle.region_covariance(field.modes).diagonal(),
        along.var(0).mean(0) / region,
    )
