"""Is the spread right where it is small, and where it is large? ENCE and UCE.

The draws are split: one half decides in which bin an element is, the other half is compared with
the truth. Bins chosen by the spread that is then tested would hold, on the large side, spreads
that are large by chance, and an exact posterior would look too wide there and too narrow below.
Given one half, truth and other half are exchangeable, so in every bin and for every M

    E[(x̄ − x)²] = (M+1)/M · E[s²]        (M of the half that is compared)
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.errors import ConfigError
from latens.metrics.metric import total_magnitude
from latens.metrics.reduction import check_draws, event_mean

Array = NDArray[np.float64]


def halves(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Two disjoint halves of exchangeable draws, `(⌈M/2⌉, …)` and `(⌊M/2⌋, …)`."""
    return draws[0::2], draws[1::2]


def spread_bin_components(
    draws: Tensor, x: Tensor, edges: Sequence[float], mask: Tensor | None = None
) -> Tensor:
    """Predicted variance and squared error in bins of the predicted standard deviation.

    Args:
        draws: Exchangeable draws, `(M, B, *event)`, M ≥ 4.
        x: Truth, `(B, *event)`.
        edges: J − 1 increasing standard deviations between the J bins, signal units; fixed
            before the draws are seen.
        mask: Elements that count, boolean, broadcastable to `x`.

    Returns:
        `(B, 3J)`, means over the event: share of elements in each bin; (M+1)/M times their
        variance; their squared error, both zero outside the bin. `ence` is a function of the means
        over images.

    Raises:
        ConfigError: If the edges do not increase.
        ShapeError: If the shapes do not fit or there are fewer than 4 draws.
    """
    check_draws(draws, x, least=4)
    if not edges or any(b <= a for a, b in pairwise(edges)):
        raise ConfigError("edges", "increasing numbers, at least one", edges, "Sort them.")
    deciding, compared = halves(draws)
    boundaries = torch.tensor(edges, dtype=x.dtype, device=x.device)
    # a tensor made by `std` may be strided in a way that bucketize warns about
    place = torch.bucketize(deciding.std(dim=0).contiguous(), boundaries)
    count = len(compared)
    centred = compared - x  # first: the mean of equal float32 numbers differs from them
    variance = centred.var(dim=0) * (count + 1) / count
    error = centred.mean(dim=0) ** 2
    bins = range(len(edges) + 1)
    members = [(place == j).to(x.dtype) for j in bins]
    columns = [
        *(event_mean(member, mask) for member in members),
        *(event_mean(member * variance, mask) for member in members),
        *(event_mean(member * error, mask) for member in members),
    ]
    return torch.stack(columns, dim=1)


def ence_deviations(means: Array) -> Array:
    """Signed relative error of the spread in each bin, times the share of the bin.

        share_j (1 − RMSE_j/√mVAR_j)

    Args:
        means: Means over images of `spread_bin_components`, `(R, 3J)`.

    Returns:
        `(R, J)` in [−∞, 1], no unit; 0 for bins that are empty or without spread and error.
    """
    share, variance, error = np.maximum(np.split(means, 3, axis=1), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((variance == 0) & (error == 0), 1.0, error / variance)
        return np.where(share > 0, share * (1 - np.sqrt(ratio)), 0.0)


def ence(means: Array) -> Array:
    """Expected normalised calibration error.

        ENCE = Σ_j share_j |√mVAR_j − RMSE_j| / √mVAR_j

    Args:
        means: Means over images of `spread_bin_components`, `(R, 3J)`.

    Returns:
        `(R,)` in [0, ∞], no unit. With a finite number of images it is above zero for an exact
        posterior too, by about the square root of J over their effective number of elements.

    References:
        Levi, Gispan, Giladi, Fetaya (2022), Evaluating and calibrating uncertainty prediction in
        regression tasks, https://arxiv.org/abs/1905.11659, with bins of equal weight there.
    """
    return total_magnitude(ence_deviations(means))


def spread_bin_deviations(components: Tensor) -> Tensor:
    """Predicted variance minus squared error in each bin, so that UCE is a mean magnitude.

        UCE = Σ_j share_j |mVAR_j − MSE_j| = mean_j |J share_j (mVAR_j − MSE_j)|

    Args:
        components: From `spread_bin_components`, `(B, 3J)`.

    Returns:
        J · share_j · (mVAR_j − MSE_j) of each image, `(B, J)`, squared unit of the signal; the
        magnitude is taken after averaging over images, by `metric.mean_magnitude`.

    References:
        Laves, Ihler, Fast, Kahrs, Ortmaier (2020), Well-calibrated regression uncertainty in
        medical imaging with deep learning, https://proceedings.mlr.press/v121/laves20a.html
    """
    _, variance, error = components.tensor_split(3, dim=1)
    return variance.shape[1] * (variance - error)
