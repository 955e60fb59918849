"""Inspection of a folder of data: what it is, and what would go wrong with it.

The same functions read the files here and in the sources, so a folder without errors loads.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latens.data.check_nifti import check_nifti
from latens.data.compare import check_files, summarise
from latens.data.findings import FolderCheck
from latens.data.folder import is_image_name, list_images, natural_key
from latens.data.groups import GROUPS_FILE, read_groups, shorten
from latens.data.idx import find_label_files, image_files, read_idx
from latens.data.npz import channels_first, read_splits
from latens.data.volumes import is_volume_name
from latens.errors import DataError, LatensError
from latens.types import PathLike


def check_folder(path: PathLike) -> FolderCheck:
    """Inspect a data folder or file. Whatever it contains, the answer is a list of findings.

    Args:
        path: A folder of npy files, of `x` and `y` sub-folders, of NIfTI or of idx files, or a
            file in the NIfTI, idx or MedMNIST format.
    """
    path = Path(path)
    report = FolderCheck()
    try:
        report.kind = _recognise(path)
        _CHECKS[report.kind](path, report)
    except (LatensError, OSError) as error:
        report.add_error(error, path)
    order = ("error", "warning", "note")
    report.findings.sort(key=lambda finding: order.index(finding.severity))
    return report


def _recognise(path: Path) -> str:
    if path.is_dir():
        names = [entry.name for entry in path.iterdir()]
        if "x" in names or "y" in names:
            return "paired folder"
        if any(is_image_name(name) for name in names):
            return "npy folder"
        if any(is_volume_name(file.name) for file in path.rglob("*.nii*")):
            return "NIfTI"
        if any("images" in name and "idx3-ubyte" in name for name in names):
            return "idx"
        if any(name.endswith(".npz") for name in names):
            return "MedMNIST"
        got = "an empty folder" if not names else f"a folder of {shorten(sorted(names))}"
    else:
        if path.name.endswith(".npz"):
            return "MedMNIST"
        if is_volume_name(path.name):
            return "NIfTI"
        if "idx" in path.name:
            return "idx"
        if not path.exists():
            raise DataError(str(path), "a folder or file", "nothing", "Correct the path.")
        names, got = [path.name], "another file"
    if any(name.lower().endswith((".dcm", ".ima")) for name in names):
        raise DataError(
            str(path), "NIfTI, npy, idx or MedMNIST", "DICOM", "Convert it with dcm2niix first."
        )
    raise DataError(
        str(path),
        "a folder of npy files, of `x` and `y` sub-folders, of NIfTI or of idx files, or a file "
        "in the NIfTI, idx or MedMNIST format",
        got,
        "Save each image with `numpy.save` into one folder, one file per image.",
    )


def _check_npy(folder: Path, report: FolderCheck) -> None:
    names = [file.name for file in list_images(folder)]
    groups = _check_groups(folder, names, report)
    summarise(check_files(folder, groups, report), report)
    _note_others(folder, {*names, GROUPS_FILE}, report)


def _check_paired(folder: Path, report: FolderCheck) -> None:
    names = {}
    for part in ("x", "y"):
        try:
            names[part] = [file.name for file in list_images(folder / part)]
        except DataError as error:
            report.add_error(error, folder / part)
    groups = _check_groups(folder, names["x"], report) if "x" in names else {}
    for part in names:
        seen = check_files(folder / part, groups, report)
        if part == "x":
            summarise(seen, report)
        other = "y" if part == "x" else "x"
        alone = sorted(set(names[part]) - set(names.get(other, names[part])), key=natural_key)
        for name in alone:
            report.add(
                "error",
                folder / part / name,
                f"has no partner of the same name in `{other}`. Add it, or remove this file.",
            )
    _note_others(folder, {"x", "y", GROUPS_FILE}, report)


def _check_groups(folder: Path, names: list[str], report: FolderCheck) -> dict[str, str]:
    """Group of each file; empty where there is no table of groups."""
    path = folder / GROUPS_FILE
    if not path.exists():
        report.add(
            "note",
            folder,
            f"has no {GROUPS_FILE}: every image counts as independent. If a patient or specimen "
            "gave several, add the table, or they will be split between training and test.",
        )
        return {}
    try:
        groups = read_groups(path)
    except DataError as error:
        report.add_error(error, path)
        return {}
    unknown = [name for name in groups if name not in set(names)]
    missing = [name for name in names if name not in groups]
    if unknown:
        report.add("error", path, f"names no image: {shorten(unknown)}. Correct these rows.")
    if missing:
        report.add("error", path, f"lacks a row for {shorten(missing)}. Add one for each.")
    return groups


def _note_others(folder: Path, known: set[str], report: FolderCheck) -> None:
    others = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.name not in known and not entry.name.startswith(".")
    )
    if others:
        report.add("note", folder, f"also holds {shorten(others)}: not read.")


def _check_idx(path: Path, report: FolderCheck) -> None:
    files = image_files(path)
    blocks = []
    for file in files:
        try:
            blocks.append(read_idx(file, rank=3))
        except LatensError as error:
            report.add_error(error, file)
    shapes = {block.shape[1:] for block in blocks}
    if len(shapes) > 1:
        report.add("error", path, "holds images of several shapes. Name one file instead.")
    _check_bytes(path, [block[:, None] for block in blocks], report)
    label_files = find_label_files(files, None)
    if label_files is None:
        report.add("note", path, "has no label files beside the images: images have no labels.")
    elif len(blocks) == len(files):
        labels = sum(len(read_idx(file, rank=1)) for file in label_files)
        if labels != report.count:
            report.add("error", path, f"holds {labels} labels for {report.count} images.")


def _check_medmnist(path: Path, report: FolderCheck) -> None:
    if path.is_dir():
        files = sorted(path.glob("*.npz"))
        if len(files) > 1:
            names = shorten([file.name for file in files])
            raise DataError(str(path), "one npz file", names, "Name the file instead.")
        path = files[0]
    splits = read_splits(path)
    _check_bytes(path, [channels_first(images) for images, _ in splits.values()], report)


def _check_bytes(path: Path, blocks: Sequence[np.ndarray], report: FolderCheck) -> None:
    """Look at blocks of unsigned bytes `(n, C, *spatial)` that come from one file or pool."""
    if not blocks:
        return
    report.count = sum(len(block) for block in blocks)
    report.shape = blocks[0].shape[1:]
    low, high = min(int(b.min()) for b in blocks), max(int(b.max()) for b in blocks)
    report.data_range = (low / 255, high / 255)
    if low == high:
        report.add("error", path, "holds one constant only. Check how the file was made.")
    rows = [block.reshape(len(block), -1) for block in blocks]
    constant = sum(int((row.min(axis=1) == row.max(axis=1)).sum()) for row in rows)
    if constant:
        report.add("warning", path, f"{constant} images are constant. Check them.")
    distinct = {hash(image.tobytes()) for row in rows for image in row}
    repeated = report.count - len(distinct)
    if repeated:
        verb = "image repeats" if repeated == 1 else "images repeat"
        report.add(
            "warning",
            path,
            f"{repeated} {verb} an earlier one, and may be split between training and "
            "test. A clean test set needs them removed.",
        )


_CHECKS = {
    "npy folder": _check_npy,
    "paired folder": _check_paired,
    "NIfTI": check_nifti,
    "idx": _check_idx,
    "MedMNIST": _check_medmnist,
}
