"""Gaussian processes over the visits of a patient, their parameters pooled over patients.

    y_i ~ N(m(t), k(t, t') + σ² I),   m(t) = β₀ + β₁ t

Parameters maximise the likelihood of all other patients together; the forecast is the conditional
distribution given the patient's own earlier visits. Censored readings stand at the limit of
detection, and so does what is forecast below it.

References:
    Rasmussen, Williams (2006), Gaussian processes for machine learning, eqs. 2.23 to 2.30, 5.8,
    https://gaussianprocess.org/gpml/; Laird, Ware (1982), Random-effects models for longitudinal
    data, https://doi.org/10.2307/2529876.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from latens.data import VolumeSeries
from latens.inference.forecasting.forecast import (
    Forecast,
    Forecaster,
    patient_noise,
)
from latens.inference.samplers.maximise import maximise

_JITTER = 1e-6


class PooledGaussian(Forecaster):
    """Gaussian forecasts from pooled parameters.

    Attributes:
        theta: Pooled parameters in the units of `covariance`, `(p,)`.
        converged: Whether their maximum was found.
    """

    start: Sequence[float]
    """Where the maximisation begins, in standard units."""

    def __init__(self) -> None:
        super().__init__("next")  # nothing here could tell a last visit from others
        self.theta = torch.zeros(0)
        self.unit = (0.0, 1.0, 1.0)  # mean and spread of y, unit of time
        self.converged = False

    @abstractmethod
    def mean(self, theta: Tensor, t: Tensor) -> Tensor:
        """m at times since the first visit, `(B, T)`, standard units."""

    @abstractmethod
    def covariance(self, theta: Tensor, t: Tensor, other: Tensor) -> Tensor:
        """k without the noise, `(B, T)` and `(B, S)` → `(B, T, S)`."""

    @staticmethod
    def noise_variance(theta: Tensor) -> Tensor:
        """σ²: the first parameter is log σ."""
        return (2 * theta[0]).exp() + _JITTER

    def _standard(self, history: VolumeSeries) -> tuple[Tensor, Tensor]:
        loc, scale, unit = self.unit
        t = torch.where(history.mask, (history.times - history.times[:, :1]) / unit, 0.0)
        return t, (history.log_volumes - loc) / scale

    def _cholesky(self, theta: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        k = self.covariance(theta, t, t) * (mask[:, :, None] & mask[:, None, :])
        diagonal = torch.where(mask, self.noise_variance(theta), 1.0)
        return torch.linalg.cholesky_ex(k + torch.diag_embed(diagonal))[0]

    def log_likelihood(self, theta: Tensor, series: VolumeSeries) -> Tensor:
        """Log-density of each patient's readings in standard units, `(B,)` nats."""
        t, y = self._standard(series)
        factor = self._cholesky(theta, t, series.mask)
        residual = torch.where(series.mask, y - self.mean(theta, t), 0.0)
        white = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * math.log(2 * math.pi) * series.visits.to(y)
        return -0.5 * white.square().sum(-1) - log_det - constant

    def fit(self, series: VolumeSeries, seed: int = 0) -> None:
        """Maximum likelihood over all patients."""
        y = series.log_volumes[series.mask]
        gaps = torch.diff(series.times, dim=1)[series.mask[:, 1:]]
        self.unit = (float(y.mean()), max(float(y.std()), 1e-6), float(gaps.median()))

        def log_density(rows: Tensor) -> Tensor:
            return torch.stack([self.log_likelihood(theta, series).sum() for theta in rows])

        start = torch.tensor([list(self.start)], dtype=torch.float64)
        found = maximise(log_density, start, max_iterations=200)
        self.theta, self.converged = found.position[0], bool(found.converged[0])

    def moments(self, history: VolumeSeries, times: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of readings at later times, `(B, H)`, log volume."""
        loc, scale, unit = self.unit
        t, y = self._standard(history)
        later = (times - history.times[:, :1]) / unit
        factor = self._cholesky(self.theta, t, history.mask)
        residual = torch.where(history.mask, y - self.mean(self.theta, t), 0.0)
        cross = self.covariance(self.theta, t, later) * history.mask[:, :, None]  # (B, T, H)
        white = torch.linalg.solve_triangular(factor, cross, upper=False)
        shift = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)
        mean = self.mean(self.theta, later) + (white * shift).sum(1)
        prior = self.covariance(self.theta, later, later).diagonal(dim1=-2, dim2=-1)
        variance = prior - white.square().sum(1) + self.noise_variance(self.theta)
        return loc + scale * mean, scale * variance.clamp(min=_JITTER).sqrt()

    def make_forecast(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Forecast:
        """Draws at each time by itself, those below the limit moved to it."""
        mean, std = self.moments(history, times)
        noise = patient_noise(seed, keys, (draws, times.shape[1]))
        values = (mean + std * noise).clamp(min=history.log_limit)
        return Forecast(values, history.log_limit, {"converged": float(self.converged)})


class MixedEffects(PooledGaussian):
    """Linear mixed effects: a line per patient around the line of the population.

    y_ij = (β₀ + u_i) + (β₁ + v_i) t_ij + ε_ij,   (u, v) ~ N(0, D)
    """

    label = "linear mixed effects"
    start = (-1.0, 0.0, 0.0, 0.0, 0.0, -2.0)

    def mean(self, theta: Tensor, t: Tensor) -> Tensor:
        """β₀ + β₁ t."""
        return theta[1] + theta[2] * t

    def covariance(self, theta: Tensor, t: Tensor, other: Tensor) -> Tensor:
        """(1, t) D (1, t')ᵀ with D = C Cᵀ, C = [[c₁, 0], [c₂, c₃]]."""
        first, second, third = theta[3].exp(), theta[4], theta[5].exp()
        left, right = first + second * t, first + second * other
        slopes = third.square() * t[:, :, None] * other[:, None, :]
        return left[:, :, None] * right[:, None, :] + slopes


class GaussianProcess(PooledGaussian):
    """Level of the patient plus a Matérn process of order 1/2, 3/2 or ∞.

        k = σ_u² + σ_f² ρ(|t − t'|/ℓ)

    The order is the one with the largest likelihood of the other patients.
    """

    label = "Gaussian process"
    start = (-1.0, 0.0, -0.5, -0.5, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.order = 0.5

    def fit(self, series: VolumeSeries, seed: int = 0) -> None:
        """Maximum likelihood for each order."""
        found = []
        for order in (0.5, 1.5, math.inf):
            self.order = order
            super().fit(series, seed)
            value = float(self.log_likelihood(self.theta, series).sum())
            found.append((value, order, self.theta, self.converged))
        best = max(found, key=lambda row: row[0])
        _, self.order, self.theta, self.converged = best

    def mean(self, theta: Tensor, t: Tensor) -> Tensor:
        """β₀."""
        return theta[1].expand_as(t)

    def covariance(self, theta: Tensor, t: Tensor, other: Tensor) -> Tensor:
        """σ_u² + σ_f² ρ."""
        distance = (t[:, :, None] - other[:, None, :]).abs() / theta[4].exp()
        if self.order == 0.5:
            shape = torch.exp(-distance)
        elif self.order == 1.5:
            shape = (1 + math.sqrt(3) * distance) * torch.exp(-math.sqrt(3) * distance)
        else:
            shape = torch.exp(-0.5 * distance.square())
        return (2 * theta[2]).exp() + (2 * theta[3]).exp() * shape
