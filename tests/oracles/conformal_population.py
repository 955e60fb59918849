"""A finite population whose risks are known exactly, for resampled conformal calibrations.

Images of `SHAPE` with smooth, heavy-tailed errors: neighbouring pixels go together, and some
images are harder than others. Calibration sets are drawn with replacement, so that the population
itself is the distribution that a promise speaks of, and nothing is estimated from a test set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from latens.distributions import diagonal_normal
from latens.evaluation.conformal import DELTA
from latens.inference import Calibration, Solver, as_solver
from latens.metrics import (
    RiskCurve,
    breakpoints,
    covering_score,
    crc_allowance,
    rcps_allowance,
)

SHAPE = (1, 8, 8)
METHODS = {
    "split": "std",
    "cqr": "offset",
    "simultaneous": "std",
    "crc": "width",
    "rcps": "width",
}
SHARED = {"split": 0.9, "cqr": 0.9, "simultaneous": 1.0}
SOLVERS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "right spread": lambda mean, std: (mean, std),
    "a fifth of the spread, biased": lambda mean, std: (mean + 0.5, 0.2 * std),
    "no spread in a third of the image": lambda mean, std: (mean, std * _hole(std)),
    "spread unrelated to the error": lambda mean, std: (mean, 0.3 * std.flip(0)),
}


def _hole(like: Tensor) -> Tensor:
    mask = torch.ones_like(like)
    mask[..., :, :3] = 0
    return mask


def solver(name: str) -> Solver:
    """A posterior that reads mean and spread from its measurement, rightly or wrongly."""

    def posterior(y: Tensor):
        mean, std = SOLVERS[name](y[:, :1], y[:, 1:])
        return diagonal_normal(mean, std, 3)

    return as_solver(posterior)


def pairs(count: int, seed: int, groups: int = 0) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Truths, measurements (mean and spread of the exact posterior), group of each image.

    Args:
        count: Images, or groups of 1 to 5 images if `groups` is the same number.
        seed: Seed.
        groups: 0, or the number of groups, whose images have half their difficulty in common.
    """
    rng = np.random.default_rng(seed)
    label = np.arange(count)
    if groups:
        label = np.repeat(np.arange(groups), rng.integers(1, 6, groups))
    hardness = 0.4 * rng.standard_normal(len(label)) + 0.4 * rng.standard_normal(count)[label]
    white = rng.standard_t(5, (len(label), *SHAPE))
    error = gaussian_filter(white, (0, 0, 1.2, 1.2), mode="wrap")
    error /= error.std()
    spread = 0.1 + rng.random((len(label), *SHAPE))
    truth = np.exp(hardness)[:, None, None, None] * spread * error
    y = np.concatenate([np.zeros_like(spread), spread], axis=1)
    return torch.from_numpy(truth).float(), torch.from_numpy(y).float(), label


@dataclass(frozen=True)
class Population:
    """Steps of the risk of every unit, for one solver and method.

    Attributes:
        steps: `(N, K)`.
        heights: `(K,)`.
        labels: Unit of each image, `(N,)`, 0, …, units − 1.
    """

    steps: NDArray[np.float64]
    heights: NDArray[np.float64]
    labels: NDArray[np.int64]

    @cached_property
    def units(self) -> int:
        """Units in the population."""
        return int(self.labels.max()) + 1

    @cached_property
    def _curve(self) -> RiskCurve:
        return RiskCurve.from_steps(self.steps, self.heights, self.labels.tolist())

    @cached_property
    def _rows(self) -> list[NDArray[np.intp]]:
        order = np.argsort(self.labels, kind="stable")
        return np.split(order, np.searchsorted(self.labels[order], np.arange(1, self.units)))

    def risk(self, factor: float) -> float:
        """Expected risk of a new unit, exactly; `factor` is a step of the population."""
        return float(self._curve.risk[np.searchsorted(self._curve.points, factor)])

    def factors(
        self, method: str, level: float, count: int, runs: int, rng: np.random.Generator
    ) -> list[float]:
        """Factors of calibrations on units drawn with replacement."""
        allowed = (
            rcps_allowance(level, DELTA, count)
            if method == "rcps"
            else crc_allowance(level, count)
        )
        found = []
        for _ in range(runs):
            rows = [self._rows[unit] for unit in rng.integers(self.units, size=count)]
            names = np.repeat(np.arange(count), [len(r) for r in rows])
            steps = self.steps[np.concatenate(rows)]
            curve = RiskCurve.from_steps(steps, self.heights, names.tolist())
            found.append(curve.threshold(allowed))
        return found


def population(name: str, method: str, level: float, count: int, groups: int = 0) -> Population:
    """The population as one solver and method see it.

    Args:
        name: Solver, a key of `SOLVERS`.
        method: A key of `METHODS`.
        level: 1 − α.
        count: Images, or groups.
        groups: 0 or `count`.
    """
    x, y, labels = pairs(count, 1, groups)
    draft = Calibration(
        method,
        METHODS[method],
        level,
        0.0,
        0.9,
        SHARED.get(method),
        DELTA if method == "rcps" else None,
        1,
        1,
        SHAPE,
    )
    exceeded = draft.exceedance(solver(name)(y), x)
    if method in SHARED:
        steps, heights = covering_score(exceeded, SHARED[method])[:, None], torch.ones(1)
    else:
        steps, heights = breakpoints(exceeded)
    return Population(steps.double().numpy(), heights.double().numpy(), labels)
