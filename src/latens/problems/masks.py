"""Which pixels a measurement keeps: drawn patterns, and masks from files."""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.errors import ConfigError, DataError, ShapeError
from latens.store import read_array
from latens.types import Shape

Pattern = Literal["random", "lines", "block"]


def kept_pixels(
    spatial: Shape,
    kept: float | None,
    pattern: Pattern | None,
    seed: int | None,
    mask: Tensor | str | None,
) -> Tensor:
    """True where a pixel is kept, `(*spatial)`; arguments and errors are those of `Inpainting`."""
    if not spatial:
        raise ShapeError(
            "signal_shape", "channels and at least one spatial axis", spatial, "Add an axis."
        )
    if mask is not None:
        refuse_beside_mask({"kept": kept, "pattern": pattern, "seed": seed})
        return read_mask(mask, spatial)
    if kept is None or not 0 < kept < 1:
        raise ConfigError(
            "kept",
            "a fraction between 0 and 1",
            kept,
            "Give the fraction of pixels to keep, or a `mask`.",
        )
    keep = _draw_mask(spatial, kept, pattern or "random", seed)
    if not keep.any() or keep.all():
        raise ConfigError(
            "kept",
            f"a fraction that keeps and misses at least one of {spatial}",
            kept,
            "Move it towards one half, or use a larger signal.",
        )
    return keep


def _draw_mask(spatial: Shape, kept: float, pattern: Pattern, seed: int | None) -> Tensor:
    match pattern:
        case "random":
            return _drawn(spatial, kept, seed or 0)
        case "lines":
            if len(spatial) < 2:
                raise ConfigError(
                    "pattern", "'random' or 'block' for one axis", "'lines'", "Choose one."
                )
            return _drawn(spatial[:-1], kept, seed or 0)[..., None].expand(spatial)
        case "block":
            if seed is not None:
                raise ConfigError(
                    "seed", "no value with pattern 'block'", seed, "Leave it out: it is centred."
                )
            side = (1 - kept) ** (1 / len(spatial))
            hole = tuple(round(n * side) for n in spatial)
            keep = torch.ones(spatial, dtype=torch.bool)
            missing = [
                slice((n - h) // 2, (n + h) // 2) for n, h in zip(spatial, hole, strict=True)
            ]
            keep[tuple(missing)] = False
            return keep
    raise ConfigError("pattern", "'random', 'lines' or 'block'", repr(pattern), "Choose one.")


def _drawn(shape: Shape, kept: float, seed: int) -> Tensor:
    total = math.prod(shape)
    keep = torch.zeros(total, dtype=torch.bool)
    keep[NoiseStream(seed).permutation(total)[: round(kept * total)]] = True
    return keep.reshape(shape)


def _on_numpy(mask: Tensor) -> np.ndarray:
    """As an array; kinds of numbers that NumPy lacks become float32, which keeps 0 and 1."""
    kept = mask.detach().cpu()
    return (kept.float() if kept.is_floating_point() else kept).numpy()


def refuse_beside_mask(settings: Mapping[str, object]) -> None:
    """Raise if a setting of drawn patterns has a value though a mask is given.

    Raises:
        ConfigError: It names the first one.
    """
    for name, value in settings.items():
        if value is not None:
            raise ConfigError(
                name,
                "no value beside `mask`",
                value,
                f"Leave out one of them; where a preset sets `{name}`, make it null.",
            )


def read_mask(mask: Tensor | str, spatial: Shape) -> Tensor:
    """True where a mask of 0 and 1, or the `.npy` file at a path, is 1; `(*spatial)`.

    Raises:
        ShapeError: If it has another shape.
        DataError: If it cannot be read, holds other values, or is 0 everywhere.
    """
    name = mask if isinstance(mask, str) else "mask"
    values = read_array(mask) if isinstance(mask, str) else _on_numpy(mask)
    if values.shape != spatial:
        raise ShapeError(
            name, f"shape {spatial}", values.shape, "Give one value per pixel, without channels."
        )
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all() or not values.any():
        raise DataError(
            name,
            "1 where a pixel is kept and 0 elsewhere, at least one of them 1",
            f"{values.dtype} from {values.min()} to {values.max()}"
            if values.dtype.kind in "biuf"
            else values.dtype,
            "Compare the mask with a threshold first.",
        )
    return torch.from_numpy(values.astype(bool))
