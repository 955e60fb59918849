"""Turns, flips and intensities for training, with the targets carried along.

A scan is moved by p → s · M R (p − m) + m + d about the middle m of the grid, in millimetres: M
mirrors left and right, R turns, s scales, d shifts. Such a similarity changes log volume by
3 log s, surface to volume by 1/s, moves the centroid, and leaves sphericity, elongation and
flatness as they are; so no target is ever wrong. A lesion that would be cut is not moved.

Intensities change channel by channel within the brain, x → a x + b + σ n; targets do not depend
on them. Everything is a function of (seed, pass, row), where a pass takes every scan once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from latens.data.heads import rotations
from latens.data.subjects import TARGETS, Scans
from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError

MOVED = TARGETS.index("log_volume"), TARGETS.index("surface_to_volume")
CENTROID = slice(TARGETS.index("centroid_s"), TARGETS.index("centroid_l") + 1)
SHARE = 0.5
"""Share of a moved mask from which a voxel belongs to it."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of scans; all of them are drawn anew at every pass over the scans.

    Args:
        mirror: Probability of exchanging left and right.
        turn: Largest turn about each axis, degrees.
        scale: Largest change of size, log.
        shift: Largest shift along each axis, mm.
        contrast: Standard deviation of log a, per channel.
        brightness: Standard deviation of b, per channel, in units of the standardised image.
        noise: Largest σ, the same unit.

    Raises:
        ConfigError: If a number is out of range.
    """

    mirror: float = 0.5
    turn: float = 8.0
    scale: float = 0.08
    shift: float = 6.0
    contrast: float = 0.1
    brightness: float = 0.1
    noise: float = 0.05

    def __post_init__(self) -> None:
        sizes = (self.turn, self.scale, self.shift, self.contrast, self.brightness, self.noise)
        if not 0 <= self.mirror <= 1 or min(sizes) < 0 or self.turn > 90 or self.scale > 1:
            raise ConfigError(
                "augmentation",
                "mirror from 0 to 1, turn to 90°, scale to 1, all others 0 or more",
                self,
                "Correct the number that breaks this.",
            )

    def __call__(
        self,
        scans: Scans,
        targets: Tensor,
        spacing: Sequence[float] | np.ndarray,
        *,
        seed: int,
        passes: Sequence[int],
        rows: Sequence[int],
    ) -> tuple[Scans, Tensor]:
        """Changed scans and their targets.

        Args:
            scans: B scans.
            targets: Columns `TARGETS`, `(B, 8)`.
            spacing: Millimetres between voxels along D, H, W, `(3,)`, or of each scan, `(B, 3)`.
            seed: Key of the training.
            passes: How often each scan has been taken before, B of them.
            rows: Position of each scan in its collection, B of them.

        Returns:
            Scans of the same shapes, and targets `(B, 8)`.
        """
        keys = zip(passes, rows, strict=True)
        streams = [NoiseStream(seed, Purpose.AUGMENTATION, int(p), int(row)) for p, row in keys]
        drawn = torch.stack([stream.uniform((8,), torch.float64) for stream in streams])
        matrix, move, scale = self._similarity(drawn)
        half = torch.as_tensor(scans.images.shape[2:]) * torch.as_tensor(np.asarray(spacing)) / 2
        half = half.expand(len(scans), 3)  # mm
        cut = _cut(scans.lesion, matrix, move, half)
        matrix[cut], move[cut], scale[cut] = torch.eye(3, dtype=torch.float64), 0.0, 1.0
        moved = _moved_scans(scans, matrix, move, half)
        return (
            Scans(self._intensities(moved, streams), moved.brain, moved.lesion),
            _moved_targets(targets, matrix, move, scale, half),
        )

    def _similarity(self, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """s M R `(B, 3, 3)`, d `(B, 3)` in mm, s `(B,)`, axes S, P, L."""
        signed = 2 * drawn - 1
        angles = (math.radians(self.turn) * signed[:, :3]).numpy()
        scale = (self.scale * signed[:, 3]).exp()
        matrix = torch.from_numpy(rotations(*angles.T)) * scale[:, None, None]
        sign = torch.where(drawn[:, 7] < self.mirror, -1.0, 1.0).double()
        matrix[:, 2] *= sign[:, None]  # the last axis runs towards the left
        return matrix, self.shift * signed[:, 4:7], scale

    def _intensities(self, scans: Scans, streams: Sequence[NoiseStream]) -> Tensor:
        images = scans.images
        changed = []
        for image, stream in zip(images, streams, strict=True):
            gain, offset = stream.normal((2, len(image), 1, 1, 1))
            sigma = self.noise * stream.uniform(())
            gain = (self.contrast * gain).exp()
            noise = sigma * stream.normal(tuple(image.shape))
            changed.append(image * gain + self.brightness * offset + noise)
        return torch.where(scans.brain, torch.stack(changed).to(images), 0.0)


def _cut(lesion: Tensor, matrix: Tensor, move: Tensor, half: Tensor) -> Tensor:
    """Whether a corner of the box around a lesion would leave the grid, `(B,)`."""
    cut = torch.zeros(len(lesion), dtype=torch.bool)
    for row, mask in enumerate(lesion[:, 0]):
        voxels = mask.nonzero()
        if not len(voxels):
            continue
        size = torch.tensor(mask.shape, dtype=torch.float64)
        low, high = voxels.amin(0) / size, (voxels.amax(0) + 1) / size
        ends = (2 * torch.stack([low, high]) - 1) * half[row]  # mm from the middle
        corners = torch.cartesian_prod(*ends.T)  # (8, 3)
        cut[row] = bool(((corners @ matrix[row].T + move[row]).abs() > half[row]).any())
    return cut


def _moved_scans(scans: Scans, matrix: Tensor, move: Tensor, half: Tensor) -> Scans:
    """Images interpolated linearly, 0 from outside; masks where half of a voxel is covered."""
    inverse = torch.linalg.inv(matrix)
    back = inverse / half[:, :, None] * half[:, None]  # between coordinates from −1 to 1
    start = -(inverse @ move[..., None]) / half[..., None]
    theta = torch.cat([back, start], dim=2).flip(1)  # torch names its axes x, y, z: W, H, D
    theta[:, :, :3] = theta[:, :, :3].flip(2)
    stacked = torch.cat([scans.images, scans.brain.float(), scans.lesion.float()], dim=1)
    grid = affine_grid(theta.to(stacked), list(stacked.shape), align_corners=False)
    placed = grid_sample(stacked, grid, mode="bilinear", align_corners=False)
    brain = placed[:, -2:-1] >= SHARE
    share = placed[:, -2:-1].clamp(min=SHARE)
    return Scans(
        torch.where(brain, placed[:, :-2] / share, 0.0), brain, (placed[:, -1:] >= SHARE) & brain
    )


def _moved_targets(
    targets: Tensor, matrix: Tensor, move: Tensor, scale: Tensor, half: Tensor
) -> Tensor:
    moved = targets.double().clone()
    centroid = moved[:, CENTROID] * half
    moved[:, CENTROID] = ((matrix @ centroid[..., None])[..., 0] + move) / half
    volume, surface = MOVED
    moved[:, volume] += 3 * scale.log()
    moved[:, surface] /= scale
    return moved.to(targets)
