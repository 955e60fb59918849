"""Somebody's reconstructions of known images: truth, point estimates, draws and groups on disk.

Where truth and reconstructions are folders, files of equal names belong together; else images
belong together by their order.
"""

from pathlib import Path

import numpy as np

from latens.data.arrays import (
    Stored,
    contents,
    image_files,
    read_stored,
    real_numbers,
    stored_array,
)
from latens.data.folder import natural_key
from latens.data.groups import GROUPS_FILE, find_groups
from latens.data.volumes import RELATIVE, is_volume_name
from latens.errors import DataError, ShapeError
from latens.store.safe import read_array

ALIKE = 0.5
"""Correlation above which means over the wrong axis are taken for reconstructions."""


def read_signals(path: str) -> Stored:
    """Images with their channel axis, `(n, C, *spatial)`.

    Three axes of an array are grey images `(n, H, W)`; with more, the second one is the channel,
    so that volumes lie in an array `(n, 1, D, H, W)`.

    Raises:
        DataError: If there is no such file or folder, or it cannot be read as images.
        ShapeError: If it has fewer axes, or images of different shapes.
    """
    found = read_stored(path)
    if found.values.ndim == 3:
        return Stored(found.values[:, None], path, found.names, found.affines)
    if found.values.ndim < 3:
        raise ShapeError(
            path,
            "images (n, H, W) or (n, C, *spatial)",
            found.values.shape,
            "Put the axis of the images first: a single image is array[None].",
        )
    return found


def read_like(path: str, truth: Stored) -> np.ndarray:
    """Arrays that belong to images one by one, with their shape.

    Raises:
        DataError: If files cannot be read, have other names, or lie elsewhere in space.
        ShapeError: If the shape differs, but for a channel axis of length 1.
    """
    found = read_stored(path)
    _check_names(found, truth)
    _check_places(found, truth)
    values, shape = found.values, truth.values.shape
    if shape[1] == 1 and values.shape == (shape[0], *shape[2:]):
        values = values[:, None]
    if values.shape != truth.values.shape:
        raise ShapeError(
            path,
            f"shape {truth.values.shape}, that of {truth.place}",
            found.values.shape,
            "Bring images, channels and axes into the same order.",
        )
    return values


def read_draws(path: str, truth: Stored) -> np.ndarray:
    """Posterior draws of images, `(S, n, C, *spatial)`.

    One array `(S, n, ...)`; or a folder with a sub-folder for each draw; or a folder with an npy
    file `(S, ...)` for each image.

    Raises:
        DataError: If files cannot be read, or images and draws have changed places.
        ShapeError: If shapes do not fit the truth.
    """
    if not Path(path).is_dir():
        return _as_draws(real_numbers(stored_array(path), path), path, truth)
    folders = [entry for entry in contents(Path(path)) if entry.is_dir()]
    if folders:
        return np.stack([read_like(str(folder), truth) for folder in folders])
    files = image_files(Path(path))
    if is_volume_name(files[0].name):
        raise DataError(
            path,
            "a sub-folder for each draw, with a NIfTI file for each image",
            f"the file {files[0].name}",
            "Put the images of each draw into a folder of their own.",
        )
    arrays = [real_numbers(read_array(file), str(file)) for file in files]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1 or len(arrays) != len(truth.values):
        raise ShapeError(
            path,
            f"{len(truth.values)} files of one shape, (draws, *{truth.values.shape[1:]})",
            f"{len(arrays)} files of {', '.join(map(str, shapes[:3]))}",
            "Save the draws of each image as a file of its own, as many for every image.",
        )
    values = np.stack(arrays, axis=1)
    _check_names(Stored(values, path, tuple(file.stem for file in files)), truth)
    return _as_draws(values, path, truth)


