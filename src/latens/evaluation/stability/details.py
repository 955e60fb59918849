"""Small structures: inserted at a known visibility, are they still there in the reconstruction?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.distributions import Purpose
from latens.distributions.noise import NoiseStream
from latens.evaluation.stability.reconstruction import Reconstruction, norms, scaled
from latens.metrics import contrast_recovery
from latens.problems import Operator

PLACE = 0.1
"""Visibility of a place, as a share of the best place's, from which it counts as seen."""

FAINTEST = 0.01
"""Visibility of a detail as high as the image, below which no place counts as seen."""


def gaussian_details(
    x: Tensor, width: float, keys: Sequence[int], seed: int, places: int
) -> Tensor:
    """Gaussians of height 1, the same in all channels, at random places away from the border.

    Args:
        x: Images, `(B, C, *spatial)`.
        width: Standard deviation in pixels.
        keys: Key of each image.
        seed: Key of the places.
        places: Number P of places.

    Returns:
        `(P, B, C, *spatial)`.
    """
    spatial = x.shape[2:]
    made = []
    for key in keys:
        noise = NoiseStream(seed, Purpose.DETAIL, key, round(1000 * width))
        exponent = torch.zeros(places, *spatial, dtype=torch.float64)
        for axis, size in enumerate(spatial):
            margin = min(2 * width, (size - 1) / 2)
            centre = margin + (size - 1 - 2 * margin) * noise.uniform((places,), torch.float64)
            offset = torch.arange(size, dtype=torch.float64) - centre.round()[:, None]
            shape = [places] + [size if a == axis else 1 for a in range(len(spatial))]
            exponent = exponent - 0.5 * (offset / width).square().reshape(shape)
        made.append(exponent.exp())
    stacked = torch.stack(made, 1).to(x)[:, :, None]  # (P, B, 1, *spatial)
    return stacked.expand(places, *x.shape)


@dataclass(frozen=True, eq=False)
class Detail:
    """One inserted detail per image.

    Attributes:
        shape: δ with ‖Σ^{−1/2} J_A(x) δ‖ = 1 where it is seen, `(B, *signal_shape)`.
        seen: Whether the measurement sees it, `(B,)`.
    """

    shape: Tensor
    seen: Tensor


def visible_detail(details: Tensor, x: Tensor, operator: Operator, scale: Tensor) -> Detail:
    """The first place of each image that the measurement sees, at a height of visibility 1.

    The places are in random order, so that it is a random one of those that are seen: at least a
    tenth as well as the best of them. An image whose places are all invisible has no detail: as
    high as the image's largest value they are seen by less than a hundredth of the noise.

    Args:
        details: `(P, B, *signal_shape)`, at places in random order.
        x: Images they are inserted in, `(B, *signal_shape)`.
        operator: A.
        scale: Noise standard deviation of every element of a measurement.
    """
    with torch.no_grad():
        visibility = torch.stack([norms(operator.jvp(x, d.contiguous()) / scale) for d in details])
    best = visibility.amax(0)
    first = (visibility >= PLACE * best).long().argmax(0)  # (B,)
    images = torch.arange(len(x), device=x.device)
    seen = best * x.flatten(1).abs().amax(1) >= FAINTEST
    height = torch.where(seen, 1 / torch.where(seen, visibility[first, images], 1), 1)
    return Detail(scaled(details[first, images], height), seen)


def detail_recovery(
    reconstruction: Reconstruction,
    operator: Operator,
    x: Tensor,
    y: Tensor,
    x_hat: Tensor,
    detail: Detail,
    visibilities: Sequence[float],
) -> Tensor:
    """Recovered share of a detail at several visibilities, noise unchanged, `(B, V)`.

    0 where the detail is not seen: `Detail.seen` says which images those are.

    Args:
        reconstruction: R.
        operator: A.
        x: Images, `(B, *signal_shape)`.
        y: Their measurements.
        x_hat: R(y).
        detail: δ of visibility 1, and where it is seen.
        visibilities: Factors of δ.
    """
    shares = []
    for visibility in visibilities:
        delta = visibility * detail.shape
        with torch.no_grad():
            disturbed = y + (operator(x + delta) - operator(x))
        share = contrast_recovery(reconstruction.at(disturbed), x_hat, delta)
        shares.append(torch.where(detail.seen, share, 0))
    return torch.stack(shares, 1)
