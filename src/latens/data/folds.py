"""Cross-validation that keeps groups whole."""

from collections.abc import Sequence

import numpy as np

from latens.errors import ConfigError

_FOLD_STREAM = 2

SMALL = 60
"""Number of groups below which each is left out in turn."""


def grouped_folds(
    groups: Sequence[str], folds: int, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and test positions of each fold; a group is tested in exactly one of them.

    Groups are shuffled, then dealt, the largest first, each to the fold with the fewest items.

    Args:
        groups: Group of each item, `(n,)`.
        folds: Number of folds, from 2 to the number of groups.
        seed: Seed of the order.

    Returns:
        Pairs of positions, ascending.

    Raises:
        ConfigError: If there are fewer groups than folds.
    """
    names = list(dict.fromkeys(groups))
    if not 2 <= folds <= len(names):
        raise ConfigError(
            "folds", f"2 to {len(names)}, the number of groups", folds, "Use fewer folds."
        )
    if seed < 0:
        raise ConfigError("seed", "0 or more", seed, "Use a seed that is not negative.")
    members: dict[str, list[int]] = {name: [] for name in names}
    for position, group in enumerate(groups):
        members[group].append(position)
    test: list[list[int]] = [[] for _ in range(folds)]
    order = np.random.default_rng((seed, _FOLD_STREAM)).permutation(len(names))
    for group in sorted((members[names[k]] for k in order), key=len, reverse=True):
        min(test, key=len).extend(group)
    everything = np.arange(len(groups))
    return [
        (np.setdiff1d(everything, held_out), np.asarray(sorted(held_out), dtype=np.int64))
        for held_out in test
    ]


def default_folds(groups: int) -> int:
    """Ten folds; below 60 groups, as many as there are groups."""
    return groups if groups < SMALL else 10
