"""Where images come from: phantoms, readers, and nested subsets that keep groups whole."""

from latens.data.check import check_folder
from latens.data.findings import Finding, FolderCheck
from latens.data.folder import NpyFolder, PairedFolder
from latens.data.idx import IdxImages
from latens.data.images import ImageSet, Source
from latens.data.nifti import NiftiFolder
from latens.data.npz import MedMnist
from latens.data.phantoms import Phantoms
from latens.data.subsets import Subset, hold_out, nested_subsets
from latens.data.tiles import Tiles
from latens.data.volumes import Volume, read_volume, write_volume

__all__ = [
    "Finding",
    "FolderCheck",
    "IdxImages",
    "ImageSet",
    "MedMnist",
    "NiftiFolder",
    "NpyFolder",
    "PairedFolder",
    "Phantoms",
    "Source",
    "Subset",
    "Tiles",
    "Volume",
    "check_folder",
    "hold_out",
    "nested_subsets",
    "read_volume",
    "write_volume",
]
