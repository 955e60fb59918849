"""Many dependent quantities, one exact test: which of M + 1 signals is called the truth?

Given y, the truth and M exchangeable draws of an exact posterior are M + 1 draws of one
distribution. To call another of the M + 1 the truth, independently in every image, changes
nothing. Any statistic is therefore compared with its values after such relabellings, in which
quantities depend on each other as they do in the posterior: neighbouring pixels are nearly one
pixel, and count as little more. The test is exact for every M, n, number of quantities and
dependence between them, and holds for quantities of the measurement.

All statistics are relabelled together, so that many tests are adjusted for each other by what
their dependence is, not for the worst that it could be, as Holm's rule must. A sign-flip or
bootstrap of images would keep the misfit in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latens.errors import ConfigError, ShapeError

Array = NDArray[np.float64]
Score = Callable[[NDArray[np.int64]], Array]
"""Histograms of ranks, `(..., M + 1)` → how far each is from uniform, `(...)`."""

LabelStatistic = Callable[[NDArray[np.int64]], Array]
"""Which member of each image is called the truth, `(R, n)` → one or more rows, `(rows, R)`."""

_BLOCK = 2**21
"""Ranks that one block of relabellings may hold."""

_DIGITS = 9
"""Decimals to which statistics are compared: equal ones differ by rounding."""


@dataclass(frozen=True)
class Relabelled:
    """Outcome of m statistics that were relabelled together.

    Attributes:
        statistic: Of the truth, `(m,)`.
        p_value: Of each on its own, `(m,)`.
        p_adjusted: Of each among all m, `(m,)`: the chance of one of at most α or more is at most
            α where the posterior is exact.
    """

    statistic: Array
    p_value: Array
    p_adjusted: Array


def member_ranks(values: NDArray, order: NDArray[np.integer]) -> NDArray[np.int16]:
    """Rank of every member of every set among the other M, ties broken at random.

    Args:
        values: The truth first, then M draws, `(M + 1, n, k)` for n images and k quantities.
        order: A random order of the members of each image, `(M + 1, n)`; it breaks ties.

    Returns:
        Ranks in {0, …, M}, `(M + 1, n, k)`; entry 0 is the rank of the truth among the draws.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    if values.ndim != 3 or len(values) < 2 or order.shape != values.shape[:2]:
        raise ShapeError(
            "values",
            "(M + 1, n, k) with the truth first, and `order` (M + 1, n)",
            (values.shape, order.shape),
            "Stack the truth on top of the draws and reduce both to k numbers.",
        )
    last = np.ascontiguousarray(values.transpose(1, 2, 0))  # sorting runs along the last axis
    place = np.broadcast_to(order.T[:, None, :], last.shape)
    # equal values in a random order leave any sort, stable or not, in a random order
    ascending = np.argsort(np.take_along_axis(last, place, axis=2), axis=2)
    shuffled, rank = np.empty(last.shape, np.int16), np.empty(last.shape, np.int16)
    ladder = np.broadcast_to(np.arange(len(values), dtype=np.int16), last.shape)
    np.put_along_axis(shuffled, ascending, ladder, axis=2)
    np.put_along_axis(rank, place, shuffled, axis=2)
    return rank.transpose(2, 0, 1)


