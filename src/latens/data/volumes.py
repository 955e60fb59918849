"""NIfTI files: reading into one orientation, and writing in the orientation they came from.

Inside latens a volume has the axes (D, H, W) = towards the head, the back and the patient's left
(S, P, L): a slice `volume[k]` is an axial one as radiologists look at it, and as `Phantoms`
paints it. Files may have their axes in any order and direction; they get them back.
"""

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel import imageglobals, orientations

from latens.errors import DataError, LatensError, ShapeError
from latens.store import write_bytes
from latens.types import PathLike, Shape

AXES = ("S", "P", "L")
HIGHEST_GZIP_RATIO = 1032
"""Deflate cannot compress further; a header that promises more than this is wrong."""
ALIGNED = 2
"""NIfTI code of a space that is that of another file."""
RELATIVE = 1e-2
"""Relative difference above which two voxel sizes are different ones."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One volume with its place in space.

    Attributes:
        values: `(D, H, W)`, float32, axes towards S, P, L; may hold NaN.
        affine: Millimetres (R, A, S positive) of the index of a voxel of `values`, `(4, 4)`.
        axes: Directions of the axes of the file it came from, for example `("L", "P", "S")`.
        code: NIfTI code of the space that `affine` leads to; 0 if the file does not say.
        dtype: Type of the values in the file.
    """

    values: np.ndarray
    affine: np.ndarray
    axes: tuple[str, str, str]
    code: int
    dtype: str

    @property
    def spacing(self) -> np.ndarray:
        """Millimetres between voxels along D, H, W, `(3,)`."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


def is_volume_name(name: str) -> bool:
    """Whether a file of this name is read as a volume."""
    return name.lower().endswith((".nii", ".nii.gz")) and not name.startswith(".")


def volume_stem(name: str) -> str:
    """File name without `.nii` or `.nii.gz`."""
    return name[: name.lower().rindex(".nii")]


def read_volume(path: PathLike) -> Volume:
    """Read a NIfTI file (`.nii`, `.nii.gz`) of real numbers; a single slice has D = 1 in its axes.

    Raises:
        DataError: If the file is missing, truncated, damaged or no NIfTI file, holds other than
            real numbers, or contradicts itself about orientation or voxel sizes.
        ShapeError: If it holds a series instead of one volume.
    """
    path = Path(path)
    if not path.is_file():  # also keeps away from pipes, which may never end
        raise DataError(str(path), "a NIfTI file", "no such file", "Check the path.")
    with _intact(path):
        image: Any = nibabel.load(path, mmap=False)
        _check_kind(path, image)
        shape = _shape(path, image.shape)
        affine = _affine(path, image, shape)
        stored = image.header.get_data_dtype()
        _check_promise(path, image, stored)
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    turn = orientations.ornt_transform(
        orientations.io_orientation(affine), orientations.axcodes2ornt(AXES)
    )
    codes = int(image.header["sform_code"]), int(image.header["qform_code"])
    return Volume(
        np.ascontiguousarray(orientations.apply_orientation(values, turn)),
        affine @ orientations.inv_ornt_aff(turn, shape),
        tuple(orientations.aff2axcodes(affine)),
        codes[0] or codes[1],
        str(stored),
    )


def write_volume(path: PathLike, values: np.ndarray, affine: np.ndarray, like: Volume) -> Path:
    """Write a volume atomically, its axes as in the file that `like` was read from.

    Args:
        path: File to write; `.gz` at the end means gzip.
        values: `(D, H, W)`, axes towards S, P, L; stored as float32.
        affine: That of `values`, `(4, 4)`; `like.affine` if the grid is the same.
        like: Volume whose axes and space the file shall have. Where its file names no space, a
            grid of another place is written as aligned to it.

    Returns:
        The path written.

    Raises:
        ShapeError: If `values` has not three axes.
        DataError: If the file cannot be written.
    """
    if values.ndim != 3:
        raise ShapeError("values", "shape (D, H, W)", values.shape, "Write one volume per file.")
    turn = orientations.ornt_transform(
        orientations.axcodes2ornt(AXES), orientations.axcodes2ornt(like.axes)
    )
    turned = orientations.apply_orientation(values.astype(np.float32), turn)
    placed = affine @ orientations.inv_ornt_aff(turn, values.shape)
    image = nibabel.Nifti1Image(turned, placed)
    # Without a code readers take the middle of the grid for the origin: right for whole grids.
    whole = np.allclose(placed, image.header.get_base_affine(), atol=1e-4)
    code = like.code or (0 if whole else ALIGNED)
    image.set_sform(placed, code=code)
    image.set_qform(placed, code=code)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    packed = str(path).lower().endswith(".gz")
    return write_bytes(path, gzip.compress(content, 6, mtime=0) if packed else content)


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    """Turn everything that a damaged or hostile file can raise into one `DataError`."""
    level = imageglobals.logger.level
    imageglobals.logger.setLevel("CRITICAL")  # it would print beside the one line
    try:
        yield
    except LatensError:
        raise
    except Exception as error:
        # Readers of gzip, headers and extensions raise a dozen kinds of errors.
        got = " ".join(str(error).split()) or type(error).__name__
        if path.stat().st_size == 0:
            got = "an empty file"
        raise DataError(
            str(path),
            "a complete NIfTI file",
            got.replace(f"{path}", "the file")[:200],
            "The file is truncated or damaged: export or fetch it again.",
        ) from error
    finally:
        imageglobals.logger.setLevel(level)


def _check_kind(path: Path, image: Any) -> None:
    if not isinstance(image, nibabel.Nifti1Image):
        raise DataError(
            str(path), "a NIfTI file", type(image).__name__, "Convert it to NIfTI first."
        )
    stored = image.header.get_data_dtype()
    if stored.kind not in "biuf":
        raise DataError(
            str(path),
            "real numbers",
            f"type {stored}",
            "Save the magnitude, or one channel per file.",
        )


def _shape(path: Path, shape: Shape) -> Shape:
    """Three axes: trailing ones of length 1 are dropped, and missing ones added."""
    kept = list(shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    if not 2 <= len(kept) <= 3 or min(kept) < 1:
        raise ShapeError(
            str(path),
            "one volume (three axes)",
            f"shape {tuple(shape)}",
            "Save one volume per file; split a series into its volumes.",
        )
    return (*kept, *[1] * (3 - len(kept)))


def _affine(path: Path, image: Any, shape: Shape) -> np.ndarray:
    """The affine of a file, once it is known not to contradict the rest of its header."""
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or np.linalg.cond(affine[:3, :3]) > 1e6:
        raise DataError(
            str(path),
            "an affine that can be inverted",
            "one that is zero, flat or not finite",
            "Correct the orientation in its header.",
        )
    stated = np.asarray(image.header.get_zooms()[: min(3, len(image.shape))], dtype=np.float64)
    found = np.linalg.norm(affine[:3, :3], axis=0)[: len(stated)]
    if not np.allclose(found, stated, rtol=RELATIVE):
        raise DataError(
            str(path),
            f"an affine with the voxel sizes of the header, {_sizes(stated)}",
            f"voxels of {_sizes(found)}",
            "One of the two is wrong: export the file again or correct its header.",
        )
    forms = [form for form, code in _coded_forms(image) if code > 0]
    directions = {orientations.aff2axcodes(form) for form in forms}
    if len(directions) > 1:
        told = " and ".join("".join(map(str, axes)) for axes in sorted(directions))
        raise DataError(
            str(path),
            "one orientation",
            f"a qform and an sform that disagree ({told})",
            "Left and right may be exchanged: correct its header.",
        )
    return affine


def _coded_forms(image: Any) -> list[tuple[np.ndarray, int]]:
    return [image.header.get_qform(coded=True), image.header.get_sform(coded=True)]


def _sizes(spacing: np.ndarray) -> str:
    return " × ".join(f"{size:.4g}" for size in spacing) + " mm"


def _check_promise(path: Path, image: Any, stored: np.dtype) -> None:
    """Compare the bytes that the header promises with the file before making room for them."""
    promised = math.prod(image.shape) * stored.itemsize
    packed = path.stat().st_size
    if promised > packed * (HIGHEST_GZIP_RATIO if path.suffix.lower() == ".gz" else 1):
        raise EOFError(f"{packed} bytes where the header promises {promised} unpacked")
