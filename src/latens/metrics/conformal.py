"""Conformal calibration: by how much intervals must be widened, with a guarantee.

Nested sets C_λ(y) = [lower − λ·unit, upper + λ·unit] of a solver grow with λ. An element is
missed where its exceedance is larger than λ:

    e = max(lower − x, x − upper)/unit,        R_i(λ) = Σ_k w_ik 1{e_ik > λ}

R_i is the risk of one exchangeable unit, an image or a group of images, and never of a pixel.
Every method takes the smallest λ whose mean risk R̂ over n units stays below an allowance, at it
and at all larger λ:

| method | risk of an image | allowance | promise, level = 1 − α |
|---|---|---|---|
| split, CQR | 1 if fewer than a share is inside | (α(n+1) − 1)/n | P(share inside) ≥ 1 − α |
| simultaneous | 1 if any element is outside | (α(n+1) − 1)/n | P(all inside) ≥ 1 − α |
| CRC | fraction outside | (α(n+1) − 1)/n | E fraction inside ≥ 1 − α |
| RCPS | fraction outside | Hoeffding–Bentkus | P(E fraction inside ≥ 1 − α) ≥ 1 − δ |

The first allowance, applied to one score per image, is the ⌈(n+1)(1−α)⌉-th smallest score. The
promises hold for whatever solver, if new units are exchangeable with those of the calibration
(for RCPS: independent and from the same distribution). Where a unit is a group of images, its
risk is the mean over them, and the promise is for a random image of a new group.

References:
    Romano, Patterson, Candès (2019), Conformalized quantile regression,
    https://arxiv.org/abs/1905.03222
    Bates et al. (2021), Distribution-free, risk-controlling prediction sets,
    https://arxiv.org/abs/2101.02703
    Angelopoulos et al. (2022), Image-to-image regression with distribution-free uncertainty
    quantification and applications in imaging, https://arxiv.org/abs/2202.05265
    Angelopoulos et al. (2024), Conformal risk control, https://arxiv.org/abs/2208.02814
    Lee, Barber, Willett (2023), Distribution-free inference with hierarchical data,
    https://arxiv.org/abs/2306.06342
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, e, log

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import xlogy
from torch import Tensor

from latens.errors import ConfigError, ShapeError

Array = NDArray[np.float64]

BREAKPOINTS = 4096
"""Steps that the risk curve of one image keeps. An image with more elements gets a curve that
lies above its own by at most 1/4096, which keeps every promise."""

_ROUNDING = 1e-9
"""Relative error by which sums of weights may miss a whole number."""


def exceedance(x: Tensor, lower: Tensor, upper: Tensor, unit: Tensor | float) -> Tensor:
    """How far the interval of each element must be widened to reach the truth, in its unit.

        e = max(lower − x, x − upper)/unit

    With lower = upper = μ and unit = s this is |x − μ|/s, with unit = 1 the score of conformalised
    quantile regression. Negative inside the interval.

    Args:
        x: Truth, `(B, *event)`.
        lower: Lower bound, `(B, *event)`, unit of the signal.
        upper: Upper bound, `(B, *event)`, unit of the signal.
        unit: What λ counts, positive, a number or broadcastable to `x`, unit of the signal.

    Returns:
        `(B, *event)`, one per element; infinite where anything is not finite, so that a broken
        estimate counts as a miss.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    for name, bound in (("lower", lower), ("upper", upper)):
        if bound.shape != x.shape or x.ndim < 2:
            raise ShapeError(
                name,
                f"the shape of the truth, (B, *event) = {tuple(x.shape)}",
                tuple(bound.shape),
                "Give one bound per element.",
            )
    value = torch.maximum(lower - x, x - upper) / unit
    return torch.where(torch.isfinite(value), value, torch.inf)


