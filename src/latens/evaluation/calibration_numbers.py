"""Numbers of truths and draws on which a posterior is tested, gathered block after block."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Values = dict[str, NDArray[np.float64]]
"""Family → numbers of truth and draws, `(M + 1, n, k)`, the truth first."""

SUMMARIES = 4
"""Most numbers of a signal, and of a measurement, that the local test is told."""


@dataclass
class Numbers:
    """What is tested.

    Attributes:
        values: Family → numbers of truth and draws, `(M + 1, n, k)`, the truth first.
        local: Summaries of truth and draws, `(M + 1, n, k)`, and of A⁺y, `(n, k)`, for the local
            test; None where there is no linear operator.
        altered: Kind of wrong posterior → the same as `values`, made of draws that are altered.
        images: Positions of the images used.
        untrusted: Images whose estimate is not to be trusted.
    """

    values: Values
    local: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    altered: dict[str, Values]
    images: tuple[int, ...]
    untrusted: int

    @property
    def told(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The first summaries, so few that the local test has no more coefficients than images."""
        if self.local is None:
            return None
        theta, condition = self.local
        for k in range(theta.shape[2], 0, -1):
            if k + k * (k + 1) // 2 + k * k <= len(condition):
                return theta[..., :k], condition[:, :k]
        return None


class Gathered:
    """Numbers of families, block after block."""

    def __init__(self) -> None:
        self._parts: dict[str, list[NDArray[np.float64]]] = {}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Keep the numbers of a block, `(M + 1, B, k)` each."""
        for name, numbers in found.items():
            self._parts.setdefault(name, []).append(numbers.double().numpy(force=True))

    def joined(self, kept: NDArray[np.intp]) -> Values:
        """Those of some images, `(M + 1, n, k)`."""
        return {name: np.concatenate(p, axis=1)[:, kept] for name, p in self._parts.items()}
