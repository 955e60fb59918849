"""Which measurements are flagged: those unlike usual images in any score. The rule of the gate.

A measurement has a p-value in every score that it shares with the usual images: that of its rank
among them, on both sides in `strangeness.TWO_SIDED`, else against larger values. Holm's rule takes
account of the number k of scores. It is flagged where an adjusted p-value is at most `SUSPICIOUS`,
or, where n usual images are too few for such a p-value, beyond all of them in some score.

`store.schemas.ANY` is this rule as one score, `metrics.surprise.strangest`: the smallest of the
p-values, which is the one that decides. It takes the scores that a new measurement has, so not
`replicates`.

Usual images are compared with each other by leaving out all images of the same group, and so are
shifted ones whose signals are those of the usual images: none is compared with itself.
"""

from collections.abc import Sequence
from math import floor

import numpy as np
from numpy.typing import NDArray

from latens.evaluation.strangeness import SCORES, TWO_SIDED, Columns
from latens.metrics.population import holm
from latens.metrics.surprise import two_sided_p_value, upper_p_value

SUSPICIOUS = 0.01
"""A measurement with an adjusted p-value of at most this is flagged."""

FLAGGED = "flagged"
"""Name of the share of flagged images among its numbers."""

COMPARED = tuple(name for name in SCORES if name != "replicates")
"""Scores that the gate compares, in the order of `SCORES`."""


def compared(found: Columns, usual: Columns) -> list[str]:
    """Scores that both have, in the order of `SCORES`."""
    return [name for name in COMPARED if name in found and name in usual]


def p_values(found: Columns, usual: Columns) -> NDArray[np.float64]:
    """p-value of each image in each of the k scores of `compared`, `(B, k)`."""
    columns = [
        (two_sided_p_value if name in TWO_SIDED else upper_p_value)(found[name], usual[name])
        for name in compared(found, usual)
    ]
    return np.stack(columns, axis=1)


def judge(
    p: NDArray[np.float64], smallest: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What the rule says of one image.

    Args:
        p: Its p-values, `(k,)`.
        smallest: What each can be at least, `(k,)`; see `smallest_p_values`.

    Returns:
        p-values after Holm's rule, and the scores it is flagged by, `(k,)` each.
    """
    adjusted = holm(p)
    beyond = (p <= smallest + 1e-12) & (len(p) * smallest > SUSPICIOUS + 1e-12)
    return adjusted, (adjusted <= SUSPICIOUS + 1e-12) | beyond


def smallest_p_values(names: Sequence[str], usual: Columns) -> NDArray[np.float64]:
    """Smallest p-value that so many usual images allow, one for each score."""
    return np.array([(2 if name in TWO_SIDED else 1) / (len(usual[name]) + 1) for name in names])


def by_chance(names: Sequence[str], usual: Columns) -> float:
    """Bound of the share of usual measurements that are flagged, in [0, 1].

    A usual measurement is flagged only if one of its k p-values is at most `SUSPICIOUS`/k, or the
    smallest that there is; the chances of that are added up.
    """
    total = 0.0
    for smallest in smallest_p_values(names, usual):
        steps = floor(SUSPICIOUS / len(names) / smallest + 1e-9)
        total += max(steps, 1) * float(smallest)
    return min(total, 1.0)


def flagged(found: Columns, usual: Columns) -> NDArray[np.bool_]:
    """Whether the rule flags each image, `(B,)`."""
    p, smallest = p_values(found, usual), smallest_p_values(compared(found, usual), usual)
    return np.array([judge(own, smallest)[1].any() for own in p], dtype=bool)


def among_usual(found: Columns, usual: Columns, groups: Sequence[str]) -> NDArray[np.bool_]:
    """`flagged` for images of the same subjects as the usual ones, each against those of others.

    Args:
        found: Scores of the usual images themselves, or of the same images shifted, `(n,)` each.
        usual: Scores of the usual images, `(n,)` each.
        groups: Group of each image; two or more.

    Returns:
        `(n,)`.
    """
    labels = np.array([str(group) for group in groups])
    result = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        own = labels == label
        result[own] = flagged(
            {name: values[own] for name, values in found.items()},
            {name: values[~own] for name, values in usual.items()},
        )
    return result


def on_scales(columns: Columns, names: Sequence[str]) -> NDArray[np.float64]:
    """Scores as one table, `(n, k)`, those of `TWO_SIDED` on the scale of their distances."""
    scales = [TWO_SIDED.get(name, np.asarray) for name in names]
    return np.stack([s(columns[n]) for s, n in zip(scales, names, strict=True)], axis=1)
