"""Posterior of a learning curve given its shape and the form of its noise: a t distribution.

The weights of all shapes and noises are exact, so that draws of the mixture are, too.
"""

from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy import special

from latens.scaling.seed_noise import noise_moments
from latens.scaling.shapes import Shapes

Array = NDArray[np.float64]

_TINY = 1e-12

Drawn = tuple[NDArray[np.intp], Array, Array, Array]
"""Shape, f at the first and the last size, and floor of each draw, `(S,)`."""


class FreeFloor:
    """f at both ends is free: weight of every (noise, shape), and the bivariate t of each.

    With a smallest floor the law is E = E_min + φ (f(N₁) − E_min), φ ≥ 0 uniform (above 1 the
    curve rises). The density of f(N_J) is then 1/((f(N₁) − E_min)(1 − g(N_J)/g(N₁))), in which
    the mean at the smallest size stands for f(N₁), so that the rest stays linear.

    Args:
        sizes: Sample sizes, `(J,)`, ascending.
        table: Value of each data seed and size, `(k, J)`, NaN where there is none.
        shapes: Shapes with their prior, K of them.
        floor_minimum: Smallest possible floor, −∞ if there is none.

    Attributes:
        log_weights: Log posterior weight of each noise and shape, `(R, K)`, up to a constant
            that is the same in `FixedFloor`.
    """

    def __init__(self, sizes: Array, table: Array, shapes: Shapes, floor_minimum: float) -> None:
        self.floor_minimum = floor_minimum
        ends = float(sizes[0]), float(sizes[-1])
        w = shapes.weights(sizes, *ends)
        design = np.stack([w, 1 - w], axis=2)  # (K, J, 2): f at the first and the last size
        self.w_floor = shapes.weights([inf], *ends)[:, 0]
        self.contrast = np.stack([self.w_floor, 1 - self.w_floor], axis=1)  # (K, 2)
        cells = int(np.isfinite(table).sum())
        self.degrees = cells - 2
        best, inverse, rest, log_weight = [], [], [], []
        for precision, linear, square, log_determinant in noise_moments(sizes, table):
            gram = np.einsum("kji,jl,klm->kim", design, precision, design)
            # a law so steep that only the first size tells its amplitude stays regular
            ridge = _TINY * np.trace(gram, axis1=1, axis2=2)
            gram = gram + ridge[:, None, None] * np.eye(2)
            right = np.einsum("kji,j->ki", design, linear)
            inverse.append(np.linalg.inv(gram))
            best.append(np.einsum("kij,kj->ki", inverse[-1], right))
            left = square - (right * best[-1]).sum(axis=1)
            rest.append(np.maximum(left, 0.0) + _rounding(table, precision))
            log_weight.append(
                _log_evidence(rest[-1], np.linalg.slogdet(gram)[1], log_determinant, cells, 2)
            )
        self.best, self.inverse, self.rest = np.stack(best), np.stack(inverse), np.stack(rest)
        # floor: mean, standard deviation, chance of being possible
        self.floor = np.einsum("rki,ki->rk", self.best, self.contrast)
        spread = np.einsum("ki,rkij,kj->rk", self.contrast, self.inverse, self.contrast)
        self.floor_scale = np.sqrt(spread * self.rest / self.degrees)
        self.possible = np.ones_like(self.floor)
        self.log_weights = np.stack(log_weight) + _log(shapes.prior)
        if floor_minimum > -inf:
            margin = (self.floor - floor_minimum) / self.floor_scale
            self.possible = np.maximum(special.stdtr(self.degrees, margin), 1e-300)
            height = max(float(np.nanmean(table[:, 0])) - floor_minimum, 1e-300)
            remaining = self.w_floor / (self.w_floor - 1)  # g(N_J)/g(N₁)
            self.log_weights += np.log(self.possible) - np.log(height * (1 - remaining))

    def draw(
        self, generator: np.random.Generator, noise: NDArray[np.intp], shape: NDArray[np.intp]
    ) -> Drawn:
        """The floor from its t distribution, cut at the smallest possible value; then the rest."""
        at, count, nu = (noise, shape), len(noise), float(self.degrees)
        tail = 1 - generator.random(count) * self.possible[at]  # floors from the possible side
        z = special.stdtrit(nu, np.clip(tail, 1e-15, 1 - 1e-15))
        centre, scale = self.floor[at], self.floor_scale[at]
        floor = np.maximum(centre + scale * z, self.floor_minimum)
        contrast, inverse = self.contrast[shape], self.inverse[at]
        direction = np.einsum("sij,sj->si", inverse, contrast)  # covariance with the floor
        variance = (direction * contrast).sum(axis=1)
        conditional = np.maximum(inverse[:, 0, 0] - direction[:, 0] ** 2 / variance, 0.0)
        wider = (nu + ((floor - centre) / scale) ** 2) / (nu + 1)
        start = self.best[at][:, 0] + direction[:, 0] / variance * (floor - centre)
        spread = np.sqrt(self.rest[at] / nu * conditional * wider)
        start = start + spread * generator.standard_t(nu + 1, count)
        w = self.w_floor[shape]
        return shape, start, (floor - start * w) / (1 - w), floor


class FixedFloor:
    """The floor is the smallest possible value: weight of every (noise, shape), and its t.

    Args, Attributes: As of `FreeFloor`.
    """

    def __init__(self, sizes: Array, table: Array, shapes: Shapes, floor_minimum: float) -> None:
        self.floor_minimum = floor_minimum
        g = shapes.values(sizes)
        g = g / g[:, :1]
        self.remaining = g[:, -1]
        cells = int(np.isfinite(table).sum())
        self.degrees = cells - 1
        best, scale, log_weight = [], [], []
        for precision, linear, square, log_determinant in noise_moments(
            sizes, table - floor_minimum
        ):
            gram = np.einsum("kj,jl,kl->k", g, precision, g)
            best.append(g @ linear / gram)
            rest = np.maximum(square - (g @ linear) ** 2 / gram, 0.0) + _rounding(table, precision)
            scale.append(np.sqrt(rest / self.degrees / gram))
            log_weight.append(_log_evidence(rest, np.log(gram), log_determinant, cells, 1))
        self.best, self.scale = np.stack(best), np.stack(scale)
        self.log_weights = np.stack(log_weight) + _log(shapes.prior)

    def draw(
        self, generator: np.random.Generator, noise: NDArray[np.intp], shape: NDArray[np.intp]
    ) -> Drawn:
        """f at the first size from its t distribution; the last follows."""
        at = (noise, shape)
        above = self.best[at] + self.scale[at] * generator.standard_t(self.degrees, len(noise))
        floor = np.full(len(noise), self.floor_minimum)
        return shape, floor + above, floor + above * self.remaining[shape], floor


def _log_evidence(
    rest: Array, log_gram: Array, log_determinant: float, cells: int, parameters: int
) -> Array:
    """log ∫∫ p(y | β, σ) dβ dσ/σ, up to a constant that depends on the number of values alone."""
    degrees = cells - parameters
    return (
        special.gammaln(degrees / 2)
        - degrees / 2 * np.log(rest / 2)
        + parameters / 2 * np.log(2 * np.pi)
        - log_gram / 2
        - log_determinant / 2
    )


def _rounding(table: Array, precision: Array) -> float:
    """Squares that rounding alone leaves, so that noiseless curves have a finite density."""
    scale = _TINY * float(np.nanmax(np.abs(table))) + 1e-300
    return table.size * scale**2 * float(np.trace(precision)) / len(precision)


def _log(probability: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(probability)
