"""Are ranks uniform on {0, …, M}? Tests that know that ranks are few whole numbers.

Both tests are functions of the histogram of ranks, so that thousands of histograms are tested at
once. Neither treats ranks as continuous: a Kolmogorov–Smirnov test of M + 1 values against a
uniform density has the wrong size, and one of a curve of expected coverage has no power.

| test | statistic | null distribution | sees best |
|---|---|---|---|
| χ² | Σ_j (O_j − E_j)²/E_j over J blocks of ranks | χ², J − 1 degrees of freedom | spread |
| ECDF | smallest tail probability of the counts below k | exact, for every n and M | shift |

Säilynoja, Bürkner, Vehtari (2022), Graphical test for discrete uniformity and its applications in
goodness-of-fit evaluation and multiple sample comparison,
https://doi.org/10.1007/s11222-022-10090-6, where the ECDF is evaluated on a grid of its own and
the band of simulated ranks adjusted by simulation. Here it is evaluated at the M values between
ranks, where the counts are exactly binomial, and the level is exact by recursion.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from latens.errors import ConfigError

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

_ROUNDING = 1e-9
"""Chances below it are lost in a difference from 1; their union bound, at most M times as large,
stands in for them."""

_NEGLIGIBLE = 1e-18
"""Poisson tail left out of each convolution, far below the rounding of the result."""


def rank_counts(ranks: NDArray[np.integer], draws: int) -> Counts:
    """Histogram of ranks.

    Args:
        ranks: Integers in {0, …, M}, `(n, *quantities)`.
        draws: M.

    Returns:
        Counts of each rank, `(*quantities, M + 1)`, summing to n.

    Raises:
        ConfigError: If there is no rank, or one outside {0, …, M}.
    """
    ranks = np.asarray(ranks)
    if draws < 1 or not ranks.size or ranks.min() < 0 or ranks.max() > draws:
        found = f"{ranks.min()} … {ranks.max()}" if ranks.size else "none"
        raise ConfigError(
            "ranks",
            f"whole numbers in 0 … M = {draws}, at least one",
            found,
            "Count the draws below the truth, among as many draws as `draws` says.",
        )
    flat = ranks.reshape(len(ranks), -1).astype(np.int64)
    quantities = flat.shape[1]
    place = flat + (draws + 1) * np.arange(quantities)
    counts = np.bincount(place.ravel(), minlength=quantities * (draws + 1))
    return counts.reshape(*ranks.shape[1:], draws + 1)


def block_edges(images: int, draws: int) -> NDArray[np.int64]:
    """Edges of the J blocks of ranks of the chi-square test.

    J ≤ min(M + 1, max(2, ⌊n^(2/5)⌋)), a power of n that keeps n/J ≥ 6 from n = 20 on. Many cells
    spend the power on roughness that no posterior has: with n = 500, J is at most 12. J is the
    largest divisor of M + 1 in the upper half of that range, and blocks are equal. Where there is
    none (M + 1 = 101) J is the bound itself, blocks differ by one rank, and expected counts are
    exact all the same.

    Args:
        images: n.
        draws: M.

    Returns:
        `(J + 1,)`: block j holds the ranks edges[j] ≤ r < edges[j + 1].
    """
    values = draws + 1
    most = min(values, max(2, int(images**0.4 + 1e-9)))
    divisors = [j for j in range(most, most // 2, -1) if values % j == 0 and j > 1]
    blocks = divisors[0] if divisors else most
    return np.arange(blocks + 1) * values // blocks


def chi_square_statistic(counts: Counts) -> Array:
    """Pearson's statistic of histograms of ranks over the blocks of `block_edges`.

    Args:
        counts: `(..., M + 1)`, each summing to the same n.

    Returns:
        `(...)`, no unit; larger is less uniform.
    """
    images, values = int(counts.reshape(-1, counts.shape[-1])[0].sum()), counts.shape[-1]
    edges = block_edges(images, values - 1)
    observed = np.add.reduceat(counts, edges[:-1], axis=-1)
    expected = images * np.diff(edges) / values
    return ((observed - expected) ** 2 / expected).sum(axis=-1)


def chi_square_test(ranks: NDArray[np.integer], draws: int) -> tuple[Array, Array]:
    """Chi-square test of uniformity.

    Args:
        ranks: Integers in {0, …, M}, `(n, *quantities)`; the n images are independent.
        draws: M.

    Returns:
        Statistic and p-value (χ² with J − 1 degrees of freedom), each `(*quantities)`.
    """
    counts = rank_counts(ranks, draws)
    statistic = chi_square_statistic(counts)
    blocks = len(block_edges(len(ranks), draws)) - 1
    return statistic, stats.chi2.sf(statistic, blocks - 1)


def ecdf_statistic(counts: Counts) -> Array:
    """−log of the smallest two-sided pointwise tail probability of the ECDF of ranks.

        C_k = #{i : r_i < k} ~ Bin(n, k/(M+1)),   γ = min_k 2 min(P(B ≤ C_k), P(B ≥ C_k), ½)

    Args:
        counts: Histograms of ranks, `(..., M + 1)`, each summing to the same n.

    Returns:
        −log γ, `(...)`, nats, in [0, ∞); larger is less uniform.
    """
    images, values = int(counts.reshape(-1, counts.shape[-1])[0].sum()), counts.shape[-1]
    tails = _tails(images, values)
    below = np.cumsum(counts, axis=-1)[..., :-1]
    return -np.log(tails[np.arange(values - 1), below].min(axis=-1))


def ecdf_test(ranks: NDArray[np.integer], draws: int) -> tuple[Array, Array]:
    """Test of uniformity by the whole ECDF of ranks; the p-value is exact.

    It rejects at level α exactly where the ECDF leaves the simultaneous band of level 1 − α, so
    the picture (`ecdf_band`) and the number are one test.

    Args:
        ranks: Integers in {0, …, M}, `(n, *quantities)`; the n images are independent.
        draws: M.

    Returns:
        Statistic −log γ of `ecdf_statistic` and its p-value, each `(*quantities)`; p-values below
        1e-9 are upper bounds.
    """
    statistic = ecdf_statistic(rank_counts(ranks, draws))
    p_value = [_chance_beyond(len(ranks), draws + 1, float(s)) for s in np.ravel(statistic)]
    return statistic, np.reshape(p_value, statistic.shape)


def ecdf_band(images: int, draws: int, level: float = 0.95) -> tuple[Array, Array]:
    """Simultaneous band of the difference between the ECDF of uniform ranks and its expectation.

    Args:
        images: n.
        draws: M.
        level: Probability that the whole curve stays inside, at least.

    Returns:
        Lower and upper bound of #{r_i < k}/n − k/(M+1) at k = 1, …, M, each `(M,)`; the curve may
        touch them.

    Raises:
        ConfigError: If the level is no probability.
    """
    if not 0 < level < 1:
        raise ConfigError("level", "a probability in (0, 1)", level, "Use 0.95, not 95.")
    values = draws + 1
    miss = 1 - level
    bound = brentq(lambda s: _chance_beyond(images, values, s) - miss, 1e-6, 700.0, xtol=1e-9)
    assert isinstance(bound, float)
    if _chance_beyond(images, values, bound) > miss:
        bound += 1e-6  # the chance jumps at the root, and the band is on its far side
    inside = _inside(images, values, bound)
    lower, upper = _limits(inside)
    expected = np.arange(1, values) / values
    return lower / images - expected, upper / images - expected


@lru_cache(maxsize=64)
def _tails(images: int, values: int) -> Array:
    """Two-sided tail probability of every count below k, `(M, n + 1)`."""
    count = np.arange(images + 1)
    chance = np.arange(1, values)[:, None] / values
    low = stats.binom.cdf(count, images, chance)
    high = stats.binom.sf(count - 1, images, chance)
    tails = np.clip(2 * np.minimum(low, high), np.finfo(float).tiny, 1.0)
    tails.flags.writeable = False
    return tails


def _inside(images: int, values: int, statistic: float) -> NDArray[np.bool_]:
    """Counts below each k that are not as unlikely as `statistic`, `(M, n + 1)`."""
    # equal probabilities on both sides of the middle differ by rounding
    return -np.log(_tails(images, values)) < statistic - 1e-9 * max(1.0, statistic)


def _limits(inside: NDArray[np.bool_]) -> tuple[Counts, Counts]:
    """Smallest and largest of the counts of each row."""
    return inside.argmax(axis=1), inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)


@lru_cache(maxsize=65536)
def _chance_beyond(images: int, values: int, statistic: float) -> float:
    """P(statistic of uniform ranks ≥ `statistic`), exactly.

    A multinomial histogram is one of independent Poisson counts given their sum, and for these
    the chance that partial sums stay between limits is one convolution per rank.
    """
    allowed = _inside(images, values, statistic)
    if not allowed.any(axis=1).all():
        return 1.0
    lower, upper = _limits(allowed)
    step = stats.poisson.pmf(np.arange(images + 1), images / values)
    keep = int(np.flatnonzero(step > _NEGLIGIBLE)[-1]) + 1
    step = step[:keep]
    inside, start = np.ones(1), 0  # probability of each partial sum from `start` on
    for low, high in zip(lower, upper, strict=True):
        spread = np.convolve(inside, step)
        spread = spread[max(low - start, 0) : high - start + 1]
        inside, start = spread, max(low, start)
    last = images - start - np.arange(len(inside))
    reach = (last >= 0) & (last < keep)
    total = float(inside[reach] @ step[last[reach]])
    chance = 1 - total / stats.poisson.pmf(images, images)
    if chance > _ROUNDING:
        return float(min(chance, 1.0))
    return float(min((values - 1) * np.exp(-statistic), _ROUNDING))
