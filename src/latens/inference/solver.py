"""What every solver is: a map from measurements to estimates."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from torch import Tensor, nn

from latens.errors import UnsupportedError
from latens.inference.estimates import DEFAULT_DRAWS, Estimate
from latens.problems import InverseProblem


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

    def mean_of(
        self, y: Tensor, keys: Sequence[int], seed: int, draws: int = DEFAULT_DRAWS
    ) -> Tensor:
        """The reconstruction as a differentiable function of the measurement.

        Keys and seed fix all noise, so that this is a function of `y` alone. With the default
        number of draws its values are those of `solve(y, keys, seed).mean`. Gradients flow to
        `y` and never to the parameters of a model.

        Args:
            y: Measurements, `(B, *measurement_shape)`.
            keys: Key of the noise of each row; rows with equal keys share their noise.
            seed: Key of the noise.
            draws: Draws behind a posterior mean that is an average of draws; fewer are cheaper.

        Returns:
            `(B, *signal_shape)`, signal units.

        Raises:
            UnsupportedError: If the reconstruction has no derivative that could be taken.
        """
        raise UnsupportedError(
            "solver",
            "a solver whose reconstruction can be differentiated in y",
            type(self).__name__,
            "Evaluate it at worst-case measurements of a solver that can, such as the amortised "
            "one.",
        )

    def with_problem(self, problem: InverseProblem) -> Self:
        """The same solver, nothing learned anew, for measurements of another operator.

        Args:
            problem: Operator and noise of the new measurements, of the same signals.

        Raises:
            UnsupportedError: If the solver has no way to take them.
            ShapeError: If the networks cannot see them.
        """
        raise UnsupportedError(
            "solver",
            "a solver that takes measurements of more than one operator",
            type(self).__name__,
            "Leave the test with more samples out.",
        )


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Build graphs without the parameters of modules: smaller ones, and no gradient for them."""
    learned = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
