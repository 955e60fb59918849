"""Folders of NIfTI volumes: whole volumes, or axial slices of them."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from latens.data.folder import as_image, natural_key
from latens.data.grids import (
    average_blocks,
    averaged_affine,
    check_block,
    fit_to_size,
    moved_affine,
)
from latens.data.groups import GROUPS_FILE, read_groups, shorten
from latens.data.images import ImageSet, Source, check_limit
from latens.data.intensity import robust_range, to_unit
from latens.data.volumes import RELATIVE, is_volume_name, read_volume, volume_stem
from latens.errors import ConfigError, DataError, ShapeError


class NiftiFolder(Source):
    """A folder of NIfTI files (`.nii`, `.nii.gz`), one volume of real numbers each.

    Whatever the order of the axes in a file, a volume becomes `(1, D, H, W)` with axes towards
    the head, the back and the patient's left, so that all are comparable and an axial slice
    stands as radiologists look at it. Nothing is resampled: voxel sizes must agree. The place of
    each image is kept in `ImageSet.affines`.

    MR intensities are in arbitrary units that change from scan to scan. With `scale: none` they
    stay as stored: right for CT in Hounsfield units, maps in physical units, or scans that were
    normalised before. With `scale: unit` each volume is mapped from its percentiles 0.1 and 99.9
    to 0 and 1 and clipped there (so the dark background of MR images is 0): comparable contrast,
    but the units are gone, and a measurement to be reconstructed later must be scaled likewise.

    Images of one group are never split between roles. By default a group is a subject: the
    sub-folder in which a file lies, or the file itself where there are none.

    Args:
        path: The folder.
        pattern: Which files, relative to the folder: `./*/*_t1.nii.gz` takes the T1 of each
            sub-folder. It begins with a dot, since YAML has its own use for a leading asterisk.
        groups: CSV file with the columns `file` (relative to the folder) and `group`. By default
            `groups.csv` in the folder, if there is one; else see above.
        size: Voxels along each axis of an image, D, H, W of a volume or H, W of a slice; images
            are cropped or padded about their centre, before blocks are averaged. By default all
            files must have one shape.
        block: Voxels are averaged over blocks of this edge along each axis of an image.
        slices: Number of axial slices to take of each volume, evenly spaced over the middle half
            of its depth; images then are `(1, H, W)`. By default whole volumes.
        slab: Number of neighbouring slices that form a group of their own. For data with too few
            subjects to keep them whole; results then say nothing about a new subject.
        scale: How intensities are treated, `none` or `unit`; see above.
        data_range: Smallest and largest value that an image of this kind can take. By default
            those of all images, or 0 and 1 where they are scaled to it.
        limit: Read only the first `limit` files.
        citation: Source to cite in figures.
    """

    def __init__(
        self,
        path: str,
        pattern: str = "./*.nii*",
        groups: str | None = None,
        size: tuple[int, ...] | None = None,
        block: int = 1,
        slices: int | None = None,
        slab: int | None = None,
        scale: Literal["none", "unit"] = "none",
        data_range: tuple[float, float] | None = None,
        limit: int | None = None,
        citation: str = "",
    ) -> None:
        self.path = path
        self.pattern = pattern
        self.groups = groups
        self.size = size
        self.block = check_block(block)
        self.slices = slices
        self.slab = slab
        self.scale = scale
        self.data_range = data_range
        self.limit = check_limit(limit)
        self.citation = citation
        self._check()

    def _check(self) -> None:
        axes = 3 if self.slices is None else 2
        if self.size is not None and (len(self.size) != axes or min(self.size) < 1):
            raise ConfigError(
                "size",
                f"{axes} positive numbers, one for each axis of an image",
                tuple(self.size),
                "Give D, H, W for volumes, or H, W where `slices` is set.",
            )
        if self.slices is not None and self.slices < 1:
            raise ConfigError("slices", "at least 1, or nothing", self.slices, "Leave it out.")
        if self.slab is not None and (self.slices is None or self.slab < 1):
            raise ConfigError(
                "slab",
                "at least 1, with `slices` set",
                self.slab,
                "Leave it out, or set `slices`: slabs are made of slices.",
            )
        if self.scale not in ("none", "unit"):
            raise ConfigError("scale", "`none` or `unit`", self.scale, "Choose one of the two.")

    def load(self) -> ImageSet:
        """Read the files."""
        folder = Path(self.path)
        files = list_volumes(folder, self.pattern)
        groups = _groups(folder, self.groups, files)
        files = files[: self.limit]
        first: _Cut | None = None
        x, affines, names = torch.empty(0), [], []
        for i, file in enumerate(files):
            cut = self._cut(file)
            if first is None:
                first = cut
                # Filled file by file: a set of volumes would not fit twice.
                x = torch.empty((len(files) * len(cut.images), 1, *cut.images.shape[1:]))
            _check_alike(file, cut, files[0], first)
            count = len(cut.images)
            x[i * count : (i + 1) * count, 0] = torch.from_numpy(cut.images)
            affines.append(cut.affines)
            names.extend(
                groups[i] if self.slab is None else f"{groups[i]}/slab {k // self.slab}"
                for k in range(count)
            )
        return ImageSet(
            x,
            data_range=self._range(x),
            groups=tuple(names),
            affines=np.concatenate(affines),
            name=folder.resolve().name,
            citation=self.citation,
        )

    def _cut(self, file: Path) -> "_Cut":
        """The images of one file."""
        volume = read_volume(file)
        values = as_image(volume.values, str(file))  # checked, as it is
        low, high = robust_range(values) if self.scale == "unit" or self.size else (0.0, 1.0)
        if self.scale == "unit":
            values, low = to_unit(values, low, high), 0.0
        starts = np.zeros((1, 3))
        if self.slices is None:
            values = values[None]
        else:
            chosen = _middle_slices(file, len(values), self.slices)
            values = values[chosen]
            starts = np.stack([chosen, 0 * chosen, 0 * chosen], axis=1).astype(float)
        axes = values.ndim - 1
        if self.size is not None:
            values, corner = fit_to_size(values, self.size, low)
            starts[:, 3 - axes :] += corner
        images = average_blocks(values, self.block, axes, str(file))
        steps = [1.0] * (3 - axes) + [float(self.block)] * axes
        affines = [
            averaged_affine(moved_affine(volume.affine, start.tolist(), [1, 1, 1]), steps)
            for start in starts
        ]
        return _Cut(images, np.stack(affines), volume.spacing[3 - axes :])

    def _range(self, x: torch.Tensor) -> tuple[float, float]:
        if self.data_range is not None:
            return self.data_range
        if self.scale == "unit":
            return 0.0, 1.0
        smallest, largest = (float(value) for value in torch.aminmax(x))
        # A constant is left to ImageSet, which explains what is wrong with it.
        return smallest, largest if largest > smallest else smallest + 1.0


class _Cut(NamedTuple):
    """Images `(k, *spatial)`, affines `(k, 4, 4)`, mm between voxels along the spatial axes."""

    images: np.ndarray
    affines: np.ndarray
    spacing: np.ndarray


def list_volumes(folder: Path, pattern: str = "./*.nii*") -> list[Path]:
    """The NIfTI files of a folder that match a pattern, in natural order.

    Raises:
        DataError: If the folder is missing or has none.
        ConfigError: If the pattern cannot be used.
    """
    if not folder.is_dir():
        raise DataError(str(folder), "a folder", "no such folder", "Check the path.")
    try:
        files = [file for file in folder.glob(pattern) if is_volume_name(file.name)]
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(
            "pattern", "a pattern relative to the folder", pattern, "Use for example ./*/*.nii.gz."
        ) from error
    if not files:
        raise DataError(
            str(folder),
            f"at least one NIfTI file that matches {pattern}",
            "none",
            "Check the pattern; for files in sub-folders write ./*/*.nii.gz.",
        )
    return sorted(files, key=lambda file: natural_key(relative_name(folder, file)))


def relative_name(folder: Path, file: Path) -> str:
    """Name of a file within a folder, with forward slashes."""
    return file.relative_to(folder).as_posix()


def subject(folder: Path, file: Path) -> str:
    """The sub-folder in which a file lies, or its own name."""
    inside = file.parent.relative_to(folder).as_posix()
    return inside if inside != "." else volume_stem(file.name)


def _groups(folder: Path, table: str | None, files: list[Path]) -> list[str]:
    path = folder / GROUPS_FILE if table is None else Path(table)
    if table is None and not path.exists():
        return [subject(folder, file) for file in files]
    assigned = read_groups(path)
    names = [relative_name(folder, file) for file in files]
    missing = [name for name in names if name not in assigned]
    if missing:
        raise DataError(
            str(path),
            "one row for every file",
            f"no row for {shorten(missing)}",
            "Make the column `file` list the names relative to the folder.",
        )
    return [assigned[name] for name in names]


def _middle_slices(file: Path, depth: int, count: int) -> np.ndarray:
    """Positions of `count` slices, evenly spaced over the middle half, `(count,)`."""
    low, high = depth // 4, depth - depth // 4  # one slice alone is its own middle half
    if count > high - low:
        raise ShapeError(
            str(file),
            f"at least {count} slices (`slices`) in the middle half of the volume",
            f"{high - low} of {depth}",
            "Ask for fewer slices.",
        )
    return low + ((2 * np.arange(count) + 1) * (high - low)) // (2 * count)


def _check_alike(file: Path, cut: _Cut, first_file: Path, first: _Cut) -> None:
    if cut.images.shape != first.images.shape:
        raise ShapeError(
            str(file),
            f"images of shape {first.images.shape[1:]}, as in {first_file.name}",
            cut.images.shape[1:],
            "Set `size` to crop or pad all to one shape.",
        )
    if not np.allclose(cut.spacing, first.spacing, rtol=RELATIVE):
        own, others = (" × ".join(f"{mm:.4g}" for mm in c.spacing) for c in (cut, first))
        raise DataError(
            str(file),
            f"voxels of {others} mm, as in {first_file.name}",
            f"{own} mm",
            "Resample it, or leave it out.",
        )
