"""Gaussian processes over the visits of a patient, their parameters pooled over patients.

    y_i ~ N(m(t), k(t, t') + σ² I),   m(t) = β₀ + β₁ t

Parameters maximise the likelihood of all other patients together; the forecast is the conditional
distribution given the patient's own earlier visits. Of a censored reading it is known that it lies
below the limit of detection L, and no more:

    p(y_i) = N(y_seen; m, K) P(y_censored < L | y_seen),   K = k + σ² I

The probability is an integral over the censored readings, taken one after the other at fixed
points (GHK), e_j the whitened reading j, K = C Cᵀ, the seen ones first:

    b_j = (L − m_j − Σ_l<j C_jl e_l)/C_jj,   e_j = Φ⁻¹(u_j Φ(b_j)),   P ≈ mean_u Π_j Φ(b_j)

The points, weighted by Π Φ(b_j), are draws of what was not seen, and stand for it in the forecast.
What is forecast below the limit stands at it.

References:
    Geweke, Keane, Runkle (1994), Alternative computational approaches to inference in the
    multinomial probit model, section 2, https://doi.org/10.2307/2109766;
    Rasmussen, Williams (2006), Gaussian processes for machine learning, eqs. 2.23 to 2.30, 5.8,
    https://gaussianprocess.org/gpml/; Laird, Ware (1982), Random-effects models for longitudinal
    data, https://doi.org/10.2307/2529876.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from latens.data import VolumeSeries
from latens.distributions import normal_below
from latens.inference.forecasting.forecast import (
    Forecast,
    Forecaster,
    patient_noise,
)
from latens.inference.samplers.maximise import maximise

_JITTER = 1e-6
_POINTS = 64
"""Points of the integral over the censored readings of a patient."""
_COLUMNS = 64
"""Points are made for so many readings at a time: those of a reading do not depend on how many."""


@lru_cache(maxsize=4)
def _points(readings: int) -> Tensor:
    """Scrambled Sobol points in the unit cube, `(S, readings)`."""
    dim = _COLUMNS * -(-readings // _COLUMNS)
    points = torch.quasirandom.SobolEngine(dim, scramble=True, seed=0)
    return points.draw(_POINTS, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)[:, :readings]


@dataclass(frozen=True, eq=False)
class Readings:
    """Readings in standard units: the seen ones, the censored ones, padding.

    Attributes:
        t: Time since the first visit, `(B, T)`; 0 where padded.
        y: Log volume, `(B, T)`; the limit where censored.
        mask: Visits that took place, `(B, T)`.
        censored: Those without a reading above the limit, `(B, T)`.
    """

    t: Tensor
    y: Tensor
    mask: Tensor
    censored: Tensor


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

    def _readings(self, history: VolumeSeries) -> Readings:
        loc, scale, unit = self.unit
        t = torch.where(history.mask, (history.times - history.times[:, :1]) / unit, 0.0)
        y = (history.log_volumes - loc) / scale
        kinds = history.censored.int() + 2 * (~history.mask).int()
        order = kinds.argsort(dim=1, stable=True)
        parts = (t, y, history.mask, history.censored)
        return Readings(*(part.gather(1, order) for part in parts))

    def _cholesky(self, theta: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        k = self.covariance(theta, t, t) * (mask[:, :, None] & mask[:, None, :])
        diagonal = torch.where(mask, self.noise_variance(theta), 1.0)
        return torch.linalg.cholesky_ex(k + torch.diag_embed(diagonal))[0]

    def log_likelihood(self, theta: Tensor, series: VolumeSeries) -> Tensor:
        """Log-density of each patient's seen readings in standard units, and log-probability of
        the censored ones given those, `(B,)` nats."""
        found = self._readings(series)
        factor, residual = self._factor(theta, found)
        white = _white(factor, residual)
        seen = found.mask & ~found.censored
        density = 0.5 * white.square() + factor.diagonal(dim1=-2, dim2=-1).log()
        density = density + 0.5 * math.log(2 * math.pi)
        value = -torch.where(seen, density, 0.0).sum(-1)
        hidden = found.censored.any(1).nonzero()[:, 0]
        if not len(hidden):
            return value
        _, log_weights = _unseen(factor[hidden], residual[hidden], found.censored[hidden])
        return value.index_add(0, hidden, log_weights.logsumexp(0) - math.log(len(log_weights)))

    def _factor(self, theta: Tensor, found: Readings) -> tuple[Tensor, Tensor]:
        """C, `(B, T, T)`, and y − m, `(B, T)`, 0 where padded."""
        factor = self._cholesky(theta, found.t, found.mask)
        return factor, torch.where(found.mask, found.y - self.mean(theta, found.t), 0.0)

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

    def conditional(self, history: VolumeSeries, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Readings at later times, a mixture of normals over what was not seen.

        Returns:
            Means of the S components, `(S, B, H)`, log volume, S = 1 where nothing is censored;
            their weights, `(S, B)`; their standard deviations, `(B, H)`.
        """
        loc, scale, unit = self.unit
        found = self._readings(history)
        later = (times - history.times[:, :1]) / unit
        factor, residual = self._factor(self.theta, found)
        cross = self.covariance(self.theta, found.t, later) * found.mask[:, :, None]  # (B, T, H)
        white = torch.linalg.solve_triangular(factor, cross, upper=False)
        if bool(found.censored.any()):
            e, log_weights = _unseen(factor, residual, found.censored)
        else:
            e = _white(factor, residual)[None]  # (1, B, T)
            log_weights = e.new_zeros(e.shape[:2])
        mean = self.mean(self.theta, later) + torch.einsum("bth,sbt->sbh", white, e)
        prior = self.covariance(self.theta, later, later).diagonal(dim1=-2, dim2=-1)
        variance = prior - white.square().sum(1) + self.noise_variance(self.theta)
        std = scale * variance.clamp(min=_JITTER).sqrt()
        return loc + scale * mean, log_weights.softmax(0), std

    def make_forecast(
        self, history: VolumeSeries, times: Tensor, keys: Sequence[int], seed: int, draws: int
    ) -> Forecast:
        """Draws at each time by itself, those below the limit moved to it; every component has
        its share of them.
        """
        mean, weights, std = self.conditional(history, times)
        shares = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
        ends = weights.cumsum(0).T.contiguous()  # (B, S)
        which = torch.searchsorted(ends, shares.expand(len(ends), -1).contiguous())
        which = which.clamp(max=len(mean) - 1).T[..., None].expand(-1, -1, mean.shape[-1])
        noise = patient_noise(seed, keys, (draws, times.shape[1]))
        values = (mean.gather(0, which) + std * noise).clamp(min=history.log_limit)
        return Forecast(values, history.log_limit, {"converged": float(self.converged)})


