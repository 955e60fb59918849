"""Two images of the learned prior that a measurement cannot tell apart.

    max ‖D(z') − D(z)‖   over ‖Σ^{−1/2} (F(D(z')) − F(D(z)))‖ ≤ 2ε,  ‖z'‖ ≤ ρ

If both images are plausible, the y half way between their measurements lies within ε of both, and
whatever R returns there misses one of them by ‖D(z') − D(z)‖/2 or more. No training helps: this
bounds the larger of two errors, to x = D(z) and to x' = D(z'), from below. It does not bound the
error to x alone: a solver that always returns x has none, and the worst case of a good solver in
the ball ε about x may be below it. It compares with the solver's own larger error on the same pair
at the same y. The search is by an augmented Lagrangian, whose L-BFGS climbs run in lockstep over
images and starts; what it returns is feasible, so that the bound is a valid one, if not the
highest.

References:
    Nocedal, Wright (2006), Numerical optimization, section 17.4 (augmented Lagrangian).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.distributions import Purpose, row_noise
from latens.errors import ConfigError, UnsupportedError
from latens.evaluation.measure import Rows, block_size
from latens.evaluation.stability import Reconstruction, noise_scale
from latens.inference import Solver
from latens.inference.samplers.maximise import maximise
from latens.inference.solver import frozen
from latens.metrics import certified_slope
from latens.models import Latent
from latens.problems import InverseProblem

ROUNDS = 12
"""Updates of the multipliers."""

ITERATIONS = 25
"""L-BFGS iterations between two of them."""

TOLERANCE = 1e-6
"""Promised gain at which a climb ends, relative to the squared distance at its start; at least
1000 rounding errors, below which line searches fail."""

SLACK = 1e-3
"""Excess of a constraint at which a search may end; its result is pulled back inside."""

RESTARTS = 2
"""Starts of the search for each image."""

HALVINGS = 40
"""Of the interval in which the feasible end of a segment lies."""


@dataclass(frozen=True, eq=False)
class Ambiguity:
    """The farthest images found that look the same.

    Attributes:
        anchor: x = D(z), `(B, *signal_shape)`.
        other: x' = D(z'), `(B, *signal_shape)`.
        latent: z', `(B, dim)`.
        distance: ‖x − x'‖, `(B,)`; half of it bounds the larger error of every solver on the two.
    """

    anchor: Tensor
    other: Tensor
    latent: Tensor
    distance: Tensor


def farthest_alike(
    decode: Callable[[Tensor], Tensor],
    measure: Callable[[Tensor], Tensor],
    anchor: Tensor,
    starts: Tensor,
    separation: float,
    radius: Tensor,
) -> Ambiguity:
    """Search from several starts for each anchor.

    Args:
        decode: Latents `(C, dim)` to images `(C, *signal_shape)`.
        measure: Images to whitened measurements, `(C, m)` or any shape, in noise standard
            deviations.
        anchor: z, `(B, dim)`, within the radius.
        starts: z' to begin with, `(S, B, dim)`.
        separation: 2ε, largest distance of the two whitened measurements.
        radius: ρ, largest ‖z'‖ of each anchor, `(B,)`.

    Raises:
        ConfigError: If the separation is not positive, or an anchor is outside its radius.
    """
    if not separation > 0:
        raise ConfigError(
            "separation", "a positive number", separation, "Use twice the norm of the noise."
        )
    if not bool((anchor.norm(dim=1) < radius).all()):
        raise ConfigError("radius", "more than every ‖z‖", radius.tolist(), "Raise the radius.")
    copies = len(starts)
    limit = radius.repeat_interleave(copies).square()
    base = anchor.repeat_interleave(copies, 0)  # (B S, dim)
    with torch.no_grad():
        image, clean = decode(base), measure(decode(base)).flatten(1)

    def parts(z: Tensor) -> tuple[Tensor, Tensor]:
        """‖x' − x‖² and the constraints c ≤ 0, `(C,)`, `(C, 2)`."""
        moved = decode(z)
        distance = (moved - image).flatten(1).square().sum(1)
        apart = (measure(moved).flatten(1) - clean).square().sum(1)
        limits = [apart / separation**2 - 1, z.square().sum(1) / limit - 1]
        return distance, torch.stack(limits, 1)

    z = _feasible(parts, base, starts.transpose(0, 1).flatten(0, 1))
    unit = parts(z)[0].detach().clamp_min(torch.finfo(z.dtype).tiny)
    tolerance = max(TOLERANCE, 1e3 * torch.finfo(z.dtype).eps)
    multiplier = torch.zeros(len(z), 2, dtype=z.dtype, device=z.device)
    weight = torch.full((len(z), 1), 10.0, dtype=z.dtype, device=z.device)
    best, best_distance = z, unit
    violation = torch.full((len(z), 1), torch.inf, dtype=z.dtype, device=z.device)
    for _ in range(ROUNDS):

        def lagrangian(v: Tensor, multiplier=multiplier, weight=weight) -> Tensor:
            distance, limits = parts(v)
            excess = (multiplier + weight * limits).clamp_min(0)
            return distance / unit - (excess.square() / (2 * weight)).sum(1)

        z = maximise(lagrangian, z, max_iterations=ITERATIONS, tolerance=tolerance).position
        with torch.no_grad():
            limits = parts(z)[1]
            multiplier = (multiplier + weight * limits).clamp_min(0)
            left = limits.clamp_min(0).amax(1, keepdim=True)
            # Once it holds to the tolerance, a larger weight would only amplify rounding.
            weight = torch.where(
                left > (0.25 * violation).clamp_min(tolerance), 4 * weight, weight
            )
            violation = torch.minimum(left, violation)
            reached = _feasible(parts, base, z)
            distance = parts(reached)[0]
            gains = distance > best_distance
            settled = (distance <= (1 + tolerance) * best_distance) & (left[:, 0] < SLACK)
            best = torch.where(gains[:, None], reached, best)
            best_distance = torch.where(gains, distance, best_distance)
        if bool(settled.all()):
            break
    rows = best_distance.unflatten(0, (-1, copies)).argmax(1)
    rows = rows + copies * torch.arange(len(anchor), device=rows.device)
    with torch.no_grad():
        other = decode(best[rows])
    return Ambiguity(image[rows], other, best[rows], best_distance[rows].sqrt())


