"""Reader of MedMNIST files: six arrays in one npz."""

from pathlib import Path

import numpy as np
import torch

from latens.data.grids import average_blocks, check_block
from latens.data.images import ImageSet, Source, check_limit
from latens.errors import DataError, ShapeError
from latens.store.safe import read_npz

SPLITS = ("train", "val", "test")
KINDS = ("images", "labels")
PIECE = 16
"""Images that are converted at a time."""
CITATION = "Yang et al. (2023), MedMNIST v2, doi:10.1038/s41597-022-01721-8"


class MedMnist(Source):
    """A MedMNIST file, its three splits pooled in the order train, val, test, divided by 255.

    Images may be grey `(N, H, W)`, coloured `(N, H, W, 3)` or volumes `(N, D, H, W)`. The
    published splits are not kept: latens makes its own, nested ones. The files do not say which
    images come from one patient, so every image counts as independent.

    Args:
        path: The npz file.
        limit: Read only the first `limit` images of the pool; a set of volumes may need it.
        block: Pixels are averaged over blocks of this edge: 2 makes 32³ of 64³.
        citation: Source to cite in figures.
    """

    def __init__(
        self, path: str, limit: int | None = None, block: int = 1, citation: str = CITATION
    ) -> None:
        self.path = path
        self.limit = check_limit(limit)
        self.block = check_block(block)
        self.citation = citation

    def load(self) -> ImageSet:
        """Read the file."""
        splits = read_splits(Path(self.path))
        total = sum(len(images) for images, _ in splits.values())
        count = total if self.limit is None else min(self.limit, total)
        shape = self._averaged(splits["train"][0][:1]).shape[1:]
        # Filled piece by piece: a set of volumes would not fit twice as float32.
        x = torch.empty((count, *shape), dtype=torch.float32)
        filled = 0
        for images, _ in splits.values():
            wanted = images[: count - filled]
            for start in range(0, len(wanted), PIECE):
                piece = self._averaged(wanted[start : start + PIECE])
                x[filled : filled + len(piece)] = torch.from_numpy(piece)
                filled += len(piece)
        labels = np.concatenate([labels.reshape(len(labels), -1) for _, labels in splits.values()])
        return ImageSet(
            x.div_(255),
            data_range=(0.0, 1.0),
            labels=tuple(
                row[0] if len(row) == 1 else tuple(row) for row in labels[:count].tolist()
            ),
            name=Path(self.path).stem,
            citation=self.citation,
        )

    def _averaged(self, images: np.ndarray) -> np.ndarray:
        """Images `(k, C, *spatial)`, float32, from 0 to 255."""
        moved = channels_first(images)
        return average_blocks(moved, self.block, moved.ndim - 2, self.path)


def channels_first(images: np.ndarray) -> np.ndarray:
    """MedMNIST images with their channel axis second: `(N, 1 or 3, *spatial)`."""
    coloured = images.ndim == 4 and images.shape[-1] == 3
    return np.moveaxis(images, -1, 1) if coloured else images[:, None]


def read_splits(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images `(N, ...)`, uint8, and labels `(N, ...)` of each split.

    Raises:
        DataError: If the file is missing or damaged, or not a MedMNIST file.
        ShapeError: If the arrays do not fit together.
    """
    arrays = read_npz(path, [f"{split}_{kind}" for split in SPLITS for kind in KINDS])
    splits = {split: (arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in SPLITS}
    for split, (images, labels) in splits.items():
        _check_split(f"{path.name}: {split}_images", images, labels, splits["train"][0])
    return splits


def _check_split(name: str, images: np.ndarray, labels: np.ndarray, first: np.ndarray) -> None:
    if images.dtype != np.uint8:
        raise DataError(
            name,
            "unsigned bytes, 0 to 255",
            images.dtype,
            "Save images of another type as a folder of npy files.",
        )
    if images.ndim not in (3, 4) or images.shape[1:] != first.shape[1:]:
        raise ShapeError(
            name,
            "shape (N, H, W), (N, H, W, 3) or (N, D, H, W), the same in every split",
            images.shape,
            "Check the file.",
        )
    if labels.ndim == 0 or len(labels) != len(images) or labels.dtype.kind not in "biuf":
        raise ShapeError(
            name.replace("images", "labels"),
            f"one number or row of numbers per image ({len(images)})",
            f"shape {labels.shape}, {labels.dtype}",
            "Check the file.",
        )