def _white(factor: Tensor, residual: Tensor) -> Tensor:
    """e = C⁻¹ (y − m), `(B, T)`."""
    return torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]


def _unseen(factor: Tensor, residual: Tensor, censored: Tensor) -> tuple[Tensor, Tensor]:
    """Whitened readings, the censored ones at points below the limit.

    Args:
        factor: C, `(B, T, T)`, seen readings first.
        residual: y − m, `(B, T)`; L − m where censored.
        censored: `(B, T)`.

    Returns:
        e, `(S, B, T)`, and Σ_j log Φ(b_j), `(S, B)`.
    """
    points = _points(residual.shape[1])  # (S, T)
    e = residual.new_zeros(len(points), len(residual), 0)
    log_weights = residual.new_zeros(len(points), len(residual))
    for j, hidden in enumerate(censored.unbind(1)):
        known = (factor[:, j, :j] * e).sum(-1)  # (S, B)
        bound = (residual[:, j] - known) / factor[:, j, j]
        log_weights = log_weights + torch.where(hidden, torch.special.log_ndtr(bound), 0.0)
        within = torch.where(
            hidden, bound, 0.0
        )  # so that no gradient of a seen reading is infinite
        place = torch.where(hidden, normal_below(within, points[:, j, None]), bound)
        e = torch.cat([e, place[..., None]], -1)
    return e, log_weights


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
