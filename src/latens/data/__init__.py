"""Where images come from: phantoms, readers, and nested subsets that keep groups whole."""

from latens.data.check import check_folder
from latens.data.findings import Finding, FolderCheck
from latens.data.folder import NpyFolder, PairedFolder
from latens.data.idx import IdxImages
from latens.data.images import ImageSet, Source
from latens.data.npz import MedMnist
from latens.data.phantoms import Phantoms
from latens.data.subsets import Subset, hold_out, nested_subsets

__all__ = [
    "Finding",
    "FolderCheck",
    "IdxImages",
    "ImageSet",
    "MedMnist",
    "NpyFolder",
    "PairedFolder",
    "Phantoms",
    "Source",
    "Subset",
    "check_folder",
    "hold_out",
    "nested_subsets",
]