def _feasible(
    parts: Callable[[Tensor], tuple[Tensor, Tensor]], anchor: Tensor, z: Tensor
) -> Tensor:
    """The point nearest to z on the segment to the anchor at which bisection finds no excess."""
    with torch.no_grad():
        low = torch.zeros(len(z), 1, dtype=z.dtype, device=z.device)
        high = torch.ones_like(low)
        inside = (parts(z)[1] <= 0).all(1, keepdim=True)
        low = torch.where(inside, high, low)
        for _ in range(HALVINGS):
            if bool((low == high).all()):
                break
            middle = (low + high) / 2
            fits = (parts(anchor + middle * (z - anchor))[1] <= 0).all(1, keepdim=True)
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
            low = torch.where(inside, 1.0, low)
            high = torch.where(inside, 1.0, high)
        return anchor + low * (z - anchor)


def measure_ambiguity(
    model: Latent,
    problem: InverseProblem,
    x: Tensor,
    keys: Sequence[int],
    seed: int,
    restarts: int = RESTARTS,
) -> tuple[Rows, Ambiguity]:
    """A bound of every solver's larger error on a pair, one of them the prior's version of x.

    The anchor z is the mean of q(z | x), so that D(z) is the prior's image closest to x. The ball
    of the noise is ε = √m, as in `worst_error`; ρ = √dim + 2 holds 99.7 % of N(0, I) or more;
    where an anchor lies farther out, ρ is just above its norm.

    Args:
        model: Trained `Latent`.
        problem: Operator and noise.
        x: Truth, `(B, *signal_shape)`.
        keys: Key of each image.
        seed: Key of the starts.
        restarts: Starts per image.

    Returns:
        Rows of `ambiguity`, `(B, 1)`, and the pairs.

    Raises:
        UnsupportedError: If the model has no prior of images of its own.
    """
    if not isinstance(model, Latent):
        raise UnsupportedError(
            "model",
            "a model with a prior p(z) p(x | z), such as `latent`",
            type(model).__name__,
            "Leave `ambiguity` out.",
        )
    size = block_size(x.shape[1:])
    blocks = [slice(start, start + size) for start in range(0, len(x), size)]
    parts = [_pairs(model, problem, x[b], keys[b], seed, restarts) for b in blocks]
    names = [field.name for field in fields(Ambiguity)]
    found = Ambiguity(*(torch.cat([getattr(part, name) for part in parts]) for name in names))
    return {"ambiguity": _column(0.5 * found.distance / x.flatten(1).norm(dim=1))}, found


