"""Hamiltonian trajectories of all chains in lockstep, in whitened momenta.

    H(x, r) = −log p(x) + ½ ‖r‖²,    ẋ = L r,    ṙ = Lᵀ ∇ log p(x),    Σ = L Lᵀ the metric

One step alternates kicks r += a ε Lᵀ∇log p and drifts x += b ε L r, symmetrically, so that it is
reversible and keeps volume:

| integrator | a | b | gradients |
|---|---|---|---|
| `LEAPFROG` | ½, ½ | 1 | 1 |
| `TWO_STAGE` | λ, 1 − 2λ, λ with λ = .2118 | ½, ½ | 2 |

A chain with ε = 0 stays where it is: this is how chains of different lengths share a batch.

References:
    Blanes, Casas, Sanz-Serna (2014), Numerical integrators for the Hybrid Monte Carlo method,
    eq. 4.3, https://arxiv.org/abs/1405.3153.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latens.distributions.validation import validation_kept
from latens.inference.samplers.density import (
    LogDensity,
    RowsOfProblems,
    finite_or_lowest,
    value_and_gradient,
)
from latens.inference.samplers.metric import Metric, adjoint, forward


@dataclass(frozen=True)
class Integrator:
    """Coefficients of a symmetric splitting.

    Attributes:
        kicks: Shares of the step given to the momenta, one more than `drifts`, sum 1.
        drifts: Shares given to the positions, sum 1; one gradient each.
    """

    kicks: tuple[float, ...]
    drifts: tuple[float, ...]

    @property
    def gradients(self) -> int:
        """Gradients per step."""
        return len(self.drifts)


LEAPFROG = Integrator((0.5, 0.5), (1.0,))
_LAMBDA = 0.21178
TWO_STAGE = Integrator((_LAMBDA, 1 - 2 * _LAMBDA, _LAMBDA), (0.5, 0.5))


@dataclass(frozen=True, eq=False)
class Phase:
    """Points of phase space of K chains for each of P problems.

    Attributes:
        position: x, `(P, K, d)`.
        momentum: Whitened r, `(P, K, d)`.
        log_density: log p(x) up to a constant, `(P, K)`.
        gradient: ∇ log p(x), `(P, K, d)`.
    """

    position: Tensor
    momentum: Tensor
    log_density: Tensor
    gradient: Tensor

    @property
    def energy(self) -> Tensor:
        """H, `(P, K)`, nats; +∞ where the log-density is −∞."""
        return 0.5 * self.momentum.square().sum(-1) - self.log_density

    def with_momentum(self, momentum: Tensor) -> "Phase":
        """The same positions with other momenta `(P, K, d)`."""
        return replace(self, momentum=momentum)

    def of(self, problems: Tensor) -> "Phase":
        """Those of some problems, by their numbers or by a mask."""
        return Phase(
            self.position[problems],
            self.momentum[problems],
            self.log_density[problems],
            self.gradient[problems],
        )

    def replaced(self, problems: Tensor, found: "Phase") -> "Phase":
        """The same with other points for some problems, by their numbers `(Q,)`."""
        return Phase(
            self.position.index_copy(0, problems, found.position),
            self.momentum.index_copy(0, problems, found.momentum),
            self.log_density.index_copy(0, problems, found.log_density),
            self.gradient.index_copy(0, problems, found.gradient),
        )


def where(mask: Tensor, first: Phase, second: Phase) -> Phase:
    """The first phase in chains where the mask `(P, K)` holds, elsewhere the second."""
    wide = mask[..., None]
    return Phase(
        torch.where(wide, first.position, second.position),
        torch.where(wide, first.momentum, second.momentum),
        torch.where(mask, first.log_density, second.log_density),
        torch.where(wide, first.gradient, second.gradient),
    )


class Hamiltonian:
    """Steps along trajectories of one log-density, and counts its gradients.

    Args:
        log_density: Density of rows, `(C, d)` → `(C,)`.
        integrator: Splitting.
        compiled: Fuse the whole step by `torch.compile`. Pays for small densities that are asked
            for thousands of gradients; needs about half a minute and a C++ compiler (Triton on a
            CUDA device). Without one, a warning is given once and steps are taken one operation
            at a time.
        device: Where positions are. On a CUDA device a compiled step is recorded as a CUDA graph.

    Attributes:
        gradients: Gradients taken so far, each of all rows at once; a step of some of the
            problems counts as that share.
    """

    def __init__(
        self,
        log_density: LogDensity,
        integrator: Integrator = LEAPFROG,
        *,
        compiled: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.log_density = log_density
        self.integrator = integrator
        self.gradients = 0.0
        self._eager = _step_of(integrator, _eager_gradient(log_density))
        self._step = self._eager
        if compiled:
            step = _step_of(integrator, _traced_gradient(log_density))
            with validation_kept():
                self._step = _fused(step, torch.device(device))

    @property
    def separates(self) -> bool:
        """Whether steps of some problems cost less than steps of all."""
        return isinstance(self.log_density, RowsOfProblems) and not self.is_compiled

    @contextmanager
    def of(self, problems: Tensor) -> Iterator["Hamiltonian"]:
        """The same for some problems, by their numbers `(Q,)`; its gradients count here too."""
        density = self.log_density
        assert isinstance(density, RowsOfProblems)
        part = Hamiltonian(density.of(problems), self.integrator)
        yield part
        self.gradients += part.gradients * len(problems) / density.problems

    @property
    def is_compiled(self) -> bool:
        """Whether steps are fused."""
        return self._step is not self._eager

    def evaluate(self, position: Tensor) -> Phase:
        """Phase at given positions `(P, K, d)`, at rest."""
        self.gradients += 1
        value, gradient = value_and_gradient(self.log_density, position.flatten(0, 1))
        shape = position.shape
        return Phase(
            position,
            torch.zeros_like(position),
            value.unflatten(0, shape[:2]),
            gradient.reshape(shape),
        )

    def step(self, phase: Phase, step: Tensor, metric: Metric) -> Phase:
        """One step of size `(P, K)`, negative for backward in time."""
        self.gradients += self.integrator.gradients
        arguments = (
            phase.position,
            phase.momentum,
            phase.gradient,
            step.to(phase.position.dtype)[..., None],
            metric.factor,
        )
        try:
            with validation_kept():
                position, momentum, value, gradient = self._step(*arguments)
        except Exception as error:
            if not self.is_compiled or not _lacks_compiler(error):
                raise
            reason = " ".join(str(error).split())[:200]
            warnings.warn(
                f"torch.compile does not work on this machine ({reason}): sampling goes on "
                "without it, more slowly.",
                stacklevel=2,
            )
            self._step = self._eager
            position, momentum, value, gradient = self._step(*arguments)
        return Phase(position, momentum, finite_or_lowest(value), gradient)


Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]
Step = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


def _eager_gradient(log_density: LogDensity) -> Gradient:
    return lambda x: value_and_gradient(log_density, x)


def _traced_gradient(log_density: LogDensity) -> Gradient:
    def summed(x: Tensor) -> tuple[Tensor, Tensor]:
        value = log_density(x)
        return value.sum(), value

    derivative = torch.func.grad(summed, has_aux=True)

    def value_first(x: Tensor) -> tuple[Tensor, Tensor]:
        gradient, value = derivative(x)
        return value, gradient

    return value_first


def _step_of(integrator: Integrator, gradient_of: Gradient) -> Step:
    """The step as one function of tensors, which a compiler can fuse."""
    kicks, drifts = integrator.kicks, integrator.drifts

    def step(x: Tensor, r: Tensor, gradient: Tensor, size: Tensor, factor: Tensor):
        value = x.new_zeros(x.shape[:2])
        for kick, drift in zip(kicks, drifts, strict=False):
            r = r + kick * size * adjoint(factor, gradient)
            x = x + drift * size * forward(factor, r)
            flat_value, flat = gradient_of(x.flatten(0, 1))
            value, gradient = flat_value.unflatten(0, x.shape[:2]), flat.reshape(x.shape)
        r = r + kicks[-1] * size * adjoint(factor, gradient)
        return x, r, value, gradient

    return step


def _fused(step: Step, device: torch.device) -> Step:
    """The compiled step; on a CUDA device all its kernels are launched at once, as one graph.

    Every replay of a graph writes to the same memory, so what a step returns is copied out of it.
    """
    if device.type != "cuda":
        return torch.compile(step, fullgraph=True, dynamic=False)
    graph = torch.compile(step, fullgraph=True, dynamic=False, mode="reduce-overhead")

    def replayed(*arguments: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, r, value, gradient = graph(*arguments)
        return x.clone(), r.clone(), value.clone(), gradient.clone()

    return replayed


def _lacks_compiler(error: Exception) -> bool:
    """Whether the error is about the machine's compiler rather than about the density."""
    module = type(error).__module__
    return "inductor" in module or type(error).__name__ in ("BackendCompilerFailed",)
