"""Small structures: inserted at a known visibility, are they still there in the reconstruction?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.distributions import Purpose
from latens.distributions.noise import NoiseStream
from latens.evaluation.stability.reconstruction import Reconstruction, norms, scaled
from latens.metrics import contrast_recovery
from latens.problems import Operator


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


def most_visible(details: Tensor, x: Tensor, operator: Operator, scale: Tensor) -> Tensor:
    """The detail of each image that is seen best, at a height that makes it visible by 1.

    Args:
        details: `(P, B, *signal_shape)`.
        x: Images they are inserted in, `(B, *signal_shape)`.
        operator: A.
        scale: Noise standard deviation of every element of a measurement.

    Returns:
        δ with ‖Σ^{−1/2} J_A(x) δ‖ = 1, `(B, *signal_shape)`; not finite where no place is seen.
    """
    with torch.no_grad():
        seen = torch.stack([norms(operator.jvp(x, d.contiguous()) / scale) for d in details])
    best = seen.argmax(0)  # (B,)
    images = torch.arange(len(x), device=x.device)
    return scaled(details[best, images], 1 / seen[best, images])


def detail_recovery(
    reconstruction: Reconstruction,
    operator: Operator,
    x: Tensor,
    y: Tensor,
    x_hat: Tensor,
    detail: Tensor,
    visibilities: Sequence[float],
) -> Tensor:
    """Recovered share of a detail at several visibilities, noise unchanged, `(B, V)`.

    Args:
        reconstruction: R.
        operator: A.
        x: Images, `(B, *signal_shape)`.
        y: Their measurements.
        x_hat: R(y).
        detail: δ of visibility 1.
        visibilities: Factors of δ.
    """
    shares = []
    for visibility in visibilities:
        delta = visibility * detail
        with torch.no_grad():
            disturbed = y + (operator(x + delta) - operator(x))
        shares.append(contrast_recovery(reconstruction.at(disturbed), x_hat, delta))
    return torch.stack(shares, 1)


def are_visible(detail: Tensor) -> bool:
    """Whether every image has a place that the measurement sees."""
    return bool(detail.isfinite().all())
