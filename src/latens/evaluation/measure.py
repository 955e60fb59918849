"""Core metrics of a solver: per-image components, computed in blocks of images."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.evaluation.beliefs import belief_rows
from latens.evaluation.conformal_rows import conformal_rows
from latens.evaluation.gap import gap_rows
from latens.evaluation.uncertainty import uncertainty_rows
from latens.inference import (
    DEFAULT_DRAWS,
    CalibratedPosterior,
    Estimate,
    Posterior,
    SampledPosterior,
    Solver,
)
from latens.metrics import (
    CALIBRATION_LEVELS,
    LEVEL,
    coverage,
    crps,
    data_chi2,
    draw_mse_components,
    hotelling,
    hotelling_mean,
    interval_width,
    mse,
    nmse,
    poisson_deviance,
    principal_scores,
    psnr,
    psnr_of_draws,
    region_means,
    relative_error,
    spread_skill_components,
    ssim,
    z_variance,
)
from latens.metrics.quality import WINDOW
from latens.problems import InverseProblem, PoissonGaussianNoise
from latens.store import Status, worst_status
from latens.types import Shape

Rows = dict[str, NDArray[np.float64]]
"""Metric name → components per image, `(n, p)`."""

BLOCK_BYTES = 128 * 2**20
"""Memory that the draws of one block of images may take."""

REGIONS = 4
"""Blocks per axis whose means are checked for coverage."""


JOINT = ("energy_score", "variogram_score", "psnr_draw", "ssim_draw")
"""Numbers of whole images, which depend on how their elements go together."""


@dataclass(frozen=True)
class Context:
    """What the metrics need beside estimate and truth.

    Args:
        data_range: L, the fixed range of the data set, signal units.
        directions: Unit directions whose scores are checked, `(K, *signal_shape)`, fitted on
            images that are not evaluated; None leaves those metrics out.
        problem: Operator and noise; None leaves the data residual out.
    """

    data_range: float
    directions: Tensor | None
    problem: InverseProblem | None


@dataclass(frozen=True)
class Solved:
    """What the estimates of all blocks have in common.

    Attributes:
        is_posterior: True if they have draws.
        status: The worst of their statuses.
        used: Position in `x` of each image that the rows are of.
        untrusted: Images whose estimates are not to be trusted. They are left out of the rows,
            unless they are half of all.
        seconds: Wall time of solving all images and drawing `DEFAULT_DRAWS` times from each
            posterior, without any metric.
    """

    is_posterior: bool
    status: Status
    used: tuple[int, ...]
    untrusted: int
    seconds: float


@dataclass(frozen=True)
class Examples:
    """A few images in full, for figures.

    Attributes:
        arrays: `truth`, `measurement`, `mean`, and for posteriors `std`, `lower`, `upper`
            (its own interval at `LEVEL`) and `draws`; numpy, image axis first (`draws`: draw axis
            first).
        images: Index of each image in the test set.
    """

    arrays: dict[str, NDArray]
    images: tuple[int, ...]


def measure(
    solver: Solver,
    x: Tensor,
    y: Tensor,
    context: Context,
    seed: int = 0,
    examples: int = 8,
    keys: Sequence[int] | None = None,
) -> tuple[Rows, Examples, Solved]:
    """Apply a solver to every measurement and compute the core metrics.

    Args:
        solver: Any solver.
        x: Truth, `(n, *signal_shape)`.
        y: Measurements, `(n, *measurement_shape)`.
        context: Range, directions and problem.
        seed: Key of the posterior's noise; an image has its own key whatever the blocks.
        examples: Number of images kept for figures, spread evenly over the set.
        keys: Key of each image, by default its place.

    Returns:
        Per-image components of every metric that applies, example arrays, and the kind and
        status of the estimates. Images whose estimate is not `trusted` are left out of the
        components, unless they are half of all: then no image is left out and no number is to
        be trusted.
    """
    keys = range(len(x)) if keys is None else keys
    size = block_size(x.shape[1:])
    chosen = spread_evenly(len(x), examples)
    blocks: list[Rows] = []
    shown: list[dict[str, NDArray]] = []
    statuses: list[Status] = []
    trusted: list[NDArray[np.bool_]] = []
    is_posterior, seconds = False, 0.0
    for start in range(0, len(x), size):
        stop = min(start + size, len(x))
        block = slice(start, stop)
        begun = time.perf_counter()
        estimate = solver(y[block], keys=keys[block], seed=seed)
        if isinstance(estimate, Posterior):
            estimate.sample()  # kept: the metrics take these draws
        seconds += time.perf_counter() - begun
        statuses.append(estimate.status)
        trusted.append(
            np.ones(stop - start, bool)
            if estimate.trusted is None
            else estimate.trusted.numpy(force=True)
        )
        is_posterior = estimate.is_posterior
        blocks.append(image_rows(estimate, x[block], y[block], context))
        local = [i - start for i in chosen if start <= i < stop]
        if local:
            shown.append(_example_arrays(estimate, x[block], y[block], context.problem, local))
    rows = {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}
    axis = {"draws": 1}
    arrays = {
        name: np.concatenate([s[name] for s in shown], axis=axis.get(name, 0)) for name in shown[0]
    }
    usable = np.concatenate(trusted)
    untrusted = int((~usable).sum())
    kept = np.flatnonzero(usable if 2 * untrusted < len(usable) else np.ones_like(usable))
    solved = Solved(is_posterior, worst_status(statuses), tuple(kept.tolist()), untrusted, seconds)
    whole = Examples(arrays, tuple(keys[i] for i in chosen))
    return {name: r[kept] for name, r in rows.items()}, whole, solved


def spread_evenly(total: int, count: int | None) -> list[int]:
    """Places of `count` of `total` images, first and last among them; all where it is None."""
    if count is None or count >= total:
        return list(range(total))
    return np.linspace(0, total - 1, count).astype(int).tolist()


def pictured(arrays: Mapping[str, Tensor], keys: Sequence[int], count: int) -> Examples:
    """Some images of arrays `(B, ...)` with their keys, spread evenly over the set."""
    chosen = spread_evenly(len(keys), count)
    kept = {name: value[chosen].numpy(force=True) for name, value in arrays.items()}
    return Examples(kept, tuple(keys[i] for i in chosen))


def block_size(signal_shape: Sequence[int]) -> int:
    """Images per block, so that their draws fit `BLOCK_BYTES`."""
    return max(1, BLOCK_BYTES // (4 * DEFAULT_DRAWS * prod(signal_shape)))


def image_rows(estimate: Estimate, x: Tensor, y: Tensor, context: Context) -> Rows:
    """Components of every metric that applies to this estimate, `(B, p)` each."""
    mean = estimate.mean
    columns: dict[str, list[Tensor]] = {
        "psnr": [psnr(mean, x, context.data_range)],
        "nmse": [nmse(mean, x)],
        "rre": [relative_error(mean, x)],
        "mse": [mse(mean, x)],
    }
    if _has_windows(x):
        columns["ssim"] = [ssim(mean, x, context.data_range)]
    if context.problem is not None:
        columns |= _data_columns(context.problem, y, mean)
    rows = {
        name: torch.stack(parts, dim=1).double().numpy(force=True)
        for name, parts in columns.items()
    }
    if isinstance(estimate, Posterior):
        rows |= _posterior_rows(estimate, x, context)
    if isinstance(estimate, SampledPosterior):
        rows |= gap_rows(estimate, x, rows, region_grid(x))
    if isinstance(estimate, CalibratedPosterior):
        rows |= conformal_rows(estimate, x)
    return rows


def _data_columns(problem: InverseProblem, y: Tensor, mean: Tensor) -> dict[str, list[Tensor]]:
    """Data residuals of a reconstruction; the deviance where the noise counts photons."""
    columns = {"data_chi2": [data_chi2(problem.residual(y, mean))]}
    if isinstance(problem.noise, PoissonGaussianNoise):
        counts = problem.noise.shifted_counts(y, problem.operator(mean))
        columns["data_deviance"] = [poisson_deviance(*counts)]
    return columns


def _has_windows(x: Tensor) -> bool:
    """Whether SSIM is defined on these signals, `(B, C, *spatial)`."""
    spatial = x.shape[2:]
    return len(spatial) in (2, 3) and min(spatial) >= WINDOW


def region_grid(x: Tensor) -> Shape:
    """Blocks per spatial axis whose means are checked."""
    return tuple(min(REGIONS, s) for s in x.shape[2:])


def _posterior_rows(posterior: Posterior, x: Tensor, context: Context) -> Rows:
    draws = posterior.sample()
    rows: dict[str, Tensor] = {
        "interval_width": interval_width(draws, LEVEL)[:, None],
        "spread_skill": spread_skill_components(draws, x),
        "z_variance": z_variance(draws, x)[:, None],
        "crps": crps(draws, x)[:, None],
        "mse_draw_ratio": draw_mse_components(draws, x),
        "psnr_draw": psnr_of_draws(draws, x, context.data_range)[:, None],
    }
    if _has_windows(x):
        rows["ssim_draw"] = ssim(draws[0], x, context.data_range)[:, None]
    pairs = {"pixel": (draws, x)}
    if posterior.is_joint:
        grid = region_grid(x)
        pairs["region"] = region_means(draws, grid), region_means(x, grid)
    if posterior.is_joint and context.directions is not None:
        directions = context.directions
        scores = principal_scores(draws, directions), principal_scores(x, directions)
        pairs["principal"] = scores
        expected = hotelling_mean(len(draws), len(directions))
        rows["mahalanobis_principal"] = hotelling(*scores)[:, None] / expected
    levels = torch.tensor(CALIBRATION_LEVELS)
    for kind, (d, truth) in pairs.items():
        covered = coverage(d, truth, [*CALIBRATION_LEVELS, LEVEL])  # (B, L + 1)
        error = covered[:, :-1] - levels
        inside = covered[:, -1:]
        rows |= {f"ce_{kind}": error, f"ace_{kind}": error, f"coverage_{kind}": inside}
        if kind == "pixel":
            own = inside.double()  # squares of float32 would hide how little images differ
            rows |= {"rmsce_pixel": error, "n_eff_pixel": torch.cat([own, own**2], dim=1)}
    rows |= uncertainty_rows(draws, x, context.data_range)
    rows |= belief_rows(posterior, x)
    if not posterior.is_joint:
        rows = {name: value for name, value in rows.items() if name not in JOINT}
    return {name: value.double().numpy(force=True) for name, value in rows.items()}


def _example_arrays(
    estimate: Estimate, x: Tensor, y: Tensor, problem: InverseProblem | None, rows: list[int]
) -> dict[str, NDArray]:
    pictured = y[rows]
    if problem is not None and y.ndim != x.ndim:  # a list of numbers is no picture
        pictured = problem.operator.view(pictured)
    arrays = {"truth": x[rows], "measurement": pictured, "mean": estimate.mean[rows]}
    if isinstance(estimate, Posterior):
        own = estimate.base if isinstance(estimate, CalibratedPosterior) else estimate
        interval = own.interval(LEVEL)
        arrays |= {
            "std": estimate.std[rows],
            "lower": interval.lower[rows],
            "upper": interval.upper[rows],
            "draws": estimate.sample()[:3, rows],
        }
    return {name: value.numpy(force=True) for name, value in arrays.items()}
