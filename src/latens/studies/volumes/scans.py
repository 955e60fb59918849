"""Scans as training takes them: as they are, or changed anew at every pass."""

import numpy as np
import torch
from torch import Tensor

from latens.data import Augmentation, Scans, Subjects
from latens.training.batches import Pair
from latens.types import Shape

FAR = 2.0
"""Factor by which the volume of a mask may differ from that of the lesion."""


class Images:
    """Images of a collection as training indexes them, read when asked for.

    Args:
        subjects: The collection.
    """

    def __init__(self, subjects: Subjects) -> None:
        self.subjects = subjects

    def __len__(self) -> int:
        return len(self.subjects)

    def __getitem__(self, rows: "slice | Tensor") -> Tensor:
        return self.subjects[rows].images

    @property
    def shape(self) -> Shape:
        """`(n, C, D, H, W)`."""
        return (len(self.subjects), *self.subjects.shape)


class Known:
    """What is known of scans as training indexes it: quantities, then the mask of each, flat.

    Args:
        targets: Quantities, `(n, T)`.
        scans: The scans: in memory, or a collection.
        measured: Volume of each lesion, `(n,)`, voxels; see `certain`.
    """

    def __init__(self, targets: Tensor, scans: Scans | Subjects, measured: Tensor) -> None:
        self.targets, self.scans, self.measured = targets, scans, measured

    def __getitem__(self, rows: "slice | Tensor | tuple[slice, slice]") -> Tensor:
        """Some rows; of some columns too, which must be those of quantities."""
        if isinstance(rows, tuple):
            return self.targets[rows]
        lesion = self.scans[rows].lesion
        return with_masks(self.targets[rows], lesion, certain(lesion, self.measured[rows]))


def certain(lesion: Tensor, measured: Tensor) -> Tensor:
    """Whether the mask on the grid of the model is that of the lesion, `(B,)`.

    It is where its volume is within a factor of `FAR` of the measured one. A grid coarser than the
    lesion, or a brain mask that leaves it out, makes it smaller, down to nothing: that a lesion is
    not to be seen does not mean that none is there.

    Args:
        lesion: Masks, `(B, 1, D, H, W)`.
        measured: Volumes as measured in the files, `(B,)`, voxels of the grid of the model; NaN
            where unknown, 0 where there is no lesion.
    """
    found = lesion.flatten(1).sum(1).to(measured)
    return (found >= measured / FAR) & (found <= measured * FAR)


def with_masks(targets: Tensor, lesion: Tensor, certain: Tensor) -> Tensor:
    """Quantities and flat masks, `(B, T + D·H·W)`; NaN where no mask is known."""
    masks = lesion.flatten(1).float()
    return torch.cat([targets, torch.where(certain[:, None], masks, torch.nan)], 1)


class ChangedScans:
    """Scans of a collection, read once for a batch, augmented; of seed, pass and row.

    Args:
        augmentation: What is done to them; null for nothing.
        subjects: The collection, for targets and spacing.
        scans: Its scans: in memory, or the collection itself.
        parts: Known quantities that are returned, by name or part.
        seed: Key of the training.
        measured: Volume of each lesion, `(n,)`, voxels, see `certain`; null where no mask is asked
            for.
    """

    def __init__(
        self,
        augmentation: Augmentation | None,
        subjects: Subjects,
        scans: Scans | Subjects,
        parts: list[str],
        seed: int,
        measured: Tensor | None = None,
    ) -> None:
        self.augmentation, self.scans, self.seed = augmentation, scans, seed
        self.measured = measured
        self.targets = subjects.targets
        self.columns = subjects.columns(*parts)
        self.spacing = np.linalg.norm(subjects.affines[:, :3, :3], axis=1)  # (n, 3)

    def __call__(self, rows: Tensor, passes: Tensor) -> Pair:
        """Images `(B, C, D, H, W)` and known quantities `(B, T)` of some rows."""
        scans, targets = self.scans[rows], self.targets[rows]
        known_masks = None if self.measured is None else certain(scans.lesion, self.measured[rows])
        if self.augmentation is not None:
            scans, targets = self.augmentation(
                scans,
                targets,
                self.spacing[rows.numpy()],
                seed=self.seed,
                passes=passes.tolist(),
                rows=rows.tolist(),
            )
        known = targets[:, self.columns]
        if known_masks is not None:
            known = with_masks(known, scans.lesion, known_masks)
        return scans.images, known
