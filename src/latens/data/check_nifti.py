"""Inspection of NIfTI files: the part of `check_folder` that knows about space."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from latens.data.check_subjects import check_subjects, told_modalities
from latens.data.compare import Seen, compare, look_at, summarise
from latens.data.findings import FolderCheck
from latens.data.folder import as_image
from latens.data.groups import GROUPS_FILE, read_groups, shorten
from latens.data.nifti import list_volumes, relative_name, subject
from latens.data.volumes import RELATIVE, Volume, read_volume
from latens.errors import DataError, LatensError

OBLIQUE = 5.0
"""Degrees between the axes of a volume and those of the body above which they are reported."""


def check_nifti(path: Path, report: FolderCheck) -> None:
    """Look at a NIfTI file, or at all of them in a folder and its sub-folders."""
    folder = path if path.is_dir() else path.parent
    files = list_volumes(folder, "**/*.nii*") if path.is_dir() else [path]
    modalities = told_modalities(files) if path.is_dir() else ()
    if modalities:
        _note_axes(folder, check_subjects(folder, modalities, report), report)
        return
    seen: list[Seen] = []
    volumes: dict[str, Volume] = {}
    for file in files:
        name = relative_name(folder, file)
        try:
            volume = read_volume(file)
            image = as_image(volume.values[None], str(file))
        except (LatensError, OSError) as error:
            report.add_error(error, file)
            continue
        seen.append(look_at(name, image, volume.dtype))
        volumes[name] = Volume(np.empty(0), volume.affine, volume.axes, volume.code, volume.dtype)
    groups = _groups(folder, files, report) if path.is_dir() else {}
    compare(folder, seen, groups, report)
    summarise(seen, report)
    _compare_spacing(folder, volumes, report)
    _compare_places(folder, volumes, report)
    _note_axes(folder, volumes, report)


def _groups(folder: Path, files: list[Path], report: FolderCheck) -> dict[str, str]:
    """Group of each file: from the table, or its subject."""
    path = folder / GROUPS_FILE
    names = [relative_name(folder, file) for file in files]
    if path.exists():
        try:
            groups = read_groups(path)
        except DataError as error:
            report.add_error(error, path)
            return {}
        missing = [name for name in names if name not in groups]
        if missing:
            report.add(
                "warning",
                path,
                f"lacks a row for {shorten(missing)}. They load only once they have one.",
            )
        return groups
    groups = {name: subject(folder, file) for name, file in zip(names, files, strict=True)}
    report.add(
        "note",
        folder,
        f"has no {GROUPS_FILE}: the {len(set(groups.values()))} sub-folders or files count as "
        "one subject each. If a subject has several, add the table.",
    )
    return groups


def _compare_spacing(folder: Path, volumes: dict[str, Volume], report: FolderCheck) -> None:
    sizes = {name: tuple(np.round(volume.spacing, 2)) for name, volume in volumes.items()}
    if not sizes:
        return
    usual = Counter(sizes.values()).most_common(1)[0][0]
    for name, size in sizes.items():
        if not np.allclose(size, usual, rtol=RELATIVE):
            own, others = (" × ".join(f"{mm:g}" for mm in s) for s in (size, usual))
            report.add(
                "error",
                folder / name,
                f"has voxels of {own} mm, most others {others} mm. Resample it or leave it out.",
            )


def _compare_places(folder: Path, volumes: dict[str, Volume], report: FolderCheck) -> None:
    """Volumes in one folder should show the same part of space, or they are not registered."""
    subjects = defaultdict(list)
    for name in volumes:
        subjects[Path(name).parent].append(name)
    for inside, names in subjects.items():
        if inside == Path():  # different subjects side by side
            continue
        first = volumes[names[0]]
        apart = [
            name
            for name in names[1:]
            if not np.allclose(
                volumes[name].affine, first.affine, atol=0.5 * first.spacing.min(), rtol=0
            )
        ]
        if apart:
            report.add(
                "warning",
                folder / inside,
                f"{shorten(apart)} lie elsewhere in space than {Path(names[0]).name}. If they "
                "should overlay, register them first.",
            )


def _note_axes(folder: Path, volumes: dict[str, Volume], report: FolderCheck) -> None:
    unknown = [name for name, volume in volumes.items() if volume.code == 0]
    if unknown:
        report.add(
            "warning",
            folder,
            f"{shorten(unknown)} do not say how they are oriented. Left and right may be "
            "exchanged; set the orientation in their headers.",
        )
    axes = Counter("".join(volume.axes) for volume in volumes.values())
    if len(axes) > 1:
        told = ", ".join(f"{count} × {name}" for name, count in axes.most_common())
        report.add("note", folder, f"mixes orientations ({told}). All are turned to one.")
    tilted = [name for name, volume in volumes.items() if _tilt(volume) > OBLIQUE]
    if tilted:
        report.add(
            "note",
            folder,
            f"{shorten(tilted)} are tilted by more than {OBLIQUE:g}°. They are turned by whole "
            "axes only; register them if their anatomy should align.",
        )


def _tilt(volume: Volume) -> float:
    """Largest angle between an axis of the volume and the nearest one of the body, degrees."""
    cosines = np.abs(volume.affine[:3, :3] / volume.spacing).max(axis=0)
    return float(np.degrees(np.arccos(np.clip(cosines, 0, 1)).max()))
