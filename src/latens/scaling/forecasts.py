"""Where a learning curve goes: draws of the curve given the cells of a sweep.

    y_i(N) = f(N) + ε_i(N),   f(N) = E_∞ + a g(N),   ε_i ~ N(0, σ² R),   i a data seed

The shape g is one of `shapes`, with its prior; R is one of `seed_noise`. Of an error, the share
of the floor in f at the smallest size is uniform, or zero exactly with probability `POWER_SHARE`;
f at the smallest size has a flat prior. A signed distance has flat priors on f at both ends. σ has
the flat prior on its logarithm. Given shape and noise the posterior is then a t distribution:
weights and draws are exact, nothing is iterated.

A score test that is inverted (`fit`) needs no prior, and with three sizes or three data seeds it
has no end; this needs one, states it, and is used where the question is what lies beyond the data.
"""

from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from latens.errors import DataError
from latens.scaling.curve_posterior import FixedFloor, FreeFloor
from latens.scaling.shapes import (
    Shapes,
    broken_shapes,
    late_shapes,
    mixed,
    power_shapes,
    powers_between,
)

Array = NDArray[np.float64]

BROKEN_SHARE = 0.3
"""Prior probability that the law breaks between the smallest size and the end of the horizon."""

LATE_SHARE = 0.1
"""Prior probability that the law is flat at first and falls from somewhere in that range on."""

POWER_SHARE = 0.2
"""Prior probability that an error vanishes with enough data: a floor of exactly zero."""

HORIZON = 8.0
"""Factor beyond the largest size up to which curves are followed."""

DRAWS = 4000

_NEGLIGIBLE = 12.0
"""Difference of log weights below which an exponent is left out."""

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
        broken: Posterior probability of a broken or a late law.
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
    late_share: float = LATE_SHARE,
    power_share: float = POWER_SHARE,
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
        late_share: Prior probability of a late one.
        power_share: Prior probability that the floor is the smallest possible value exactly;
            without effect on signed distances, which have none.
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
    shares = [1 - broken_share - late_share, broken_share, late_share]
    powers = _plausible_powers(sizes, table, floor_minimum)
    bent = broken_shapes(first, HORIZON * last), late_shapes(first, HORIZON * last)
    shapes = mixed([powers, *bent], shares)
    parts = _parts(sizes, table, shapes, floor_minimum, power_share)
    shares = [1 - power_share, power_share] if len(parts) == 2 else [1.0]
    logs = [part.log_weights + np.log(share) for part, share in zip(parts, shares, strict=True)]
    top = max(float(log_weight.max()) for log_weight in logs)
    weights = [np.exp(log_weight - top) for log_weight in logs]
    total = sum(float(weight.sum()) for weight in weights)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(draws, [float(weight.sum()) / total for weight in weights])
    drawn = []
    for part, weight, count in zip(parts, weights, counts, strict=True):
        if count == 0:  # its weight may be no number but zero
            continue
        chosen = generator.choice(weight.size, size=count, p=weight.ravel() / weight.sum())
        drawn.append(part.draw(generator, *np.unravel_index(chosen, weight.shape)))
    shape, start, end, floor = (np.concatenate(column) for column in zip(*drawn, strict=True))
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
        float((shapes.before != shapes.after)[shape].mean()),
    )


def _parts(
    sizes: Array, table: Array, shapes: Shapes, floor_minimum: float, power_share: float
) -> list[FreeFloor | FixedFloor]:
    """The posterior with a free floor and, of an error, with the smallest floor."""
    parts: list[FreeFloor | FixedFloor] = [FreeFloor(sizes, table, shapes, floor_minimum)]
    if floor_minimum > -inf and power_share > 0:
        parts.append(FixedFloor(sizes, table, shapes, floor_minimum))
    return parts


def _plausible_powers(sizes: Array, table: Array, floor_minimum: float) -> Shapes:
    """A fine grid of exponents where a coarse one has any weight: precise data need it."""
    coarse = power_shapes()
    parts = _parts(sizes, table, coarse, floor_minimum, 0.5)
    weight = np.max([part.log_weights.max(axis=0) for part in parts], axis=0)
    there = np.flatnonzero(weight > weight.max() - _NEGLIGIBLE)
    exponents = coarse.before
    below = exponents[there[0] - 1] if there[0] > 0 else exponents[0] ** 2 / exponents[1] / 2
    above = (
        exponents[there[-1] + 1]
        if there[-1] + 1 < len(exponents)
        else 2 * exponents[-1] ** 2 / exponents[-2]
    )
    return powers_between(float(below), float(above))
