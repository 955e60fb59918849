"""Coverage of central posterior intervals, exact for a finite number of draws.

With M exchangeable draws and the truth from the same distribution, the order-statistic interval
[x_(k), x_(M+1−k)] covers with probability (M+1−2k)/(M+1) exactly. No other level is used: the
usual empirical quantiles make an exact posterior look miscalibrated (by 0.15 at M = 5).

Intervals are closed, so elements with ties (clipped or constant pixels) are covered more often
than the level says. Exclude them by a mask, or use `rank`, which breaks ties at random.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.errors import ConfigError, ShapeError
from latens.metrics.reduction import ascending, check_draws, event_mean

_TOLERANCE = 1e-6


def attainable_levels(draws: int) -> tuple[float, ...]:
    """Levels (M+1−2k)/(M+1), k = 1 … ⌊M/2⌋, that M draws can attain, ascending.

    Args:
        draws: M, at least 2.

    Raises:
        ConfigError: If M is below 2.
    """
    if draws < 2:
        raise ConfigError(
            "draws", "at least 2 draws", draws, "An interval needs two order statistics."
        )
    return tuple((draws + 1 - 2 * k) / (draws + 1) for k in range(draws // 2, 0, -1))


def order_index(draws: int, level: float) -> int:
    """The k for which [x_(k), x_(M+1−k)] attains `level`.

    Args:
        draws: M, number of exchangeable draws.
        level: Nominal coverage in (0, 1).

    Raises:
        ConfigError: If no k attains the level; the message names the smallest M that does.
    """
    if not 0 < level < 1:
        raise ConfigError("level", "a probability in (0, 1)", level, "Use 0.95, not 95.")
    k = (draws + 1) * (1 - level) / 2
    if round(k) >= 1 and abs(k - round(k)) < _TOLERANCE * (draws + 1):
        return round(k)
    raise ConfigError(
        "level",
        f"a level (M+1−2k)/(M+1) that M = {draws} draws attain exactly",
        level,
        _draws_needed(level),
    )


def central_interval(draws: Tensor, level: float) -> tuple[Tensor, Tensor, float]:
    """Central interval from order statistics.

    Args:
        draws: Exchangeable draws, `(M, B, *event)`.
        level: Nominal coverage, one of `attainable_levels(M)`.

    Returns:
        Lower and upper bound, each `(B, *event)`, unit of the signal, and the attained level
        (M+1−2k)/(M+1).

    Raises:
        ConfigError: If M draws cannot attain the level; the message names the M needed.
    """
    count = draws.shape[0]
    k = order_index(count, level)
    attained = (count + 1 - 2 * k) / (count + 1)
    if k == 1:  # fifty times as fast as sorting
        return draws.amin(dim=0), draws.amax(dim=0), attained
    ordered = ascending(draws)
    return ordered[k - 1], ordered[count - k], attained


def coverage(
    draws: Tensor, x: Tensor, levels: Sequence[float], mask: Tensor | None = None
) -> Tensor:
    """Fraction of the event inside the central interval, at each level.

    Serves pixels, `region_means` and `principal_scores` alike: whatever functional is applied
    to the draws is applied to the truth.

    Args:
        draws: Exchangeable draws, `(M, B, *event)`.
        x: Truth, `(B, *event)`.
        levels: L nominal levels, each in `attainable_levels(M)`.
        mask: Elements that count, boolean, broadcastable to `x`.

    Returns:
        `(B, L)` in [0, 1], mean over the event. The elements of an image depend on each
        other: resample images, never elements.

    Raises:
        ConfigError: If a level cannot be attained with M draws.
        ShapeError: If the shapes do not fit.
    """
    check_draws(draws, x, least=2)
    count = draws.shape[0]
    below = torch.zeros(x.shape, dtype=torch.int32, device=x.device)
    above = torch.zeros_like(below)
    for draw in draws:
        below += draw < x
        above += draw > x
    outermost = torch.maximum(below, above)
    defined = torch.isfinite(draws).all(dim=0) & torch.isfinite(x)
    rows = [
        event_mean((defined & (outermost <= count - order_index(count, a))).to(x.dtype), mask)
        for a in levels
    ]
    return torch.stack(rows, dim=1)


def interval_width(draws: Tensor, level: float, mask: Tensor | None = None) -> Tensor:
    """Mean width of the central interval (sharpness).

    Args:
        draws: Exchangeable draws, `(M, B, *event)`.
        level: Nominal coverage, one of `attainable_levels(M)`.
        mask: Elements that count, boolean, broadcastable to `(B, *event)`.

    Returns:
        `(B,)` in [0, ∞), unit of the signal, mean over the event.

    Raises:
        ConfigError: If M draws cannot attain the level.
    """
    lower, upper, _ = central_interval(draws, level)
    return event_mean(upper - lower, mask)


def rank(draws: Tensor, x: Tensor, uniform: Tensor) -> Tensor:
    """Rank of the truth among the draws, ties broken at random.

        r = #{m : x^(m) < x} + ⌊u (#{m : x^(m) = x} + 1)⌋

    For an exact posterior r is uniform on {0, …, M}, ties or not. It counts k ≤ r ≤ M − k as
    covered at level (M+1−2k)/(M+1).

    Args:
        draws: Exchangeable draws, `(M, B, *event)`.
        x: Truth, `(B, *event)`.
        uniform: Independent uniforms in [0, 1), `(B, *event)`.

    Returns:
        Integer ranks in {0, …, M}, `(B, *event)`, one per element, not reduced.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    check_draws(draws, x, least=1)
    if uniform.shape != x.shape:
        raise ShapeError(
            "uniform",
            f"the shape of the truth {tuple(x.shape)}",
            tuple(uniform.shape),
            "Give one uniform number per ranked element.",
        )
    below = (draws < x).sum(dim=0)
    ties = (draws == x).sum(dim=0)
    extra = torch.floor(uniform * (ties + 1)).to(torch.int64)
    return below + torch.minimum(extra, ties)


def _draws_needed(level: float) -> str:
    """Sentence that names the smallest M for which the level is exact."""
    for k in range(1, 1001):
        size = 2 * k / (1 - level)
        if abs(size - round(size)) < _TOLERANCE * size:
            return f"Use M = {round(size) - 1} draws, or a level from `attainable_levels`."
    return "No M up to 1000 order statistics attains it; use a level such as 0.9 or 0.95."
