"""What a transition kernel is given and what it returns."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.errors import ConfigError
from latens.inference.samplers.integrator import Hamiltonian, Integrator, Phase
from latens.inference.samplers.metric import Metric

ENERGY_ERROR = 1000.0
"""A trajectory whose energy is off by more than this many nats is divergent."""


@dataclass(frozen=True, eq=False)
class Tuning:
    """What warm-up finds for each problem.

    Attributes:
        step: ε, `(P,)`.
        metric: Metric.
        reach: Largest posterior standard deviation in units of the metric, `(P,)`.
        caution: Share of the step size that this transition takes.
        most_steps: Bound on the steps of a trajectory, beside the kernel's own; None if there
            is none.
    """

    step: Tensor
    metric: Metric
    reach: Tensor
    caution: float = 1.0
    most_steps: int | None = None

    @property
    def size(self) -> Tensor:
        """Step size of this transition, `(P,)`."""
        return self.step * self.caution

    def bounded(self, most_steps: int) -> int:
        """The smaller of both bounds."""
        return most_steps if self.most_steps is None else min(most_steps, self.most_steps)


@dataclass(frozen=True, eq=False)
class Transition:
    """A transition of all chains.

    Attributes:
        phase: Where the chains are now.
        energy: H before the trajectory, `(P, K)`.
        acceptance: Mean Metropolis probability along the trajectory, `(P, K)`.
        divergent: Whether the energy was lost, `(P, K)`.
        moved: Whether the position changed, `(P, K)`.
        steps: Steps of each chain, `(P, K)`; lockstep costs the largest of them.
        trouble: Position before a divergent trajectory is the chain's own; this is where the
            trajectory was when it diverged, `(P, K, d)`.
    """

    phase: Phase
    energy: Tensor
    acceptance: Tensor
    divergent: Tensor
    moved: Tensor
    steps: Tensor
    trouble: Tensor


class IterationNoise:
    """Random numbers of one iteration; those of a problem depend on its own key alone.

    Args:
        seed: Seed of the run.
        iteration: Index of the transition, warm-up included.
        keys: One integer per problem.
        like: Tensor whose type and device the numbers get.

    Attributes:
        iteration: That index.
    """

    def __init__(self, seed: int, iteration: int, keys: Sequence[int], like: Tensor) -> None:
        self.iteration = iteration
        self._streams = [NoiseStream(seed, Purpose.CHAIN, iteration, key) for key in keys]
        self._like = like

    def normal(self, *shape: int) -> Tensor:
        """`(P, *shape)`."""
        dtype = self._like.dtype
        made = torch.stack([stream.normal(shape, dtype) for stream in self._streams])
        return made.to(self._like.device)

    def uniform(self, *shape: int) -> Tensor:
        """`(P, *shape)` on [0, 1)."""
        dtype = self._like.dtype
        made = torch.stack([stream.uniform(shape, dtype) for stream in self._streams])
        return made.to(self._like.device)


class Kernel(ABC):
    """A Markov transition that leaves the posterior of every problem as it is.

    Args:
        target: Mean acceptance that the step size is adapted to.
        integrator: Splitting.

    Raises:
        ConfigError: If the target is not between 0 and 1.
    """

    def __init__(self, target: float, integrator: Integrator) -> None:
        if not 0 < target < 1:
            raise ConfigError(
                "target",
                "a mean acceptance between 0 and 1",
                target,
                "Choose for example 0.87; higher is slower and surer.",
            )
        self.target = target
        self.integrator = integrator

    def largest_step(self, reach: Tensor) -> Tensor:
        """Step size beyond which warm-up does not go, `(P,)`; none by default."""
        return torch.full_like(reach, torch.inf)

    @abstractmethod
    def transition(
        self,
        hamiltonian: Hamiltonian,
        phase: Phase,
        tuning: Tuning,
        noise: IterationNoise,
    ) -> Transition:
        """Move every chain once."""


def check_count(name: str, value: int, least: int = 1) -> int:
    """A count of at least `least`, or a `ConfigError`."""
    if value < least:
        raise ConfigError(name, f"{least} or more", value, f"Choose {least} at least.")
    return value
