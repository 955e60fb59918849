"""Proper scores: lower is better, and the true posterior minimises their expectation."""

import math

import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.metrics.reduction import ascending, check_draws, check_pair, event_mean

_PART = 2**16
"""Elements of an event whose inner products are taken at a time: bounds the float64 copy."""


def crps(draws: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Continuous ranked probability score, fair: its expectation does not depend on M.

        CRPS = (1/M) Σ_m |x^(m) − x| − 1/(2M(M−1)) Σ_m Σ_m' |x^(m) − x^(m')|

    The double sum is 2 Σ_i (2i − M − 1) x_(i) over the sorted draws: O(M log M).

    Args:
        draws: Exchangeable draws, `(M, B, *event)`, M ≥ 2.
        x: Truth, `(B, *event)`.
        mask: Elements that count, boolean, broadcastable to `x`.

    Returns:
        `(B,)`, unit of the signal, mean over the event. Non-negative in expectation; a single
        value may be below zero because the estimate is unbiased.

    Raises:
        ShapeError: If the shapes do not fit.

    References:
        Ferro (2014), Fair scores for ensemble forecasts, https://doi.org/10.1002/qj.2270
    """
    check_draws(draws, x, least=2)
    count = draws.shape[0]
    weight = 2 * torch.arange(1, count + 1, dtype=draws.dtype, device=draws.device) - count - 1
    # centred on the truth first: in float32 a common offset would eat the digits
    centred = ascending(draws - x)
    spread = torch.tensordot(weight, centred, dims=1) / (count * (count - 1))
    return event_mean(centred.abs().mean(dim=0) - spread, mask)


def crps_gaussian(loc: Tensor, scale: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """CRPS of a normal prediction, in closed form.

        s [w (2Φ(w) − 1) + 2φ(w) − 1/√π],   w = (x − μ)/s

    Args:
        loc: μ, `(B, *event)`.
        scale: s > 0, `(B, *event)`.
        x: Truth, `(B, *event)`.
        mask: Elements that count, boolean, broadcastable to `x`.

    Returns:
        `(B,)` in [0, ∞), unit of the signal, mean over the event.

    Raises:
        ShapeError: If the shapes differ.

    References:
        Gneiting, Raftery (2007), Strictly proper scoring rules, section 4.2.
    """
    check_pair(loc, x, "loc")
    check_pair(scale, x, "scale")
    w = (x - loc) / scale
    density = torch.exp(-0.5 * w**2) / math.sqrt(2 * math.pi)
    centred = torch.erf(w / math.sqrt(2))  # 2Φ(w) − 1
    score = scale * (w * centred + 2 * density - 1 / math.sqrt(math.pi))
    return event_mean(score, mask)


def interval_score(
    lower: Tensor, upper: Tensor, x: Tensor, level: float, mask: Tensor | None = None
) -> Tensor:
    """Interval score: width plus penalties for what lies outside.

        (u − l) + (2/α)(l − x)₊ + (2/α)(x − u)₊,   α = 1 − level

    Args:
        lower: l, `(B, *event)`.
        upper: u, `(B, *event)`.
        x: Truth, `(B, *event)`.
        level: Nominal level of the interval, in (0, 1).
        mask: Elements that count, boolean, broadcastable to `x`.

    Returns:
        `(B,)` in [0, ∞), unit of the signal, mean over the event.

    Raises:
        ShapeError: If the shapes differ.
        ConfigError: If the level is no probability.
    """
    check_pair(lower, x, "lower")
    check_pair(upper, x, "upper")
    if not 0 < level < 1:
        raise ConfigError("level", "a probability in (0, 1)", level, "Use 0.95, not 95.")
    outside = (lower - x).clamp_min(0) + (x - upper).clamp_min(0)
    return event_mean(upper - lower + 2 / (1 - level) * outside, mask)


def energy_score(draws: Tensor, x: Tensor) -> Tensor:
    """Energy score over the whole event, fair: the CRPS with Euclidean norms.

        ES = (1/M) Σ_m ‖x^(m) − x‖₂ − 1/(2M(M−1)) Σ_m Σ_m' ‖x^(m) − x^(m')‖₂

    It sees the joint distribution of an event (a patch, a volume), weakly: for correlations
    compare region means as well.

    Args:
        draws: Exchangeable draws, `(M, B, *event)`, M ≥ 2.
        x: Truth, `(B, *event)`.

    Returns:
        `(B,)`, unit of the signal times √d (norms are sums over the d elements, not means).

    Raises:
        ShapeError: If the shapes do not fit.

    References:
        Gneiting, Raftery (2007), Strictly proper scoring rules, eq. 22.
    """
    check_draws(draws, x, least=2)
    count = draws.shape[0]
    error = torch.stack([(draw - x).flatten(1).norm(dim=1) for draw in draws]).mean(dim=0)
    flat = draws.flatten(2).unbind(1)  # B of (M, d)
    total = torch.stack([distances(own).sum() for own in flat]).to(error)  # (B,)
    return error - total / (2 * count * (count - 1))


def energy_distance(draws: Tensor, other: Tensor) -> Tensor:
    """Half the energy distance of two distributions, from as many draws of each.

        E‖X − Y‖ − ½ E‖X − X'‖ − ½ E‖Y − Y'‖,   X' and Y' independent copies

    With ‖X − Y'‖ ≤ ‖X − X'‖ + ‖X' − Y'‖ and ≤ ‖X − Y‖ + ‖Y − Y'‖, (X', Y') coupled as (X, Y), it
    is at most the 1-Wasserstein distance, and so W2. It is the expected energy score of X as
    forecast of Y less that of Y itself, and 0 for equal distributions only.

    All three means are over pairs m ≠ m', so that the estimate is unbiased even where draw m of
    both has the same noise, and 0 where all draws agree.

    Args:
        draws: Draws of X, `(M, B, *event)`, M ≥ 2, independent of each other.
        other: Draws of Y, same shape; the m-th may depend on the m-th of X.

    Returns:
        `(B,)`, unit of the signal, Euclidean over the event: ‖δ‖ for points at a distance δ. As
        an unbiased estimate it may be below zero.

    Raises:
        ShapeError: If the shapes do not fit.

    References:
        Székely, Rizzo (2013), Energy statistics: a class of statistics based on distances,
        https://doi.org/10.1016/j.jspi.2013.03.018
    """
    check_pair(other, draws, "other")
    check_draws(draws, draws[0], least=2)
    count = len(draws)
    found = []
    for own, their in zip(draws.flatten(2).unbind(1), other.flatten(2).unbind(1), strict=True):
        apart = distances(torch.cat([own, their]))  # (2M, 2M)
        across = apart[:count, count:]
        within = apart[:count, :count].sum() + apart[count:, count:].sum()
        found.append(across.sum() - across.diagonal().sum() - within / 2)
    return torch.stack(found).to(draws) / (count * (count - 1))


def distances(draws: Tensor) -> Tensor:
    """Euclidean distances of the rows `(M, d)` from each other, `(M, M)`, float64.

    From inner products, which take a sixth of the time of differences. Float64, and differences
    from one of the rows, keep them exact to 1e-8 of the largest distance, and equal rows at 0.
    """
    gram = draws.new_zeros(len(draws), len(draws), dtype=torch.float64)
    for part in draws.split(_PART, dim=1):
        centred = part.double() - part[0].double()
        gram += centred @ centred.T
    square = gram.diagonal()
    return (square[:, None] + square - 2 * gram).clamp_min(0).sqrt()


def nll(log_prob: Tensor, x: Tensor) -> Tensor:
    """Negative log-likelihood of the truth, −log q(x | y)/d.

    Args:
        log_prob: log q(x | y) of the whole signal, nats, `(B,)`.
        x: Truth, `(B, *event)`.

    Returns:
        Nats per element, `(B,)`, constants kept: it falls by log c where the unit of the signal
        is c times as large.

    Raises:
        ShapeError: If there is not one density per image.
    """
    if log_prob.shape != x.shape[:1]:
        raise ShapeError(
            "log_prob",
            f"one density per image, ({len(x)},)",
            tuple(log_prob.shape),
            "Sum over the event.",
        )
    return -log_prob.double() / x[0].numel()
