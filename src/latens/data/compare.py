"""Comparison of the image files of one folder with each other."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from latens.data.findings import FolderCheck
from latens.data.folder import as_image, list_images
from latens.data.groups import shorten
from latens.errors import LatensError
from latens.store.hashing import array_fingerprint
from latens.store.safe import read_array
from latens.types import Shape

WILD_RATIO = 10.0
"""Images whose largest magnitude is this many times above or below the median are reported."""


class Seen(NamedTuple):
    """What is kept of an image once it has been read."""

    name: str
    """Path within the folder."""
    shape: Shape
    dtype: str
    low: float
    high: float
    fingerprint: str


def check_files(folder: Path, groups: dict[str, str], report: FolderCheck) -> list[Seen]:
    """Read every npy file of a folder and report what is wrong with it."""
    seen = []
    for file in list_images(folder):
        try:
            array = read_array(file)
            image = as_image(array, str(file))
        except (LatensError, OSError) as error:
            report.add_error(error, file)
            continue
        seen.append(look_at(file.name, image, str(array.dtype)))
    compare(folder, seen, groups, report)
    return seen


def look_at(name: str, image: np.ndarray, dtype: str) -> Seen:
    """What is kept of an image, `(C, *spatial)`, whose file holds values of type `dtype`."""
    low, high = float(image.min()), float(image.max())
    return Seen(name, image.shape, dtype, low, high, array_fingerprint(image))


def compare(folder: Path, seen: list[Seen], groups: dict[str, str], report: FolderCheck) -> None:
    """Report images that differ from the others in form or values, or repeat one of them."""
    if seen:
        _compare_forms(folder, seen, report)
        _compare_values(folder, seen, report)
        _compare_contents(folder, seen, groups, report)


def _compare_forms(folder: Path, seen: list[Seen], report: FolderCheck) -> None:
    shape = Counter(one.shape for one in seen).most_common(1)[0][0]
    for one in seen:
        if one.shape != shape:
            report.add(
                "error",
                folder / one.name,
                f"has shape {one.shape}, most others {shape}. Crop or resample it.",
            )
    dtypes = Counter(one.dtype for one in seen)
    if len(dtypes) > 1:
        kinds = ", ".join(f"{count} × {dtype}" for dtype, count in dtypes.most_common())
        report.add(
            "warning",
            folder,
            f"mixes types ({kinds}). All are read as float32; check that their units agree.",
        )


def _compare_values(folder: Path, seen: list[Seen], report: FolderCheck) -> None:
    if min(one.low for one in seen) == max(one.high for one in seen):
        report.add("error", folder, "holds one constant only. Check how the files were made.")
        return
    magnitudes = np.asarray([max(abs(one.low), abs(one.high)) for one in seen])
    typical = float(np.median(magnitudes[magnitudes > 0]))
    for one, magnitude in zip(seen, magnitudes, strict=True):
        if one.low == one.high:
            report.add(
                "warning",
                folder / one.name,
                f"is constant ({one.low:g}). Leave it out unless a blank image is meant.",
            )
        elif not typical / WILD_RATIO <= magnitude <= typical * WILD_RATIO:
            report.add(
                "warning",
                folder / one.name,
                f"has values from {one.low:g} to {one.high:g}, where others reach {typical:g}. "
                "Bring all images to the same units.",
            )


def _compare_contents(
    folder: Path, seen: list[Seen], groups: dict[str, str], report: FolderCheck
) -> None:
    same = defaultdict(list)
    for one in seen:
        same[one.fingerprint].append(one.name)
    for names in same.values():
        if len(names) == 1:
            continue
        if len({groups.get(name, name) for name in names}) == 1:
            severity, advice = "note", "They share a group, so they stay together."
        else:
            severity = "warning"
            advice = "Keep one, or give them one group: they may be split between the roles."
        message = f"has the same content as {shorten(names[1:])}. {advice}"
        report.add(severity, folder / names[0], message)


def summarise(seen: list[Seen], report: FolderCheck) -> None:
    """Write number, shape and range of the images into the report."""
    if seen:
        report.count = len(seen)
        report.shape = seen[0].shape
        report.data_range = (min(one.low for one in seen), max(one.high for one in seen))
