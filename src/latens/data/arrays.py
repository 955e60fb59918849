"""Arrays as they lie on disk: one file, a member of an npz file, or a folder of images.

| given | holds |
|---|---|
| `x.npy` | all images, the image axis first |
| `x.npz`, `x.npz:NAME` | the same as its only member, or as the member of this name |
| a folder of npy files | one image per file, in natural order |
| a folder of NIfTI files | one volume per file, in natural order, axes towards S, P, L |

Nothing in a file is executed: arrays of Python objects are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latens.data.folder import as_image, is_image_name, natural_key, real_numbers
from latens.data.volumes import Volume, is_volume_name, read_volume, volume_stem
from latens.errors import DataError, ShapeError
from latens.store.safe import npz_members, read_array, read_npz


@dataclass(frozen=True, eq=False)
class Stored:
    """An array with what is known of where it came from.

    Attributes:
        values: `(n, ...)`, float32, finite.
        place: File or folder, as it was given.
        names: Stem of each file of a folder; empty for one array.
        affines: Place of each NIfTI volume in space; empty for others.
    """

    values: np.ndarray
    place: str
    names: tuple[str, ...] = ()
    affines: tuple[np.ndarray, ...] = ()


def read_stored(path: str) -> Stored:
    """Read an array, or the images of a folder with their channel axis.

    Raises:
        DataError: If there is no such file or folder, or it holds something else.
        ShapeError: If the images of a folder have different shapes.
    """
    if not Path(path).is_dir():
        return Stored(real_numbers(stored_array(path), path), path)
    files = image_files(Path(path))
    if not is_volume_name(files[0].name):
        arrays = [as_image(read_array(file), str(file)) for file in files]
        return Stored(_stacked(arrays, files), path, tuple(file.stem for file in files))
    volumes = [read_volume(file) for file in files]
    return Stored(
        _stacked([_as_signal(volume) for volume in volumes], files),
        path,
        tuple(volume_stem(file.name) for file in files),
        tuple(volume.affine for volume in volumes),
    )


def image_files(folder: Path) -> list[Path]:
    """The npy or NIfTI files of a folder in natural order.

    Raises:
        DataError: If it has none, or both.
    """
    names = [f for f in contents(folder) if is_image_name(f.name) or is_volume_name(f.name)]
    kinds = {is_volume_name(file.name) for file in names}
    if len(kinds) != 1:
        raise DataError(
            str(folder),
            "npy files or NIfTI files",
            "both" if kinds else "neither",
            "Put images of one kind into a folder of their own.",
        )
    return names


def contents(folder: Path) -> list[Path]:
    """Everything in a folder in natural order, hidden names left out."""
    try:
        found = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            str(folder), "a readable folder", error.strerror, "Check its permissions."
        ) from error
    return sorted(found, key=lambda entry: natural_key(entry.name))


def stored_array(path: str) -> np.ndarray:
    """The array of `x.npy`, of `x.npz` with one member, or of `x.npz:NAME`, of any type."""
    file, separator, member = path.rpartition(".npz:")
    if separator:
        return read_npz(f"{file}.npz", [member])[member]
    if is_volume_name(Path(path).name):
        raise DataError(
            path,
            "a folder of NIfTI files, or one array",
            "a single NIfTI file",
            "Put it into a folder, and give the folder.",
        )
    if not path.lower().endswith(".npz"):
        return read_array(path)
    members = npz_members(path)
    if len(members) != 1:
        named = f"such as {path}:{members[0]}" if members else "once it has one"
        raise DataError(
            path, "one array", f"{len(members)}: {', '.join(members[:10])}", f"Name it, {named}."
        )
    return read_npz(path, members)[members[0]]


def _as_signal(volume: Volume) -> np.ndarray:
    """`(1, D, H, W)`, or `(1, H, W)` of a single slice."""
    values = volume.values[0] if len(volume.values) == 1 else volume.values
    return values[None]


def _stacked(arrays: Sequence[np.ndarray], files: Sequence[Path]) -> np.ndarray:
    for array, file in zip(arrays, files, strict=True):
        if array.shape != arrays[0].shape:
            raise ShapeError(
                str(file),
                f"shape {arrays[0].shape}, that of {files[0].name}",
                array.shape,
                "Crop or resample all images to one shape.",
            )
    return real_numbers(np.stack(arrays), str(files[0].parent))
