"""Shapes that a learning curve may have, and how likely each is before any data.

    power     g(N) = N^−α
    broken    g(N) = N^−α₁ (1 + (N/d)^(1/s))^(−(α₂ − α₁) s)
    late      the same with α₁ = 0

A curve is f(N) = E_∞ + a g(N). The broken law has exponent α₁ well below N = d and α₂ well
above; it is the form of Caballero et al. with one break. A late law is flat at first, the
small-data region of Hestness et al.: calibration errors of networks often begin so.

Every exponent has the prior log α ~ N(0, 0.8²), 90 % in [.27, 3.7]. What a finite number of
samples adds to the error of a regular estimator is of the order 1/N (variance-limited learning,
Bahri et al.): α = 1 above a floor. Errors of large networks, far above their floor, fall with .07
to .35 (Hestness et al.), for which the spread leaves room. Three sizes of three data seeds hardly
determine an exponent, so what is said beyond them leans on this prior, and a law that may break
keeps the answer from being too sure.

References:
    Hestness et al. (2017), Deep learning scaling is predictable, empirically,
    https://arxiv.org/abs/1712.00409
    Bahri et al. (2021), Explaining neural scaling laws, https://arxiv.org/abs/2102.06701
    Caballero et al. (2022), Broken neural scaling laws, https://arxiv.org/abs/2210.14891
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from latens.errors import ConfigError

Array = NDArray[np.float64]

MEDIAN_EXPONENT = 1.0
"""Prior median of an exponent."""

LOG_SPREAD = 0.8
"""Prior standard deviation of the logarithm of an exponent."""

SHARPNESS = 0.3
"""s of the broken law: the exponent changes over about 2.6 octaves (10 to 90 % of the change)."""


@dataclass(frozen=True)
class Shapes:
    """A set of shapes with their prior probabilities.

    Attributes:
        before: Exponent well below the break, `(K,)`; that of the whole law if none.
        after: Exponent well above the break, `(K,)`.
        place: N of the break, `(K,)`.
        prior: Prior probability, `(K,)`; what is missing to one lies outside the set.
    """

    before: Array
    after: Array
    place: Array
    prior: Array

    def values(self, n: ArrayLike) -> Array:
        """g(N), `(K, len(n))`; 0 at N = ∞.

        Args:
            n: Sample sizes, positive, `(J,)`.
        """
        return np.exp(self._logs(np.atleast_1d(np.asarray(n, dtype=np.float64))))

    def weights(self, n: ArrayLike, first: float, last: float) -> Array:
        """w(N) with f(N) = f(last) + (f(first) − f(last)) w(N), `(K, len(n))`.

        w = 1 at the first size and 0 at the last; at N = ∞ it is negative, and the floor is
        f(last) + (f(first) − f(last)) w(∞).

        Args:
            n: Sample sizes, positive, `(J,)`.
            first, last: Sizes between which the curve is anchored, first < last.

        Raises:
            ConfigError: If the two sizes are not ascending.
        """
        if not 0 < first < last:
            raise ConfigError(
                "first", f"a positive size below last ({last:g})", first, "Give two sizes."
            )
        ends = self._logs(np.array([first, last]))
        sizes = np.atleast_1d(np.asarray(n, dtype=np.float64))
        # relative to the first size, so that steep laws do not underflow
        scaled = np.exp(self._logs(sizes) - ends[:, :1])
        smallest = np.exp(ends[:, 1:] - ends[:, :1])
        return (scaled - smallest) / (1 - smallest)

    def _logs(self, n: Array) -> Array:
        with np.errstate(divide="ignore"):
            log_n = np.log(n)
        before, after = self.before[:, None], self.after[:, None]
        ratio = (log_n - np.log(self.place)[:, None]) / SHARPNESS
        bend = np.where(after == before, 0.0, (after - before) * SHARPNESS)
        with np.errstate(invalid="ignore"):
            # at N = ∞ both terms are infinite; their sum is −∞ for positive exponents
            logs = -before * log_n - bend * np.logaddexp(0.0, ratio)
        return np.where(np.isposinf(log_n), -np.inf, logs)


def power_shapes(count: int = 48) -> Shapes:
    """Pure powers, their exponents at equally likely quantiles of the prior."""
    return grid_of_powers(_quantiles(count))


def powers_between(lowest: float, highest: float, count: int = 128) -> Shapes:
    """Pure powers between two exponents, evenly spaced in log α, each with its prior mass."""
    edges = np.geomspace(lowest, highest, count + 1)
    exponents = np.sqrt(edges[1:] * edges[:-1])
    mass = np.diff(stats.norm.cdf(np.log(edges / MEDIAN_EXPONENT) / LOG_SPREAD))
    return Shapes(exponents, exponents, np.ones(count), mass)


def broken_shapes(first: float, last: float, count: int = 10, places: int = 6) -> Shapes:
    """Laws with one break between two sizes, uniform in log N; both exponents from the prior.

    Args:
        first, last: Smallest and largest N of the break.
        count: Quantiles of the prior on each side.
        places: Positions of the break.
    """
    values = _quantiles(count)
    at = np.geomspace(first, last, 2 * places + 1)[1::2]
    before, after, place = (a.ravel() for a in np.meshgrid(values, values, at, indexing="ij"))
    keep = before != after
    kept = int(keep.sum())
    return Shapes(before[keep], after[keep], place[keep], np.full(kept, 1 / kept))


def late_shapes(first: float, last: float, count: int = 10, places: int = 8) -> Shapes:
    """Laws that are flat up to a place between two sizes and fall from there on.

    Args:
        first, last: Smallest and largest N at which the fall begins, uniform in log N.
        count: Quantiles of the prior of the exponent.
        places: Positions.
    """
    at = np.geomspace(first, last, 2 * places + 1)[1::2]
    after, place = (a.ravel() for a in np.meshgrid(_quantiles(count), at, indexing="ij"))
    return Shapes(np.zeros(len(after)), after, place, np.full(len(after), 1 / len(after)))


def grid_of_powers(exponents: ArrayLike) -> Shapes:
    """Pure powers with given exponents, equally likely."""
    values = np.asarray(exponents, dtype=np.float64)
    flat = np.ones_like(values)
    return Shapes(values, values, flat, flat / len(values))


def mixed(parts: list[Shapes], shares: list[float]) -> Shapes:
    """Several sets as one, each with its share of the prior probability.

    Raises:
        ConfigError: If the shares are not probabilities, one for each part.
    """
    if len(parts) != len(shares) or min(shares) < 0 or not np.isclose(sum(shares), 1):
        raise ConfigError("shares", "one probability per part, sum 1", shares, "Normalise them.")
    return Shapes(
        np.concatenate([p.before for p in parts]),
        np.concatenate([p.after for p in parts]),
        np.concatenate([p.place for p in parts]),
        np.concatenate([s * p.prior for s, p in zip(shares, parts, strict=True)]),
    )


def _quantiles(count: int) -> Array:
    middle = (np.arange(count) + 0.5) / count
    return MEDIAN_EXPONENT * np.exp(LOG_SPREAD * stats.norm.ppf(middle))
