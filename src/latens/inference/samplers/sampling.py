"""A run of a sampler: warm-up, then draws; can be stopped and continued.

Random numbers are keyed by (seed, iteration, problem), and everything else that a transition
needs is in `state_dict`: a run that was stopped and continued gives what an uninterrupted one
gives, number for number.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from latens.errors import ConfigError, NumericalError, ShapeError
from latens.inference.samplers.chains import Chains
from latens.inference.samplers.density import LogDensity
from latens.inference.samplers.integrator import Hamiltonian, Phase
from latens.inference.samplers.kernels import IterationNoise, Kernel, Transition, check_count
from latens.inference.samplers.metric import Metric
from latens.inference.samplers.metric import Shape as MetricShape
from latens.inference.samplers.step_size import DualAveraging
from latens.inference.samplers.warmup import (
    EARLY_WINDOWS,
    Adaptation,
    end_of_window,
    reasonable_step,
    update_points,
)

_RECORDED = ("draws", "log_density", "energy", "acceptance", "divergent", "moved", "steps")
_START = 2**31
"""Iteration key of the random numbers that are used before the first transition."""


class Sampling:
    """Chains of one or many problems on their way.

    Args:
        log_density: `(C, d)` → `(C,)`, C = P K; rows p K, …, p K + K − 1 belong to problem p.
        start: Starting points, `(C, d)`, finite.
        kernel: HMC or NUTS.
        problems: P, a divisor of C. Chains of a problem share step size and metric.
        warmup: Transitions that adapt and are not kept.
        metric: What the adapted metric may be: diagonal or dense.
        initial_metric: Metric to begin with, for example from a Laplace fit; default identity.
        keys: One integer per problem that names its random numbers; default 0, …, P − 1.
        seed: Seed of the run.
        superchains: Starts that equally many chains of a problem share, one after the other; None
            where each chain has its own. Short chains are judged by what is left of their starts.
        compiled: See `Hamiltonian`.

    Raises:
        ShapeError: If the starts cannot be shared among the problems.
        ConfigError: If the chains of a superchain do not share their start.
        NumericalError: If the log-density is not finite at a start.
    """

    def __init__(
        self,
        log_density: LogDensity,
        start: Tensor,
        kernel: Kernel,
        *,
        problems: int = 1,
        warmup: int = 300,
        metric: MetricShape = "dense",
        initial_metric: Metric | None = None,
        keys: Sequence[int] | None = None,
        seed: int = 0,
        superchains: int | None = None,
        compiled: bool = False,
    ) -> None:
        if start.ndim != 2 or problems < 1 or not len(start) or len(start) % problems:
            raise ShapeError(
                "start",
                f"(C, d) with C a multiple of the {problems} problems",
                tuple(start.shape),
                "Give every problem equally many chains.",
            )
        self.kernel = kernel
        self.problems = problems
        self.warmup = check_count("warmup", warmup, 0)
        self.metric_shape: MetricShape = metric
        self.keys = tuple(range(problems) if keys is None else keys)
        if len(self.keys) != problems:
            raise ConfigError(
                "keys", f"{problems} integers, one per problem", len(self.keys), "Add or remove."
            )
        self.seed = seed
        self.superchains = superchains
        if superchains is not None:
            _check_superchains(start.unflatten(0, (problems, -1)), superchains)
        self.iteration = 0
        self.warmup_gradients = 0.0
        self.hamiltonian = Hamiltonian(
            log_density, kernel.integrator, compiled=compiled, device=start.device
        )
        position = start.detach().unflatten(0, (problems, -1))  # (P, K, d)
        self.phase = self._begin(position)
        identity = Metric.identity(problems, start.shape[1], start)
        first = initial_metric or identity
        if first.factor.shape[0] != problems or first.factor.shape[-1] != start.shape[1]:
            raise ShapeError(
                "initial_metric",
                f"factors of {problems} problems in {start.shape[1]} dimensions",
                tuple(first.factor.shape),
                "Estimate it from draws of the same problems.",
            )
        if metric == "dense" and not first.is_dense:  # one shape, so that steps compile once
            first = Metric(torch.diag_embed(first.factor))
        ones = torch.ones(problems, dtype=torch.float64, device=start.device)
        noise = self._noise(_START)
        step = reasonable_step(self.hamiltonian, self.phase, first, ones, noise)
        reach = torch.ones(problems, dtype=start.dtype, device=start.device)
        restarted = torch.zeros(problems, dtype=torch.long, device=start.device)
        step = torch.minimum(step, kernel.largest_step(reach))
        self.adaptation = Adaptation(DualAveraging.start(step), first, reach, restarted)
        self._closes = set(update_points(warmup))
        self._records: dict[str, list[Tensor]] = {name: [] for name in _RECORDED}
        self._trouble: list[Tensor] = []
        self._trouble_at: list[Tensor] = []

    def _begin(self, position: Tensor) -> Phase:
        phase = self.hamiltonian.evaluate(position)
        usable = phase.log_density.isfinite() & phase.gradient.isfinite().all(-1)
        if not bool(usable.all()):
            raise NumericalError(
                "start",
                "points with a finite log-density and gradient",
                f"{int((~usable).sum())} of {usable.numel()} without",
                "Start inside the support, or give the log-density a gradient everywhere.",
            )
        return phase

    def _noise(self, iteration: int) -> IterationNoise:
        return IterationNoise(self.seed, iteration, self.keys, self.phase.position)

    @property
    def is_warm(self) -> bool:
        """Whether warm-up is over."""
        return self.iteration >= self.warmup

    @property
    def kept(self) -> int:
        """Draws per chain so far."""
        return max(self.iteration - self.warmup, 0)

    def run(self, draws: int) -> Chains:
        """Finish the warm-up, make so many more draws of every chain, and return all."""
        self.advance(max(self.warmup - self.iteration, 0) + check_count("draws", draws))
        return self.chains()

    def advance(self, transitions: int) -> None:
        """Do so many more transitions, of the warm-up first."""
        with torch.no_grad():
            for _ in range(transitions):
                self._advance_once()

    def _advance_once(self) -> None:
        warming = not self.is_warm
        tuning = self.adaptation.tuning(self.iteration, self.warmup)
        noise = self._noise(self.iteration)
        made = self.kernel.transition(self.hamiltonian, self.phase, tuning, noise)
        self.phase = made.phase
        early = self.iteration < end_of_window(EARLY_WINDOWS, self.warmup)
        self.iteration += 1
        if not warming:
            self._record(made)
            return
        self.adaptation.observe(made, self.kernel, tuning, early=early)
        if self.iteration in self._closes:
            self.phase = self.adaptation.close_window(
                self.hamiltonian,
                self.phase,
                self.metric_shape,
                self._noise(_START + self.iteration),
                self.kernel,
            )
        if self.is_warm:
            self.warmup_gradients = self.hamiltonian.gradients

    def _record(self, made: Transition) -> None:
        values = {
            "draws": made.phase.position,
            "log_density": made.phase.log_density,
            "energy": made.energy,
            "acceptance": made.acceptance,
            "divergent": made.divergent,
            "moved": made.moved,
            "steps": made.steps,
        }
        for name, value in values.items():
            self._records[name].append(value.flatten(0, 1))
        if bool(made.divergent.any()):
            which = made.divergent.flatten().nonzero()  # (n, 1)
            self._trouble.append(made.trouble.flatten(0, 1)[which[:, 0]])
            draw = torch.full_like(which, len(self._records["draws"]) - 1)
            self._trouble_at.append(torch.cat([draw, which], 1))

    def chains(self) -> Chains:
        """The draws so far.

        Raises:
            ConfigError: If there are none yet.
        """
        if not self.kept:
            raise ConfigError(
                "draws",
                "at least one transition after warm-up",
                f"{self.iteration} of {self.warmup} of the warm-up",
                "Call `advance` with more transitions.",
            )
        stacked = {name: torch.stack(values) for name, values in self._records.items()}
        dim = self.phase.position.shape[-1]
        nowhere = torch.zeros(0, dtype=torch.long, device=self.phase.position.device)
        return Chains(
            **stacked,
            trouble=torch.cat(self._trouble)
            if self._trouble
            else stacked["draws"].new_zeros(0, dim),
            trouble_at=torch.cat(self._trouble_at) if self._trouble else nowhere.reshape(0, 2),
            problems=self.problems,
            superchains=self.superchains,
            step_size=self.adaptation.averaging.average,
            restarted=self.adaptation.restarted,
            warmup_gradients=self.warmup_gradients,
            gradients=self.hamiltonian.gradients - self.warmup_gradients,
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that continuing needs, as tensors by name."""
        adaptation, phase = self.adaptation, self.phase
        state = {
            "counts": torch.tensor(
                [self.iteration, self.warmup, self.warmup_gradients, self.hamiltonian.gradients],
                dtype=torch.float64,
            ),
            "position": phase.position,
            "log_density": phase.log_density,
            "gradient": phase.gradient,
            "metric": adaptation.metric.factor,
            "reach": adaptation.reach,
            "restarted": adaptation.restarted,
        }
        for name, value in adaptation.averaging.tensors().items():
            state[f"averaging.{name}"] = value
        if adaptation.window:
            state["window"] = torch.stack(adaptation.window)
        if adaptation.forces:
            state["forces"] = torch.stack(adaptation.forces)
        for name, values in self._records.items():
            if values:
                state[f"record.{name}"] = torch.stack(values)
        if self._trouble:
            state["trouble"] = torch.cat(self._trouble)
            state["trouble_at"] = torch.cat(self._trouble_at)
        return {name: value.contiguous() for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a state of the same run.

        Raises:
            ConfigError: If the state is of another number of chains or another warm-up.
        """
        iteration, warmup, warmup_gradients, gradients = state["counts"].tolist()
        if warmup != self.warmup or state["position"].shape != self.phase.position.shape:
            raise ConfigError(
                "state",
                f"a run of shape {tuple(self.phase.position.shape)} and {self.warmup} "
                "transitions of warm-up",
                f"{tuple(state['position'].shape)} and {warmup}",
                "Build `Sampling` with the arguments that the state was made with.",
            )
        self.iteration = int(iteration)
        self.warmup_gradients = warmup_gradients
        self.hamiltonian.gradients = gradients
        position = state["position"]
        self.phase = Phase(
            position, torch.zeros_like(position), state["log_density"], state["gradient"]
        )
        names = self.adaptation.averaging.tensors()
        self.adaptation = Adaptation(
            DualAveraging(**{name: state[f"averaging.{name}"] for name in names}),
            Metric(state["metric"]),
            state["reach"],
            state["restarted"],
            list(state["window"]) if "window" in state else [],
            list(state["forces"]) if "forces" in state else [],
        )
        self._records = {
            name: list(state[f"record.{name}"]) if f"record.{name}" in state else []
            for name in _RECORDED
        }
        self._trouble = [state["trouble"]] if "trouble" in state else []
        self._trouble_at = [state["trouble_at"]] if "trouble" in state else []


def _check_superchains(start: Tensor, superchains: int) -> None:
    """Starts `(P, K, d)` must be G of them, each of M ≥ 2 chains that follow one another."""
    chains = start.shape[1]
    if superchains < 2 or chains % superchains or chains < 2 * superchains:
        raise ConfigError(
            "superchains",
            f"2 or more, with 2 or more of the {chains} chains each",
            superchains,
            "Choose for example 8 superchains of 32 chains.",
        )
    grouped = start.unflatten(1, (superchains, -1))  # (P, G, M, d)
    if bool((grouped != grouped[:, :, :1]).any()):
        raise ConfigError(
            "start",
            f"one point for the {chains // superchains} chains of each superchain",
            "different points",
            "Repeat each start, `start.repeat_interleave(M, 0)`, or leave `superchains` out.",
        )
