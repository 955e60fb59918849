"""Does the spread know where the errors are? Sparsification within an image."""

import torch
from scipy import stats
from torch import Tensor

from latens.metrics.reduction import check_pair


def sparsification_areas(spread: Tensor, error: Tensor, variance: Tensor) -> Tensor:
    """Areas between sparsification curves of each image.

    S(f) is the root mean square error that is left when the fraction f of elements with the
    largest spread is removed, over the one of the whole image. Four curves:

    - by spread;
    - *oracle*: by the error itself, out of reach for every forecast whose errors are random;
    - *random*: S = 1;
    - *probabilistic reference*: the curve that errors drawn from the stated distribution would
      have, √(mean of s² of what is left / mean of s²) in the same order. Taken with root mean
      squares, it needs no assumption on the shape of that distribution.

    Elements of equal spread are removed in random order: what is left counts with its expected
    square, which is the mean over the tied elements. A constant spread therefore gains nothing
    over random, wherever in the image the errors are.

    Args:
        spread: What elements are sorted by, `(B, *event)`; any increasing function of the
            predicted standard deviation.
        error: Reconstruction minus truth, `(B, *event)`.
        variance: s², the predicted variance behind the reference, `(B, *event)`. Independent of
            the noise in `spread` if both come from few draws; see `spread_bins.halves`.

    Returns:
        `(B, 3)`, no unit, means over all d fractions 0, 1/d, …: AUSE = ∫ S − S_oracle ≥ 0;
        AURG = ∫ 1 − S, the gain over random, at most that of the oracle; and ∫ S − S_reference,
        about 0 where spreads and errors fit, above where errors do not follow the spread as far
        as it claims. NaN for an image without error, or without variance for the last.

    Raises:
        ShapeError: If the shapes differ.

    References:
        Ilg et al. (2018), Uncertainty estimates and multi-hypotheses networks for optical flow,
        https://arxiv.org/abs/1802.07095;
        Pernot (2022), Confidence curves for UQ validation: probabilistic reference vs. oracle,
        https://arxiv.org/abs/2206.15272
    """
    check_pair(spread, error, "spread")
    check_pair(variance, error, "variance")
    square = error.flatten(1).double() ** 2
    variance = variance.flatten(1).double()
    ascending, order = spread.flatten(1).sort(dim=1)
    tie = _tied(ascending)
    by_spread = _curve(_tie_means(square.gather(1, order), tie))
    oracle = _curve(square.sort(dim=1).values)
    reference = _curve(_tie_means(variance.gather(1, order), tie))
    areas = [by_spread - oracle, 1 - by_spread, by_spread - reference]
    return torch.stack([area.mean(dim=1) for area in areas], dim=1)


def error_rank_correlation(spread: Tensor, error: Tensor) -> Tensor:
    """Spearman's correlation of spread and magnitude of the error over the elements of an image.

    Args:
        spread: Predicted standard deviation, `(B, *event)`.
        error: Reconstruction minus truth, `(B, *event)`.

    Returns:
        `(B,)` in [−1, 1], float64; ties share their mean rank. 0 for an image in which either is
        constant: a constant spread says nothing about where the errors are. Even an exact
        posterior stays below 1, for its errors are random.

    Raises:
        ShapeError: If the shapes differ.
    """
    check_pair(spread, error, "spread")
    pair = [value.flatten(1).double().numpy(force=True) for value in (spread, error.abs())]
    a, b = (torch.from_numpy(stats.rankdata(value, axis=1)) for value in pair)
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    scale = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    return torch.where(scale > 0, (a * b).sum(dim=1) / scale, torch.zeros_like(scale))


def _tied(ascending: Tensor) -> Tensor:
    """Number of the block of equal values that each element belongs to, `(B, d)`, from 0."""
    step = torch.zeros_like(ascending, dtype=torch.int64)
    step[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    return step.cumsum(dim=1)


def _tie_means(values: Tensor, tie: Tensor) -> Tensor:
    """Each value replaced by the mean over its block, `(B, d)`."""
    zeros = torch.zeros_like(values)
    total = zeros.scatter_add(1, tie, values)
    count = zeros.scatter_add(1, tie, torch.ones_like(values))
    return (total / count).gather(1, tie)


def _curve(ascending: Tensor) -> Tensor:
    """Root mean of what is kept over that of all, for d, d − 1, …, 1 kept elements, `(B, d)`."""
    kept = torch.arange(1, ascending.shape[1] + 1, dtype=ascending.dtype, device=ascending.device)
    mean = ascending.cumsum(dim=1) / kept
    return (mean / mean[:, -1:]).sqrt()
