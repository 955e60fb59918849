"""Many dependent quantities, one exact test: which of M + 1 signals is called the truth?

Given y, the truth and M exchangeable draws of an exact posterior are M + 1 draws of one
distribution. To call another of the M + 1 the truth, independently in every image, changes
nothing. The maximum of a statistic over quantities is therefore compared with its values after
such relabellings, in which the quantities depend on each other as they do in the posterior:
neighbouring pixels are nearly one pixel, and count as little more. The test is exact for every M,
n, number of quantities and dependence between them, and holds for quantities of the measurement.

A sign-flip or bootstrap of images would keep the misfit in; Holm's rule would treat correlated
quantities as if each were news.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from latens.errors import ConfigError, ShapeError

Array = NDArray[np.float64]
Score = Callable[[NDArray[np.int64]], Array]
"""Histograms of ranks, `(..., M + 1)` → how far each is from uniform, `(...)`."""

_ENOUGH = 20
"""Relabellings as extreme as the truth after which no more are needed."""

_BLOCK = 2**21
"""Ranks that one block of relabellings may hold."""


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


def relabelling_test(
    ranks: NDArray[np.integer],
    scores: Sequence[Score],
    rng: np.random.Generator,
    relabellings: int = 999,
) -> tuple[Array, Array]:
    """Test of the largest score over quantities; exact under exchangeability.

        T = max_k score(histogram over images of the ranks of quantity k)
        p = (1 + #{relabellings with T* ≥ T}) / (1 + relabellings)

    Relabelling ends early at the twentieth T* ≥ T, after l of them, with p = 20/l: a sequential
    p-value is as exact, and what is not significant is done after a few.

    Args:
        ranks: Rank of every member, `(M + 1, n, k)`, the truth first; from `member_ranks`.
        scores: Functions of histograms, such as `ecdf_statistic` and `chi_square_statistic`,
            each with its own maximum and p-value.
        rng: Source of the relabellings.
        relabellings: Largest number of them; no p-value is below 1/(relabellings + 1).

    Returns:
        Statistic T and p-value of each score, `(len(scores),)` each.

    Raises:
        ConfigError: If there are no relabellings.
        ShapeError: If the ranks have another shape.

    References:
        Hemerik, Goeman (2018), Exact testing with random permutations,
        https://doi.org/10.1007/s11749-017-0571-1;
        Besag, Clifford (1991), Sequential Monte Carlo p-values,
        https://doi.org/10.1093/biomet/78.2.301
    """
    if relabellings < 1:
        raise ConfigError("relabellings", "1 or more", relabellings, "Use 999.")
    if ranks.ndim != 3:
        raise ShapeError("ranks", "(M + 1, n, k)", ranks.shape, "Make them with `member_ranks`.")
    members, images, quantities = ranks.shape
    table = np.empty((images, members, quantities), dtype=np.int64)
    np.add(ranks.transpose(1, 0, 2), members * np.arange(quantities), out=table)
    table = table.reshape(-1, quantities)
    first = members * np.arange(images)  # row of the truth of each image

    def maxima(chosen: NDArray[np.int64]) -> Array:
        """Largest score of each labelling `(R, n)`, `(len(scores), R)`."""
        place = table[first + chosen]  # (R, n, k)
        place += (members * quantities * np.arange(len(chosen)))[:, None, None]
        counts = np.bincount(place.ravel(), minlength=len(chosen) * quantities * members)
        counts = counts.reshape(len(chosen), quantities, members)
        return np.stack([score(counts).max(axis=-1) for score in scores])

    observed = maxima(np.zeros((1, images), dtype=np.int64))
    largest = max(1, _BLOCK // (images * quantities))
    reached = np.zeros((len(scores), 0), dtype=bool)
    while reached.shape[1] < relabellings and (reached.sum(axis=1) < _ENOUGH).any():
        done = reached.shape[1]
        count = min(largest, max(done, 2 * _ENOUGH), relabellings - done)
        found = maxima(rng.integers(members, size=(count, images)))
        reached = np.concatenate([reached, found >= observed - 1e-9], axis=1)
    return observed[:, 0], np.array([_sequential(row) for row in reached])


def _sequential(reached: NDArray[np.bool_]) -> float:
    """p-value of relabellings in their order: those after enough had reached T do not count."""
    if reached.sum() < _ENOUGH:
        return float((1 + reached.sum()) / (1 + len(reached)))
    needed = int(np.flatnonzero(reached)[_ENOUGH - 1]) + 1
    return _ENOUGH / needed
