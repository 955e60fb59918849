"""Folders of npy files: one image per file, or pairs of image and measurement."""

import re
from pathlib import Path

import numpy as np
import torch

from latens.data.groups import find_groups, shorten
from latens.data.images import ImageSet, Source, check_limit
from latens.errors import DataError, ShapeError
from latens.store.safe import read_array


class NpyFolder(Source):
    """A folder of npy files, one image `(H, W)` or `(C, *spatial)` each, all of one shape.

    An array with two axes gains a channel axis; in any other the first axis is the channel, so
    save a volume as `(1, D, H, W)`. Files are read in natural order (`img2` before `img10`).

    Args:
        path: The folder.
        groups: CSV file with the columns `file` and `group`, which names the patient or
            specimen of each file. By default `groups.csv` in the folder, if there is one; else
            every image is its own group.
        data_range: Smallest and largest value that an image of this kind can take. By default
            those of all the images in the folder, fixed from then on for every subset of them.
        limit: Read only the first `limit` files.
        citation: Source to cite in figures.
    """

    def __init__(
        self,
        path: str,
        groups: str | None = None,
        data_range: tuple[float, float] | None = None,
        limit: int | None = None,
        citation: str = "",
    ) -> None:
        self.path = path
        self.groups = groups
        self.data_range = data_range
        self.limit = check_limit(limit)
        self.citation = citation

    def load(self) -> ImageSet:
        """Read the files."""
        folder = Path(self.path)
        files = list_images(folder)
        groups = find_groups(folder, self.groups, [file.name for file in files])
        x = _stack(files[: self.limit])
        return ImageSet(
            x,
            data_range=self.data_range or _span(x),
            groups=groups[: self.limit],
            name=folder.resolve().name,
            citation=self.citation,
        )


class PairedFolder(Source):
    """Images and a person's own measurements of them, in sub-folders `x` and `y`.

    The file `y/NAME.npy` is the measurement of `x/NAME.npy`. Arrays follow the rules of
    `NpyFolder`; measurements may have another shape than images.

    Args:
        path: The folder that holds `x` and `y`.
        groups: CSV file with the columns `file` and `group`. By default `groups.csv` in the
            folder, if there is one; else every pair is its own group.
        data_range: Smallest and largest value that an image can take. By default those of all
            the images in `x`, fixed from then on for every subset of them.
        limit: Read only the first `limit` pairs.
        citation: Source to cite in figures.
    """

    def __init__(
        self,
        path: str,
        groups: str | None = None,
        data_range: tuple[float, float] | None = None,
        limit: int | None = None,
        citation: str = "",
    ) -> None:
        self.path = path
        self.groups = groups
        self.data_range = data_range
        self.limit = check_limit(limit)
        self.citation = citation

    def load(self) -> ImageSet:
        """Read the files."""
        folder = Path(self.path)
        x_files, y_files = list_images(folder / "x"), list_images(folder / "y")
        check_pairs(folder, [file.name for file in x_files], [file.name for file in y_files])
        groups = find_groups(folder, self.groups, [file.name for file in x_files])
        x = _stack(x_files[: self.limit])
        return ImageSet(
            x,
            data_range=self.data_range or _span(x),
            y=_stack(y_files[: self.limit]),
            groups=groups[: self.limit],
            name=folder.resolve().name,
            citation=self.citation,
        )


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sorting key in which numbers count as numbers: `img2` comes before `img10`."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if k % 2 else part for k, part in enumerate(parts)], name


def list_images(folder: Path) -> list[Path]:
    """The npy files of a folder in natural order; hidden files are passed over.

    Raises:
        DataError: If the folder is missing or has none.
    """
    if not folder.is_dir():
        raise DataError(str(folder), "a folder", "no such folder", "Check the path.")
    try:
        files = [file for file in folder.iterdir() if is_image_name(file.name)]
    except OSError as error:
        raise DataError(
            str(folder), "a readable folder", error.strerror, "Check its permissions."
        ) from error
    if not files:
        raise DataError(
            str(folder),
            "at least one npy file",
            "none",
            "Save each image with `numpy.save`, one file per image.",
        )
    return sorted(files, key=lambda file: natural_key(file.name))


def is_image_name(name: str) -> bool:
    """Whether a file of this name is read as an image."""
    return name.lower().endswith(".npy") and not name.startswith(".")


def read_image(file: Path) -> np.ndarray:
    """One image `(C, *spatial)`, float32, finite.

    Raises:
        DataError: If the file is damaged, or values are not finite real numbers of float32.
        ShapeError: If it has fewer than two axes, or an empty one.
    """
    return as_image(read_array(file), str(file))


def as_image(array: np.ndarray, name: str) -> np.ndarray:
    """An array as an image `(C, *spatial)`, float32; see `read_image`."""
    if array.ndim < 2 or array.size == 0:
        raise ShapeError(
            name,
            "shape (H, W) or (C, *spatial)",
            array.shape,
            "Save one image per file, with its axes.",
        )
    image = real_numbers(array, name)
    return image[None] if image.ndim == 2 else image


def real_numbers(array: np.ndarray, place: str) -> np.ndarray:
    """An array as float32.

    Raises:
        DataError: If it holds other than finite real numbers.
    """
    require_real(array, place)
    with np.errstate(over="ignore", invalid="ignore"):
        values = array.astype(np.float32, copy=False)
    broken = ~np.isfinite(values)
    if broken.any():
        first = tuple(np.argwhere(broken)[0].tolist())
        raise DataError(
            place,
            "finite values within float32",
            f"{int(broken.sum())} that are NaN, infinite or too large, the first at {first}",
            "Repair these images, or leave them out everywhere.",
        )
    return values


def require_real(array: np.ndarray, place: str) -> None:
    """Raise unless an array holds real numbers.

    Raises:
        DataError: It says how complex images, alone or in a batch, become two channels.
    """
    if array.dtype.kind not in "biuf":
        raise DataError(
            place,
            "real numbers",
            array.dtype,
            "Save complex images as two channels in front of the axes of space: "
            "np.stack([z.real, z.imag], axis=-3), for volumes axis=-4.",
        )


def check_pairs(folder: Path, x_names: list[str], y_names: list[str]) -> None:
    """Raise unless both folders hold the same file names."""
    for own, other, names in (("x", "y", x_names), ("y", "x", y_names)):
        alone = sorted(set(names) - set(y_names if own == "x" else x_names), key=natural_key)
        if alone:
            raise DataError(
                f"{folder / own}",
                f"a file of the same name in `{other}` for every file",
                f"{shorten(alone)} without one",
                "Add the missing files or remove these; names must match exactly.",
            )


def _stack(files: list[Path]) -> torch.Tensor:
    """All images as one tensor (n, C, *spatial), read one at a time."""
    first = read_image(files[0])
    x = torch.empty((len(files), *first.shape), dtype=torch.float32)
    for i, file in enumerate(files):
        image = read_image(file)
        if image.shape != first.shape:
            raise ShapeError(
                str(file),
                f"shape {first.shape}, that of {files[0].name}",
                image.shape,
                "Crop or resample all images to one shape.",
            )
        x[i] = torch.from_numpy(image)
    return x


def _span(x: torch.Tensor) -> tuple[float, float]:
    smallest, largest = torch.aminmax(x)
    if smallest == largest:
        # Left to ImageSet, which explains what is wrong with a constant.
        return float(smallest), float(largest) + 1.0
    return float(smallest), float(largest)
