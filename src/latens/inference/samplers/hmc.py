"""Hamiltonian Monte Carlo with jittered trajectories, all chains in lockstep.

    r ~ N(0, I);   τ_t = T (1 − j + 2 j h_t),   T = length · (π/2) · reach

`reach` is the largest posterior standard deviation in units of the metric, and (π/2)·reach the
quarter period after which a Gaussian along that direction has forgotten its start. h_t is the
van der Corput sequence in base 2, shared by all chains, so that no chain waits for another: the
chains of a problem take equally many steps. Problems that have arrived leave the batch.

A cautious trajectory has as many steps, each shorter. It comes every eighth time, when h_t is in
its lowest eighth, so that it costs less than an eighth more.

References:
    Neal (2011), MCMC using Hamiltonian dynamics, https://arxiv.org/abs/1206.1901;
    Hoffman, Radul, Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths,
    https://proceedings.mlr.press/v130/hoffman21a.html;
    Sountsov, Hoffman (2021), Focusing on difficult directions,
    https://arxiv.org/abs/2110.11576.
"""

import math

import torch
from torch import Tensor

from latens.errors import ConfigError
from latens.inference.samplers.integrator import LEAPFROG, Hamiltonian, Integrator, Phase, where
from latens.inference.samplers.kernels import (
    ENERGY_ERROR,
    IterationNoise,
    Kernel,
    Transition,
    Tuning,
    check_count,
)
from latens.inference.samplers.metric import Metric


class HMC(Kernel):
    """Hamiltonian Monte Carlo.

    Args:
        target: Mean acceptance that the step size is adapted to.
        length: Mean trajectory in quarter periods of the widest direction.
        jitter: Half width of the trajectory lengths, as a share of the mean.
        max_steps: Bound on the steps of a trajectory.
        integrator: Splitting.
    """

    def __init__(
        self,
        *,
        target: float = 0.87,
        length: float = 1.1,
        jitter: float = 0.6,
        max_steps: int = 512,
        integrator: Integrator = LEAPFROG,
    ) -> None:
        super().__init__(target, integrator)
        if not 0 < length < math.inf:
            raise ConfigError("length", "a positive number", length, "Choose about 1.")
        if not 0 <= jitter <= 1:
            raise ConfigError("jitter", "between 0 and 1", jitter, "Choose about 0.6.")
        self.length = length
        self.jitter = jitter
        self.max_steps = check_count("max_steps", max_steps)

    def transition(
        self,
        hamiltonian: Hamiltonian,
        phase: Phase,
        tuning: Tuning,
        noise: IterationNoise,
    ) -> Transition:
        chains, dim = phase.position.shape[1:]
        start = phase.with_momentum(noise.normal(chains, dim))
        steps = self.steps(tuning, noise.iteration)  # (P,)
        energy = start.energy  # (P, K)
        end = _trajectories(hamiltonian, start, steps, tuning.size, tuning.metric)
        error = _finite(end.energy - energy)
        acceptance = torch.exp(-error.clamp(min=0))
        accepted = noise.uniform(chains) < acceptance
        return Transition(
            where(accepted, end, start),
            energy,
            acceptance,
            error > ENERGY_ERROR,
            accepted & (end.position != start.position).any(-1),
            steps[:, None].expand(-1, chains),
            end.position,
        )

    def largest_step(self, reach: Tensor) -> Tensor:
        """Half the mean trajectory.

        In a few dimensions the acceptance stays high up to the edge of stability. A trajectory
        would then be one step whatever the jitter, and each step nearly a reflection.
        """
        return self._mean_time(reach) / 2

    def _mean_time(self, reach: Tensor) -> Tensor:
        return self.length * math.pi / 2 * reach

    def steps(self, tuning: Tuning, iteration: int) -> Tensor:
        """Steps of each problem in an iteration, `(P,)`."""
        share = 1 - self.jitter + 2 * self.jitter * van_der_corput(iteration + 1)
        time = self._mean_time(tuning.reach) * share
        return (time / tuning.step).ceil().clamp(1, tuning.bounded(self.max_steps)).long()


def _trajectories(
    hamiltonian: Hamiltonian, start: Phase, steps: Tensor, size: Tensor, metric: Metric
) -> Phase:
    """Where trajectories of `steps` `(P,)` of size `(P,)` end.

    Where the density tells problems apart, those that have arrived leave the batch whenever they
    are a quarter of it.
    """
    if not hamiltonian.separates:
        return _steps(hamiltonian, start, steps, size, metric)
    end, done = start, 0
    while True:
        moving = (steps > done).nonzero()[:, 0]
        if not len(moving):
            return end
        left = steps[moving] - done
        stage = int(left.sort().values[len(moving) // 4])
        with hamiltonian.of(moving) as some:
            counts, sizes = left.clamp(max=stage), size[moving]
            part = _steps(some, end.of(moving), counts, sizes, metric.of(moving))
        end = end.replaced(moving, part)
        done += stage


def _steps(
    hamiltonian: Hamiltonian, phase: Phase, steps: Tensor, size: Tensor, metric: Metric
) -> Phase:
    """The same in lockstep: a problem that has arrived takes steps of size zero."""
    chains = phase.position.shape[1]
    for i in range(int(steps.max())):
        taken = torch.where(i < steps, size, 0.0)[:, None]  # (P, 1)
        phase = hamiltonian.step(phase, taken.expand(-1, chains), metric)
    return phase


def van_der_corput(index: int) -> float:
    """Member of the sequence 1/2, 1/4, 3/4, 1/8, … with the bits of the index mirrored."""
    value, share = 0.0, 0.5
    while index:
        value += share * (index & 1)
        index >>= 1
        share /= 2
    return value


def _finite(error: Tensor) -> Tensor:
    """Energy error with +∞ where it is undefined."""
    return torch.where(error.isnan(), torch.inf, error)
