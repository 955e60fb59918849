"""Tests of a whole population, and what many of them together say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latens.errors import ConfigError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PopulationTest:
    """One test of one quantity.

    Args:
        test: Name of the test, for example `ecdf`.
        quantity: What was tested; a family of several carries their number, `pixels (8)`.
        statistic: Value of the test's statistic; larger is further from the hypothesis.
        p_value: Probability of such a statistic, or a larger one, under the hypothesis.
        images: Independent images behind it.
        draws: Draws per image.
        p_adjusted: The same among all tests of these images: of a smallest p-value as small.
    """

    test: str
    quantity: str
    statistic: float
    p_value: float
    images: int
    draws: int
    p_adjusted: float


def holm(p_values: Sequence[float] | Array) -> Array:
    """p-values adjusted for multiplicity by the step-down rule of Holm.

        p̃_(j) = max_{i ≤ j} min(1, (m − i + 1) p_(i)),   p_(1) ≤ … ≤ p_(m)

    The probability of one false rejection or more among p̃ ≤ α is at most α, whatever the
    dependence of the tests. Many tests of the same kind that depend on each other strongly lose
    power by it: use `relabelling_test`, which knows their dependence, where truth and draws can be
    exchanged.

    Args:
        p_values: m values in [0, 1].

    Returns:
        Adjusted values in [0, 1], in the same order.

    Raises:
        ConfigError: If a value is no probability.

    References:
        Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian
        Journal of Statistics 6, 65–70.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ConfigError(
            "p_values",
            "a list of probabilities",
            p_values,
            "A test that has no p-value is left out.",
        )
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted
