"""Test sets and nested training subsets that keep groups whole.

Groups are shuffled once. A subset of N images is the longest prefix of that sequence with at
most N images, so a smaller subset lies inside a larger one. Roles (training, validation,
calibration) are dealt along the same sequence: each group goes to the role that is furthest
behind its share. A group's role depends only on the groups before it, so roles are nested too,
and every prefix is close to the shares (within one image when groups are single images).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latens.errors import ConfigError

ROLES = ("train", "validation", "calibration")
FULL_DEAL = 8
"""Number of groups among which every role with a positive share receives one."""

_HOLD_OUT_STREAM, _SUBSET_STREAM = 0, 1


@dataclass(frozen=True, eq=False)
class Subset:
    """The images that one fit may use, by role.

    Attributes:
        n: Number of images in all roles together; may be below the size asked for, since
            groups stay whole.
        train: Positions of training images, `(n_train,)`. That of a smaller subset is the
            beginning of that of a larger one; the same holds for the other roles.
        validation: Positions of the images that decide on early stopping.
        calibration: Positions of the images that fit conformal factors.
    """

    n: int
    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray

    @property
    def indices(self) -> np.ndarray:
        """Positions of all images, `(n,)`: training, then validation, then calibration."""
        return np.concatenate([self.train, self.validation, self.calibration])


def hold_out(groups: Sequence[str], test_images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Set whole groups aside for testing.

    Args:
        groups: Group of each image.
        test_images: Number of images wanted in the test set. Groups are added until it is
            reached, so the set is larger where the last group overshoots.
        seed: Seed of the choice.

    Returns:
        Positions of the pool and of the test set, each in ascending order.

    Raises:
        ConfigError: If nothing would be left for the pool, or `test_images` is below 1.
    """
    if test_images < 1:
        raise ConfigError(
            "test_images", "at least 1", test_images, "Keep some images for testing."
        )
    members = _members(groups, np.arange(len(groups)))
    test: list[int] = []
    order = iter(_shuffled(list(members), seed, _HOLD_OUT_STREAM))
    while len(test) < min(test_images, len(groups)):
        test.extend(members[next(order)])
    if len(test) == len(groups):
        raise ConfigError(
            "test_images",
            f"fewer than the {len(groups)} images ({len(members)} groups), with at least one "
            "group left over",
            test_images,
            "Ask for a smaller test set, or add data.",
        )
    pool = sorted(set(range(len(groups))) - set(test))
    return np.asarray(pool, dtype=np.int64), np.asarray(sorted(test), dtype=np.int64)


def nested_subsets(
    groups: Sequence[str],
    pool: np.ndarray,
    sizes: Sequence[int],
    seed: int,
    shares: tuple[float, float, float] = (0.70, 0.15, 0.15),
) -> dict[int, Subset]:
    """Subsets N₁ ⊂ N₂ ⊂ … of the pool, with nested roles.

    Args:
        groups: Group of each image of the whole set.
        pool: Positions that subsets may use, `(n_pool,)`; see `hold_out`.
        sizes: Numbers N of images, each counting *every* image used, whatever its role.
        seed: Data seed; another one shuffles the groups anew.
        shares: Parts of N for training, validation and calibration; they add up to 1.

    Returns:
        Size asked for → subset, in the order of `sizes`.

    Raises:
        ConfigError: If a size exceeds the pool, or is too small for every role to receive a
            group, or the shares do not add up to 1.
    """
    _check_shares(shares)
    largest = len(pool)
    members = _members(groups, pool)
    order = _shuffled(list(members), seed, _SUBSET_STREAM)
    counts = np.asarray([len(members[group]) for group in order], dtype=np.int64)
    roles = deal_roles(counts, shares)
    ends = np.cumsum(counts)
    smallest = _smallest_size(ends, roles, shares)

    subsets = {}
    for size in sizes:
        if size > largest:
            raise ConfigError(
                "sizes",
                f"at most {largest} images, the size of the pool",
                size,
                f"Use {largest} as the largest size, or hold out fewer test images.",
            )
        if size < smallest:
            raise ConfigError(
                "sizes",
                f"at least {smallest} images, so that every role receives a whole group",
                size,
                f"Use {smallest} as the smallest size.",
            )
        taken = int(np.searchsorted(ends, size, side="right"))
        parts: list[list[int]] = [[] for _ in ROLES]
        for group, role in zip(order[:taken], roles[:taken], strict=True):
            parts[role].extend(members[group])
        train, validation, calibration = (np.asarray(part, dtype=np.int64) for part in parts)
        subsets[int(size)] = Subset(int(ends[taken - 1]), train, validation, calibration)
    return subsets


def deal_roles(counts: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Role of each group in a sequence: the one furthest behind its share.

    Args:
        counts: Images per group, in the order of the sequence, `(g,)`.
        shares: Part of the images that each role should have, `(r,)`.

    Returns:
        Number of the role of each group, `(g,)`. All roles with a positive share occur among
        the first eight groups, or among all of them where there are fewer.
    """
    dealt = [0] * len(shares)
    empty = {role for role, share in enumerate(shares) if share > 0}
    served = sorted(empty)
    deadline = min(FULL_DEAL, len(counts))
    roles = np.empty(len(counts), dtype=np.int64)
    total = 0
    for k, count in enumerate(counts.tolist()):
        total += count
        candidates = sorted(empty) if empty and deadline - k <= len(empty) else served
        # Rounded, so that an exact tie falls to the earlier role whatever the last bit says.
        behind = [round(shares[role] * total - dealt[role], 9) for role in candidates]
        role = candidates[behind.index(max(behind))]
        roles[k] = role
        dealt[role] += count
        empty.discard(role)
    return roles


def _check_shares(shares: tuple[float, float, float]) -> None:
    valid = len(shares) == len(ROLES) and min(shares) >= 0 and shares[0] > 0
    if not valid or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(
            "shares",
            "three parts (training above 0, validation, calibration) that add up to 1",
            tuple(shares),
            "Use (0.70, 0.15, 0.15) unless you have a reason not to.",
        )


def _smallest_size(ends: np.ndarray, roles: np.ndarray, shares: Sequence[float]) -> int:
    """Images in the shortest prefix in which no role with a positive share is empty."""
    needed = [role for role, share in enumerate(shares) if share > 0]
    missing = [ROLES[role] for role in needed if role not in roles]
    if missing:
        raise ConfigError(
            "pool",
            f"at least {len(needed)} groups, one for each role",
            f"{len(roles)} groups, none of them for {missing[0]}",
            "Add data, hold out fewer groups, or set the share of that role to 0.",
        )
    first = max(int(np.flatnonzero(roles == role)[0]) for role in needed)
    return int(ends[first])


def _members(groups: Sequence[str], positions: np.ndarray) -> dict[str, list[int]]:
    """Group → its positions, groups in the order of first appearance."""
    members: dict[str, list[int]] = {}
    for i in positions:
        members.setdefault(groups[int(i)], []).append(int(i))
    return members


def _shuffled(names: list[str], seed: int, stream: int) -> list[str]:
    if seed < 0:
        raise ConfigError("seed", "0 or more", seed, "Use a seed that is not negative.")
    # Two streams: otherwise the test groups of a seed would foretell its training order.
    order = np.random.default_rng((seed, stream)).permutation(len(names))
    return [names[i] for i in order]
