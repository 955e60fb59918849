"""Where data come from: phantoms, readers, series, and subsets that keep groups whole."""

from latens.data.augmentation import Augmentation
from latens.data.check import check_folder
from latens.data.digits import Digits
from latens.data.findings import Finding, FolderCheck
from latens.data.folder import NpyFolder, PairedFolder
from latens.data.folds import default_folds, grouped_folds
from latens.data.gompertz import GrowthSimulation, treated_gompertz
from latens.data.idx import IdxImages
from latens.data.images import ImageSet, Source
from latens.data.labels import labelled_rows
from latens.data.nifti import NiftiFolder
from latens.data.npz import MedMnist
from latens.data.pde_fields import (
    DarcyFields,
    EITFields,
    read_darcy_case,
    read_darcy_fields,
    read_eit_codes,
    read_eit_fields,
)
from latens.data.phantom_subjects import LesionGrowth, PhantomSubjects
from latens.data.phantoms import Phantoms
from latens.data.random_fields import GaussianField, two_valued
from latens.data.series import VolumeSeries, series_from_visits
from latens.data.series_table import Columns, SeriesFile, read_series
from latens.data.shape_file import ShapeFile
from latens.data.sprite import Sprite
from latens.data.subject_folder import SubjectFolder
from latens.data.subjects import Scans, Subjects, SubjectSource
from latens.data.subsets import Subset, hold_out, nested_subsets
from latens.data.tiles import Tiles
from latens.data.volumes import Volume, read_volume, write_volume

__all__ = [
    "Augmentation",
    "Columns",
    "DarcyFields",
    "Digits",
    "EITFields",
    "Finding",
    "FolderCheck",
    "GaussianField",
    "GrowthSimulation",
    "IdxImages",
    "ImageSet",
    "LesionGrowth",
    "MedMnist",
    "NiftiFolder",
    "NpyFolder",
    "PairedFolder",
    "PhantomSubjects",
    "Phantoms",
    "Scans",
    "SeriesFile",
    "ShapeFile",
    "Source",
    "Sprite",
    "SubjectFolder",
    "SubjectSource",
    "Subjects",
    "Subset",
    "Tiles",
    "Volume",
    "VolumeSeries",
    "check_folder",
    "default_folds",
    "grouped_folds",
    "hold_out",
    "labelled_rows",
    "nested_subsets",
    "read_darcy_case",
    "read_darcy_fields",
    "read_eit_codes",
    "read_eit_fields",
    "read_series",
    "read_volume",
    "series_from_visits",
    "treated_gompertz",
    "two_valued",
    "write_volume",
]
