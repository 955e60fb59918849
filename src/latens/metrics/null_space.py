"""Errors and spread of a reconstruction, split into what the measurement saw and what it did not.

P_R projects on the range of Aᵀ, truncated at the noise level, and P_N = I − P_R on what is left.
Both are orthogonal projections, so that squares add up:

    ‖x̂ − x‖² = ‖P_R (x̂ − x)‖² + ‖P_N (x̂ − x)‖²,   tr C = tr P_R C P_R + tr P_N C P_N

The projections are taken by the caller; here are functions of projected arrays.
"""

import torch
from torch import Tensor

from latens.errors import ConfigError
from latens.metrics.reduction import check_draws, check_pair, event_mean


def split_error(seen: Tensor, error: Tensor) -> Tensor:
    """Squared error in the null space and in the range; their sum is the squared error.

    Args:
        seen: P_R (x̂ − x), `(B, *event)`.
        error: x̂ − x, same shape.

    Returns:
        `(B, 2)` = (null space, range), squared unit of the signal, mean over the event.

    Raises:
        ShapeError: If the shapes differ.
    """
    check_pair(seen, error, "seen")
    return torch.stack([event_mean(part.square()) for part in (error - seen, seen)], 1)


def split_variance(seen: Tensor, draws: Tensor) -> Tensor:
    """Variance of posterior draws in the null space and in the range; their sum is tr C/d.

    Args:
        seen: P_R x^(m) of draws, `(M, B, *event)`, M ≥ 2.
        draws: x^(m), same shape.

    Returns:
        `(B, 2)` = (tr P_N C P_N, tr P_R C P_R)/d, squared unit of the signal, without bias at
        any M.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    check_draws(draws, seen[0], least=2)
    return torch.stack([event_mean(part.var(0)) for part in (draws - seen, seen)], 1)


def null_energy(unseen_estimate: Tensor, unseen_truth: Tensor) -> Tensor:
    """Content that the measurement cannot have asked for, beside what was there.

    Args:
        unseen_estimate: P_N x̂, `(B, *event)`.
        unseen_truth: P_N x, same shape.

    Returns:
        `(B, 2)` = (‖P_N x̂‖²/d, ‖P_N x‖²/d), squared unit of the signal.

    Raises:
        ShapeError: If the shapes differ.
    """
    check_pair(unseen_estimate, unseen_truth, "unseen_estimate")
    return torch.stack([event_mean(part.square()) for part in (unseen_estimate, unseen_truth)], 1)


def hallucination(
    unseen_error: Tensor, x: Tensor, threshold: float, lower: Tensor, upper: Tensor
) -> Tensor:
    """Hallucinated pixels that the interval does not flag, and those that it flags.

    A pixel is hallucinated where |P_N (x̂ − x)| exceeds the threshold. It is flagged if its
    interval holds the truth: then the solver had said that this value was possible.

    Args:
        unseen_error: P_N (x̂ − x), `(B, *event)`.
        x: Truth, same shape.
        threshold: In units of the signal.
        lower, upper: Interval of every pixel, same shape.

    Returns:
        `(B, 2)` = (share not flagged, share flagged), both of all elements of the event, in
        [0, 1]; their sum is the share of hallucinated pixels.

    Raises:
        ShapeError: If the shapes differ.
        ConfigError: If the threshold is not positive.

    References:
        Bhadra, Kelkar, Brooks, Anastasio (2021), On hallucinations in tomographic image
        reconstruction, https://doi.org/10.1109/TMI.2021.3077857 (maps of P_N (x̂ − x)).
    """
    for name, value in (("unseen_error", unseen_error), ("lower", lower), ("upper", upper)):
        check_pair(value, x, name)
    found = _exceeds(unseen_error, threshold)
    missed = (x < lower) | (x > upper)
    parts = (found & missed, found & ~missed)
    return torch.stack([event_mean(part.to(x)) for part in parts], 1)


def hallucinated_share(unseen_error: Tensor, threshold: float) -> Tensor:
    """Share of elements with |P_N (x̂ − x)| above a threshold.

    Args:
        unseen_error: P_N (x̂ − x), `(B, *event)`.
        threshold: In units of the signal.

    Returns:
        `(B,)` in [0, 1], mean over the event.

    Raises:
        ConfigError: If the threshold is not positive.
    """
    return event_mean(_exceeds(unseen_error, threshold).to(unseen_error))


def _exceeds(unseen_error: Tensor, threshold: float) -> Tensor:
    if not 0 < threshold < float("inf"):
        raise ConfigError(
            "threshold",
            "a positive error",
            threshold,
            "Give the smallest error that would matter, in units of the signal.",
        )
    return unseen_error.abs() > threshold
