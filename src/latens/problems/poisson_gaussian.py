"""Poisson-Gaussian noise: photons counted through a gain, with Gaussian read-out noise."""

import math
from functools import cache

import numpy as np
import torch
from scipy import stats
from scipy.optimize import minimize
from torch import Tensor
from torch.distributions import Distribution, constraints

from latens.distributions import NoiseStream
from latens.distributions.draw import draw, require_noise
from latens.problems.noise import NoiseModel, check_level, check_pairs, known_level
from latens.problems.photon_sums import log_sum, photon_terms, poisson_quantile, posterior
from latens.problems.smooth_table import SmoothTable

DARK = 1e-9
"""Photons that are expected where the clean value is 0: they keep every derivative finite."""

ESTIMATE_FROM = 2**15
"""Largest number of elements from which levels are estimated."""

_TABLE_END = 1e4

_RESOLVED = 0.06
"""Read-out noise in photons below which photons are told apart but for 1 in 1e13."""


class PoissonGaussian(Distribution):
    """y = gain·k + scale·n with k ~ Poisson(λ) and standard normal n.

        λ    = max(clean, 0)/gain + 1e-9
        p(y) = Σ_k Poisson(k; λ) N(y; gain·k, scale²)

    The sum has a fixed number of terms, see `photon_sums`; computed in float64 it agrees with
    brute-force sums to 1e-10 relative, for scale/gain from 1e-3 to 1e3 and λ up to 1e6. A
    negative clean value counts as 0 (a brightness cannot be negative, but an operator or a
    network can return one); derivatives there are 0, and at 0 they are those from the right.

    Args:
        clean: Noiseless measurement, `(*batch)`.
        gain: Units of y per photon, a scalar tensor.
        scale: Standard deviation of the read-out noise, a scalar tensor.

    References:
        Foi et al. (2008), Practical Poissonian-Gaussian noise modeling and fitting.
    """

    def __init__(self, clean: Tensor, gain: Tensor, scale: Tensor) -> None:
        self.clean = clean
        self.gain = gain.double()
        self.scale = scale.double()
        super().__init__(clean.shape, validate_args=False)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {}  # checked by the noise model

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real

    @property
    def rate(self) -> Tensor:
        """Expected photons λ, float64."""
        return self.clean.double().clamp_min(0) / self.gain + DARK

    @property
    def mean(self) -> Tensor:
        """gain·λ."""
        return (self.gain * self.rate).to(self.clean.dtype)

    @property
    def variance(self) -> Tensor:
        """gain²·λ + scale²."""
        return (self.gain.square() * self.rate + self.scale.square()).to(self.clean.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        _, log_terms = self._terms(value)
        return (log_sum(log_terms) - self.gain.log()).to(self.clean.dtype)

    def score(self, value: Tensor) -> Tensor:
        """∂ log p/∂clean = (E[k | y]/λ − 1)/gain; 0 where clean is negative."""
        photons, log_terms = self._terms(value)
        rate = self.rate[..., None]
        score = (posterior(log_terms) * (photons - rate)).sum(-1) / (self.rate * self.gain)
        return torch.where(self.clean < 0, 0.0, score).to(self.clean.dtype)

    def _terms(self, value: Tensor) -> tuple[Tensor, Tensor]:
        return photon_terms(value.double() / self.gain, self.rate, self.scale / self.gain)


@draw.register
def _(distribution: PoissonGaussian, noise: Tensor) -> Tensor:
    """Photons by the inverse of their cumulative distribution: without a derivative."""
    require_noise(noise, (*distribution.batch_shape, PoissonGaussianNoise.components))
    rate = distribution.rate.numpy(force=True)
    counts = poisson_quantile(noise[..., 0].numpy(force=True), rate)
    photons = torch.from_numpy(counts).to(noise.device)
    y = distribution.gain * photons + distribution.scale * noise[..., 1]
    return y.to(distribution.clean.dtype)


class PoissonGaussianNoise(NoiseModel):
    """Photon noise through a gain, with read-out noise.

        y = gain·Poisson(clean/gain) + N(0, scale²),   Var[y] = gain·clean + scale²

    Clean values are brightnesses: negative ones count as 0, see `PoissonGaussian`. Draws have no
    derivative in the clean value, and cannot be mapped by `torch.func`.

    Args:
        gain: Units of the measurement per photon; a large one means few photons. None if it is
            unknown.
        scale: Standard deviation of the read-out noise, in units of the measurement; None if it
            is unknown.

    Raises:
        ConfigError: If a level is not positive.
    """

    components = 2

    def __init__(self, gain: float | None = None, scale: float | None = None) -> None:
        super().__init__()
        self._gain = check_level("gain", gain)
        self._scale = check_level("scale", scale)

    @property
    def gain(self) -> float:
        """Units of the measurement per photon; raises `ConfigError` where it is unknown."""
        return known_level("gain", self._gain)

    @property
    def scale(self) -> float:
        """Standard deviation of the read-out noise; raises `ConfigError` where it is unknown."""
        return known_level("scale", self._scale)

    @property
    def is_known(self) -> bool:
        return self._gain is not None and self._scale is not None

    def elementwise(self, clean: Tensor) -> PoissonGaussian:
        levels = torch.tensor([self.gain, self.scale], dtype=torch.float64, device=clean.device)
        return PoissonGaussian(clean, *levels)

    def score(self, y: Tensor, clean: Tensor) -> Tensor:
        return self.elementwise(clean).score(y)

    def fisher(self, clean: Tensor) -> Tensor:
        """Fisher information, to 1e-5 relative; negative clean values count as 0.

        Near gain/clean where photons can be told apart (scale ≪ gain), near the inverse
        variance where they cannot. The first call for a ratio scale/gain makes a table, which
        takes seconds if photons can be told apart.
        """
        rate = self.elementwise(clean).rate
        width = self.scale / self.gain
        table = _information_table(width)
        rest = math.expm1(table.last) * (_TABLE_END + width**2)
        variance = rate + width**2  # photons²
        excess = torch.where(rate < _TABLE_END, table(rate.log()).expm1(), rest / variance)
        return ((1 + excess) / (variance * self.gain**2)).to(clean.dtype)

    def shifted_counts(self, y: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Measurement and its expectation as counts that are nearly Poisson.

            u = max(y/gain + τ², 0),   û = λ + τ²,   τ = scale/gain

        Before the cut, u has mean and variance û, as a Poisson count has.

        Args:
            y: Measurement.
            clean: Noiseless measurement, same shape.

        Returns:
            u ≥ 0 and û > 0, photons, float64.

        References:
            Snyder, Helstrom, Lanterman, Faisal, White (1995), Compensation for readout noise in
            CCD images, https://doi.org/10.1364/JOSAA.12.000272
        """
        shift = (self.scale / self.gain) ** 2
        counts = (y.double() / self.gain + shift).clamp_min(0)
        return counts, self.elementwise(clean).rate + shift

    def estimate(self, y: Tensor, clean: Tensor) -> "PoissonGaussianNoise":
        """Maximum likelihood, from at most `ESTIMATE_FROM` elements chosen at random.

        Gain and scale are told apart by clean values of different brightness; without these
        only gain·clean + scale² is found.
        """
        if self.is_known:
            return self
        y, clean = check_pairs(y, clean)
        if len(y) > ESTIMATE_FROM:  # evenly spaced ones could be a column of every image
            chosen = NoiseStream(0).permutation(len(y))[:ESTIMATE_FROM]
            y, clean = y[chosen], clean[chosen]
        unknown = [level is None for level in (self._gain, self._scale)]
        start = np.log(_moment_levels(y, clean, self._gain, self._scale))

        def loss(free: np.ndarray) -> tuple[float, np.ndarray]:
            full = start.copy()
            full[unknown] = free
            logs = torch.from_numpy(full).requires_grad_()
            value = -PoissonGaussian(clean, *logs.exp()).log_prob(y).mean()
            (slope,) = torch.autograd.grad(value, logs)
            return value.item(), slope.numpy()[unknown]

        bounds = [(value - 7, value + 3) for value in start[unknown]]
        found = minimize(loss, start[unknown], jac=True, method="L-BFGS-B", bounds=bounds)
        levels = start.copy()
        levels[unknown] = found.x
        gain, scale = np.exp(levels)
        return PoissonGaussianNoise(
            self._gain if self._gain is not None else float(gain),
            self._scale if self._scale is not None else float(scale),
        )

    def extra_repr(self) -> str:
        return f"gain={self._gain}, scale={self._scale}"


@cache
def _information_table(width: float) -> SmoothTable:
    """log(I·(λ + τ²)) against log λ for one width τ of the read-out noise, in photons."""

    def log_efficiency(log_rate: np.ndarray) -> np.ndarray:
        information = [photon_information(math.exp(value), width) for value in log_rate]
        return np.log(information) + np.log(np.exp(log_rate) + width**2)

    return SmoothTable(log_efficiency, math.log(DARK), math.log(_TABLE_END), 128)


def photon_information(rate: float, width: float) -> float:
    """Fisher information about λ of u = k + width·n, by summation over k and quadrature over n.

    Args:
        rate: λ.
        width: Standard deviation of the additive noise, in photons.

    Returns:
        E[(E[k | u]/λ − 1)²], in 1/photons².
    """
    if width < _RESOLVED:
        return 1 / rate
    step = max(1, math.floor(math.sqrt(rate) / 3))
    centre = math.floor(rate)
    photons = np.arange(max(centre - 32 * step, 0), centre + 40 * step + 1, step)
    probability = stats.poisson.pmf(photons, rate)
    relevant = probability * (1 + photons / rate) ** 2 > 1e-11 * (1 + 1 / rate)
    probability = torch.from_numpy(probability[relevant] / probability.sum())
    # Half-way between two photons the score turns within 1/τ steps of unit n.
    spacing = min(0.4, 0.8 * max(width, 0.1))
    steps = torch.arange(-9.6, 9.6 + spacing, spacing, dtype=torch.float64)
    normal = torch.exp(-0.5 * steps.square())
    u = torch.from_numpy(photons[relevant])[:, None] + width * steps  # (k, n)
    rates = torch.tensor(rate, dtype=torch.float64)
    nodes, log_terms = photon_terms(u, rates, torch.tensor(width, dtype=torch.float64))
    score = (posterior(log_terms) * (nodes - rates)).sum(-1) / rates
    return float(probability @ score.square() @ normal / normal.sum())


def _moment_levels(
    y: Tensor, clean: Tensor, gain: float | None, scale: float | None
) -> tuple[float, float]:
    """Levels at which the squared residuals are about gain·clean + scale²; positive."""
    squares, brightness = (y - clean).square(), clean.clamp_min(0)
    total = squares.mean().item()
    light = max(brightness.mean().item(), 1e-6 * math.sqrt(total))
    if gain is None and scale is None:
        share = brightness / light
        spread = share.var(correction=0).item()
        slope = ((share - 1) * squares).mean().item() / spread if spread > 1e-6 else total / 2
        slope = min(max(slope, 0.05 * total), 0.95 * total)
        return slope / light, math.sqrt(total - slope)
    if gain is None:
        assert scale is not None
        return max(total - scale**2, 0.05 * total) / light, scale
    return gain, math.sqrt(max(total - gain * light, 0.05 * total))
