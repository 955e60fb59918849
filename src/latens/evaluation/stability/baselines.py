"""Linear solvers that a worst case is compared with, attacked in the same way.

Total variation is not among them: it has no derivative to attack it with.
"""

from torch import Tensor

from latens.errors import ConfigError, UnsupportedError
from latens.inference import TikhonovSolver, WienerSolver
from latens.problems import InverseProblem, LinearOperator
from latens.problems.wiener import IterativeWiener

Pairs = tuple[Tensor, Tensor]
"""Signals `(n, *signal_shape)` and their measurements."""


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
