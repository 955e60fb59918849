"""The variogram score: a proper score of differences, which sees correlations."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.metrics.reduction import check_draws
from latens.types import Shape

_PART = 2**17
"""Differences taken at a time: few enough to stay in the cache of a core."""


def lag_pairs(event: Shape, lags: Sequence[int]) -> Tensor:
    """Pairs of elements at given distances along each spatial axis, within a channel.

    Args:
        event: `(C, *spatial)`.
        lags: Distances in elements.

    Returns:
        Indices into the flattened event, `(P, 2)`.

    Raises:
        ConfigError: If a lag is not positive, or none fits the signal.
    """
    if any(lag < 1 for lag in lags):
        raise ConfigError("lags", "distances of 1 or more", lags, "Use for example (1, 2, 4).")
    index = torch.arange(torch.Size(event).numel()).reshape(event)
    pairs = [
        torch.stack(
            [index.narrow(axis, 0, n - lag).flatten(), index.narrow(axis, lag, n - lag).flatten()],
            dim=1,
        )
        for axis, n in enumerate(event[1:], start=1)
        for lag in lags
        if lag < n
    ]
    if not pairs:
        raise ConfigError("lags", f"a lag below the size of {event}", lags, "Use smaller lags.")
    return torch.cat(pairs)


def variogram_score(draws: Tensor, x: Tensor, pairs: Tensor, order: float = 0.5) -> Tensor:
    """Variogram score over pairs of elements, fair: its expectation does not depend on M.

        VS = mean over pairs of (v − v̄)² − s²/M,   v = |x_i − x_j|^p

    v̄ and s² are mean and variance of v over the draws. Pixel spread alone does not decide it:
    draws with the right spread of every pixel and no correlation have differences that are far
    too large.

    Args:
        draws: Exchangeable draws, `(M, B, *event)`, M ≥ 2.
        x: Truth, `(B, *event)`.
        pairs: Indices into the flattened event, `(P, 2)`, all of weight 1; see `lag_pairs`.
        order: p > 0; 0.5 is usual.

    Returns:
        `(B,)`, unit of the signal to the power 2p, mean over pairs. Non-negative in expectation;
        a single value may be below zero because the estimate is unbiased.

    Raises:
        ConfigError: If p is not positive.
        ShapeError: If the shapes do not fit.

    References:
        Scheuerer, Hamill (2015), Variogram-based proper scoring rules for probabilistic forecasts
        of multivariate quantities, https://doi.org/10.1175/MWR-D-14-00269.1
    """
    check_draws(draws, x, least=2)
    if not order > 0:
        raise ConfigError("order", "a positive power", order, "Use 0.5.")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise ShapeError(
            "pairs", "(P, 2) with P at least 1", tuple(pairs.shape), "Make them with `lag_pairs`."
        )
    places = pairs.to(x.device).unbind(dim=1)
    images = max(1, _PART // len(pairs))
    parts = zip(draws.split(images, dim=1), x.split(images), strict=True)
    return torch.cat([_score(part, truth, places, order) for part, truth in parts])


def _score(draws: Tensor, x: Tensor, places: tuple[Tensor, ...], order: float) -> Tensor:
    """Scores of a few images, `(B,)`, with running moments over the draws."""
    truth = _differences(x, places, order)
    mean, square = torch.zeros_like(truth), torch.zeros_like(truth)
    for m, draw in enumerate(draws, start=1):
        change = _differences(draw, places, order) - mean
        mean.add_(change, alpha=1 / m)
        square.addcmul_(change, change, value=(m - 1) / m)
    count = draws.shape[0]
    noise = square / (count - 1) / count
    return ((truth - mean) ** 2 - noise).mean(dim=1)


def _differences(signal: Tensor, places: tuple[Tensor, ...], order: float) -> Tensor:
    """|x_i − x_j|^p of every pair, `(B, P)`."""
    flat = signal.flatten(1)
    i, j = (flat.index_select(1, place) for place in places)
    return (i - j).abs() ** order
