"""Tests of hypotheses about a scaling curve, and the intervals that they accept.

    f(N) = E + a N^−α

One data seed gives one curve of metric values over nested subsets; the curves of different data
seeds are independent, the values within one are not. For a hypothesis about one quantity the
other two are fitted (exponents on a grid, the rest linear), and the efficient score of the
quantity is one number per data seed,

    s_i = x⊥ᵀ W_i (y_i − f),

x⊥ being the derivative of f after projecting out those of the nuisance parameters. Σ s_i over
its empirical standard error is t distributed whatever the correlation along N; for α, whose
nuisance parameters are linear, exactly so given the weights. The accepted values are the
interval.
"""

from collections.abc import Callable
from math import exp, inf, log, nan

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Array = NDArray[np.float64]
Test = Callable[[float], float]
"""Hypothetical value → two-sided p-value."""

EXPONENTS: Array = np.geomspace(0.01, 5.0, 240)
"""Exponents that are considered; the data of a sweep cannot tell more extreme ones apart."""


PARAMETERS = 3
"""Numbers of the law: E, a and α."""

_POWER_VARIANCE = 0.1
"""Prior variance of the power of N by which the relative variance between data seeds changes."""


class SeedCurves:
    """Curves of independent data seeds over the same sizes.

    Args:
        sizes: Sample sizes, `(J,)`, ascending, J ≥ 3.
        curves: Mean over initialisations for each data seed and size, `(k, J)`, NaN where a
            data seed has no usable cell.

    Attributes:
        mean: Mean over data seeds, `(J,)`.
        precision: Weight of each mean, `(J,)`: data seeds over the variance between them, the
            variance smoothed as a power of N.
        cells: Number of values, seeds times sizes where all are present.
        within: Weighted squared deviations of the seeds from their mean.
        floor, amplitude, exponent: Weighted least squares without a smallest floor; the tests
            are centred there.
        misfit: Weighted squared misfit of that fit.
    """

    def __init__(self, sizes: Array, curves: Array) -> None:
        present = np.isfinite(curves)
        count = present.sum(axis=0)
        self.sizes = sizes
        self.curves = np.where(present, curves, 0.0)
        self.mean = self.curves.sum(axis=0) / count
        self.scale = float(np.ptp(self.mean)) + float(np.abs(self.mean).max()) * 1e-6 + 1e-100
        variance = _smoothed_variance(np.log(sizes), curves, count, self.scale)
        self.seed_weights = present / variance  # (k, J)
        self.precision = count / variance
        self.cells = int(count.sum())
        self.within = float((self.seed_weights * (self.curves - self.mean) ** 2).sum())
        self.unit = float(np.exp(np.log(sizes).mean()))  # powers are taken of N over this
        self.logs = np.log(sizes / self.unit)
        self.powers = np.exp(-EXPONENTS[:, None] * self.logs)  # (exponents, J)
        self.floor, self.amplitude, self.exponent, self.misfit = self.estimate(-inf)

    def p_value(self, fitted: Array, tangent: Array, nuisance: Array) -> float:
        """Two-sided p-value of the score of one quantity.

        Args:
            fitted: Curve fitted under the hypothesis, `(J,)`.
            tangent: Derivative of the curve by the quantity, `(J,)`.
            nuisance: Derivatives by the other parameters, `(J, q)`.
        """
        root = np.sqrt(self.precision)
        projection = np.linalg.lstsq(nuisance * root[:, None], tangent * root, rcond=1e-12)[0]
        efficient = tangent - nuisance @ projection
        residuals = self.seed_weights * (self.curves - fitted)  # (k, J), zero where absent
        scores = residuals @ efficient
        share = self.seed_weights @ efficient**2
        if not share.sum() > 0:
            return 1.0
        share = share / share.sum()
        degrees = 1 / float((share**2).sum()) - 1
        if degrees < 1e-6:
            return 1.0
        total = float(scores.sum())
        variance = float(((scores - share * total) ** 2).sum()) / (1 - float((share**2).sum()))
        # rounding of noiseless curves must not look like a significant misfit
        rounding = 1e-10 * self.scale * float(np.abs(self.precision * efficient).sum())
        statistic = abs(total) / np.hypot(np.sqrt(variance), rounding)
        return float(2 * special.stdtr(degrees, -statistic))

    def p_value_of_misfit(self, misfit: float) -> float:
        """p-value of the law with this weighted squared misfit, by an F-test.

        Noise that the sizes of one data seed share makes it conservative.
        """
        sizes, seeds = len(self.sizes) - PARAMETERS, self.cells - len(self.sizes)
        if sizes < 1 or seeds < 1:
            return 1.0
        rounding = 1e-12 * self.scale**2 * float(self.precision.mean())
        ratio = misfit / sizes / (self.within / seeds + rounding)
        return float(special.fdtrc(sizes, seeds, ratio))

    def line(self, exponent: float) -> tuple[float, float]:
        """Unconstrained floor and slope of f = E + b (N/unit)^−α at this exponent."""
        x = np.exp(-exponent * self.logs)
        w = self.precision / self.precision.sum()
        centred = x - w @ x
        slope = float((w * centred) @ self.mean / ((w * centred) @ centred))
        return float(w @ self.mean - slope * (w @ x)), slope

    def estimate(self, smallest: float) -> tuple[float, float, float, float]:
        """Weighted least squares with E_∞ ≥ `smallest`: floor, amplitude, exponent, misfit."""

        def line(exponent: float) -> tuple[float, float, float]:
            floor, slope = self.line(exponent)
            x = np.exp(-exponent * self.logs)
            if floor < smallest:
                floor = smallest
                slope = float((self.precision * x) @ (self.mean - floor) / (self.precision @ x**2))
            return floor, slope, float(self.precision @ (self.mean - floor - slope * x) ** 2)

        grid = EXPONENTS[::4]
        best = int(np.argmin([line(float(exponent))[2] for exponent in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        refined = optimize.minimize_scalar(
            lambda u: line(exp(u))[2],
            bounds=(log(low), log(high)),
            method="bounded",
            options={"xatol": 1e-9},
        )
        exponent = exp(float(refined.x))  # pyright: ignore[reportAttributeAccessIssue]
        floor, slope, misfit = line(exponent)
        return floor, slope * self.unit**exponent, exponent, misfit

    def test_exponent(self, exponent: float) -> float:
        """p-value of α = `exponent`."""
        floor, slope = self.line(exponent)
        x = np.exp(-exponent * self.logs)
        nuisance = np.stack([np.ones_like(x), x], axis=1)
        return self.p_value(floor + slope * x, x * self.logs, nuisance)

    def test_value(self, at: float) -> Test:
        """Test of f(`at`) = value; at N = ∞ it is the floor.

        With the value v held, f(N) = v + b (N^−α − at^−α).
        """
        log_at = np.log(at / self.unit) if at < inf else inf
        basis = self.powers - np.exp(-EXPONENTS * log_at)[:, None]  # (exponents, J)
        weighted = basis * self.precision
        energy = (weighted * basis).sum(axis=1)

        def test(value: float) -> float:
            gain = (weighted @ (self.mean - value)) ** 2 / energy
            exponent = _peak(gain)
            power = np.exp(-exponent * self.logs)
            power_at = np.exp(-exponent * log_at)
            x = power - power_at
            derivative = power * self.logs - (power_at * log_at if at < inf else 0.0)
            slope = (self.precision * x) @ (self.mean - value) / ((self.precision * x) @ x)
            nuisance = np.stack([x, derivative], axis=1)
            return self.p_value(value + slope * x, np.ones_like(x), nuisance)

        return test

    def test_amplitude(self, amplitude: float) -> float:
        """p-value of a = `amplitude`."""
        scale = amplitude * np.exp(-EXPONENTS * np.log(self.unit))  # a N^−α = scale · powers
        w = self.precision / self.precision.sum()
        residual = self.mean - scale[:, None] * self.powers
        misfit = w @ (residual - (residual @ w)[:, None]).T ** 2
        exponent = _peak(-misfit)
        x = self.sizes**-exponent
        floor = float(w @ (self.mean - amplitude * x))
        nuisance = np.stack([np.ones_like(x), amplitude * x * np.log(self.sizes)], axis=1)
        return self.p_value(floor + amplitude * x, x, nuisance)


def accepted_exponents(curves: SeedCurves, level: float) -> tuple[float, float]:
    """Hull of the exponents that are not rejected; 0 or ∞ where the range of the grid ends."""
    grid = sorted({*EXPONENTS[::4].tolist(), float(EXPONENTS[-1]), curves.exponent})
    accepted = [i for i, a in enumerate(grid) if curves.test_exponent(a) > 1 - level]
    if not accepted:
        return nan, nan
    first, last = accepted[0], accepted[-1]
    lower, upper = 0.0, inf
    if first > 0:
        lower = _bisect(curves.test_exponent, grid[first], grid[first - 1], level)
    if last < len(grid) - 1:
        upper = _bisect(curves.test_exponent, grid[last], grid[last + 1], level)
    return lower, upper


def accepted_bound(
    test: Test, start: float, step: float, limit: float, beyond: float, level: float
) -> float:
    """Walk from an accepted start until the test rejects.

    Args:
        test: Hypothetical value → p-value.
        start: Value to start from, normally the estimate.
        step: First step, signed; later ones grow by half.
        limit: Last value to try.
        beyond: What to return if the limit is accepted as well.
        level: Coverage of the interval.

    Returns:
        The bound; NaN if the start itself is rejected.
    """
    if not test(start) > 1 - level:
        return nan
    inside = start
    while inside != limit:
        outside = min(inside + step, limit) if step > 0 else max(inside + step, limit)
        if not test(outside) > 1 - level:
            return _bisect(test, inside, outside, level)
        inside, step = outside, 1.5 * step
    return beyond


def _bisect(test: Test, inside: float, outside: float, level: float) -> float:
    """Boundary between an accepted and a rejected value, to 1e-6 of their distance."""
    for _ in range(20):
        middle = (inside + outside) / 2
        if test(middle) > 1 - level:
            inside = middle
        else:
            outside = middle
    return float(inside)


def _peak(gain: Array) -> float:
    """Exponent of the largest gain, refined by a parabola through its neighbours."""
    i = int(np.argmax(gain))
    if not 0 < i < len(EXPONENTS) - 1:
        return float(EXPONENTS[i])
    before, here, after = gain[i - 1 : i + 2]
    curvature = before - 2 * here + after
    shift = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return float(EXPONENTS[i] * (EXPONENTS[1] / EXPONENTS[0]) ** shift)


def _smoothed_variance(logs: Array, curves: Array, count: NDArray, scale: float) -> Array:
    """Variance between data seeds at each size, smoothed, `(J,)`.

    A constant relative error times a power of N. Few data seeds hardly determine that power,
    and weights that follow their noise cost coverage (1–2 % at three seeds), so it is shrunk
    towards zero by its sampling variance.
    """
    seen = count > 1
    if not seen.any():
        return np.ones(len(logs))
    magnitude = np.abs(np.nanmean(curves, axis=0))
    relative = 2 * np.log(np.maximum(magnitude, 0.05 * magnitude.max()) + scale * 1e-9)
    variance = np.maximum(np.nanvar(curves[:, seen], axis=0, ddof=1), (1e-8 * scale) ** 2)
    weight = count[seen] - 1.0
    excess = np.log(variance) - relative[seen]
    level = float(weight @ excess / weight.sum())
    x = logs[seen] - weight @ logs[seen] / weight.sum()
    moment = float(weight @ x**2)
    noise = float(special.polygamma(1, weight.mean() / 2)) * weight.mean()
    power = float((weight * x) @ (excess - level)) / (moment + noise / _POWER_VARIANCE)
    return np.exp(relative + level + power * (logs - weight @ logs[seen] / weight.sum()))