def random_orders(draws: int, images: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of the M + 1 members of each image, `(M + 1, n)`."""
    return np.argsort(rng.random((draws + 1, images)), axis=0)


def labellings(draws: int, images: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Members that are called the truth at random, `(count, n)`."""
    return rng.integers(draws + 1, size=(count, images))


def rank_statistics(ranks: NDArray[np.integer], scores: Sequence[Score]) -> LabelStatistic:
    """Largest score over the quantities of a family.

        T = max_k score(histogram over images of the ranks of quantity k)

    Args:
        ranks: Rank of every member, `(M + 1, n, k)`, from `member_ranks`.
        scores: Functions of histograms, such as `ecdf_statistic` and `chi_square_statistic`.

    Returns:
        Function of labellings, one row per score.

    Raises:
        ShapeError: If the ranks have another shape.
    """
    if ranks.ndim != 3:
        raise ShapeError("ranks", "(M + 1, n, k)", ranks.shape, "Make them with `member_ranks`.")
    members, images, quantities = ranks.shape
    table = np.empty((images, members, quantities), dtype=np.int64)
    np.add(ranks.transpose(1, 0, 2), members * np.arange(quantities), out=table)
    table = table.reshape(-1, quantities)
    first = members * np.arange(images)  # row of the first member of each image
    largest = max(1, _BLOCK // (images * quantities))

    def maxima(chosen: NDArray[np.int64]) -> Array:
        place = table[first + chosen]  # (R, n, k)
        place += (members * quantities * np.arange(len(chosen)))[:, None, None]
        counts = np.bincount(place.ravel(), minlength=len(chosen) * quantities * members)
        counts = counts.reshape(len(chosen), quantities, members)
        return np.stack([score(counts).max(axis=-1) for score in scores])

    def statistic(chosen: NDArray[np.int64]) -> Array:
        starts = range(0, len(chosen), largest)
        return np.concatenate([maxima(chosen[i : i + largest]) for i in starts], axis=1)

    return statistic


def relabelling_test(
    statistics: Sequence[LabelStatistic],
    draws: int,
    images: int,
    rng: np.random.Generator,
    relabellings: int = 999,
) -> Relabelled:
    """Exact tests of several statistics, adjusted for each other by their joint null.

        p_j = #{l ∈ 0 … R : T_lj ≥ T_0j}/(R + 1)

    with T_0 the statistics of the truth. The p-value of every relabelling is made in the same way;
    p_j is adjusted by the chance of a smallest p-value as small among the statistics that are no
    more significant than j (step-down min-P), so that statistics which say the same are one.

    Args:
        statistics: Functions of labellings, `(R, n)` → `(rows, R)`; m rows in all.
        draws: M.
        images: n.
        rng: Source of the relabellings.
        relabellings: R; no p-value is below 1/(R + 1), no adjusted one much above m/(R + 1)
            where a statistic is larger than all of its relabellings.

    Raises:
        ConfigError: If there are no relabellings.

    References:
        Hemerik, Goeman (2018), Exact testing with random permutations,
        https://doi.org/10.1007/s11749-017-0571-1;
        Ge, Dudoit, Speed (2003), Resampling-based multiple testing for microarray data analysis,
        Box 2, https://doi.org/10.1007/BF02595811
    """
    if relabellings < 1:
        raise ConfigError("relabellings", "1 or more", relabellings, "Use 999.")
    chosen = labellings(draws, images, relabellings, rng)
    chosen = np.concatenate([np.zeros_like(chosen[:1]), chosen])
    values = np.concatenate([statistic(chosen) for statistic in statistics])  # (m, R + 1)
    p = tail_shares(values, values)
    return Relabelled(values[:, 0], p[:, 0], _step_down(p))


def tail_shares(values: Array, null: Array) -> Array:
    """Share of the null that is at least as large as each value, row by row.

    Args:
        values: `(m, R)`.
        null: `(m, L)`.

    Returns:
        `(m, R)`, in [0, 1].
    """
    found = np.empty(values.shape)
    for row, mine, theirs in zip(found, values.round(_DIGITS), null.round(_DIGITS), strict=True):
        row[:] = 1 - np.searchsorted(np.sort(theirs), mine, side="left") / len(theirs)
    return found


def _step_down(p: Array) -> Array:
    """Adjusted p-values of the first column of `(m, R + 1)`."""
    order = np.argsort(p[:, 0], kind="stable")
    smallest = np.minimum.accumulate(p[order][::-1])[::-1]  # of j and all less significant ones
    tiny = 1e-12
    stepped = (smallest <= p[order, :1] + tiny).mean(axis=1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted
