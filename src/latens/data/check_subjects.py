"""Inspection of a folder of NIfTI files as scans of several modalities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latens.data.findings import FolderCheck
from latens.data.scan_preparation import check_scan
from latens.data.subject_files import BRAIN, SEGMENTATION, find_scans, role_of
from latens.data.subjects import MODALITIES
from latens.data.visit_days import VISITS_FILE, read_days
from latens.data.volumes import Volume, volume_stem
from latens.errors import LatensError
from latens.store.hashing import array_fingerprint

FEWEST = 3
"""Modalities told by file names from which a folder is taken for one of subjects."""

MOST_BRAIN = 0.9
"""Share of voxels other than zero above which nobody has stripped the skull."""


def told_modalities(files: Sequence[Path]) -> tuple[str, ...]:
    """Modalities that the file names of a folder tell; none if they are too few for subjects."""
    told = {role for file in files for role in role_of(volume_stem(file.name))[0]}
    modalities = tuple(role for role in MODALITIES if role in told)
    return modalities if len(modalities) >= FEWEST else ()


def check_subjects(
    folder: Path, modalities: tuple[str, ...], report: FolderCheck
) -> dict[str, Volume]:
    """Say what `SubjectFolder` would.

    Returns:
        Place, without values, of each sound scan.
    """
    report.kind = "subjects"
    places: dict[str, Volume] = {}
    try:
        scans = find_scans(folder, modalities)
    except LatensError as error:
        report.add_error(error, folder)
        return places
    contents: dict[str, str] = {}
    ranges = []
    for scan in scans:
        try:
            first = check_scan(scan, modalities)
        except (LatensError, OSError) as error:
            report.add_error(error, folder / scan.name)
            continue
        values = first.values
        ranges.append((float(values.min()), float(values.max())))
        report.shape = report.shape or (len(modalities), *values.shape)
        places[scan.name] = Volume(np.empty(0), first.affine, first.axes, first.code, first.dtype)
        if BRAIN not in scan.files and (values != 0).mean() > MOST_BRAIN:
            report.add(
                "warning",
                folder / scan.name,
                "is nowhere zero, so all of it counts as brain. Strip the skull, or add a mask "
                "named …brain_mask.nii.gz.",
            )
        twin = contents.setdefault(array_fingerprint(values), scan.name)
        if twin != scan.name:
            report.add(
                "warning",
                folder / scan.name,
                f"has the same {modalities[0]} as {twin}. One may be a copy: remove it, or it may "
                "be split between training and test.",
            )
    report.count = len(places)
    if ranges:
        report.data_range = min(low for low, _ in ranges), max(high for _, high in ranges)
    if (folder / VISITS_FILE).exists():
        try:
            read_days(folder / VISITS_FILE, {scan.name: scan.subject for scan in scans})
        except LatensError as error:
            report.add_error(error, folder / VISITS_FILE)
    segmented = sum(SEGMENTATION in scan.files for scan in scans)
    report.add(
        "note",
        folder,
        f"has {len(scans)} scans of {len({scan.subject for scan in scans})} subjects with "
        f"{', '.join(modalities)}; {segmented} with a segmentation. `SubjectFolder` reads them.",
    )
    return places
