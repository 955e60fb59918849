"""Batches that are a pure function of (seed, step)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from latens.distributions import NoiseStream

Pair = tuple[Tensor, Tensor]


def batch_indices(n: int, batch_size: int, seed: int, step: int) -> Tensor:
    """Indices of the batch at a step: consecutive places in an endless shuffled sequence.

    The sequence is one random permutation of 0, …, n − 1 after another, each keyed by
    (seed, pass); a batch may straddle two of them.
    """
    first = step * batch_size
    places = range(first, first + batch_size)
    orders = {p: NoiseStream(seed, p).permutation(n) for p in {place // n for place in places}}
    return torch.stack([orders[place // n][place % n] for place in places])


def batch_passes(n: int, batch_size: int, step: int) -> Tensor:
    """Which permutation each index of `batch_indices` is from, `(batch_size,)`, from 0."""
    first = step * batch_size
    return torch.arange(first, first + batch_size) // n


class StepBatches:
    """The batches of the next `steps` steps, as an iterable for Lightning.

    Args:
        x: Signals, `(n, *signal_shape)`.
        y: Measurements, `(n, *measurement_shape)`.
        batch_size: Pairs per batch.
        seed: Key of the order.
        start: First step.
        stop: Step after the last one.
    """

    def __init__(
        self, x: Tensor, y: Tensor, batch_size: int, seed: int, start: int, stop: int
    ) -> None:
        self.x, self.y = x, y
        self.batch_size, self.seed = batch_size, seed
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Pair]:
        for step in range(self.start, self.stop):
            rows = batch_indices(len(self.x), self.batch_size, self.seed, step)
            yield self.x[rows], self.y[rows]


class Blocks:
    """A data set in consecutive blocks, for validation."""

    def __init__(self, x: Tensor, y: Tensor, size: int) -> None:
        self.x, self.y, self.size = x, y, size

    def __len__(self) -> int:
        return -(-len(self.x) // self.size)

    def __iter__(self) -> Iterator[Pair]:
        yield from zip(self.x.split(self.size), self.y.split(self.size), strict=True)
