"""Scans as training takes them: as they are, or changed anew at every pass."""

import numpy as np
from torch import Tensor

from latens.data import Augmentation, Scans, Subjects
from latens.training.batches import Pair
from latens.types import Shape


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


class ChangedScans:
    """Scans of a collection, augmented; a function of seed, pass and row.

    Args:
        augmentation: What is done to them.
        subjects: The collection, for targets and spacing.
        scans: Its scans: in memory, or the collection itself.
        parts: Known quantities that are returned, by name or part.
        seed: Key of the training.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        subjects: Subjects,
        scans: Scans | Subjects,
        parts: list[str],
        seed: int,
    ) -> None:
        self.augmentation, self.scans, self.seed = augmentation, scans, seed
        self.targets = subjects.targets
        self.columns = subjects.columns(*parts)
        self.spacing = np.linalg.norm(subjects.affines[:, :3, :3], axis=1)  # (n, 3)

    def __call__(self, rows: Tensor, passes: Tensor) -> Pair:
        """Images `(B, C, D, H, W)` and known quantities `(B, T)` of some rows."""
        scans, targets = self.augmentation(
            self.scans[rows],
            self.targets[rows],
            self.spacing[rows.numpy()],
            seed=self.seed,
            passes=passes.tolist(),
            rows=rows.tolist(),
        )
        return scans.images, targets[:, self.columns]
