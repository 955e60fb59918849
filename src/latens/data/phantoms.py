"""Anatomy-like phantoms with known ground truth: schematic slices of an abdomen.

An image is painted in layers. Layer e covers an ellipsoid and carries a grey level:

    f_e(p) = ‖ R(θ_e)ᵀ (p − c_e) / a_e ‖                    1 on the surface
    o_e(p) = clip(½ − (f_e − 1) / ‖∇f_e‖ − κ_e, 0, 1)       share of the pixel that is covered
    image  ← image · (1 − o_e) + level_e · o_e              e = body, muscle, organs, bone
    image  ← image + o_body · texture + Σ_k o_k · contrast  lesions k

∇ is per pixel, and κ_e = (d − 1) ‖∇f_e‖ / 24 corrects for the curvature of the surface.
See `latens.data.anatomy` for how c, a, θ and the levels are drawn.
"""

import numpy as np
import torch

from latens.data.anatomy import MAX_LESIONS, ORGANS, WAVES, Anatomy, draw_anatomy, factors
from latens.data.images import ImageSet, Source
from latens.errors import ConfigError

SMALLEST_SIZE = 16
PIXELS_PER_BLOCK = 2**17
"""Pixels painted at a time: few enough to stay in the cache."""


class Phantoms(Source):
    """Schematic abdominal slices or volumes, drawn on the spot.

    Image i depends on `seed` and i alone, so a larger `count` extends a smaller one. Values lie
    in [0, 1]. A volume shows a section of a trunk, its first axis along the body.

    Ground-truth factors, in image coordinates (−1 to 1 along each axis): `lesions` (how many),
    `lesion_area` (share of the field of view; of its volume in 3-D), `lesion_contrast`,
    `liver_centre`, `liver_axes`, `liver_angle` (radians, from the vertical towards the patient's
    left), `liver_contrast` (against the fat around it), `body_axes`, `texture` (standard
    deviation).

    Args:
        size: Pixels along each axis, at least 16; three numbers make volumes.
        count: Number of images.
        seed: Seed of the collection.
    """

    def __init__(self, size: tuple[int, ...] = (32, 32), count: int = 1200, seed: int = 0) -> None:
        if len(size) < 2 or min(size) < SMALLEST_SIZE:
            raise ConfigError(
                "size",
                f"two or more axes of at least {SMALLEST_SIZE} pixels",
                tuple(size),
                "Use for example (32, 32), or (32, 32, 32) for volumes.",
            )
        if count < 1:
            raise ConfigError("count", "at least 1", count, "Ask for one image or more.")
        if seed < 0:
            raise ConfigError("seed", "0 or more", seed, "Use a seed that is not negative.")
        self.size = tuple(size)
        self.count = count
        self.seed = seed

    def load(self) -> ImageSet:
        """Draw and paint the phantoms."""
        anatomy = draw_anatomy(self.seed, self.count, len(self.size))
        return ImageSet(
            torch.from_numpy(paint(anatomy, self.size)[:, None]),  # (n, 1, *size)
            data_range=(0.0, 1.0),
            factors=factors(anatomy),
            name=f"phantoms {'×'.join(str(pixels) for pixels in self.size)}",
            citation="Phantoms drawn by latens",
        )


