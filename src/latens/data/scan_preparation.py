"""From the NIfTI files of one scan to what a model sees.

    read, orient      `read_volume`: axes towards S, P, L by exact turns, headers checked
    compare           one grid for all files, finite values, a brain, channels that differ on it
    resample          to the wanted spacing and size about the middle of the brain, in one step
    standardise       mean 0, standard deviation 1 over the brain, per channel; 0 outside

MONAI resamples. nibabel reads, through `read_volume`, since MONAI's reader takes what that one
refuses: two orientations that disagree, voxel sizes that contradict the affine, series.

Means over the brain are resampled, r(image · brain)/r(brain), so that the dark surroundings do
not leak into its rim; before they are thinned out, images are smoothed by a Gaussian of
(factor − 1)/2 voxels against aliasing, as in `monai.transforms.Resize`. Volume and shape of the
lesion are measured before all this, so that they depend on no setting.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from latens.data.folder import as_image
from latens.data.grids import moved_affine
from latens.data.intensity import standardise
from latens.data.lesion_shape import lesion_targets
from latens.data.subject_files import BRAIN, SEGMENTATION, ScanFiles
from latens.data.subjects import TARGETS
from latens.data.volumes import Volume, read_volume
from latens.errors import DataError, ShapeError
from latens.store.hashing import array_fingerprint

VERSION = 2
"""Changes whenever the same files give other scans, or are no longer accepted."""
SAME_PLACE = 0.05
"""Share of a voxel by which the corners of two files of one scan may lie apart."""
CUT_LESION = 1e-3
"""Share of a lesion that may lie outside the field of view."""
LEAST_BRAIN = 0.5
"""Share of brain above which a voxel belongs to it."""
STRAY_LESION = 0.5
"""Share of a lesion that may lie outside the brain; a rim of it often does."""


@dataclass(frozen=True)
class Preparation:
    """How scans are prepared.

    Args:
        modalities: Channels, in their order.
        size: Voxels along D, H, W.
        spacing: Millimetres between voxels along D, H, W.
        labels: Labels of the segmentation that make up the lesion; all but 0 by default.
    """

    modalities: tuple[str, ...]
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    labels: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """One scan on the grid of the model.

    Attributes:
        images: `(C, D, H, W)`, float32.
        brain: `(D, H, W)`, bool.
        lesion: `(D, H, W)`, bool.
        targets: Columns `TARGETS`, `(8,)`, float64.
        affine: Millimetres of a voxel's index, `(4, 4)`.
        axes: Directions of the axes of its files.
        code: NIfTI code of their space.
        content: Hash of images and masks.
    """

    images: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray
    targets: np.ndarray
    affine: np.ndarray
    axes: tuple[str, str, str]
    code: int
    content: str


def prepare(scan: ScanFiles, how: Preparation) -> Prepared:
    """Read and prepare one scan.

    Raises:
        DataError: If a file is damaged, holds NaN, lies elsewhere than the others or is constant,
            the brain is empty, most of the lesion lies outside it, or a part of the lesion would
            be cut off.
        ShapeError: If the files differ in shape.
    """
    first, images = _modalities(scan, how.modalities)
    brain = _brain(scan, first, images)
    lesion = _lesion(scan, first, brain, how.labels)
    soft = np.zeros((len(images) + 2, *brain.shape), dtype=np.float32)
    for i, image in enumerate(images):
        soft[i] = image * brain
    soft[-2] = brain
    if lesion is not None:
        soft[-1] = lesion
    placed, affine = _resampled(soft, first.affine, _target_affine(first, brain, how), how)
    targets = np.full(len(TARGETS), math.nan)
    if lesion is not None:
        targets = _targets(scan, lesion, first, affine, how)
    share = placed[-2]
    inside = share > LEAST_BRAIN
    means = np.divide(placed[:-2], share, out=np.zeros_like(placed[:-2]), where=inside)
    names = [str(scan.files[role]) for role in how.modalities]
    scaled = standardise(means[None], inside[None, None], names)[0]
    mask = (placed[-1] >= LEAST_BRAIN) & inside
    content = array_fingerprint(scaled, inside, mask)
    return Prepared(scaled, inside, mask, targets, affine, first.axes, first.code, content)


def check_scan(scan: ScanFiles, modalities: tuple[str, ...]) -> Volume:
    """Raise what `prepare` would, whatever the grid; all but a lesion cut off.

    Returns:
        The first modality.

    Raises:
        DataError: As `prepare`.
        ShapeError: As `prepare`.
    """
    first, images = _modalities(scan, modalities)
    brain = _brain(scan, first, images)
    names = [str(scan.files[role]) for role in modalities]
    for image, name in zip(images, names, strict=True):
        standardise(image[None, None], brain[None, None], [name])
    _lesion(scan, first, brain, None)
    return first


def _modalities(scan: ScanFiles, modalities: tuple[str, ...]) -> tuple[Volume, list[np.ndarray]]:
    """The first volume, for its place, and the values of all, known to overlay."""
    path = scan.files[modalities[0]]
    first = _finite(path)
    others = [_overlaid(scan.files[role], first, path) for role in modalities[1:]]
    return first, [first.values, *(volume.values for volume in others)]


def _finite(path: Path) -> Volume:
    volume = read_volume(path)
    as_image(volume.values[None], str(path))  # raises on NaN
    return volume


def _overlaid(path: Path, first: Volume, first_path: Path) -> Volume:
    """A volume on the grid of the first one."""
    volume = _finite(path)
    if volume.values.shape != first.values.shape:
        raise ShapeError(
            str(path),
            f"shape {first.values.shape}, as in {first_path.name}",
            volume.values.shape,
            "Resample the files of a subject to one grid.",
        )
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in first.values.shape]), -1).reshape(-1, 3)
    apart = _moved(volume.affine, corners) - _moved(first.affine, corners)
    furthest = float(np.linalg.norm(apart, axis=1).max())
    if furthest > SAME_PLACE * first.spacing.min():
        raise DataError(
            str(path),
            f"the place of {first_path.name}",
            f"one up to {furthest:.3g} mm away",
            "Register the files of a subject to each other, or correct the affine.",
        )
    return volume


def _brain(scan: ScanFiles, first: Volume, images: list[np.ndarray]) -> np.ndarray:
    """Mask from its file; otherwise where any modality is not zero."""
    path = scan.files.get(BRAIN)
    if path is None:
        brain = np.any([image != 0 for image in images], axis=0)
        name = f"brain of {scan.name}"
        remedy = "Every modality is zero everywhere: export them again."
    else:
        brain = _overlaid(path, first, _first_path(scan)).values != 0
        name, remedy = str(path), "Correct the mask, or remove it: then non-zero voxels count."
    if not brain.any():
        raise DataError(name, "a mask with a voxel in it", "an empty one", remedy)
    return brain


def _first_path(scan: ScanFiles) -> Path:
    return next(path for role, path in scan.files.items() if role not in (BRAIN, SEGMENTATION))


def _segmentation(scan: ScanFiles, first: Volume) -> np.ndarray | None:
    """Labels, if there is a file of them."""
    path = scan.files.get(SEGMENTATION)
    if path is None:
        return None
    labels = _overlaid(path, first, _first_path(scan)).values
    if (labels != np.rint(labels)).any():
        raise DataError(
            str(path),
            "whole numbers as labels",
            "fractions",
            "Resample segmentations with nearest neighbours.",
        )
    return labels


def _lesion(
    scan: ScanFiles, first: Volume, brain: np.ndarray, chosen: tuple[int, ...] | None
) -> np.ndarray | None:
    """Mask on the grid of the files, if there is a segmentation."""
    labels = _segmentation(scan, first)
    if labels is None:
        return None
    lesion = labels != 0 if chosen is None else np.isin(labels, chosen)
    if lesion.any():
        outside = float((lesion & ~brain).sum() / lesion.sum())
        if outside > STRAY_LESION:
            raise DataError(
                str(scan.files[SEGMENTATION]),
                f"at most {100 * STRAY_LESION:.0f} % of the lesion outside the brain",
                f"{100 * outside:.0f} %",
                "Correct the segmentation or the brain mask, which may be of another scan.",
            )
    return lesion


def _targets(
    scan: ScanFiles, lesion: np.ndarray, first: Volume, affine: np.ndarray, how: Preparation
) -> np.ndarray:
    """What the mask on the grid of the files says, the centroid on the grid of the model."""
    targets = lesion_targets(lesion, first.spacing)
    if not lesion.any():
        return targets
    size = np.asarray(how.size)
    to_model = np.linalg.inv(affine) @ first.affine
    middle = ((targets[1:4] + 1) * lesion.shape - 1) / 2
    targets[1:4] = (2 * _moved(to_model, middle[None])[0] + 1) / size - 1
    places = _moved(to_model, np.argwhere(lesion))
    cut = ((places < -0.5) | (places > size - 0.5)).any(axis=1).mean()
    if cut > CUT_LESION:
        raise DataError(
            str(scan.files[SEGMENTATION]),
            "a lesion within the field of view",
            f"{100 * cut:.2g} % of it outside",
            "Raise `size` or `spacing`.",
        )
    return targets


def _moved(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ affine[:3, :3].T + affine[:3, 3]


def _target_affine(first: Volume, brain: np.ndarray, how: Preparation) -> np.ndarray:
    """Grid of the wanted spacing and size, its middle that of the box around the brain."""
    step = np.asarray(how.spacing) / first.spacing  # voxels of the file per voxel of the model
    ends = [np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {k})))[[0, -1]] for k in range(3)]
    middle = np.asarray(ends).mean(axis=1)
    start = middle - step * (np.asarray(how.size) - 1) / 2
    return moved_affine(first.affine, start.tolist(), step.tolist())


def _resampled(
    values: np.ndarray, source: np.ndarray, target: np.ndarray, how: Preparation
) -> tuple[np.ndarray, np.ndarray]:
    """Values `(k, *size)` on the target grid, and the affine that they have there."""
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.spatial.array import SpatialResample

    grid = np.linalg.inv(source) @ target
    factors = np.diag(grid)[:3]  # the axes are parallel
    sigma = np.clip((factors - 1) / 2, 0, None)
    margin = np.ceil(4 * sigma) + 1
    low = np.floor(grid[:3, 3] - margin)
    high = np.ceil(grid[:3, 3] + factors * (np.asarray(how.size) - 1) + margin) + 1
    start = np.clip(low, 0, np.asarray(values.shape[1:]) - 1).astype(int)
    stop = np.clip(high, start + 1, values.shape[1:]).astype(int)
    window = values[(slice(None), *[slice(a, b) for a, b in zip(start, stop, strict=True)])]
    smooth = gaussian_filter(window, (0, *sigma), mode="constant")
    placed = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(smooth)),
        affine=torch.from_numpy(moved_affine(source, start.tolist(), [1, 1, 1])),
    )
    resample = SpatialResample(
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
        dtype=torch.float32,  # pyright: ignore[reportArgumentType]
    )
    result = resample(placed, dst_affine=torch.from_numpy(target), spatial_size=how.size)
    assert isinstance(result, MetaTensor)
    affine = np.asarray(result.affine, dtype=np.float64)
    return result.as_tensor().numpy(), affine
