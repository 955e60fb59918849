"""The one place where a metric reduces: over the event of each image, never over images."""

import numpy as np
import torch
from torch import Tensor

from latens.errors import ShapeError


def event_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the event of each image.

    Args:
        values: Any number per element, `(B, *event)`.
        mask: Elements that count, boolean, broadcastable to `values`, at least one per image;
            None counts them all. It states, for example, which pixels are constant background.

    Returns:
        Mean over the event, `(B,)`, unit of `values`.

    Raises:
        ShapeError: If the mask does not fit or leaves an image without an element.
    """
    if mask is None:
        return values.flatten(1).mean(dim=1)
    try:
        keep = mask.to(torch.bool).expand_as(values).flatten(1)
    except RuntimeError:
        raise ShapeError(
            "mask",
            f"a shape that broadcasts to {tuple(values.shape)}",
            tuple(mask.shape),
            "Give one boolean per element of the event, or per element of the batch.",
        ) from None
    count = keep.sum(dim=1)
    if bool((count == 0).any()):
        raise ShapeError(
            "mask",
            "at least one element per image",
            f"none in image {int((count == 0).nonzero()[0])}",
            "Widen the mask or leave this image out.",
        )
    flat = values.flatten(1)
    return torch.where(keep, flat, torch.zeros_like(flat)).sum(dim=1) / count


def ascending(draws: Tensor) -> Tensor:
    """Draws `(M, ...)` sorted along the first axis, NaN last.

    On a CPU NumPy sorts, which takes a fourth of the time there.
    """
    if draws.device.type == "cpu" and not draws.requires_grad:
        return torch.from_numpy(np.sort(draws.numpy(), axis=0))
    return draws.sort(dim=0).values


def check_pair(a: Tensor, b: Tensor, name: str = "x_hat") -> None:
    """Raise `ShapeError` unless both are `(B, *event)` of the same shape."""
    if a.shape != b.shape or a.ndim < 2:
        raise ShapeError(
            name,
            f"the shape of the truth, (B, *event) = {tuple(b.shape)}",
            tuple(a.shape),
            "Metrics never broadcast: give one reconstruction per true signal.",
        )


def check_draws(draws: Tensor, x: Tensor, least: int) -> None:
    """Raise `ShapeError` unless `draws` is `(M, *x.shape)` with M at least `least`."""
    if draws.ndim < 3 or draws.shape[1:] != x.shape:
        raise ShapeError(
            "draws",
            f"shape (M, *x.shape) = (M, {', '.join(map(str, x.shape))})",
            tuple(draws.shape),
            "The draw axis comes first and the rest fits the truth.",
        )
    if draws.shape[0] < least:
        raise ShapeError(
            "draws",
            f"at least {least} draws",
            draws.shape[0],
            "Draw more from the posterior.",
        )
