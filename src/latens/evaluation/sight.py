"""What tests of ranks would have found, had the posterior been wrong in a known way.

A test that does not reject says little before it is known what it could have seen. Here one of
the M + 1 members of each image is called the truth, as in the tests, and the draws around it are
altered, for the images, the operator and the posterior at hand:

| posterior | draws around the truth |
|---|---|
| std × 0.8, std × 1.25 | moved towards the mean of the draws, or away from it |
| mean off by 0.2 std | moved by that share of the standard deviation of each pixel |
| of another image | those of the image before: right in distribution, and deaf to y |
| independent pixels | exchanged in each pixel apart from all others: right in every pixel |

The critical value is that of relabellings without alteration, of the families of signals:
densities, latents and the local test are left out. Were the draws those of the exact posterior,
the power would be that of the tests; where they are not, it is that about a posterior like them.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.distributions import Purpose, row_noise
from latens.evaluation.calibration_numbers import Values
from latens.metrics import (
    chi_square_statistic,
    ecdf_statistic,
    labellings,
    member_ranks,
    random_orders,
    rank_statistics,
    tail_shares,
)

Alteration = Callable[[Tensor, list[int], int], Tensor]
"""Truth and draws of a block, `(M + 1, B, *signal_shape)`, keys of its images and a seed → the
same, altered."""

SCORES = (ecdf_statistic, chi_square_statistic)
"""What is measured of every histogram of ranks."""

NARROW, WIDE = "std × 0.8", "std × 1.25"
"""Posteriors that are too sure, and not sure enough."""

LABELLINGS = 999
REPLICATES = 200
"""Choices of a truth in each altered posterior; a power has a standard error of at most .035."""

_EXCHANGE = 102  # third key of noise, away from those of quantities


def _scaled(factor: float) -> Alteration:
    def alter(members: Tensor, keys: list[int], seed: int) -> Tensor:
        mean = members.mean(dim=0)
        return mean + factor * (members - mean)

    return alter


def _shifted(members: Tensor, keys: list[int], seed: int) -> Tensor:
    return members + 0.2 * members.std(dim=0)


class _OfAnother:
    """Members of the image before, across blocks; of the last of its block for the first image."""

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def __call__(self, members: Tensor, keys: list[int], seed: int) -> Tensor:
        before = members[:, -1:] if self._last is None else self._last
        self._last = members[:, -1:].clone()
        return torch.cat([before, members[:, :-1]], dim=1)


def _independent(members: Tensor, keys: list[int], seed: int) -> Tensor:
    key = (seed, Purpose.SIMULATION, _EXCHANGE)
    shape = (len(members), *members.shape[2:])
    order = row_noise(key, keys, shape, device=members.device).argsort(dim=0)
    return members.gather(0, order)


def alterations() -> dict[str, Alteration]:
    """Wrong posteriors by name, for one pass over images: one of them remembers the last block."""
    return {
        NARROW: _scaled(0.8),
        WIDE: _scaled(1.25),
        "mean off by 0.2 std": _shifted,
        "of another image": _OfAnother(),
        "independent pixels": _independent,
    }


def power_of_ranks(
    values: Values, altered: Mapping[str, Values], rng: np.random.Generator, level: float = 0.05
) -> dict[str, float]:
    """Share of planted truths that the tests find, for each altered posterior.

    Args:
        values: Family → numbers of truth and draws, `(M + 1, n, k)`.
        altered: Kind → the same numbers of altered draws; families that it lacks are left out.
        rng: Source of ties and of labellings.
        level: Chance of a false alarm.

    Returns:
        Kind → power, in [0, 1].
    """
    if not altered:
        return {}
    families = list(next(iter(altered.values())))
    members, images, _ = values[families[0]].shape
    draws = members - 1
    chosen = labellings(draws, images, LABELLINGS, rng)
    right = [member_ranks(values[name], random_orders(draws, images, rng)) for name in families]
    null = np.concatenate([rank_statistics(rows, SCORES)(chosen) for rows in right])
    smallest = np.sort(tail_shares(null, null).min(axis=0))
    critical = _critical(smallest, level)
    found = {}
    for kind, numbers in altered.items():
        planted = [planted_ranks(values[name], numbers[name], rng) for name in families]
        mine = labellings(draws, images, REPLICATES, rng)
        seen = np.concatenate([rank_statistics(rows, SCORES)(mine) for rows in planted])
        found[kind] = float((tail_shares(seen, null).min(axis=0) <= critical).mean())
    return found


def planted_ranks(
    right: NDArray[np.float64], wrong: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rank of each member as it is among the others as they were altered, ties at random.

    Args:
        right, wrong: Numbers of members, `(M + 1, n, k)`.
        rng: Source of ties.

    Returns:
        Ranks in {0, …, M}, `(M + 1, n, k)`.
    """
    ranks = np.empty(right.shape, dtype=np.int64)
    for row, (mine, own) in enumerate(zip(right, wrong, strict=True)):
        below = (wrong < mine).sum(axis=0) - (own < mine)
        equal = (wrong == mine).sum(axis=0) - (own == mine)
        ranks[row] = below + rng.integers(equal + 1)
    return ranks


def _critical(smallest: NDArray[np.float64], level: float) -> float:
    """Largest value with at most a share `level` of sorted smallest p-values at or below it."""
    reached = np.searchsorted(smallest, smallest, side="right") / len(smallest)
    allowed = smallest[reached <= level]
    return float(allowed[-1]) if len(allowed) else 0.0
