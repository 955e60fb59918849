"""What every solver is: a map from measurements to estimates."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from latens.inference.estimates import Estimate


class Solver(ABC):
    """Maps measurements to a `Posterior` or a `PointEstimate`."""

    @abstractmethod
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> Estimate:
        """Estimate of a batch; noise is keyed by `(seed, key of the row)`."""

    def __call__(self, y: Tensor, *, keys: Sequence[int] | None = None, seed: int = 0) -> Estimate:
        """Solve for a batch of measurements.

        Args:
            y: Measurements, `(B, *measurement_shape)`.
            keys: One integer per row that names its noise, for example the index of the image
                in its data set; results then do not depend on how the set is cut into
                batches. Default 0, …, B − 1.
            seed: Key of the noise.

        Returns:
            The estimate of all rows.
        """
        return self.solve(y, range(len(y)) if keys is None else keys, seed)
