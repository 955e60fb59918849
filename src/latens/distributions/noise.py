"""Standard noise as tensors, a pure function of integer keys."""

import hashlib
import operator
from collections.abc import Sequence
from enum import IntEnum, unique

import torch
from torch import Tensor


@unique
class Purpose(IntEnum):
    """What noise keyed by (seed, purpose, row) is for, so that no two uses share numbers."""

    LATENT = 0
    """Draws of z."""
    SIGNAL = 1
    """Draws of x."""
    SIMULATION = 2
    """Noise of simulated measurements."""
    MEMBER = 3
    """Choice of a member of an ensemble."""
    MEASUREMENT = 4
    """Noise that Matheron's rule adds to a measurement."""
    MASK = 5
    """Masks of dropout."""
    POOL = 6
    """Choice among draws made before."""
    START = 7
    """Where samplers and optimisers begin, and proposals."""
    CHAIN = 8
    """Transitions of Markov chains; the iteration follows."""
    PERTURBATION = 9
    """Random disturbances of a measurement, and where a search for the worst one begins."""
    DETAIL = 10
    """Places of inserted details."""
    REPLICATE = 11
    """Measurements replicated from draws of a posterior."""
    FORECAST = 12
    """Readings of visits to come, and the choice of parameters behind them."""
    SUBJECT = 13
    """Phantom subjects: their factors, and the noise of their scans."""
    AUGMENTATION = 14
    """Turns, flips and intensities of scans in training."""
    DECODER = 15
    """Draws of a decoded field, whose truth was made of `SIGNAL` numbers."""


def _generator(*key: int) -> torch.Generator:
    plain = tuple(operator.index(k) for k in key)  # NumPy's integers have a `repr` of their own
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little") & (2**63 - 1)
    return torch.Generator().manual_seed(seed)


class NoiseStream:
    """A sequence of noise tensors keyed by integers such as `(seed, step)`.

    Two streams with equal keys give equal tensors in the order in which they are asked for,
    whatever happened before: a run resumed at step k needs no saved generator.

    Args:
        *key: Integers that name the stream.
        device: Where the tensors go. They are made on the CPU, so that the numbers do not
            depend on the device.
    """

    def __init__(self, *key: int, device: torch.device | str = "cpu") -> None:
        self._generator = _generator(*key)
        self._device = torch.device(device)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal noise of a shape."""
        noise = torch.randn(tuple(shape), generator=self._generator, dtype=dtype)
        return noise.to(self._device)

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform noise on [0, 1) of a shape."""
        noise = torch.rand(tuple(shape), generator=self._generator, dtype=dtype)
        return noise.to(self._device)

    def permutation(self, n: int) -> Tensor:
        """A random order of 0, …, n − 1."""
        return torch.randperm(n, generator=self._generator)


def row_noise(
    key: tuple[int, ...],
    rows: Sequence[int],
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal noise whose rows depend on their own index alone.

    The noise of image 7 is the same in a batch of one and in a batch of a hundred, so that
    results do not depend on how a data set was cut into blocks.

    Args:
        key: Integers that name the stream.
        rows: Index of each row, for example of each test image.
        shape: Shape of one row's noise, leading axis first, for example `(M, *event)`.

    Returns:
        `(shape[0], len(rows), *shape[1:])`: the row axis is second, where draws have it.
    """
    made = [
        torch.randn(tuple(shape), generator=_generator(*key, row), dtype=dtype) for row in rows
    ]
    return torch.stack(made, dim=1).to(device)
