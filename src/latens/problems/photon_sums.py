"""Sums over an unknown number of photons, with a fixed number of terms.

    k ~ Poisson(λ),   u | k ~ N(k, τ²)          u in photons

The weight of k given u is log-concave, with its mode at k* and a standard deviation of about s:

    log(λ/q) + (u + ½ − q)/τ² = 0,   q = k* + ½,   1/s² = 1/q + 1/τ²

Below `SMALL` photons the nodes are the integers from 0. Above, they are `NODES` equidistant
points around k*, `s/4` apart but never less than 1: a Riemann sum of a smooth weight converges
exponentially in s/spacing, so a sum over every fourth of s equals the sum over the integers.
Everything is computed in float64.
"""

import math

import numpy as np
import torch
from scipy import special
from torch import Tensor

NODES = 64
"""Terms of every sum."""

SMALL = 24
"""Number of photons below which the nodes are consecutive integers from 0."""

_NEWTON_STEPS = 5
_NEGLIGIBLE = -200.0
_LOG_2PI = math.log(2 * math.pi)
_BINET = (
    *(0.08333333332474, -0.002777774940541, -0.0005953976091615, -0.0004923776904757),
    *(0.0001508200151663, -0.0005196660845034, 0.0006454461779875, -0.0006989945338317),
    *(0.0004265138486883, -0.0001253259730654),
)
"""Least-squares coefficients of x μ(x) in powers of 1/(x² + ½) on x ≥ 1."""


def photon_terms(u: Tensor, rate: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and log-terms of p(u) = Σ_k Poisson(k; rate) N(u; k, width²).

    Nodes have no derivative; the log-terms are differentiable in all arguments, to any order.

    Args:
        u: Measurement in photons, float64.
        rate: Expected photons λ, positive, broadcastable to `u`.
        width: Standard deviation τ of the additive noise in photons, positive.

    Returns:
        Numbers of photons and the logarithms of their terms, each `(..., NODES)`.
    """
    u, rate, width = torch.broadcast_tensors(u, rate, width)
    first, spacing = _lattice(u.detach(), rate.detach(), width.detach())
    nodes = torch.arange(NODES, dtype=u.dtype, device=u.device)
    photons = torch.addcmul(first[..., None], spacing[..., None], nodes)  # (..., NODES)
    distance = (u[..., None] - photons) / width[..., None]
    log_terms = _log_poisson(photons, rate[..., None]) - 0.5 * distance.square()
    constants = spacing.log() - width.log() - _LOG_2PI
    return photons, log_terms + constants[..., None]


def log_sum(log_terms: Tensor) -> Tensor:
    """log Σ exp over the last axis; terms below e^-200 of the largest count as that.

    Exponentials that underflow would cost ten times as much as others.
    """
    peak = log_terms.detach().amax(-1, keepdim=True)
    total = (log_terms - peak).clamp_min(_NEGLIGIBLE).exp().sum(-1)
    return total.log() + peak[..., 0]


def posterior(log_terms: Tensor) -> Tensor:
    """Probability of every node given u, shape of `log_terms`."""
    return (log_terms - log_sum(log_terms)[..., None]).clamp_min(_NEGLIGIBLE).exp()


def _lattice(u: Tensor, rate: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """First node and spacing of the nodes."""
    variance = width.square()
    level = (rate / variance).log() + (u + 0.5) / variance
    log_q = variance.log() + torch.where(level < 1, level, level.clamp_min(1).log())
    for _ in range(_NEWTON_STEPS):  # convex in log q: monotone from the second step on
        q = log_q.exp()
        slope = rate.log() - log_q + (u + 0.5 - q) / variance
        log_q = log_q + slope / (1 + q / variance)
    q = log_q.exp()
    spread = (q * variance / (q + variance)).sqrt()
    mode = (q - 0.5).round().clamp_min(0)
    spacing = torch.where(q < SMALL, 1.0, (spread / 4).clamp_min(1))
    return (mode - NODES // 2 * spacing).clamp_min(0), spacing


def _log_poisson(photons: Tensor, rate: Tensor) -> Tensor:
    """log Poisson(k; λ) + ½ log 2π without cancellation, for k ≥ 0 and not only integers.

        log Poisson(k; λ) = k log(λ/x) + x − λ − ½ log 2πx − μ(x),   x = k + 1

    with Binet's function μ(x) = log Γ(x) − (x − ½) log x + x − ½ log 2π.
    """
    x = photons + 1
    return photons * (rate / x).log() + (x - rate) - 0.5 * x.log() - _binet(x)


def _binet(x: Tensor) -> Tensor:
    """Binet's function for x ≥ 1, to 5e-12: x μ(x) is a polynomial in 1/(x² + ½)."""
    t = (x.square() + 0.5).reciprocal()
    value = torch.full_like(t, _BINET[-1])
    for coefficient in _BINET[-2::-1]:
        value = value * t + coefficient
    return value / x


def poisson_quantile(z: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Number of photons whose cumulative probability first reaches Φ(z); exact in both tails.

    Args:
        z: Standard normal numbers.
        rate: Expected photons, positive, broadcastable to `z`.

    Returns:
        Whole numbers as float64, shape of `z`: Poisson(rate) where z is standard normal.
    """
    shape = np.shape(z)
    rate = np.broadcast_to(rate, shape).astype(np.float64).ravel()
    z = np.asarray(z, dtype=np.float64).ravel()
    tail = special.ndtr(-np.abs(z))

    def reached(k: np.ndarray, at: np.ndarray) -> np.ndarray:
        lower, upper = special.gammaincc(k + 1, rate[at]), special.gammainc(k + 1, rate[at])
        return np.where(z[at] > 0, upper <= tail[at], lower >= tail[at])

    root = np.sqrt(rate)  # Cornish–Fisher, then neighbours until the rule holds
    k = rate + root * z + (z**2 - 1) / 6 + (z - z**3) / (72 * np.maximum(root, 1))
    k = np.maximum(np.ceil(k - 0.5), 0)
    low = np.flatnonzero(~reached(k, np.arange(k.size)))
    while low.size:
        k[low] += 1
        low = low[~reached(k[low], low)]
    high = np.flatnonzero(k > 0)
    while high.size:
        high = high[reached(k[high] - 1, high)]
        k[high] -= 1
        high = high[k[high] > 0]
    return k.reshape(shape)
