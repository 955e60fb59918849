"""Files of a subject `a`, spoiled in one way each, and what is said of it."""

import gzip

import numpy as np

from latens.data.subjects import MODALITIES
from latens.errors import DataError, ShapeError
from stand_ins.subject_scans import SHAPE, head, write


def missing(path):
    (path / "a-t2w.nii.gz").unlink()


def shape(path):
    write(path / "a-t2w.nii.gz", head(shape=(18, 22, 21))[0][3])


def place(path):
    write(path / "a-t2f.nii.gz", head()[0][2], shift=3.0)


def truncated(path):
    file = path / "a-t1n.nii.gz"
    file.write_bytes(file.read_bytes()[:-500])


def half(path):
    file = path / "a-t1n.nii.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:9000]))


def constant(path):
    write(path / "a-t1c.nii.gz", 7.0 * head()[1])


def nan(path):
    values = head()[0][1].copy()
    values[9, 11, 10] = np.nan
    write(path / "a-t1n.nii.gz", values)


def empty_brain(path):
    write(path / "a_brain_mask.nii.gz", np.zeros(SHAPE), dtype=np.uint8)


def dark(path):
    for modality in MODALITIES:
        write(path / f"a-{modality}.nii.gz", np.zeros(SHAPE))


def fractions(path):
    write(path / "a-seg.nii.gz", 0.5 * head()[2])


def mask_elsewhere(path):
    write(path / "a-seg.nii.gz", head()[2], dtype=np.uint8, shift=-4.0)


BAD = {
    missing: (DataError, "no t2w"),
    shape: (ShapeError, r"a-t2w\.nii\.gz.*expected shape"),
    place: (DataError, r"a-t2f\.nii\.gz.*3 mm away"),
    truncated: (DataError, r"a-t1n\.nii\.gz.*truncated or damaged"),
    half: (DataError, r"a-t1n\.nii\.gz.*truncated or damaged"),
    constant: (DataError, r"a-t1c\.nii\.gz.*the constant 7"),
    nan: (DataError, r"a-t1n\.nii\.gz.*1 that are NaN"),
    empty_brain: (DataError, r"a_brain_mask\.nii\.gz.*an empty one"),
    dark: (DataError, r"brain of a.*an empty one"),
    fractions: (DataError, r"a-seg\.nii\.gz.*whole numbers"),
    mask_elsewhere: (DataError, r"a-seg\.nii\.gz.*4 mm away"),
}
