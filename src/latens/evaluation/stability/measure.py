"""All stability metrics of a solver on a set of images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.distributions import Purpose, row_noise
from latens.errors import UnsupportedError
from latens.evaluation.measure import Examples, Rows, block_size, pictured
from latens.evaluation.stability.ascent import on_sphere
from latens.evaluation.stability.belief import belief_rows, compared_beliefs
from latens.evaluation.stability.details import (
    detail_recovery,
    gaussian_details,
    visible_detail,
)
from latens.evaluation.stability.image_attack import attack_image
from latens.evaluation.stability.lipschitz import (
    condition_number,
    expected_chi2,
    mean_square_gain,
)
from latens.evaluation.stability.more_samples import denser, extended_measurement
from latens.evaluation.stability.reconstruction import Reconstruction, repeat
from latens.evaluation.stability.settings import StabilitySettings
from latens.evaluation.stability.slopes import ball_slope, local_slopes
from latens.evaluation.stability.worst_case import (
    Target,
    WorstCase,
    noise_to_error,
    random_disturbances,
    relative_noise_to_error,
    worst_case,
)
from latens.inference import Solver
from latens.metrics import (
    DETAIL_WIDTHS,
    NOISE_LEVELS,
    RELATIVE_LEVELS,
    VISIBILITIES,
    amplification,
    largest_patch_error,
    relative_error,
    upper_share,
)
from latens.problems import InverseProblem

TOGETHER = 2**22
"""Elements of the random disturbances that are tried at a time."""


@dataclass(frozen=True, eq=False)
class Stability:
    """What is known of the stability of one solver.

    Attributes:
        rows: Components of each metric per image, `(B, p)`.
        disturbance: The worst disturbance found of each measurement, or the one that was
            transferred, `(B, *measurement_shape)`.
        examples: Truth, measurement, reconstruction, worst-case disturbance and the
            reconstruction there, of a few images.
        used: Position of each image that the rows are of.
        diagnostics: Of an attack `lipschitz_residual`, the largest residual of the Lipschitz
            constants relative to their square, its tolerance, and `lipschitz_unsettled`, the
            number of images where it is above that; of a transfer the images left out.
    """

    rows: Rows
    disturbance: Tensor
    examples: Examples
    used: tuple[int, ...]
    diagnostics: dict[str, float]


def measure_stability(
    solver: Solver,
    problem: InverseProblem,
    x: Tensor,
    y: Tensor,
    keys: Sequence[int],
    seed: int,
    settings: StabilitySettings,
    baseline: Solver | None = None,
    wiener: Solver | None = None,
    variation: Solver | None = None,
    examples: int = 8,
) -> Stability:
    """Attack a solver whose reconstruction can be differentiated.

    Args:
        solver: The solver.
        problem: Operator and noise.
        x: Truth, `(B, *signal_shape)`.
        y: Measurements, `(B, *measurement_shape)`.
        keys: Key of each image; names its noise and its random starts.
        seed: Key of all noise.
        settings: Budgets; `stability_cost` tells what they come to.
        baseline: Differentiable solver that is attacked in the same way, such as Tikhonov's; None
            leaves the comparison out.
        wiener: Wiener's filter, for a second comparison of the same kind; None leaves it out.
        variation: Total variation with a derivative, for a third one; None leaves it out.
        examples: Images kept for figures.

    Raises:
        UnsupportedError: If the reconstruction cannot be differentiated: use `measure_transfer`.
    """
    keys = tuple(keys)
    target, radius, starts = _noise_ball(solver, problem, x, y, keys, seed, settings)
    reconstruction, scale = target.reconstruction, target.scale
    x_hat = reconstruction.at(y)
    slopes = local_slopes(reconstruction, y, scale, settings)
    main = worst_case(target, radius, starts, settings)
    curve = noise_to_error(target, main, radius, NOISE_LEVELS, settings)
    worst = curve[NOISE_LEVELS.index(1.0)]
    relative = relative_noise_to_error(target, curve, RELATIVE_LEVELS, settings)
    probes = _noise(keys, seed, 2, settings.probes, y)
    columns = {
        "lipschitz": slopes.plain.value,
        "lipschitz_whitened": slopes.whitened.value,
        "lipschitz_ball": ball_slope(
            target, x_hat, slopes.whitened, worst.whitened, radius, settings
        ),
        "condition_number": condition_number(slopes.plain.value, y, x_hat),
        "mean_square_gain": mean_square_gain(reconstruction, y, probes),
        **{_name(level): case.error for level, case in zip(NOISE_LEVELS, curve, strict=True)},
        **{
            f"relative_worst_error_{level * 100:.0f}": case.error
            for level, case in zip(RELATIVE_LEVELS, relative, strict=True)
        },
    }
    if _is_additive(problem, x):
        columns["expected_chi2"] = expected_chi2(
            reconstruction, problem.operator, y, scale, probes
        )
    rows = {name: _row(value) for name, value in columns.items()}
    rows |= _random_rows(target, x_hat, worst, radius, settings)
    others = {"baseline": baseline, "wiener": wiener, "tv": variation}
    for name, other in others.items():
        if other is not None:
            attacked = Target(Reconstruction(other, keys, seed), x, y, scale)
            found = worst_case(attacked, radius, starts, settings)
            rows[f"worst_over_{name}"] = _row(worst.error, found.error)
    rows |= _image_rows(reconstruction, problem, x, settings)
    rows |= _detail_rows(target, problem, x_hat, settings)
    rows |= _more_rows(target, problem, x_hat)
    disturbance = scale * worst.whitened
    rows |= belief_rows(solver, x, y, disturbance, keys, seed)
    moved = reconstruction.at(y + disturbance)
    rows["worst_patch_error"] = _row(largest_patch_error(moved, x, settings.patch))
    return Stability(
        rows,
        disturbance,
        _examples(x, y, disturbance, x_hat, moved, keys, examples),
        tuple(range(len(x))),
        slopes.diagnostics(settings.lipschitz_tolerance),
    )


def measure_transfer(
    solver: Solver,
    x: Tensor,
    y: Tensor,
    disturbance: Tensor,
    keys: Sequence[int],
    seed: int,
    baseline_error: Tensor | None = None,
    examples: int = 8,
) -> Stability:
    """Error and belief of a solver at measurements that are worst cases of another one.

    Args:
        solver: Any solver.
        x: Truth, `(B, *signal_shape)`.
        y: Measurements, `(B, *measurement_shape)`.
        disturbance: `Stability.disturbance` of the other solver.
        keys: Key of each image.
        seed: Key of all noise.
        baseline_error: Relative error of a baseline at its own worst cases, `(B,)`; None leaves
            the comparison out.
        examples: Images kept for figures.

    Returns:
        Images whose estimate is not to be trusted are left out of the rows, unless they are half
        of all.
    """
    keys = tuple(keys)
    parts: list[Rows] = []
    means: list[tuple[Tensor, Tensor]] = []
    trusted = np.ones(len(x), bool)
    size = block_size(x.shape[1:])
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        given, moved = (
            solver(v, keys=keys[rows], seed=seed) for v in (y[rows], y[rows] + disturbance[rows])
        )
        error = relative_error(moved.mean, x[rows])
        part = {"transferred_error": _row(error)}
        if baseline_error is not None:
            part["transferred_over_baseline"] = _row(error, baseline_error[rows])
        parts.append(part | compared_beliefs(given, moved, x[rows], disturbance[rows]))
        means.append((given.mean, moved.mean))
        for estimate in (given, moved):
            if estimate.trusted is not None:
                trusted[rows] &= estimate.trusted.numpy(force=True)
    left_out = int((~trusted).sum())
    kept = trusted if 2 * left_out < len(x) else np.ones_like(trusted)
    x_hat, x_moved = (torch.cat(values) for values in zip(*means, strict=True))
    return Stability(
        {name: np.concatenate([part[name] for part in parts])[kept] for name in parts[0]},
        disturbance,
        _examples(x, y, disturbance, x_hat, x_moved, keys, examples),
        tuple(np.flatnonzero(kept).tolist()),
        {"untrusted": float(left_out)},
    )


def worst_disturbance(
    solver: Solver,
    problem: InverseProblem,
    x: Tensor,
    y: Tensor,
    keys: Sequence[int],
    seed: int,
    settings: StabilitySettings,
) -> tuple[Tensor, Tensor]:
    """The worst disturbance found in the ball of the noise, to be tried on other solvers.

    Args:
        solver: A solver that can be differentiated; arguments as for `measure_stability`.

    Returns:
        e, `(B, *measurement_shape)`, and the solver's own ‖R(y + e) − x‖/‖x‖ there, `(B,)`.

    Raises:
        UnsupportedError: If the reconstruction cannot be differentiated.
    """
    target, radius, starts = _noise_ball(solver, problem, x, y, tuple(keys), seed, settings)
    found = worst_case(target, radius, starts, settings)
    return target.scale * found.whitened, found.error


def _noise_ball(
    solver: Solver,
    problem: InverseProblem,
    x: Tensor,
    y: Tensor,
    keys: tuple[int, ...],
    seed: int,
    settings: StabilitySettings,
) -> tuple[Target, Tensor, Tensor]:
    """What is attacked, the radius √m of each image, and the starts of the search."""
    target = Target(Reconstruction(solver, keys, seed), x, y, noise_scale(problem, x))
    radius = torch.full((len(x),), y[0].numel() ** 0.5, dtype=y.dtype, device=y.device)
    starts = random_disturbances(keys, seed, settings.restarts, y, radius).transpose(0, 1)
    return target, radius, starts


def noise_scale(problem: InverseProblem, x: Tensor) -> Tensor:
    """Standard deviation of every measured element at a signal, `(B, *measurement_shape)`."""
    with torch.no_grad():
        clean = problem.operator(x)
        return problem.noise.elementwise(clean).stddev.expand_as(clean)


def _is_additive(problem: InverseProblem, x: Tensor) -> bool:
    """Whether a measurement is A x on average, which magnitudes with noise are not."""
    with torch.no_grad():
        clean = problem.operator(x)
        return torch.allclose(problem.noise.elementwise(clean).mean.expand_as(clean), clean)


def _random_rows(
    target: Target,
    x_hat: Tensor,
    worst: WorstCase,
    radius: Tensor,
    settings: StabilitySettings,
) -> Rows:
    """Random disturbances of the norm of the noise, other ones than the starts of the searches."""
    keys, seed = target.reconstruction.keys, target.reconstruction.seed
    together = max(1, TOGETHER // target.y.numel())
    errors, gains = [], []
    for first in range(0, settings.random, together):
        numbers = range(first, min(first + together, settings.random))
        u = torch.stack(
            [on_sphere(_noise(keys, seed, 6, 1, target.y, k)[0], radius) for k in numbers], 1
        )
        every = target.repeated(len(numbers))  # (B k, ...)
        disturbed = every.y + every.scale * u.flatten(0, 1)
        moved = every.reconstruction.at(disturbed)
        given = repeat(x_hat, len(numbers))
        size = (-1, len(numbers))
        errors.append(relative_error(moved, every.x).unflatten(0, size))
        gains.append(amplification(moved, given, every.y, disturbed).unflatten(0, size))
    gain = torch.cat(gains, 1).mT  # (K, B)
    return {
        "worst_excess": _row(worst.error, torch.cat(errors, 1).mean(1)),
        "noise_amplification": _row(gain.mean(0)),
        "noise_amplification_q95": _row(upper_share(gain)),
        "noise_amplification_max": _row(gain.amax(0)),
    }


def _image_rows(
    reconstruction: Reconstruction,
    problem: InverseProblem,
    x: Tensor,
    settings: StabilitySettings,
) -> Rows:
    starts = _noise(reconstruction.keys, reconstruction.seed, 4, settings.image_restarts, x)
    found = attack_image(reconstruction, problem.operator, x, starts, settings)
    return {
        "image_attack": _row(found.response, found.perturbation),
        "image_attack_perturbation": _row(found.perturbation),
        "image_attack_change": _row(found.response),
        "image_attack_error": _row(found.error),
    }


def _detail_rows(
    target: Target, problem: InverseProblem, x_hat: Tensor, settings: StabilitySettings
) -> Rows:
    """Per visibility the recovered share of each width, 0 where it is not seen, and where it is.

    Nothing if no image sees a detail of any width.
    """
    own, operator = target.reconstruction, problem.operator
    shares, seen = [], []
    for width in DETAIL_WIDTHS:
        places = gaussian_details(target.x, width, own.keys, own.seed, settings.places)
        detail = visible_detail(places, target.x, operator, target.scale)
        seen.append(detail.seen.to(x_hat))
        shares.append(
            detail_recovery(own, operator, target.x, target.y, x_hat, detail, VISIBILITIES)
        )
    if not any(bool(width.any()) for width in seen):
        return {}
    stacked = torch.stack(shares, 2)  # (B, V, widths)
    return {
        f"contrast_recovery_{visibility}": _row(*stacked[:, i].unbind(1), *seen)
        for i, visibility in enumerate(VISIBILITIES)
    }


def _more_rows(target: Target, problem: InverseProblem, x_hat: Tensor) -> Rows:
    own = target.reconstruction
    more = denser(problem)
    if more is None:
        return {}
    try:
        solver = own.solver.with_problem(more)
    except UnsupportedError:  # somebody's function of these measurements alone
        return {}
    extended = extended_measurement(problem, more, target.x, target.y, own.keys, own.seed)
    found = Reconstruction(solver, own.keys, own.seed).at(extended)
    return {"more_samples": _row(relative_error(found, target.x), relative_error(x_hat, target.x))}


def _noise(
    keys: Sequence[int], seed: int, use: int, count: int, like: Tensor, *number: int
) -> Tensor:
    """Standard normal, `(count, B, *event)`, keyed by its use and its number."""
    key = (seed, Purpose.PERTURBATION, use, *number)
    return row_noise(key, keys, (count, *like.shape[1:]), like.dtype, like.device)


def _name(level: float) -> str:
    return "worst_error" if level == 1 else f"worst_error_{level * 100:.0f}"


def _row(*columns: Tensor) -> NDArray[np.float64]:
    return torch.stack(columns, 1).double().numpy(force=True)


def _examples(
    x: Tensor,
    y: Tensor,
    disturbance: Tensor,
    x_hat: Tensor,
    moved: Tensor,
    keys: Sequence[int],
    count: int,
) -> Examples:
    """Images evenly spread over the set."""
    arrays = {
        "truth": x,
        "measurement": y,
        "disturbance": disturbance,
        "mean": x_hat,
        "worst_mean": moved,
    }
    return pictured(arrays, keys, count)
