"""Fit a conformal calibration of any solver with a posterior, on pairs it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from latens.errors import ConfigError, DataError, ShapeError, SolverError
from latens.evaluation.measure import block_size
from latens.inference import Solver
from latens.inference.calibrated import (
    Calibration,
    Method,
    Widens,
    base_level,
    require_posterior,
)
from latens.metrics import LEVEL
from latens.metrics.conformal import (
    RiskCurve,
    breakpoints,
    covering_score,
    crc_allowance,
    rcps_allowance,
)
from latens.types import Shape

DELTA = 0.1
"""Probability over calibrations that RCPS may break its promise."""

SEED = 1
"""Key of the draws of a calibration; solvers and evaluations use 0 where nothing is said."""

_WIDENS: dict[Method, Widens] = {
    "split": "std",
    "cqr": "offset",
    "simultaneous": "std",
    "crc": "width",
    "rcps": "width",
}


@dataclass(frozen=True)
class _Plan:
    """A calibration whose factor is not known yet."""

    method: Method
    widens: Widens
    level: float
    base_level: float
    share: float | None
    delta: float | None


def fit_calibration(
    solver: Solver,
    x: Tensor,
    y: Tensor,
    *,
    method: Method = "rcps",
    level: float = LEVEL,
    widens: Widens | None = None,
    share: float | None = None,
    delta: float | None = None,
    groups: Sequence[str] | None = None,
    keys: Sequence[int] | None = None,
    seed: int = SEED,
) -> Calibration:
    """Find the smallest widening of a solver's intervals that keeps a promise on new images.

    The promise needs nothing of the solver, but everything of the images: they must not have been
    used to make it, and new ones must be exchangeable with them. After a change of scanner, noise
    or anatomy nothing is promised; see `latens.evaluation.reliability`.

    Images whose estimate is not `trusted` are left out, so that the promise is for images whose
    estimate is. An estimate that is not finite counts as a miss.

    Args:
        solver: Any solver that returns a `Posterior`.
        x: Truth, `(n, *signal_shape)`.
        y: Measurements, `(n, *measurement_shape)`.
        method: `split`, `cqr`, `simultaneous`, `crc` or `rcps`; see `latens.metrics.conformal`.
        level: 1 − α of the promise.
        widens: `std`, `offset` or `width`, see `Calibration`; default `std` for `split` and
            `simultaneous`, `offset` for `cqr`, `width` for `crc` and `rcps`.
        share: Of `split` and `cqr`: share of the elements that must lie inside for an image to
            count as covered; default `level`.
        delta: Of `rcps`: probability over calibrations that the promise is broken; default 0.1.
        groups: Subject of each image, `(n,)`: the exchangeable unit, which counts once however
            many images it has. Default: every image alone.
        keys: Key of the noise of each image; default its place.
        seed: Key of posterior draws; another one than new images are solved with (0 by default),
            since an image that shares its noise with one of the calibration is not exchangeable
            with it.

    Returns:
        The calibration; give it to `Calibrated`, or to `save_calibration`.

    Raises:
        ConfigError: If there are too few units for the level, naming how many are needed, or a
            setting does not apply to the method.
        UnsupportedError: If the solver returns point estimates.
        ShapeError: If the numbers of images, measurements, groups and keys differ.
        DataError: If the truth is not finite.
        SolverError: If no finite factor keeps the promise.
    """
    plan = _plan(method, level, widens, share, delta)
    labels = [str(i) for i in range(len(x))] if groups is None else [str(g) for g in groups]
    places = range(len(x)) if keys is None else keys
    _check(x, y, labels, places)
    draft = _calibration(plan, 0.0, len(x), len(set(labels)), tuple(x.shape[1:]))
    _allowance(plan, draft.units)  # too few units are found before the solver runs
    steps, heights, trusted = _steps(solver, draft, x, y, places, seed)
    used = [label for label, kept in zip(labels, trusted, strict=True) if kept]
    if not used:
        raise SolverError("solver", "estimates that can be trusted", "none", "Mend it first.")
    curve = RiskCurve.from_steps(steps[trusted], heights, used)
    factor = curve.threshold(_allowance(plan, curve.units))
    if not isfinite(factor):
        raise SolverError(
            "solver",
            f"intervals that a finite factor widens to level {level:g}",
            "estimates that are not finite, or without spread, and wrong in too many images",
            "Mend the solver, or use `cqr`, which widens where there is no spread.",
        )
    return _calibration(plan, factor, len(used), curve.units, draft.signal_shape)


def _plan(
    method: Method, level: float, widens: Widens | None, share: float | None, delta: float | None
) -> _Plan:
    if method not in _WIDENS:
        raise ConfigError("method", f"one of {', '.join(_WIDENS)}", repr(method), "Choose one.")
    if not 0 < level < 1:
        raise ConfigError("level", "a probability in (0, 1)", level, "Use 0.95, not 95.")
    chosen = _WIDENS[method] if widens is None else widens
    if delta is not None and method != "rcps":
        raise ConfigError("delta", "no value but for `rcps`", delta, "Leave it out.")
    if share is not None and method not in ("split", "cqr"):
        raise ConfigError("share", "no value but for `split` and `cqr`", share, "Leave it out.")
    if method == "rcps":
        delta = DELTA if delta is None else delta
    elif method == "simultaneous":
        share = 1.0
    elif method != "crc":
        share = level if share is None else share
    return _Plan(method, chosen, level, base_level(level), share, delta)


def _calibration(plan: _Plan, factor: float, images: int, units: int, shape: Shape) -> Calibration:
    return Calibration(
        plan.method,
        plan.widens,
        plan.level,
        factor,
        plan.base_level,
        plan.share,
        plan.delta,
        images,
        units,
        shape,
    )


def _allowance(plan: _Plan, units: int) -> float:
    if plan.delta is not None:
        return rcps_allowance(plan.level, plan.delta, units)
    return crc_allowance(plan.level, units)


@torch.no_grad()
def _steps(
    solver: Solver, draft: Calibration, x: Tensor, y: Tensor, keys: Sequence[int], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps of the risk of each image `(n, K)`, their heights `(K,)`, trusted images `(n,)`."""
    size = block_size(x.shape[1:])
    parts, trusted = [], []
    heights = torch.ones(1)
    for start in range(0, len(x), size):
        block = slice(start, min(start + size, len(x)))
        posterior = require_posterior(solver(y[block], keys=keys[block], seed=seed))
        exceeded = draft.exceedance(posterior, x[block])
        if draft.share is None:
            steps, heights = breakpoints(exceeded)
        else:
            steps = covering_score(exceeded, draft.share)[:, None]
        parts.append(steps.double().numpy(force=True))
        kept = posterior.trusted
        trusted.append(
            np.ones(len(steps), bool) if kept is None else kept.bool().numpy(force=True)
        )
    return np.concatenate(parts), heights.double().numpy(force=True), np.concatenate(trusted)


def _check(x: Tensor, y: Tensor, labels: Sequence[str], keys: Sequence[int]) -> None:
    counts = {"y": len(y), "groups": len(labels), "keys": len(keys)}
    for name, count in counts.items():
        if count != len(x) or count == 0:
            raise ShapeError(
                name, f"one entry per image ({len(x)}), at least one", count, "Give one each."
            )
    if not bool(torch.isfinite(x).all()):
        raise DataError("x", "finite values", "NaN or infinity", "Leave these images out.")
