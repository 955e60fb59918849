"""Growth curves of single patients, all patients at once.

With s = (t − t_first)/(t_last − t_first) and y the log volume:

    exponential   y = a + b s
    logistic      y = a + b s − log(1 + c (exp(b s) − 1)),     c = V₀/K in (0, 1)
    Gompertz      y = a + b (1 − exp(−c s))/c,                 c in (.05, 20)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from latens.data import VolumeSeries
from latens.inference.samplers.maximise import maximise

_STARTS = (-1.0, 0.0, 1.0)
"""Where the bounded parameter begins; the best end counts."""
_CURVATURE = 3.0
"""c of the Gompertz curve lies between exp(−3) and exp(3) per span of the visits."""


@dataclass(frozen=True)
class Curve:
    """A curve with two or three parameters.

    Attributes:
        name: Name in tables.
        parameters: Their number.
        value: Parameters `(C, p)` and scaled times `(C, T)` → log volume `(C, T)`.
    """

    name: str
    parameters: int
    value: Callable[[Tensor, Tensor], Tensor]


def _exponential(p: Tensor, s: Tensor) -> Tensor:
    return p[:, :1] + p[:, 1:2] * s


def _logistic(p: Tensor, s: Tensor) -> Tensor:
    a, b, u = p[:, :1], p[:, 1:2], p[:, 2:3]
    return a + b * s - torch.logaddexp(F.logsigmoid(-u), F.logsigmoid(u) + b * s)


def _gompertz(p: Tensor, s: Tensor) -> Tensor:
    c = (_CURVATURE * torch.tanh(p[:, 2:3])).exp()
    return p[:, :1] - p[:, 1:2] * torch.expm1(-c * s) / c


EXPONENTIAL = Curve("exponential", 2, _exponential)
LOGISTIC = Curve("logistic", 3, _logistic)
GOMPERTZ = Curve("Gompertz", 3, _gompertz)


def fit_curve(curve: Curve, history: VolumeSeries, times: Tensor, noise: float) -> Tensor:
    """Least squares with zeros left-censored, then the curve at later times.

        Σ_seen (y − f)²/2σ² − Σ_censored log Φ((L − f)/σ)

    σ is the same for all, so it matters for censored readings alone.

    Args:
        curve: Which curve.
        history: Earlier visits of B patients.
        times: Later times, `(B, H)`.
        noise: σ, standard deviation of a reading of the log volume.

    Returns:
        Log volume, `(B, H)`; that of the exponential or the last reading where visits are too
        few.
    """
    seen = history.mask & ~history.censored
    enough = (history.visits >= curve.parameters + 1) & (seen.sum(1) >= 2)
    last = history.last_log_volumes[:, None].expand_as(times).clone()
    if curve.parameters > 2:
        rest = (~enough).nonzero()[:, 0]
        if len(rest):
            last[rest] = fit_curve(EXPONENTIAL, history.take(rest), times[rest], noise)
    rows = enough.nonzero()[:, 0]
    if not len(rows):
        return last
    last[rows] = _fit(curve, history.take(rows), times[rows], noise)
    return last


def _fit(curve: Curve, history: VolumeSeries, times: Tensor, noise: float) -> Tensor:
    begin = history.times[:, :1]
    span = history.last_times[:, None] - begin  # (B, 1)
    s = torch.where(history.mask, (history.times - begin) / span, 0.0)  # (B, T)
    y, seen, censored = history.log_volumes, history.mask & ~history.censored, history.censored
    starts = _STARTS if curve.parameters > 2 else _STARTS[:1]
    count = len(starts)

    def log_density(p: Tensor) -> Tensor:
        f = curve.value(p, s.repeat(count, 1)).unflatten(0, (count, -1))  # (K, B, T)
        misfit = torch.where(seen, -0.5 * ((y - f) / noise).square(), 0.0)
        below = torch.special.log_ndtr((history.log_limit - f) / noise)
        return (misfit + torch.where(censored, below, 0.0)).sum(-1).flatten()

    first = y[:, :1]
    slope = history.last_log_volumes[:, None] - first
    free = [torch.cat([first, slope, torch.full_like(first, u)], 1) for u in starts]
    start = torch.cat(free)[:, : curve.parameters]
    ends = maximise(log_density, start, max_iterations=200)
    best = ends.log_density.unflatten(0, (count, -1)).argmax(0)  # (B,)
    position = ends.position.unflatten(0, (count, -1))[best, torch.arange(len(y))]
    return curve.value(position, (times - begin) / span)
