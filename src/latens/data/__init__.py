"""Where images come from: phantoms, readers, and nested subsets that keep groups whole."""

from latens.data.check import check_folder
from latens.data.digits import Digits
from latens.data.findings import Finding, FolderCheck
from latens.data.folder import NpyFolder, PairedFolder
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
from latens.data.phantoms import Phantoms
from latens.data.random_fields import GaussianField, two_valued
from latens.data.sprite import Sprite
from latens.data.subsets import Subset, hold_out, nested_subsets
from latens.data.tiles import Tiles
from latens.data.volumes import Volume, read_volume, write_volume

__all__ = [
    "DarcyFields",
    "Digits",
    "EITFields",
    "Finding",
    "FolderCheck",
    "GaussianField",
    "IdxImages",
    "ImageSet",
    "MedMnist",
    "NiftiFolder",
    "NpyFolder",
    "PairedFolder",
    "Phantoms",
    "Source",
    "Sprite",
    "Subset",
    "Tiles",
    "Volume",
    "check_folder",
    "hold_out",
    "labelled_rows",
    "nested_subsets",
    "read_darcy_case",
    "read_darcy_fields",
    "read_eit_codes",
    "read_eit_fields",
    "read_volume",
    "two_valued",
    "write_volume",
]
