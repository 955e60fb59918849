"""How far a reconstruction moves when its measurement is disturbed: one number per image."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from latens.errors import ConfigError, ShapeError
from latens.metrics.reduction import check_pair

NOISE_LEVELS = (0.25, 0.5, 1.0, 2.0)
"""Radii of the balls of the worst case, in √m noise standard deviations (the norm of noise)."""

RELATIVE_LEVELS = (0.01, 0.02, 0.05, 0.1)
"""Radii η of the balls ‖e‖ ≤ η ‖y‖, Euclidean whatever the noise is."""

VISIBILITIES = (2, 5, 10)
"""Lengths ‖Σ^{−1/2} A δ‖ of inserted details, in noise standard deviations."""

RANDOM_DISTURBANCES = 39
"""Random disturbances of each measurement; the 38th smallest value covers 38/40 = 95 %."""

TV_ITERATIONS = 100
"""Iterations of total variation where it is a baseline; .1 to .2 % from the minimiser at 28×28."""

ROUNDING = 1e-9
"""What a product that is a whole number may be above it by rounding."""

DETAIL_WIDTHS = (1.0, 2.0)
"""Standard deviations of the inserted Gaussian details, in pixels."""


def relative_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """‖x̂ − x‖/‖x‖, Euclidean norms over the event.

    Args:
        x_hat: Reconstruction, `(B, *event)`.
        x: Truth, `(B, *event)`, not identically zero.

    Returns:
        `(B,)` in [0, ∞), no unit; the square root of NMSE.

    Raises:
        ShapeError: If the shapes differ.
    """
    check_pair(x_hat, x)
    return (x_hat - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)


def largest_patch_error(x_hat: Tensor, x: Tensor, side: int) -> Tensor:
    """Largest root mean square error of any patch: what a local artefact cannot hide from.

    Args:
        x_hat: Reconstruction, `(B, C, *spatial)`.
        x: Truth, same shape.
        side: Pixels along every spatial axis of a patch; axes that are shorter are taken whole.

    Returns:
        `(B,)` in [0, ∞), unit of the signal: mean over pixels and channels of a patch, maximum
        over all patches that lie inside the image.

    Raises:
        ShapeError: If the shapes differ.
        ConfigError: If `side` is below 1.
    """
    check_pair(x_hat, x)
    if side < 1:
        raise ConfigError("side", "1 pixel or more", side, "Use for example 5.")
    square = (x_hat - x).square().mean(1, keepdim=True)  # (B, 1, *spatial)
    for axis in range(2, square.ndim):
        moved = square.movedim(axis, -1)
        size = min(side, moved.shape[-1])
        rows = F.avg_pool1d(moved.reshape(1, -1, moved.shape[-1]), size, stride=1)
        square = rows.reshape(*moved.shape[:-1], -1).movedim(-1, axis)
    return square.flatten(1).amax(1).sqrt()


def amplification(x_hat: Tensor, moved: Tensor, y: Tensor, disturbed: Tensor) -> Tensor:
    """Relative change of the reconstruction over relative change of the measurement.

        NA = (‖R(y + e) − R(y)‖/‖R(y)‖) / (‖e‖/‖y‖)

    Args:
        x_hat: R(y), `(B, *signal)`.
        moved: R(y + e), same shape.
        y: Measurements, `(B, *measurement)`.
        disturbed: y + e, same shape.

    Returns:
        `(B,)` in [0, ∞), no unit.

    Raises:
        ShapeError: If the shapes differ.
    """
    return relative_error(moved, x_hat) / relative_error(disturbed, y)


def secant_slope(x_hat: Tensor, moved: Tensor, disturbance: Tensor) -> Tensor:
    """Change of the reconstruction over the length of the disturbance.

        ‖R(y + S u) − R(y)‖ / ‖u‖

    Args:
        x_hat: R(y), `(B, *signal)`.
        moved: R(y + S u), same shape.
        disturbance: u, `(B, *measurement)`; in noise standard deviations if S² is the noise's
            covariance.

    Returns:
        `(B,)` in [0, ∞), unit of the signal over that of u; 0 where u is 0.

    Raises:
        ShapeError: If the shapes of the reconstructions differ.
    """
    check_pair(moved, x_hat, "moved")
    length = disturbance.flatten(1).norm(dim=1)
    change = (moved - x_hat).flatten(1).norm(dim=1)
    return torch.where(length > 0, change / torch.where(length > 0, length, 1), 0)


def certified_slope(
    x: Tensor, other: Tensor, x_hat: Tensor, other_hat: Tensor, apart: Tensor
) -> Tensor:
    """Slope that two images prove whose measurements are close and whose errors are small.

        (‖x − x'‖ − ‖R(A x) − x‖ − ‖R(A x') − x'‖) / d,   d = ‖A x − A x'‖,   0 if negative

    Some z among A x and A x' has ‖R(z) − R(c)‖ ≥ this · ‖z − c‖ for c half way between them (the
    triangle inequality, twice), so that it is a lower bound of the ε-Lipschitz constant at c for
    ε = d/2.

    Args:
        x, other: x and x', `(B, *signal)`.
        x_hat, other_hat: R(A x) and R(A x'), same shape.
        apart: d, `(B,)`, positive, in the unit of a disturbance.

    Returns:
        `(B,)` in [0, ∞), unit of the signal over that of `apart`; 0 proves nothing.

    Raises:
        ShapeError: If the shapes differ.

    References:
        Gottschling, Antun, Hansen, Adcock (2020), The troublesome kernel: on hallucinations, no
        free lunches and the accuracy-stability trade-off in inverse problems,
        https://arxiv.org/abs/2001.01258 (one bound η for both errors).
    """
    for name, value in (("other", other), ("x_hat", x_hat), ("other_hat", other_hat)):
        check_pair(value, x, name)
    pairs = ((x, other), (x_hat, x), (other_hat, other))
    distance, error, other_error = ((a - b).flatten(1).norm(dim=1) for a, b in pairs)
    return (distance - error - other_error).clamp_min(0) / apart


def contrast_recovery(with_detail: Tensor, without: Tensor, detail: Tensor) -> Tensor:
    """Share of an inserted detail that the reconstruction shows.

        CRC = ⟨R(y + A δ) − R(y), δ⟩ / ‖δ‖²

    Args:
        with_detail: R(y + A δ), `(B, *signal)`.
        without: R(y), same shape.
        detail: δ, same shape, not zero.

    Returns:
        `(B,)`, no unit: 1 = kept, 0 = lost, above 1 = exaggerated.

    Raises:
        ShapeError: If the shapes differ.
    """
    check_pair(with_detail, without)
    check_pair(detail, without, "detail")
    change = ((with_detail - without) * detail).flatten(1).sum(1)
    return change / detail.square().flatten(1).sum(1)


def marginal_w2(mean: Tensor, std: Tensor, other_mean: Tensor, other_std: Tensor) -> Tensor:
    """2-Wasserstein distance of Gaussians with independent elements.

        W2² = ‖μ − μ'‖² + ‖s − s'‖²

    Of Gaussians whose elements depend on each other it is a lower bound (Gelbrich), since the
    distance of the joint distributions is at least that of their marginals.

    Args:
        mean, std: μ and s, `(B, *event)`.
        other_mean, other_std: μ' and s', same shape.

    Returns:
        `(B,)` in [0, ∞), unit of the signal, Euclidean over the event.

    Raises:
        ShapeError: If the shapes differ.

    References:
        Gelbrich (1990), On a formula for the L2 Wasserstein metric between measures on Euclidean
        and Hilbert spaces, https://doi.org/10.1002/mana.19901470121
    """
    check_pair(mean, other_mean, "mean")
    check_pair(std, other_std, "std")
    square = (mean - other_mean).square() + (std - other_std).square()
    return square.flatten(1).sum(1).sqrt()


def upper_share(values: Tensor, share: float = 0.95) -> Tensor:
    """The value that a further repetition stays below with at least a given chance.

    The k-th smallest of K exchangeable values exceeds a further one with chance k/(K + 1). The
    smallest k with k/(K + 1) ≥ share is taken: of 39 values and .95 the 38th, exactly .95. A
    quantile between order statistics has no such promise (of 8 values at .95 it has .85).

    Args:
        values: Repetitions per image, `(K, B)`.
        share: In (0, 1).

    Returns:
        An order statistic of the repetitions, `(B,)`, unit of `values`.

    Raises:
        ShapeError: If the repetitions are too few for the share.
        ConfigError: If `share` is not in (0, 1).
    """
    if not 0 < share < 1:
        raise ConfigError("share", "a number in (0, 1)", share, "Use 0.95, not 95.")
    least = repetitions_for(share)
    if values.ndim != 2 or len(values) < least:
        raise ShapeError(
            "values",
            f"(K, B) with K of {least} or more for a share of {share:g}",
            tuple(values.shape),
            "Repeat it more often, or take a smaller share.",
        )
    return values.sort(dim=0).values[_order(share, len(values)) - 1]


def repetitions_for(share: float) -> int:
    """Fewest repetitions whose largest value a further one stays below with that chance."""
    return max(1, math.ceil(share / (1 - share) - ROUNDING))


def _order(share: float, count: int) -> int:
    return max(1, math.ceil(share * (count + 1) - ROUNDING))
