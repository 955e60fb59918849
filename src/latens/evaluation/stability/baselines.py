"""Classical solvers that a worst case is compared with, attacked in the same way."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.errors import ConfigError, SolverError, UnsupportedError
from latens.evaluation.stability.settings import StabilitySettings
from latens.inference import (
    DEFAULT_DRAWS,
    PointEstimate,
    Solver,
    TikhonovSolver,
    TotalVariationSolver,
    WienerSolver,
)
from latens.metrics import TV_ITERATIONS
from latens.problems import InverseProblem, LinearOperator
from latens.problems.unrolled_variation import UnrolledVariation
from latens.problems.wiener import IterativeWiener

Pairs = tuple[Tensor, Tensor]
"""Signals `(n, *signal_shape)` and their measurements."""

SEARCH_ITERATIONS = 25
"""Iterations of total variation while searching; 1 to 2 % from the minimiser at 28×28."""


class UnrolledVariationSolver(Solver):
    """Total variation by a fixed number of iterations from Tikhonov's image.

    It has a derivative, which `TotalVariationSolver` has not: the number of iterations of that
    depends on y. The number of draws of `mean_of` stands for accuracy: `TV_ITERATIONS` for the
    default, `SEARCH_ITERATIONS` for fewer.

    Args:
        problem: Problem with a linear operator.
        weight: Weight of the total variation.
        start: Tikhonov's reconstruction, where the iteration starts.
        typical: Measurements that step sizes are chosen for, `(n, *measurement_shape)`.
    """

    def __init__(
        self, problem: InverseProblem, weight: float, start: TikhonovSolver, typical: Tensor
    ) -> None:
        operator = problem.operator
        assert isinstance(operator, LinearOperator)
        self.start = start
        self.whole, self.coarse = (
            UnrolledVariation(operator, weight, count, typical)
            for count in (TV_ITERATIONS, SEARCH_ITERATIONS)
        )

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> PointEstimate:
        """All iterations; no randomness."""
        return PointEstimate(self.mean_of(y, keys, seed))

    def mean_of(
        self, y: Tensor, keys: Sequence[int], seed: int, draws: int = DEFAULT_DRAWS
    ) -> Tensor:
        """Differentiable once in y; see `Solver.mean_of`."""
        unrolled = self.whole if draws >= DEFAULT_DRAWS else self.coarse
        return unrolled(y, self.start.mean_of(y, keys, seed))


def fitted_tikhonov(problem: InverseProblem, pairs: Pairs | None) -> TikhonovSolver | None:
    """Tikhonov's reconstruction; None without pairs or for an operator that is not linear."""
    if pairs is None or not isinstance(problem.operator, LinearOperator):
        return None
    return TikhonovSolver.fit(problem, *pairs)


def fitted_wiener(problem: InverseProblem, pairs: Pairs | None) -> WienerSolver | None:
    """Wiener's filter where it has a closed form; None elsewhere, and as for Tikhonov.

    By conjugate gradients each step of an attack would take two solutions of a linear system.
    """
    if pairs is None or not isinstance(problem.operator, LinearOperator):
        return None
    try:
        solver = WienerSolver.fit(problem, *pairs)
    except (ConfigError, UnsupportedError):  # a single pair, or signals without a grid
        return None
    return None if isinstance(solver.wiener, IterativeWiener) else solver


def fitted_variation(
    problem: InverseProblem, pairs: Pairs | None
) -> UnrolledVariationSolver | None:
    """Total variation with the weight that is best for the pairs; None as for Tikhonov.

    None also where the signals have no grid, or the pairs determine no weight. A search with the
    default settings takes per image 155 gradients of 25 iterations and 6 of 100: .6 to .9 s at
    28×28 on one core, 40 s for 50 images, and 2 s for the weight.
    """
    start = fitted_tikhonov(problem, pairs)
    if start is None or pairs is None:
        return None
    x, y = pairs
    try:
        weight = TotalVariationSolver.fit(problem, x, y).weight
    except (SolverError, UnsupportedError):
        return None
    return UnrolledVariationSolver(problem, weight, start, y)


def variation_cost(settings: StabilitySettings) -> float:
    """Work per image of the attack on total variation, in gradients of `SEARCH_ITERATIONS`."""
    values, gradients = settings.restarts + 1, settings.polish_steps + 1
    whole = TV_ITERATIONS / SEARCH_ITERATIONS * (gradients + values / 3)
    return settings.restarts * (settings.steps + 1) + whole