def read_labels(path: str | None, truth: Stored) -> tuple[str, ...]:
    """Group (patient, specimen) of each image.

    Args:
        path: For a folder, a CSV file with the columns `file` and `group`; for one array, an npy
            file of labels, or a text file with a label per line, perhaps below a line `group`.
            None: `groups.csv` in the folder of the truth, or every image is its own group.
        truth: The images.

    Raises:
        DataError: If the file cannot be read, or its labels are not those of the images.
    """
    if truth.names and (path is not None or (Path(truth.place) / GROUPS_FILE).exists()):
        files = image_files(Path(truth.place))
        return find_groups(Path(truth.place), path, [file.name for file in files])
    if path is None:
        return truth.names or tuple(str(i) for i in range(len(truth.values)))
    labels, count = _read_lines(path), len(truth.values)
    if len(labels) == count + 1 and labels[0] == "group":
        labels = labels[1:]
    if len(labels) != count or "" in labels:
        raise DataError(
            path,
            f"a label for each of the {count} images",
            f"{len(labels)} labels, {labels.count('')} of them empty",
            "Write one label per line, in the order of the images.",
        )
    return tuple(labels)


def _read_lines(path: str) -> list[str]:
    if path.lower().endswith((".npy", ".npz")) or ".npz:" in path:
        array = stored_array(path)
        if array.ndim != 1:
            raise DataError(path, "labels (n,)", f"shape {array.shape}", "Give one per image.")
        return [str(value).strip() for value in array.tolist()]
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        got = error.strerror if isinstance(error, OSError) else "bytes of another kind"
        raise DataError(path, "a text file in UTF-8", got, "Check the path.") from error
    return [line.strip() for line in text.strip().splitlines()]


def _check_names(found: Stored, truth: Stored) -> None:
    """Files of two folders must have the same names."""
    if not (found.names and truth.names) or found.names == truth.names:
        return
    alone = sorted(set(found.names) ^ set(truth.names), key=natural_key)
    raise DataError(
        found.place,
        f"files of the same names as in {truth.place}",
        f"{alone[0]} in one of the two alone",
        "Rename them: names say which images belong together.",
    )


def _check_places(found: Stored, truth: Stored) -> None:
    """Voxels of NIfTI files must lie where those of the truth do, or axes may be flipped."""
    if not (found.affines and truth.affines):
        return
    for affine, other, name in zip(found.affines, truth.affines, truth.names, strict=True):
        voxel = float(np.linalg.norm(other[:3, :3], axis=0).min())
        if not np.allclose(affine, other, rtol=RELATIVE, atol=RELATIVE * voxel):
            raise DataError(
                f"{found.place}: {name}",
                f"the affine of the same file in {truth.place}",
                "another one, which puts voxels elsewhere",
                "Save it with the affine of the truth (nibabel: `image.affine`).",
            )


def _as_draws(values: np.ndarray, place: str, truth: Stored) -> np.ndarray:
    """An array as draws `(S, n, C, *spatial)`."""
    count, *signal = truth.values.shape
    given = values.shape
    remedy = "Put the axis of the draws first and that of the images second."
    if given in (truth.values.shape, (count, *signal[1:])):
        remedy = "This is one reconstruction per image: a mean."
    elif signal[0] == 1 and given[2:] == tuple(signal[1:]):
        values = np.expand_dims(values, 2)
    if values.ndim == len(signal) + 2 and list(values.shape[2:]) == signal:
        fits = values.shape[1] == count
        if fits and not _seem_swapped(values, truth.values):
            return values
        if values.shape[0] == count:
            raise DataError(
                place,
                f"draws along the first axis, the {count} images along the second",
                f"shape {given}, the other way round",
                "Save np.swapaxes(draws, 0, 1).",
            )
    raise ShapeError(
        place, f"shape (draws, {count}, {', '.join(map(str, signal))})", given, remedy
    )


def _seem_swapped(draws: np.ndarray, x: np.ndarray) -> bool:
    """Whether images and draws, of which there are as many, have changed places."""
    if len(draws) != len(x):
        return False
    given, swapped = (_agreement(draws.mean(axis), x) for axis in (0, 1))
    return swapped > max(ALIKE, given)


def _agreement(mean: np.ndarray, x: np.ndarray) -> float:
    """Correlation of two sets of images, each about its own mean image."""
    a, b = (np.asarray(v - v.mean(0), dtype=np.float64).ravel() for v in (mean, x))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0
