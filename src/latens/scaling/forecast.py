"""Where a learning curve goes: draws of the curve given the cells of a sweep.

    y_i(N) = f(N) + ε_i(N),   f(N) = E_∞ + a g(N),   ε_i ~ N(0, σ² R),   i a data seed

The shape g is one of `shapes`, with its prior; R is one of `seed_noise`. The two linear
parameters, expressed as f at the smallest and the largest size, have flat priors, cut where the
floor would be smaller than the metric can be; σ has the flat prior on its logarithm. Given shape
and noise the posterior is then a bivariate t: weights and draws are exact, nothing is iterated.

A score test that is inverted (`fit`) needs no prior, and with three sizes or three data seeds it
has no end; this needs one, states it, and is used where the question is what lies beyond the data.
"""

from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy import special

from latens.errors import DataError
from latens.scaling.seed_noise import noise_moments
from latens.scaling.shapes import Shapes, broken_shapes, mixed, power_shapes

Array = NDArray[np.float64]

BROKEN_SHARE = 0.3
"""Prior probability that the law breaks between the smallest size and the end of the horizon."""

HORIZON = 8.0
"""Factor beyond the largest size up to which curves are followed."""

DRAWS = 4000

_TINY = 1e-12
_PER_OCTAVE = 12


@dataclass(frozen=True)
class Forecast:
    """Draws of a learning curve, mean over data seeds and initialisations.

    Attributes:
        sizes: Sample sizes of the data, `(J,)`, ascending.
        data_seeds: Number of data seeds.
        grid: Sizes on which the draws are tabulated, `(G,)`, from the smallest size to
            `HORIZON` times the largest, ascending.
        start, end: f at the smallest and at the largest size of the data, `(S,)`.
        paths: w on the grid, `(S, G)`: f = end + (start − end) · w.
        floor: f at N = ∞, `(S,)`.
        broken: Posterior probability of a broken law.
    """

    sizes: Array
    data_seeds: int
    grid: Array
    start: Array
    end: Array
    paths: Array
    floor: Array
    broken: float

    @property
    def horizon(self) -> float:
        """Largest N up to which the curves are followed."""
        return float(self.grid[-1])

    @property
    def mirrored(self) -> "Forecast":
        """The same for −f."""
        return replace(self, start=-self.start, end=-self.end, floor=-self.floor)

    def curves(self) -> Array:
        """Values on the grid, `(S, G)`."""
        return self.end[:, None] + (self.start - self.end)[:, None] * self.paths

    def below(self, target: float | Array) -> tuple[Array, Array]:
        """Range of N in which each drawn curve is at most a target.

        Args:
            target: Value to stay below, or one per draw, `(S,)`.

        Returns:
            First N and the N from which on it is above again, each `(S,)`: 0 where it is below
            already at the smallest size; ∞ where it never is (first) or stays (second).
        """
        change = self.start - self.end
        target = np.broadcast_to(np.asarray(target, dtype=np.float64), change.shape)
        begins = self.start <= target
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = self._size_at((target - self.end) / change)
        falling = change > 0
        enter = np.where(begins, 0.0, np.where(falling, crossing, inf))
        leave = np.where(begins & ~falling & (change != 0), crossing, inf)
        return enter, leave

    def _size_at(self, weight: Array) -> Array:
        """N at which w falls to a value, ∞ beyond the horizon, `(S,)`."""
        log_grid = np.log(self.grid)
        index = (self.paths > weight[:, None]).sum(axis=1)  # first grid point at or below
        inside = np.clip(index, 1, len(log_grid) - 1)
        rows = np.arange(len(weight))
        above, below = self.paths[rows, inside - 1], self.paths[rows, inside]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.clip((above - weight) / (above - below), 0.0, 1.0)
        size = np.exp(log_grid[inside - 1] + share * (log_grid[inside] - log_grid[inside - 1]))
        return np.where(np.isfinite(weight) & (index < len(log_grid)), size, inf)