def covering_score(exceeded: Tensor, share: float = 1.0) -> Tensor:
    """Smallest λ at which at least a share of the elements of an image lies inside.

        S = ⌈share·d⌉-th smallest of the d exceedances;   share = 1: max_k e_k

    Args:
        exceeded: Exceedances, `(B, *event)`.
        share: Share of the elements, in (0, 1]; 1 asks for all of them at once.

    Returns:
        `(B,)`, unit of the exceedance.

    Raises:
        ConfigError: If the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ConfigError("share", "a share in (0, 1]", share, "Use 1 for all elements.")
    flat = exceeded.flatten(1)
    return flat.kthvalue(max(1, _ceil(share * flat.shape[1])), dim=1).values


def breakpoints(exceeded: Tensor) -> tuple[Tensor, Tensor]:
    """Where the fraction of missed elements of each image steps down, and by how much.

    Args:
        exceeded: Exceedances, `(B, *event)` of d elements.

    Returns:
        λ of each step, `(B, K)` ascending, K = min(d, `BREAKPOINTS`), and its height, `(K,)`,
        which add up to 1. With d > K neighbouring steps are joined at the largest of them, so
        that the curve is never below the true one.
    """
    ordered = exceeded.flatten(1).sort(dim=1).values  # (B, d)
    d = ordered.shape[1]
    ends = torch.linspace(0, d, min(d, BREAKPOINTS) + 1, dtype=torch.float64).round().long()
    heights = ends.diff().double() / d
    return ordered[:, ends[1:] - 1], heights.to(ordered.device)


def miss_by_width(missed: Tensor, width: Tensor) -> Tensor:
    """Misses among the elements of an image with the narrowest and with the widest intervals.

    A calibration keeps its promise on average over elements; it may do so by missing too often
    where intervals are narrow, and never where they are wide.

    Args:
        missed: 1 where the truth lies outside the interval, else 0, `(B, *event)`.
        width: Width of each interval, `(B, *event)`.

    Returns:
        `(B, 2, 2)`: for the quarter of each image with the narrowest intervals, then for that
        with the widest, (missed, all) as shares of the event. Ties at a quartile are all in, so
        that both quarters are the whole image where the width is constant. Take ratios after
        averaging over images.
    """
    flat, size = missed.flatten(1), width.flatten(1)
    count = flat.shape[1]
    quarter = _ceil(count / 4)
    low = size.kthvalue(quarter, dim=1, keepdim=True).values
    high = size.kthvalue(count + 1 - quarter, dim=1, keepdim=True).values
    rows = [
        torch.stack([(flat * stratum).mean(1), stratum.to(flat.dtype).mean(1)], dim=1)
        for stratum in (size <= low, size >= high)
    ]
    return torch.stack(rows, dim=1)


@dataclass(frozen=True)
class RiskCurve:
    """Mean risk over units as a step function of λ.

    Attributes:
        points: λ at which it may step, `(K,)` ascending, finite.
        risk: R̂ from each point up to the next, `(K,)` in [0, 1].
        units: n, exchangeable units that were averaged.
    """

    points: Array
    risk: Array
    units: int

    @classmethod
    def from_steps(
        cls, steps: ArrayLike, heights: ArrayLike, units: Sequence[object] | None = None
    ) -> "RiskCurve":
        """Exact mean of the step functions of images.

        Args:
            steps: λ of each step of each image, `(B, K)`; infinite for one that no λ reaches.
            heights: Height of each step, `(K,)`, adding up to 1.
            units: Unit of each image, `(B,)`; each unit weighs the same. Every image by default.

        Raises:
            ShapeError: If the shapes do not fit.
        """
        table = np.asarray(steps, dtype=np.float64)
        height = np.asarray(heights, dtype=np.float64)
        if table.ndim != 2 or table.size == 0 or height.shape != table.shape[1:]:
            raise ShapeError(
                "steps",
                f"(B, {height.size}), a row of steps for each image",
                table.shape,
                "Give as many steps per image as heights.",
            )
        labels = range(len(table)) if units is None else units
        if len(labels) != len(table):
            raise ShapeError(
                "units", f"one label per image ({len(table)})", len(labels), "Label every image."
            )
        _, unit = np.unique([str(label) for label in labels], return_inverse=True)
        sizes = np.bincount(unit)
        weights = (1 / (len(sizes) * sizes[unit]))[:, None] * height  # (B, K)
        flat = np.where(np.isnan(table), np.inf, table).reshape(-1)
        points, place = np.unique(flat, return_inverse=True)
        drop = np.bincount(place.reshape(-1), weights.reshape(-1))
        above = np.concatenate([np.cumsum(drop[::-1])[::-1][1:], [0.0]])
        finite = np.isfinite(points)
        return cls(points[finite], above[finite], len(sizes))

    @classmethod
    def on_grid(cls, points: ArrayLike, risks: ArrayLike) -> "RiskCurve":
        """Mean of risks that are known on a grid alone.

        Args:
            points: λ, `(L,)` ascending.
            risks: Risk of each unit at each λ, `(n, L)` in [0, 1].

        Raises:
            ShapeError: If the shapes do not fit.
            ConfigError: If the grid does not ascend, or a risk grows with λ or leaves [0, 1]:
                then the sets are not nested, and no promise holds.
        """
        grid = np.asarray(points, dtype=np.float64)
        table = np.asarray(risks, dtype=np.float64)
        if grid.ndim != 1 or table.ndim != 2 or table.shape[1] != len(grid) or not table.size:
            raise ShapeError(
                "risks", f"(n, {grid.size}), a row for each unit", table.shape, "One column per λ."
            )
        if not (np.diff(grid) > 0).all():
            raise ConfigError("points", "an ascending grid", "another order", "Sort it.")
        if not ((table >= 0) & (table <= 1)).all() or (np.diff(table, axis=1) > 0).any():
            raise ConfigError(
                "risks",
                "values in [0, 1] that do not grow with λ",
                "others",
                "Sets must grow with λ, and a bounded risk be divided by its bound.",
            )
        return cls(grid, table.mean(axis=0), len(table))

    def threshold(self, allowance: float) -> float:
        """Smallest point with risk ≤ allowance there and at all larger ones; ∞ if there is none.

        Args:
            allowance: Largest mean risk of the calibration units.
        """
        good = self.risk <= allowance + _ROUNDING
        broken = np.flatnonzero(~good)
        first = 0 if len(broken) == 0 else int(broken[-1]) + 1
        return float(self.points[first]) if first < len(self.points) else float("inf")


def split_quantile(scores: ArrayLike, level: float) -> float:
    """Split-conformal quantile: the ⌈(n+1)·level⌉-th smallest score.

    Args:
        scores: One score per exchangeable unit, `(n,)`.
        level: 1 − α, probability that a new score is not larger.

    Raises:
        ConfigError: If n is too small for the level; the message names the n needed.
    """
    column = np.asarray(scores, dtype=np.float64).reshape(-1, 1)
    curve = RiskCurve.from_steps(column, [1.0])
    return curve.threshold(crc_allowance(level, curve.units))


def crc_allowance(level: float, units: int) -> float:
    """Largest mean risk that conformal risk control allows.

        (n/(n+1)) R̂ + 1/(n+1) ≤ α   ⇔   R̂ ≤ (α(n+1) − 1)/n

    Args:
        level: 1 − α, lower bound of one minus the expected risk of a new unit.
        units: n.

    Raises:
        ConfigError: If n is too small for the level; the message names the n needed.
    """
    _require_units(level, units, units_needed(level))
    return max(0.0, ((1 - level) * (units + 1) - 1) / units)


def rcps_allowance(level: float, delta: float, units: int) -> float:
    """Largest mean risk whose Hoeffding–Bentkus upper bound is at most α with confidence 1 − δ.

    Args:
        level: 1 − α.
        delta: δ, probability over calibrations that the promise is broken.
        units: n.

    Raises:
        ConfigError: If n is too small for level and δ; the message names the n needed.
    """
    _require_units(level, units, units_needed(level, delta))
    allowed, refused = 0.0, 1 - level  # the p-value is 1 at a risk of α
    for _ in range(60):
        middle = (allowed + refused) / 2
        if hoeffding_bentkus(middle, units, 1 - level) <= delta:
            allowed = middle
        else:
            refused = middle
    return allowed


def hoeffding_bentkus(risk: float, units: int, alpha: float) -> float:
    """p-value of the hypothesis that the expected risk exceeds α.

        p = min( exp(−n h₁(min(R̂, α), α)), e·P(Bin(n, α) ≤ ⌈n R̂⌉) )
        h₁(a, b) = a log(a/b) + (1−a) log((1−a)/(1−b))

    Args:
        risk: R̂, mean of n independent risks in [0, 1].
        units: n.
        alpha: α in (0, 1).

    References:
        Angelopoulos et al. (2021), Learn then test, https://arxiv.org/abs/2110.01052
    """
    a = min(risk, alpha)
    divergence = xlogy(a, a / alpha) + xlogy(1 - a, (1 - a) / (1 - alpha))
    hoeffding = np.exp(-units * divergence)
    bentkus = e * stats.binom.cdf(_ceil(units * risk), units, alpha)
    return float(min(1.0, hoeffding, bentkus))


def hoeffding_bentkus_bound(risk: float, units: int, delta: float) -> float:
    """Upper confidence bound R⁺ of the expected risk, P(R ≤ R⁺) ≥ 1 − δ.

    Args:
        risk: R̂, mean of n independent risks in [0, 1].
        units: n.
        delta: δ in (0, 1).
    """
    low, high = risk, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if middle < 1 and hoeffding_bentkus(risk, units, middle) > delta:
            low = middle
        else:
            high = middle
    return high


def units_needed(level: float, delta: float | None = None) -> int:
    """Smallest n at which a calibration without a single miss keeps its promise.

        ⌈1/α − 1⌉ for split and CRC,   ⌈log δ / log(1 − α)⌉ for RCPS

    Args:
        level: 1 − α.
        delta: δ of RCPS; None for the others.

    Raises:
        ConfigError: If level or δ is no probability in (0, 1).
    """
    for name, value in (("level", level), ("delta", delta)):
        if value is not None and not 0 < value < 1:
            raise ConfigError(name, "a probability in (0, 1)", value, "Use 0.95, not 95.")
    if delta is None:
        return _ceil(1 / (1 - level) - 1)
    return _ceil(log(delta) / log(level))


def _require_units(level: float, units: int, needed: int) -> None:
    if units < needed:
        raise ConfigError(
            "images",
            f"at least {needed} exchangeable units (images, or groups) for level {level:g}",
            units,
            "Calibrate on more, or promise less.",
        )


def _ceil(value: float) -> int:
    """⌈value⌉, not misled by rounding."""
    return ceil(value - _ROUNDING * max(1.0, abs(value)))
