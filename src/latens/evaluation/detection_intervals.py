"""Intervals over groups of images of numbers that say what a score of strangeness sees."""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latens.evaluation.intervals import Interval
from latens.metrics import LEVEL
from latens.metrics.detection import Detection as Number

REPLICATES = 1000
ROUNDING = 1e-12
"""Resamples that differ by less do not differ."""


def detection_interval(
    number: Number,
    usual: tuple[ArrayLike, Sequence[str]],
    shifted: tuple[ArrayLike, Sequence[str]],
    same_images: bool,
    seed: int = 0,
) -> Interval:
    """A detection number with its percentile bootstrap over groups.

    Args:
        number: `auroc`, `average_precision` or `false_positive_rate`, or one of several scores.
        usual: Scores and groups of the usual images, `(n,)`, or `(n, k)` of k scores.
        shifted: Scores and groups of the shifted ones.
        same_images: True if both are of the same images: their groups are resampled together.
        seed: Seed of the resampling.

    Returns:
        Estimate and interval at `LEVEL`; NaN bounds where resamples do not vary beyond rounding,
        as when the scores do not overlap, or for fewer than two groups. See `auroc_interval`.
    """
    scores = np.concatenate([np.asarray(usual[0]), np.asarray(shifted[0])])
    strange = np.repeat([False, True], [len(usual[1]), len(shifted[1])])
    generator = np.random.default_rng(seed)
    if same_images:
        weights = _resamples(generator, [*usual[1], *shifted[1]])
    else:
        weights = np.hstack([_resamples(generator, labels) for _, labels in (usual, shifted)])
    groups = len(set(usual[1])) + (0 if same_images else len(set(shifted[1])))
    return _percentile(number, scores, strange, weights, groups)


def auroc_interval(
    number: Number,
    usual: tuple[ArrayLike, Sequence[str]],
    shifted: tuple[ArrayLike, Sequence[str]],
    same_images: bool,
    seed: int = 0,
) -> Interval:
    """AUROC with an interval that perfect separation does not shrink to a point.

    Resamples of scores that do not overlap never overlap, so that the bootstrap knows nothing
    there, and next to nothing close by. The exact binomial bound does: k disjoint pairs of a usual
    and a shifted group are all in order with probability AUROC^k, so after perfect separation

        AUROC ≥ (1 − level)^(1/k),   about 1 − 3/k at 95 %

    and no end of an interval lies nearer to 1 (or to 0, with `1 −` it) than that.

    With the same images on both sides the k pairs are of different images, each of which is in
    two of them. The bound holds there too where a larger usual score does not make a smaller
    shifted score of the same image more likely. The scores of `two_sided` are taken as distances
    from a median that is known, those of `smallest_p_value` as if the other usual images were.

    Args:
        number: `auroc`, `two_sided(auroc)`, or `smallest_p_value(auroc, …)`.
        usual, shifted, same_images, seed: As `detection_interval`.

    Returns:
        Estimate and interval at `LEVEL`; NaN bounds for fewer than two groups.

    References:
        Clopper, Pearson (1934), The use of confidence or fiducial limits illustrated in the case
        of the binomial, Biometrika 26, https://doi.org/10.1093/biomet/26.4.404
        Hanley, Lippman-Hand (1983), If nothing goes wrong, is everything all right?, JAMA 249,
        https://doi.org/10.1001/jama.1983.03330370053031
    """
    found = detection_interval(number, usual, shifted, same_images, seed)
    pairs = min(len(set(usual[1])), len(set(shifted[1])))
    if pairs < 2 or not isfinite(found.value):
        return found
    lower, upper = found.lower, found.upper
    if not isfinite(upper - lower):  # the resamples do not vary
        lower = upper = found.value
    nearest = (1 - LEVEL) ** (1 / pairs)
    return replace(found, lower=min(lower, nearest), upper=max(upper, 1 - nearest))


def selection_interval(
    number: Number, scores: ArrayLike, risk: ArrayLike, groups: Sequence[str], seed: int = 0
) -> Interval:
    """A number of a risk-coverage curve with its percentile bootstrap over groups.

    Args:
        number: `aurc` or `augrc`.
        scores: Uncertainty of each image.
        risk: Error of each image.
        groups: Group of each image.
        seed: Seed of the resampling.

    Returns:
        As `detection_interval`.
    """
    weights = _resamples(np.random.default_rng(seed), groups)
    return _percentile(number, scores, risk, weights, len(set(groups)))


def _percentile(
    number: Number, scores: ArrayLike, other: ArrayLike, weights: NDArray[np.float64], groups: int
) -> Interval:
    value = float(number(scores, other, None)[0])
    images = weights.shape[1]
    found = number(scores, other, weights)
    found = found[np.isfinite(found)]
    if groups < 2 or len(found) < 0.9 * len(weights) or np.ptp(found) < ROUNDING:
        return Interval(value, nan, nan, LEVEL, images, groups)
    lower, upper = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(lower), float(upper), LEVEL, images, groups)


def _resamples(generator: np.random.Generator, labels: Sequence[str]) -> NDArray[np.float64]:
    """How often each image occurs in each resample of groups, `(R, n)`."""
    _, index = np.unique([str(label) for label in labels], return_inverse=True)
    count = int(index.max()) + 1
    counts = generator.multinomial(count, np.full(count, 1 / count), size=REPLICATES)
    return counts.astype(np.float64)[:, index]