def half_way(problem: InverseProblem, found: Ambiguity) -> Tensor:
    """The measurements half way between those of the pairs, `(B, *measurement_shape)`.

    Each is within ε of the measurement of either image, in noise standard deviations at x.
    """
    with torch.no_grad():
        return (problem.operator(found.anchor) + problem.operator(found.other)) / 2


def pair_rows(
    solver: Solver,
    problem: InverseProblem,
    x: Tensor,
    found: Ambiguity,
    keys: Sequence[int],
    seed: int,
) -> Rows:
    """What a solver makes of pairs that it cannot tell apart, in three calls.

    Args:
        solver: Any solver.
        problem: Operator and noise.
        x: Truth that the pairs were found for, `(B, *signal_shape)`; its norm is the unit of
            errors, as for `ambiguity`.
        found: The pairs.
        keys: Key of the noise of each image.
        seed: Key of the noise.

    Returns:
        Rows of `ambiguity_error` and `ambiguity_slope`, `(B, 1)`: the larger error at the
        measurement half way, which is at least `ambiguity`, and the slope that being right on
        both would prove.
    """
    reconstruction = Reconstruction(solver, tuple(keys), seed)
    pair = found.anchor, found.other
    with torch.no_grad():
        clean = [problem.operator(image) for image in pair]
    x_hat, other_hat = (reconstruction.at(y) for y in clean)
    between = reconstruction.at(half_way(problem, found))
    errors = torch.stack([(between - image).flatten(1).norm(dim=1) for image in pair]).amax(0)
    apart = ((clean[1] - clean[0]) / noise_scale(problem, found.anchor)).flatten(1).norm(dim=1)
    return {
        "ambiguity_error": _column(errors / x.flatten(1).norm(dim=1)),
        "ambiguity_slope": _column(certified_slope(*pair, x_hat, other_hat, apart)),
    }


def _column(values: Tensor) -> NDArray[np.float64]:
    return values[:, None].double().numpy(force=True)


def _pairs(
    model: Latent,
    problem: InverseProblem,
    x: Tensor,
    keys: Sequence[int],
    seed: int,
    restarts: int,
) -> Ambiguity:
    """The search for one block of images."""
    with frozen(model), torch.no_grad():
        anchor = model.encoder(x).mean
        scale = noise_scale(problem, model.decode(anchor, x).mean)
    key = (seed, Purpose.PERTURBATION, 5)
    noise = row_noise(key, keys, (restarts, model.dim), x.dtype, x.device)
    radius = (1.001 * anchor.norm(dim=1)).clamp_min(sqrt(model.dim) + 2)
    rows = scale.repeat_interleave(restarts, 0)

    def decode(z: Tensor) -> Tensor:
        return model.decode(z, x).mean

    def measure(image: Tensor) -> Tensor:
        return problem.operator(image) / (rows if len(image) == len(rows) else scale)

    separation = 2 * sqrt(scale[0].numel())
    with frozen(model):
        return farthest_alike(decode, measure, anchor, anchor + noise, separation, radius)
