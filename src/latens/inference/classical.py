"""Classical solvers: operator and noise are known, and a few numbers are learned from pairs.

| name | class | learned inside N | estimate |
|---|---|---|---|
| `tikhonov` | `TikhonovSolver` | mean image, weight | one image |
| `tv` | `TotalVariationSolver` | weight | one image |
| `wiener` | `WienerSolver` | mean image, power spectrum, noise variance | Gaussian posterior |
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor
from torch.distributions import Normal

from latens.distributions import Purpose
from latens.errors import UnsupportedError
from latens.inference.estimates import DEFAULT_DRAWS, Draws, PointEstimate, Posterior
from latens.inference.solver import Solver
from latens.problems import (
    InverseProblem,
    LinearOperator,
    StationaryPrior,
    WienerFilter,
    choose_tv_weight,
    choose_weight,
    fit_stationary,
    tikhonov,
    total_variation,
    wiener_filter,
)
from latens.store import Status


class Classical(Solver):
    """A solver that is fitted to pairs in closed form or by a search, and stored as arrays."""

    @classmethod
    @abstractmethod
    def fit(cls, problem: InverseProblem, x: Tensor, y: Tensor) -> Self:
        """Learn from pairs inside N.

        Args:
            problem: Problem with a linear operator and known noise.
            x: Signals, `(n, *signal_shape)`.
            y: Measurements, `(n, *measurement_shape)`.

        Raises:
            UnsupportedError: If the operator is not linear.
            SolverError: If the pairs do not determine a weight.
            ConfigError: If there are too few pairs.
        """

    @abstractmethod
    def arrays(self) -> dict[str, Tensor]:
        """All that `fit` learned."""

    def with_problem(self, problem: InverseProblem) -> Self:
        return self.from_arrays(problem, self.arrays())

    @classmethod
    @abstractmethod
    def from_arrays(cls, problem: InverseProblem, arrays: Mapping[str, Tensor]) -> Self:
        """The solver whose `arrays` these are.

        Raises:
            KeyError: If an array is missing.
        """


class TikhonovSolver(Classical):
    """x̂ = x̄ + argmin_u ‖A u − (y − A x̄)‖² + weight ‖u‖², with x̄ the mean training image.

    Args:
        problem: Problem with a linear operator.
        mean: x̄, `(*signal_shape)`.
        weight: Weight of the penalty, in squared units of A.
    """

    def __init__(self, problem: InverseProblem, mean: Tensor, weight: float) -> None:
        self.operator = _linear(problem)
        self.mean = mean
        self.weight = weight

    @classmethod
    def fit(cls, problem: InverseProblem, x: Tensor, y: Tensor) -> Self:
        """Choose mean and weight from pairs inside N; see `Classical.fit`."""
        operator = _linear(problem)
        mean = x.mean(0)
        weight = choose_weight(operator, x - mean, y - operator.A(mean))
        return cls(problem, mean, weight)

    def arrays(self) -> dict[str, Tensor]:
        """`mean` and `weight`."""
        return {"mean": self.mean, "weight": torch.tensor(self.weight, dtype=torch.float64)}

    @classmethod
    def from_arrays(cls, problem: InverseProblem, arrays: Mapping[str, Tensor]) -> Self:
        return cls(problem, arrays["mean"], arrays["weight"].item())

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> PointEstimate:
        """Closed form; no randomness."""
        return PointEstimate(self.mean_of(y, keys, seed))

    def mean_of(
        self, y: Tensor, keys: Sequence[int], seed: int, draws: int = DEFAULT_DRAWS
    ) -> Tensor:
        """Affine in y; see `Solver.mean_of`."""
        mean = self.mean.to(y.dtype)
        return mean + tikhonov(self.operator, y - self.operator.A(mean), self.weight)


class TotalVariationSolver(Classical):
    """x̂ = argmin_x ½ ‖A x − y‖² + weight · TV(x).

    It has no `mean_of`: each image takes up to thousands of iterations, a number that depends on
    y. Worst-case measurements are transferred to it from solvers that have one.

    The status of an estimate is `stopped` if an image did not reach the tolerance. Its
    diagnostics are the largest relative duality gap, the most iterations, and the number of images
    that did not converge.

    Args:
        problem: Problem with a linear operator.
        weight: Weight of the total variation.
    """

    def __init__(self, problem: InverseProblem, weight: float) -> None:
        self.operator = _linear(problem)
        self.weight = weight

    @classmethod
    def fit(cls, problem: InverseProblem, x: Tensor, y: Tensor) -> Self:
        """Choose the weight from at most 16 pairs inside N; see `Classical.fit`."""
        return cls(problem, choose_tv_weight(_linear(problem), x, y))

    def arrays(self) -> dict[str, Tensor]:
        """`weight`."""
        return {"weight": torch.tensor(self.weight, dtype=torch.float64)}

    @classmethod
    def from_arrays(cls, problem: InverseProblem, arrays: Mapping[str, Tensor]) -> Self:
        return cls(problem, arrays["weight"].item())

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> PointEstimate:
        """Iterative, each image to its own tolerance; no randomness."""
        found = total_variation(self.operator, y, self.weight)
        diagnostics = {
            "gap": found.gap.max().item(),
            "iterations": float(found.iterations.max()),
            "not_converged": float((~found.converged).sum()),
        }
        status = Status.CONVERGED if bool(found.converged.all()) else Status.STOPPED
        if not bool(found.gap.isfinite().all()):
            status = Status.NAN
        return PointEstimate(found.x, status, diagnostics)


class WienerPosterior(Posterior):
    """p(x | y) of a stationary Gaussian signal; its mean is exact, its variance as in the filter.

    Args:
        wiener: Filter that makes mean and draws.
        y: Measurements, `(B, *measurement_shape)`.
    """

    def __init__(self, wiener: WienerFilter, y: Tensor, keys: Sequence[int], seed: int) -> None:
        super().__init__(keys, seed, includes_decoder_spread=True)
        self.wiener = wiener
        self.y = y
        self._mean = wiener.mean(y)

    @torch.no_grad()
    def make_draws(self, count: int) -> Draws:
        """Draws by Matheron's rule, and the same mean and variance for each of them."""
        operator = self.wiener.operator
        noise_x = self.noise(Purpose.SIGNAL, count, operator.signal_shape, self.y)
        noise_n = self.noise(Purpose.MEASUREMENT, count, operator.measurement_shape, self.y)
        values = self.mean + self.wiener.deviation(noise_x, noise_n)
        return Draws(values, self.mean.expand_as(values), self.variance.expand_as(values))

    @property
    def mean(self) -> Tensor:
        """E[x | y]."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Var[x | y] of every element."""
        return self.wiener.variance.to(self.mean.dtype).expand_as(self.mean)

    def marginal_log_prob(self, x: Tensor) -> Tensor:
        """log N(x_i; E[x_i | y], Var[x_i | y]) of signals `(..., B, *signal_shape)`."""
        return Normal(self.mean, self.std, validate_args=False).log_prob(x)


