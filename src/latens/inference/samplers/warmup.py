"""Warm-up: step size, metric and trajectory length from the chains' own draws.

The chains of a problem are pooled. At fixed shares of the warm-up the metric and the reach are
estimated anew from the draws since the last time, and dual averaging starts again.

Early on the chains are still on their way, and their spread says little. The metric is then the
geometric mean of the covariance of the draws and the inverse covariance of the gradients, from the
later half of the draws, and trajectories are kept short, since steps are tiny until the metric is
known.

Every eighth transition, in warm-up and after it, is cautious: its steps are a quarter as long.
Where the curvature is far above average, as in the arms of a banana, a step of the tuned size is
unstable: a chain that has come there would stay for hundreds of transitions, and one that has not
would not come.

A chain that has not moved once between two of these times goes on from the place of one that has,
and is counted: a start far from all mass should not be taken for a mode.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from latens.inference.samplers.integrator import Hamiltonian, Phase
from latens.inference.samplers.kernels import IterationNoise, Kernel, Transition, Tuning
from latens.inference.samplers.metric import Metric, Shape, estimate_metric, leading_variance
from latens.inference.samplers.step_size import DualAveraging

SHARES = (0.12, 0.2, 0.32, 0.5, 0.75)
"""Where in the warm-up the metric is estimated."""

EARLY_WINDOWS = 3
"""Estimates of the metric that also use gradients."""
SHORT_WINDOWS, SHORT_STEPS = 4, 32
"""Estimates of the metric before which trajectories are bounded, and the bound."""
CAUTIOUS_EVERY, CAUTION = 8, 0.25
"""How often a transition is cautious, and its share of the step size."""

_REASONABLE = 0.8
_DOUBLINGS = 40


@dataclass
class Adaptation:
    """State of the warm-up.

    Attributes:
        averaging: Step sizes.
        metric: Current metric.
        reach: Largest posterior standard deviation in the metric, `(P,)`.
        restarted: Chains that went on from another's place, `(P,)`.
        window: Draws since the last estimate, each `(P, K, d)`.
        forces: Their gradients, as long as they are used.
    """

    averaging: DualAveraging
    metric: Metric
    reach: Tensor
    restarted: Tensor
    window: list[Tensor] = field(default_factory=list)
    forces: list[Tensor] = field(default_factory=list)

    def tuning(self, iteration: int, warmup: int) -> Tuning:
        """What a transition uses, during a warm-up of that many or after it."""
        step = self.averaging.step if iteration < warmup else self.averaging.average
        cautious = iteration % CAUTIOUS_EVERY == CAUTIOUS_EVERY - 1
        return Tuning(
            step.to(self.reach.dtype),
            self.metric,
            self.reach,
            CAUTION if cautious else 1.0,
            SHORT_STEPS if iteration < end_of_window(SHORT_WINDOWS, warmup) else None,
        )

    def observe(self, made: Transition, kernel: Kernel, tuning: Tuning, *, early: bool) -> None:
        """Learn from one transition."""
        if tuning.caution == 1:
            acceptance = made.acceptance.mean(1)
            largest = kernel.largest_step(self.reach)
            self.averaging = self.averaging.update(acceptance, kernel.target, largest)
        self.window.append(made.phase.position)
        if early:
            self.forces.append(made.phase.gradient)

    def close_window(
        self,
        hamiltonian: Hamiltonian,
        phase: Phase,
        shape: Shape,
        noise: IterationNoise,
        kernel: Kernel,
    ) -> Phase:
        """Estimate the metric and the reach, and look for a step size again.

        Returns:
            Where the chains go on.
        """
        draws = torch.stack(self.window)  # (n, P, K, d)
        self.window = []
        moved = (draws[1:] != draws[:-1]).any(-1).any(0)  # (P, K)
        stuck = ~moved & moved.any(1, keepdim=True)
        if bool(stuck.any()):
            self.restarted = self.restarted + stuck.sum(1)
            source = choose(moved, noise.uniform(moved.shape[1]))  # (P, K)
            phase = take(phase, torch.where(stuck, source, _own(source)))
            draws = torch.where(stuck[..., None], draws.gather(2, _wide(source, draws)), draws)
        if self.forces:
            half = len(draws) // 2
            forces, self.forces = torch.stack(self.forces), []
            self.metric = estimate_metric(draws[half:], shape, forces[half:])
        else:
            self.metric = estimate_metric(draws, shape)
        self.reach = leading_variance(draws, self.metric).sqrt()
        step = reasonable_step(hamiltonian, phase, self.metric, self.averaging.step, noise)
        self.averaging = DualAveraging.start(torch.minimum(step, kernel.largest_step(self.reach)))
        return phase


def choose(allowed: Tensor, uniform: Tensor) -> Tensor:
    """For each chain the index of a random allowed chain of its problem, `(P, K)`.

    Args:
        allowed: `(P, K)`, one or more in each row that matters.
        uniform: Random numbers, `(P, K)`.
    """
    count = allowed.sum(1, keepdim=True).clamp(min=1)
    wanted = (uniform * count).long().clamp(max=allowed.shape[1] - 1)  # rank among the allowed
    order = (~allowed).to(torch.uint8).argsort(dim=1, stable=True)  # the allowed first
    return order.gather(1, wanted)


def take(phase: Phase, source: Tensor) -> Phase:
    """The phase with chain k of each problem in the place of chain `source[p, k]`."""
    wide = source[..., None].expand_as(phase.position)
    return Phase(
        phase.position.gather(1, wide),
        phase.momentum.gather(1, wide),
        phase.log_density.gather(1, source),
        phase.gradient.gather(1, wide),
    )


def _own(source: Tensor) -> Tensor:
    return torch.arange(source.shape[1], device=source.device).expand_as(source)


def _wide(source: Tensor, draws: Tensor) -> Tensor:
    return source[None, ..., None].expand_as(draws)


def update_points(warmup: int) -> list[int]:
    """Iterations after which a window closes, for a warm-up of that many."""
    return sorted({round(share * warmup) for share in SHARES if round(share * warmup) >= 2})


def end_of_window(number: int, warmup: int) -> int:
    """Iteration after which window 1, 2, … of a warm-up of that many closes; 0 without windows."""
    points = update_points(warmup)
    return points[min(number, len(points)) - 1] if points else 0


def reasonable_step(
    hamiltonian: Hamiltonian, phase: Phase, metric: Metric, step: Tensor, noise: IterationNoise
) -> Tensor:
    """Step sizes `(P,)` at which one step is accepted with probability about .8.

    Doubled or halved, each problem by itself, until the mean over its chains crosses that.
    """
    chains, dim = phase.position.shape[1:]
    start = phase.with_momentum(noise.normal(chains, dim))
    step = step.double()
    direction = torch.zeros_like(step)
    for _ in range(_DOUBLINGS):
        end = hamiltonian.step(start, step[:, None].expand(-1, chains), metric)
        error = end.energy - start.energy
        accepted = torch.exp(-error.clamp(min=0)).nan_to_num(nan=0.0).mean(1)
        wanted = torch.where(accepted > _REASONABLE, 1.0, -1.0).to(step)
        direction = torch.where(direction == 0, wanted, direction)
        going = wanted == direction
        if not bool(going.any()):
            break
        step = torch.where(going, step * 2.0**direction, step)
        direction = torch.where(going, direction, torch.inf)
    return step
