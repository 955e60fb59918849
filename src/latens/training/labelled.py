"""Batches of few labelled and many unlabelled images, a function of (seed, step)."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from latens.errors import ConfigError
from latens.training.batches import Blocks, Pair, batch_indices
from latens.training.settings import Training


class LabelledBatches:
    """The batches of some steps: labelled rows first, then rows of the whole set.

    The second part draws from every row, so that its images are the same whichever rows are
    labelled.

    Args:
        pair: Images, `(n, *signal_shape)`, and the class that is believed of each, `(n,)`, −1
            where none is.
        rows: Positions of the labelled images, `(l,)`; there may be none.
        labelled: Labelled rows per batch; few images repeat within one batch.
        unlabelled: Rows of the whole set per batch.
        seed: Key of the order.
        start: First step.
        stop: Step after the last one.
    """

    def __init__(
        self,
        pair: Pair,
        rows: Tensor,
        labelled: int,
        unlabelled: int,
        seed: int,
        start: int,
        stop: int,
    ) -> None:
        self.x, self.y = pair
        self.rows = rows
        self.labelled = labelled if len(rows) else 0
        self.unlabelled, self.seed = unlabelled, seed
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Pair]:
        for step in range(self.start, self.stop):
            places = batch_indices(len(self.x), self.unlabelled, self.seed, step)
            if self.labelled:
                own = batch_indices(len(self.rows), self.labelled, self.seed, step)
                places = torch.cat([self.rows[own], places])
            yield self.x[places], self.y[places]


class LabelledData(LightningDataModule):
    """Batches for semi-supervised training.

    Args:
        train: Images and the class that is believed of each, −1 where none is.
        validation: The same for choosing weights; its classes may all be hidden.
        settings: Budget; `batch_size` counts the unlabelled rows.
        seed: Key of the order of the batches.
        rows: Positions of the labelled images among the training images.
        labelled: Labelled rows per batch.
    """

    def __init__(
        self,
        train: Pair,
        validation: Pair,
        settings: Training,
        seed: int,
        *,
        rows: Tensor,
        labelled: int = 32,
    ) -> None:
        if labelled < 1:
            raise ConfigError("labelled", "1 row or more per batch", labelled, "Use 32.")
        super().__init__()
        self.train, self.validation = train, validation
        self.settings, self.seed = settings, seed
        self.rows, self.labelled = rows, labelled

    def train_dataloader(self) -> LabelledBatches:
        """The steps up to the next look at the validation share."""
        start = 0 if self.trainer is None else self.trainer.global_step
        stop = min(start + self.settings.validate_every, self.settings.max_steps)
        settings = self.settings
        return LabelledBatches(
            self.train, self.rows, self.labelled, settings.batch_size, self.seed, start, stop
        )

    def val_dataloader(self) -> Blocks:
        """The validation share."""
        return Blocks(*self.validation, 256)