class WienerSolver(Classical):
    """Posterior of a stationary Gaussian prior learned from the training images.

    Other noise is replaced by the Gaussian one of the best affine description of a measured
    element by its clean value, y ≈ gain · (A x + offset + n), with one variance of n for all
    elements.

    Args:
        problem: Problem with a linear operator.
        prior: Mean image and power spectrum.
        noise_variance: Variance of an element of n.
        offset: Mean of y/gain − A x.
        gain: Slope of E[y | A x] over A x; 1 for Gaussian noise.
    """

    def __init__(
        self,
        problem: InverseProblem,
        prior: StationaryPrior,
        noise_variance: float,
        offset: float,
        gain: float = 1.0,
    ) -> None:
        self.gain = gain
        self.wiener = wiener_filter(_linear(problem), prior, noise_variance, offset)

    @classmethod
    @torch.no_grad()
    def fit(cls, problem: InverseProblem, x: Tensor, y: Tensor) -> Self:
        """Mean, spectrum and noise variance from signals inside N; see `Classical.fit`."""
        clean = _linear(problem).A(x)
        noise = problem.noise.elementwise(clean)
        expected, clean = noise.mean.double(), clean.double()
        centred = clean - clean.mean()
        gain = (centred * expected).sum() / (centred * clean).sum()
        unexplained = (expected - gain * clean).var(correction=0)
        variance = (noise.variance.double().mean() + unexplained) / gain.square()
        offset = expected.mean() / gain - clean.mean()
        return cls(problem, fit_stationary(x), variance.item(), offset.item(), gain.item())

    def arrays(self) -> dict[str, Tensor]:
        """`mean`, `power`, `noise_variance`, `offset` and `gain`."""
        numbers = {
            "noise_variance": self.wiener.noise_variance,
            "offset": self.wiener.offset,
            "gain": self.gain,
        }
        return {
            "mean": self.wiener.prior.mean,
            "power": self.wiener.prior.power,
            **{key: torch.tensor(value, dtype=torch.float64) for key, value in numbers.items()},
        }

    @classmethod
    def from_arrays(cls, problem: InverseProblem, arrays: Mapping[str, Tensor]) -> Self:
        prior = StationaryPrior(arrays["mean"], arrays["power"])
        numbers = (arrays[name].item() for name in ("noise_variance", "offset", "gain"))
        return cls(problem, prior, *numbers)

    @torch.no_grad()
    def solve(self, y: Tensor, keys: Sequence[int], seed: int) -> WienerPosterior:
        """Gaussian posterior of each measurement."""
        return WienerPosterior(self.wiener, y / self.gain, keys, seed)

    def mean_of(
        self, y: Tensor, keys: Sequence[int], seed: int, draws: int = DEFAULT_DRAWS
    ) -> Tensor:
        """Affine in y; see `Solver.mean_of`."""
        return self.wiener.mean(y / self.gain)


CLASSICAL: dict[str, type[Classical]] = {
    "tikhonov": TikhonovSolver,
    "tv": TotalVariationSolver,
    "wiener": WienerSolver,
}


def _linear(problem: InverseProblem) -> LinearOperator:
    if not isinstance(problem.operator, LinearOperator):
        raise UnsupportedError(
            "problem",
            "a LinearOperator",
            type(problem.operator).__name__,
            "Leave `tikhonov`, `tv` and `wiener` out for this operator.",
        )
    return problem.operator
