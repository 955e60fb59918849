"""Volumes of one npz file as scans: shapes, such as AdrenalMNIST3D, or grey volumes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from latens.data.grids import average_blocks, averaged_affine, centred_affine, check_block
from latens.data.images import check_limit
from latens.data.lesion_shape import lesion_targets
from latens.data.npz import CITATION, read_splits
from latens.data.subjects import Scans, Subjects, SubjectSource
from latens.errors import ConfigError, ShapeError
from latens.store.hashing import array_fingerprint, content_hash

HALF = 0.5
"""Share of the largest byte from which a voxel belongs to the shape."""


class ShapeFile(SubjectSource):
    """A MedMNIST file of volumes `(N, D, H, W)` as scans of one channel.

    The splits of the file are kept: those of AdrenalMNIST3D hold both glands of a patient, and
    nothing in the file says which two are a pair.

    Values are divided by 255 and not standardised: a shape of zeros and ones is its own unit. The
    shape (voxels of at least half the largest byte) takes the place of the lesion and is measured
    at the resolution of the file; the whole grid that of the brain.

    Args:
        path: The npz file.
        block: Voxels are averaged over blocks of this edge: 2 makes 32³ of 64³.
        spacing: Millimetres between the voxels of the file, which does not tell them.
        limit: Read only the first `limit` volumes of all splits, one after the other.
        citation: Source to cite in figures.
    """

    def __init__(
        self,
        path: str,
        block: int = 1,
        spacing: float = 1.0,
        limit: int | None = None,
        citation: str = CITATION,
    ) -> None:
        if not spacing > 0:
            raise ConfigError("spacing", "above 0", spacing, "Use 1 where it is not known.")
        self.path = path
        self.block = check_block(block)
        self.spacing = spacing
        self.limit = check_limit(limit)
        self.citation = citation

    def load(self) -> Subjects:
        """Read the file; its bytes stay in memory, floats are made when they are read."""
        path = Path(self.path)
        splits = read_splits(path)
        wanted, left = [], self.limit
        for images, _ in splits.values():
            wanted.append(images[:left])
            left = None if left is None else left - len(wanted[-1])
        pool = np.concatenate(wanted)
        if pool.ndim != 4 or pool.shape[-1] == 3:
            raise ShapeError(
                path.name, "volumes (N, D, H, W)", pool.shape, "Use `MedMnist` for images."
            )
        reader = _Bytes(pool, self.block, path.name)
        first = reader([0])
        places = [(split, i) for split, (x, _) in splits.items() for i in range(len(x))]
        places = places[: len(pool)]
        step = [float(self.spacing)] * 3
        affine = averaged_affine(centred_affine(pool.shape[1:], step), [self.block] * 3)
        return Subjects(
            read=reader,
            shape=tuple(first.images.shape[1:]),
            channels=("shape",),
            names=tuple(f"{split}{i:04d}" for split, i in places),
            splits=tuple(split for split, _ in places),
            targets=torch.from_numpy(
                np.stack([lesion_targets(_inside(volume), np.asarray(step)) for volume in pool])
            ).float(),
            affines=np.repeat(affine[None], len(pool), axis=0),
            identity=content_hash(
                {
                    "volumes": array_fingerprint(pool),
                    "splits": [split for split, _ in places],
                    "block": self.block,
                    "spacing": float(self.spacing),
                }
            ),
            name=path.stem,
            citation=self.citation,
        )


class _Bytes:
    """Reader of volumes held as bytes."""

    def __init__(self, pool: np.ndarray, block: int, name: str) -> None:
        self.pool, self.block, self.name = pool, block, name

    def __call__(self, rows: Sequence[int]) -> Scans:
        volumes = self.pool[list(rows)][:, None]
        images = torch.from_numpy(average_blocks(volumes, self.block, 3, self.name)) / 255
        return Scans(images, torch.ones_like(images, dtype=torch.bool), images >= HALF)


def _inside(volume: np.ndarray) -> np.ndarray:
    return volume >= HALF * 255