def forecast(
    sizes: Array,
    table: Array,
    floor_minimum: float = 0.0,
    broken_share: float = BROKEN_SHARE,
    draws: int = DRAWS,
    seed: int = 0,
) -> Forecast:
    """Posterior draws of a learning curve.

    Args:
        sizes: Sample sizes, `(J,)`, ascending, J ≥ 3.
        table: Mean over initialisations for each data seed and size, `(k, J)`, k ≥ 2, NaN
            where a data seed has no usable cell.
        floor_minimum: Smallest possible value of E_∞: 0 for errors, −∞ for signed distances.
        broken_share: Prior probability of a broken law.
        draws: Number of draws.
        seed: Seed of the draws.

    Raises:
        DataError: If there are fewer than three sizes or two data seeds, or the sizes do not
            ascend.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    table = np.asarray(table, dtype=np.float64)
    if len(sizes) < 3 or table.ndim != 2 or table.shape[1] != len(sizes) or len(table) < 2:
        raise DataError(
            "table",
            "two or more data seeds at three or more sizes",
            f"{table.shape} for {len(sizes)} sizes",
            "Run more data seeds or sizes.",
        )
    if not (np.diff(sizes) > 0).all() or not sizes[0] > 0:
        raise DataError("sizes", "positive and ascending", sizes.tolist(), "Sort the sizes.")
    first, last = float(sizes[0]), float(sizes[-1])
    shapes = mixed(
        [power_shapes(), broken_shapes(first, HORIZON * last)], [1 - broken_share, broken_share]
    )
    posterior = _Posterior(sizes, table, shapes, floor_minimum)
    generator = np.random.default_rng(seed)
    shape, start, end, floor = posterior.draw(generator, draws)
    count = int(np.ceil(np.log2(HORIZON * last / first) * _PER_OCTAVE)) + 1
    grid = np.geomspace(first, HORIZON * last, count)
    return Forecast(
        sizes,
        len(table),
        grid,
        start,
        end,
        shapes.weights(grid, first, last)[shape],
        floor,
        float(posterior.shape_weights[shapes.before != shapes.after].sum()),
    )


class _Posterior:
    """Weights of every (noise, shape), and the bivariate t of each."""

    def __init__(self, sizes: Array, table: Array, shapes: Shapes, floor_minimum: float) -> None:
        self.floor_minimum = floor_minimum
        ends = float(sizes[0]), float(sizes[-1])
        w = shapes.weights(sizes, *ends)
        design = np.stack([w, 1 - w], axis=2)  # (K, J, 2): f at the first and the last size
        self.w_floor = shapes.weights([inf], *ends)[:, 0]
        self.contrast = np.stack([self.w_floor, 1 - self.w_floor], axis=1)  # (K, 2)
        cells = int(np.isfinite(table).sum())
        self.degrees = cells - 2
        scale = float(np.nanmax(np.abs(table))) + 1e-300
        with np.errstate(divide="ignore"):
            log_prior = np.log(shapes.prior)
        parts = []
        for precision, linear, square, log_determinant in noise_moments(sizes, table):
            gram = np.einsum("kji,jl,klm->kim", design, precision, design)
            # the flat prior is on f at both ends; a ridge keeps a steep law's plateau regular
            ridge = _TINY * np.trace(gram, axis1=1, axis2=2)
            gram = gram + ridge[:, None, None] * np.eye(2)
            right = np.einsum("kji,j->ki", design, linear)
            inverse = np.linalg.inv(gram)
            best = np.einsum("kij,kj->ki", inverse, right)
            rest = np.maximum(square - (right * best).sum(axis=1), 0.0)
            rest = rest + cells * (_TINY * scale) ** 2 * np.trace(precision) / len(precision)
            log_weight = (
                -0.5 * log_determinant
                - 0.5 * np.log(np.linalg.det(gram))
                - 0.5 * self.degrees * np.log(rest)
                + log_prior
            )
            parts.append((best, inverse, rest, log_weight))
        self.best, self.inverse, self.rest, log_weight = (
            np.stack(column) for column in zip(*parts, strict=True)
        )
        # floor: mean, standard deviation without σ, chance of being possible
        self.floor = np.einsum("rki,ki->rk", self.best, self.contrast)
        spread = np.einsum("ki,rkij,kj->rk", self.contrast, self.inverse, self.contrast)
        self.floor_scale = np.sqrt(spread * self.rest / self.degrees)
        possible = np.ones_like(self.floor)
        if floor_minimum > -inf:
            margin = (self.floor - floor_minimum) / self.floor_scale
            possible = np.maximum(special.stdtr(self.degrees, margin), 1e-300)
        self.possible = possible
        log_weight = log_weight + np.log(possible)
        weight = np.exp(log_weight - log_weight.max())
        self.weights = weight / weight.sum()

    @property
    def shape_weights(self) -> Array:
        """Posterior probability of each shape, `(K,)`."""
        return self.weights.sum(axis=0)

    def draw(
        self, generator: np.random.Generator, count: int
    ) -> tuple[NDArray[np.int64], Array, Array, Array]:
        """Shape, f at the first and at the last size, and floor, each `(S,)`.

        The floor is drawn from its t distribution cut at the smallest possible value, then f
        at the first size given the floor.
        """
        flat = generator.choice(self.weights.size, size=count, p=self.weights.ravel())
        noise, shape = np.unravel_index(flat, self.weights.shape)
        at = (noise, shape)
        nu = float(self.degrees)
        tail = 1 - generator.random(count) * self.possible[at]  # floors from the possible side
        z = special.stdtrit(nu, np.clip(tail, 1e-15, 1 - 1e-15))
        centre, scale = self.floor[at], self.floor_scale[at]
        floor = np.maximum(centre + scale * z, self.floor_minimum)
        contrast, inverse = self.contrast[shape], self.inverse[at]
        direction = np.einsum("sij,sj->si", inverse, contrast)  # covariance with the floor
        variance = (direction * contrast).sum(axis=1)
        conditional = np.maximum(inverse[:, 0, 0] - direction[:, 0] ** 2 / variance, 0.0)
        z = (floor - centre) / scale
        wider = (nu + z**2) / (nu + 1)
        noise_scale = np.sqrt(self.rest[at] / nu * conditional * wider)
        start = self.best[at][:, 0] + direction[:, 0] / variance * (floor - centre)
        start = start + noise_scale * generator.standard_t(nu + 1, count)
        w = self.w_floor[shape]
        end = (floor - start * w) / (1 - w)
        return shape, start, end, floor