def paint(anatomy: Anatomy, size: tuple[int, ...]) -> np.ndarray:
    """Paint anatomies on a grid.

    Args:
        anatomy: n phantoms in d axes.
        size: Pixels along each of the d axes.

    Returns:
        Images in [0, 1], `(n, *size)`, float32.
    """
    count = len(anatomy.angle)
    step = max(1, PIXELS_PER_BLOCK // int(np.prod(size)))
    images = np.empty((count, *size), dtype=np.float32)
    for start in range(0, count, step):
        rows = slice(start, start + step)
        images[rows] = _paint_block(anatomy.block(rows), size)
    return images


def _grid(size: tuple[int, ...], window: tuple[slice, ...]) -> list[np.ndarray]:
    """Pixel centres along each axis, from −1 to 1, shaped to broadcast against (n, *size)."""
    axes = []
    for axis, (pixels, part) in enumerate(zip(size, window, strict=True)):
        centres = (2 * np.arange(part.start, part.stop, dtype=np.float32) + 1) / pixels - 1
        shape = [1] * (len(size) + 1)
        shape[axis + 1] = len(centres)
        axes.append(centres.reshape(shape))
    return axes


def _window(centre: np.ndarray, axes: np.ndarray, size: tuple[int, ...]) -> tuple[slice, ...]:
    """Part of the grid outside which none of the ellipsoids (n, d) covers a pixel, whatever turn.

    A pixel is covered where f < 1 + ‖∇f‖/2, ‖∇f‖ ≤ 2/(min n · min a) per pixel, and f is at least
    the distance from the centre along any axis, in units of the extent along it.
    """
    reach = axes.copy()
    reach[:, -2:] = axes[:, -2:].max(axis=1, keepdims=True)
    reach *= 1 + 1 / (min(size) * axes.min(axis=1, keepdims=True))
    pixels = np.asarray(size)
    first = np.floor(((centre - reach).min(axis=0) + 1) * pixels / 2 - 0.5).astype(np.int64)
    last = np.ceil(((centre + reach).max(axis=0) + 1) * pixels / 2 - 0.5).astype(np.int64)
    return tuple(
        slice(min(max(0, start), n), min(max(0, stop + 1), n))
        for start, stop, n in zip(first.tolist(), last.tolist(), size, strict=True)
    )


def _cover(
    centre: np.ndarray, axes: np.ndarray, angle: np.ndarray, size: tuple[int, ...]
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Share of each pixel that an ellipsoid covers, to first order in a pixel.

    Returns:
        A window of `(n, *size)` outside which the share is 0, and the shares inside it.
    """

    def column(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32).reshape(-1, *[1] * len(size))

    window = _window(centre, axes, size)
    cosine, sine = column(np.cos(angle)), column(np.sin(angle))
    offset = [x - column(centre[:, j]) for j, x in enumerate(_grid(size, window))]
    down, across = offset[-2], offset[-1]
    local = [*offset[:-2], cosine * down + sine * across, cosine * across - sine * down]
    scaled = [part / column(axes[:, j]) for j, part in enumerate(local)]
    level = np.sqrt(sum(part**2 for part in scaled) + np.float32(1e-12))  # f
    slope = [part / column(axes[:, j]) for j, part in enumerate(scaled)]  # f ∇f, turned
    down, across = slope[-2], slope[-1]
    slope = [*slope[:-2], cosine * down - sine * across, sine * down + cosine * across]
    steepness = np.sqrt(
        sum((part * np.float32(2 / n)) ** 2 for part, n in zip(slope, size, strict=True))
    )
    steepness = steepness / level + np.float32(1e-12)  # ‖∇f‖ per pixel
    # A straight ramp makes convex shapes too large by their curvature, about ‖∇f‖ for each axis
    # of the surface; the term with 1/24 takes that away.
    inwards = (len(size) - 1) / 24 * steepness
    return (slice(None), *window), np.clip(0.5 - (level - 1) / steepness - inwards, 0, 1)


def _texture(anatomy: Anatomy, size: tuple[int, ...]) -> np.ndarray:
    """Sum of plane waves, (n, *size), standard deviation `anatomy.texture`.

    exp(iπ Σ_j k_j p_j) is a product over axes, so one matrix product replaces n·T·pixels cosines.
    """
    count = len(anatomy.phases)
    field = np.exp(1j * anatomy.phases).astype(np.complex64)[..., None]  # (n, T, 1)
    everywhere = tuple(slice(0, n) for n in size)
    for axis, coordinates in enumerate(_grid(size, everywhere)):
        phase = np.pi * anatomy.waves[..., axis, None] * coordinates.ravel()
        wave = np.exp(1j * phase).astype(np.complex64)  # (n, T, size[axis])
        if axis < len(size) - 1:
            field = (field[..., None] * wave[:, :, None]).reshape(count, WAVES, -1)
        else:
            field = field.swapaxes(1, 2) @ wave  # (n, pixels before, size[axis])
    strength = (anatomy.texture * np.sqrt(2 / WAVES)).astype(np.float32)
    return strength.reshape(-1, *[1] * len(size)) * field.real.reshape(count, *size)


def _paint_block(anatomy: Anatomy, size: tuple[int, ...]) -> np.ndarray:
    column = (-1, *[1] * len(size))
    images = np.zeros((len(anatomy.angle), *size), dtype=np.float32)
    body = np.zeros_like(images)
    for e in range(len(ORGANS)):
        window, covered = _cover(
            anatomy.centre[:, e], anatomy.axes[:, e], anatomy.angle[:, e], size
        )
        level = anatomy.level[:, e].astype(np.float32).reshape(column)
        images[window] += covered * (level - images[window])
        if e == 0:
            body[window] = covered
    images += body * _texture(anatomy, size)
    upright = np.zeros(len(images))
    for k in range(MAX_LESIONS):
        window, covered = _cover(
            anatomy.lesion_centre[:, k], anatomy.lesion_axes[:, k], upright, size
        )
        contrast = np.where(anatomy.lesions > k, anatomy.lesion_contrast, 0.0)
        images[window] += covered * contrast.astype(np.float32).reshape(column)
    return np.clip(images, 0, 1)
