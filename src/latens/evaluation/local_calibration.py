"""Local calibration: at which measurements can a classifier tell draws from the truth?

A tool to look with; the check `calibration` takes the test of all images alone. p-values of single
images are no tests of those images, see `LocalTest`, and are not counted in any table.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from latens.evaluation.calibration import posterior_blocks
from latens.evaluation.quantities import fit_quantities
from latens.inference import Solver
from latens.metrics import LocalTest, lc2st
from latens.problems import InverseProblem

DRAWS = 8
"""Draws of each image that train the classifier; more cost time and tell little."""


def local_calibration(
    solver: Solver,
    problem: InverseProblem,
    x: Tensor,
    y: Tensor,
    *,
    directions: Tensor | None = None,
    relabellings: int = 99,
    seed: int = 0,
) -> LocalTest:
    """Local classifier two-sample test on a few summaries of signal and measurement.

    θ are scores along principal directions, or means over the quarters of an image; the
    measurement is summarised by the same numbers of A⁺y, regularised at the level of the noise.

    Args:
        solver: A solver that returns posteriors.
        problem: A linear operator and noise.
        x: Truth of held-out pairs, `(n, *signal_shape)`, n ≥ 20; aim at 500.
        y: Their measurements, `(n, *measurement_shape)`.
        directions: Principal directions, `(K, *signal_shape)`, K small; from other images.
        relabellings: Classifiers trained under the null.
        seed: Key of all noise.

    Raises:
        UnsupportedError: If the operator is not linear, or the solver gives point estimates.
        ConfigError: If there are fewer than 20 images.
    """
    parts: list[tuple[NDArray, NDArray]] = []
    quantities, most = None, prod(x.shape[1:])
    for block, _, members in posterior_blocks(solver, x, y, list(range(len(x))), DRAWS, seed):
        if quantities is None:
            quantities = fit_quantities(members, y[block], problem, directions, seed)
        both = (members, quantities.regularised(y[block]))
        signals, given = (quantities.summaries(s, most).double().numpy(force=True) for s in both)
        parts.append((signals, given))
    members = np.concatenate([part[0] for part in parts], axis=1)
    condition = np.concatenate([part[1] for part in parts])
    rng = np.random.default_rng([seed, 2])
    return lc2st(members[0], members[1:], condition, rng, relabellings)
