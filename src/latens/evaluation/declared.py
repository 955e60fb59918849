"""Pairs simulated from the model that a solver itself declares.

| solver | model |
|---|---|
| `latent`, amortised or sampled | z ~ p(z), x ~ p(x ∣ z), y ~ p(y ∣ x) |
| `wiener` | x ~ N(μ, C) stationary, y = gain · (A x + offset + n) |

A solver whose posterior is learned from pairs (`cvae`, ensembles, somebody else's) declares none:
whoever can simulate its model gives a function that does, see `simulate_given`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latens.distributions import Purpose, draw, row_noise
from latens.errors import DataError, ShapeError, UnsupportedError
from latens.inference import Solver, WienerSolver
from latens.models import Latent
from latens.problems import GaussianNoise, InverseProblem
from latens.problems.stationary import filter_channels

_LATENT, _SIGNAL, _MEASUREMENT = 1, 2, 3  # third keys of noise, apart from that of solvers


Simulator = Callable[[int, int], tuple[Tensor, Tensor]]
"""`(images, seed) → (x, y)`: independent pairs drawn from the model that a solver assumes."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Signals and measurements on which a posterior is tested.

    Attributes:
        z: Latents, `(n, dim)`, or None.
        x: Signals, `(n, *signal_shape)`.
        y: Measurements as the solver takes them, `(n, *measurement_shape)`.
        seen: The same measurements as `problem` describes them.
        problem: Operator and noise, or None where they are unknown.
    """

    z: Tensor | None
    x: Tensor
    y: Tensor
    seen: Tensor
    problem: InverseProblem | None


def declares_model(solver: Solver) -> bool:
    """True if `simulate_declared` can simulate from this solver's model."""
    return isinstance(solver, WienerSolver) or _latent_model(solver) is not None


@torch.no_grad()
def simulate_declared(solver: Solver, images: int, seed: int, block: int = 64) -> Pairs:
    """Simulate from a solver's own model.

    Args:
        solver: A solver that declares a model.
        images: n.
        seed: Key of the noise; image i has its own noise whatever n.
        block: Signals that are decoded at once.

    Raises:
        UnsupportedError: If the solver declares no model.
    """
    if isinstance(solver, WienerSolver):
        return _from_wiener(solver, images, seed)
    found = _latent_model(solver)
    if found is None:
        raise UnsupportedError(
            "solver",
            "a solver with a model p(z) p(x | z) p(y | x) of its own, such as `latent`",
            type(solver).__name__,
            "Test it on held-out pairs with `data_calibration`.",
        )
    model, problem = found
    like = next(model.parameters())
    z = _noise(seed, _LATENT, images, (model.dim,), like)
    noise = _noise(seed, _SIGNAL, images, model.signal_shape, like)
    # the decoder of `Latent` has not seen y; it takes its place in the call alone
    x = torch.cat(
        [
            draw(model.decode(part, part), white)
            for part, white in zip(z.split(block), noise.split(block), strict=True)
        ]
    )
    y = problem.simulate(x, _noise(seed, _MEASUREMENT, images, problem.noise_shape, like))
    return Pairs(z, x, y, y, problem)


@torch.no_grad()
def simulate_given(
    simulator: Simulator, images: int, seed: int, problem: InverseProblem | None
) -> Pairs:
    """Pairs of a simulator that somebody wrote for the model that their solver assumes.

    Ranks are uniform under the exact posterior of that model whatever `problem` says: it only
    shapes the numbers that are tested, and is left out where its measurement is another one.

    Args:
        simulator: `(images, seed) → (x, y)`.
        images: n.
        seed: Given to it.
        problem: Operator and noise, or None.

    Raises:
        ShapeError: If it does not return n signals and n measurements.
        DataError: If they hold values that are not finite.
    """
    found = simulator(images, seed)
    if not (
        isinstance(found, tuple)
        and len(found) == 2
        and all(isinstance(part, Tensor) and len(part) == images for part in found)
    ):
        parts = found if isinstance(found, tuple) else (found,)
        shapes = [tuple(getattr(part, "shape", ())) for part in parts]
        raise ShapeError(
            "simulate",
            f"a function (n, seed) → (x, y) that returns {images} signals and measurements",
            shapes,
            "Return one measurement for each signal, the axis of the images first.",
        )
    x, y = (part.float() for part in found)
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise DataError("simulate", "finite values", "NaN or infinity", "Correct the simulator.")
    fits = problem is not None and y.shape[1:] == problem.measurement_shape
    return Pairs(None, x, y, y, problem if fits else None)


def _from_wiener(solver: WienerSolver, images: int, seed: int) -> Pairs:
    wiener = solver.wiener
    operator, prior = wiener.operator, wiener.prior
    white = _noise(seed, _SIGNAL, images, operator.signal_shape, prior.mean)
    x = prior.mean + filter_channels(white, prior.power.sqrt(), prior.spatial)
    problem = InverseProblem(operator, GaussianNoise(wiener.noise_variance**0.5))
    noise = _noise(seed, _MEASUREMENT, images, operator.measurement_shape, prior.mean)
    seen = problem.simulate(x, noise)
    return Pairs(None, x, solver.gain * (seen + wiener.offset), seen, problem)


def _latent_model(solver: Solver) -> tuple[Latent, InverseProblem] | None:
    """Model and problem of a solver that draws from the posterior of a `Latent`."""
    model, problem = getattr(solver, "model", None), getattr(solver, "problem", None)
    if isinstance(model, Latent) and isinstance(problem, InverseProblem):
        return model, problem
    return None


def _noise(seed: int, stage: int, images: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    key = (seed, Purpose.SIMULATION, stage)
    return row_noise(key, range(images), (1, *shape), like.dtype, like.device)[0]
