"""Batches of few labelled and many unlabelled images, a function of (seed, step)."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule

from latens.errors import ConfigError
from latens.training.batches import Blocks, Pair, batch_indices
from latens.training.settings import Training


class LabelledBatches:
    """The batches of some steps: labelled rows first, then rows of the whole set.

    The second part draws from every row and hides the labels, so that it is the same whichever
    rows are labelled.

    Args:
        x: Images, `(n, *signal_shape)`.
        y: Classes, `(n,)`, −1 where they are not known.
        labelled: Labelled rows per batch; few images repeat within one batch.
        unlabelled: Other rows per batch.
        seed: Key of the order.
        start: First step.
        stop: Step after the last one.
    """

    def __init__(
        self, pair: Pair, labelled: int, unlabelled: int, seed: int, start: int, stop: int
    ) -> None:
        self.x, self.y = pair
        self.known = torch.nonzero(self.y >= 0)[:, 0]
        self.labelled = labelled if len(self.known) else 0
        self.unlabelled, self.seed = unlabelled, seed
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Pair]:
        for step in range(self.start, self.stop):
            others = batch_indices(len(self.x), self.unlabelled, self.seed, step)
            hidden = self.y.new_full((self.unlabelled,), -1)
            if not self.labelled:
                yield self.x[others], hidden
                continue
            rows = self.known[batch_indices(len(self.known), self.labelled, self.seed, step)]
            yield (
                torch.cat([self.x[rows], self.x[others]]),
                torch.cat([self.y[rows], hidden]),
            )


class LabelledData(LightningDataModule):
    """Batches for semi-supervised training.

    Args:
        train: Images and classes, −1 where they are not known.
        validation: The same for choosing weights; its classes may all be hidden.
        settings: Budget; `batch_size` counts the unlabelled rows.
        seed: Key of the order of the batches.
        labelled: Labelled rows per batch.
    """

    def __init__(
        self, train: Pair, validation: Pair, settings: Training, seed: int, labelled: int = 64
    ) -> None:
        if labelled < 1:
            raise ConfigError("labelled", "1 row or more per batch", labelled, "Use 64.")
        super().__init__()
        self.train, self.validation = train, validation
        self.settings, self.seed, self.labelled = settings, seed, labelled

    def train_dataloader(self) -> LabelledBatches:
        """The steps up to the next look at the validation share."""
        start = 0 if self.trainer is None else self.trainer.global_step
        stop = min(start + self.settings.validate_every, self.settings.max_steps)
        settings = self.settings
        return LabelledBatches(
            self.train, self.labelled, settings.batch_size, self.seed, start, stop
        )

    def val_dataloader(self) -> Blocks:
        """The validation share."""
        return Blocks(*self.validation, 256)
