"""Batches of volumes: few rows at a time, shared by processes, gradients accumulated."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from lightning.pytorch import LightningDataModule
from torch import Tensor

from latens.training.batches import Pair, batch_indices, batch_passes
from latens.training.settings import Training
from latens.training.sharing import own_rows

Change = Callable[[Tensor, Tensor], Pair]
"""Changed volumes and what is known of them, of the rows `(B,)` in the passes `(B,)`."""


class PartBatches:
    """The batches of some steps, each in equal parts whose gradients are averaged.

    Args:
        pair: Volumes and what is known of them, `(n, …)` each; indexed, never copied whole, so
            that mapped files will do.
        batch_size: Rows of a step, over all parts and processes.
        parts: Parts of a step.
        seed: Key of the order.
        start: First step.
        stop: Step after the last one.
        change: Takes the place of reading from `pair`; null for none. A process changes no rows
            but its own.
    """

    def __init__(
        self,
        pair: Pair,
        batch_size: int,
        parts: int,
        seed: int,
        start: int,
        stop: int,
        change: Change | None = None,
    ) -> None:
        self.x, self.y = pair
        self.change = change
        self.batch_size, self.parts, self.seed = batch_size, parts, seed
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return (self.stop - self.start) * self.parts

    def __iter__(self) -> Iterator[Pair]:
        for step in range(self.start, self.stop):
            rows = batch_indices(len(self.x), self.batch_size, self.seed, step)
            passes = batch_passes(len(self.x), self.batch_size, step)
            for part, number in zip(rows.chunk(self.parts), passes.chunk(self.parts), strict=True):
                mine = own_rows(part)
                if self.change is None:
                    yield self.x[mine], self.y[mine]
                else:
                    yield self.change(mine, own_rows(number))


class EvenBlocks:
    """A data set in consecutive blocks of nearly equal size, so that none has too few rows for
    the statistics of a batch.

    Args:
        pair: Volumes and what is known of them.
        size: Largest block.
    """

    def __init__(self, pair: Pair, size: int) -> None:
        self.x, self.y = pair
        count = -(-len(self.x) // size)
        self.ends = [round(len(self.x) * k / count) for k in range(count + 1)]

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __iter__(self) -> Iterator[Pair]:
        for start, stop in pairwise(self.ends):
            yield self.x[start:stop], self.y[start:stop]


class VolumeData(LightningDataModule):
    """Training parts by step, and validation blocks.

    Args:
        train: Volumes and what is known of them.
        validation: The same for choosing weights.
        settings: Budget; `batch_size` counts the rows of a step over all parts and processes.
        seed: Key of the order of the batches.
        parts: Batches whose gradients make one step.
        block: Largest block of validation.
        change: What is done to training volumes; see `PartBatches`.
    """

    def __init__(
        self,
        train: Pair,
        validation: Pair,
        settings: Training,
        seed: int,
        *,
        parts: int = 1,
        block: int = 16,
        change: Change | None = None,
    ) -> None:
        super().__init__()
        self.train, self.validation = train, validation
        self.settings, self.seed = settings, seed
        self.parts, self.block, self.change = parts, block, change

    def train_dataloader(self) -> PartBatches:
        """The steps up to the next look at the validation share."""
        start = 0 if self.trainer is None else self.trainer.global_step
        stop = min(start + self.settings.validate_every, self.settings.max_steps)
        size = self.settings.batch_size
        return PartBatches(self.train, size, self.parts, self.seed, start, stop, self.change)

    def val_dataloader(self) -> EvenBlocks:
        """The validation share; every process looks at all of it."""
        return EvenBlocks(self.validation, self.block)
