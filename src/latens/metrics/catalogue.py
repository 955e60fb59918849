"""The core metrics by name: what each is, where it should lie, and how it is computed.

A metric is a function of *means over images* of a few components per image. A bootstrap
replicate is then a weighted mean, and thousands of them are one matrix product:

    per image:     rows (B, p), from the functions of this package
    population:    statistic(rows.mean(axis=0)[None]) → (1,)
    R replicates:  statistic(weights (R, B) @ rows (B, p)) → (R,)
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latens.errors import ConfigError

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Means over images of the components, `(R, p)` → value of the metric, `(R,)`."""

CALIBRATION_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Levels of the coverage errors; M = 19 and M = 39 draws attain each of them exactly."""

LEVEL = 0.95
"""Level of coverage and width in the tables; M = 39 draws attain it exactly."""


@dataclass(frozen=True)
class Metric:
    """A population statistic of per-image components.

    Args:
        name: Name in every table.
        label: Name in figures.
        unit: Unit, empty if none; `signal` is the unit of the signal.
        better: `higher`, `lower`, or `target` (closer to `target` is better).
        target: Value of an ideal solver where there is one, else NaN.
        definition: One sentence with range, norm and reduction.
        components: Names of the columns of the per-image rows.
        statistic: Function of component means, `(R, p)` → `(R,)`.
        support: Closed range of possible values; intervals are cut to it.
        interval: Form of the bootstrap over images: `studentised` for a smooth statistic,
            `norm` for `mean_magnitude`, which has a kink at the ideal value.
    """

    name: str
    label: str
    unit: str
    better: Literal["higher", "lower", "target"]
    target: float
    definition: str
    components: tuple[str, ...]
    statistic: Statistic
    support: tuple[float, float] = (-inf, inf)
    interval: Literal["studentised", "norm"] = "studentised"

    def value(self, rows: Array) -> float:
        """The metric of a set of images.

        Args:
            rows: Components per image, `(B, p)` in the order of `components`.

        Raises:
            ConfigError: If the number of columns is not that of `components`.
        """
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.components):
            raise ConfigError(
                "rows",
                f"(B, {len(self.components)}) for {self.name}",
                rows.shape,
                f"The columns are {', '.join(self.components)}.",
            )
        return float(self.statistic(rows.mean(axis=0)[None])[0])


def first(means: Array) -> Array:
    """The mean of the only component."""
    return means[:, 0]


def mean_of_components(means: Array) -> Array:
    """Signed mean over the components, for example over levels."""
    return means.mean(axis=1)


def mean_magnitude(means: Array) -> Array:
    """Mean over the components of the magnitude, taken after averaging over images."""
    return np.abs(means).mean(axis=1)


def ratio(means: Array) -> Array:
    """First component over the second, after averaging over images; NaN where it is 0/0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return means[:, 0] / means[:, 1]


def root_ratio(means: Array) -> Array:
    """Square root of `ratio`."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(ratio(means))


def root(means: Array) -> Array:
    """Square root of the only component, 0 where it is negative."""
    return np.sqrt(np.maximum(means[:, 0], 0.0))


def exponential(means: Array) -> Array:
    """exp of the only component: a geometric mean of what it is the logarithm of."""
    return np.exp(means[:, 0])


def difference(means: Array) -> Array:
    """First component minus the second."""
    return means[:, 0] - means[:, 1]


def _coverage_metrics(functional: str, label: str, elements: str) -> tuple[Metric, ...]:
    """Signed error, absolute error and coverage at `LEVEL` of one kind of functional."""
    levels = tuple(f"coverage_minus_level_{level:.2f}" for level in CALIBRATION_LEVELS)
    grid = f"{CALIBRATION_LEVELS[0]:g} … {CALIBRATION_LEVELS[-1]:g}"
    return (
        Metric(
            name=f"ce_{functional}",
            label=f"signed coverage error, {label}",
            unit="",
            better="target",
            target=0.0,
            definition=(
                f"Mean over the levels {grid} of (fraction of {elements} inside the central "
                "order-statistic interval − level), mean over images; below 0 = too sure."
            ),
            components=levels,
            statistic=mean_of_components,
            support=(-1.0, 1.0),
        ),
        Metric(
            name=f"ace_{functional}",
            label=f"coverage error, {label}",
            unit="",
            better="lower",
            target=0.0,
            definition=(
                f"Mean over the levels {grid} of |fraction of {elements} inside the central "
                "order-statistic interval, mean over images − level|."
            ),
            components=levels,
            statistic=mean_magnitude,
            support=(0.0, 1.0),
            interval="norm",
        ),
        Metric(
            name=f"coverage_{functional}",
            label=f"coverage at {LEVEL:.0%}, {label}",
            unit="",
            better="target",
            target=LEVEL,
            definition=(
                f"Fraction of {elements} inside the {LEVEL:.0%} central order-statistic "
                "interval, mean over the event, then over images."
            ),
            components=(f"coverage_{LEVEL:.2f}",),
            statistic=first,
            support=(0.0, 1.0),
        ),
    )


CATALOGUE: tuple[Metric, ...] = (
    Metric(
        "psnr",
        "PSNR",
        "dB",
        "higher",
        nan,
        "10 log₁₀(L²/MSE) with the range L of the data set; mean over images of the decibels.",
        ("psnr",),
        first,
    ),
    Metric(
        "ssim",
        "SSIM",
        "",
        "higher",
        1.0,
        "Structural similarity, Gaussian window of 11 taps and σ = 1.5 (3-D for volumes), "
        "constants from the range L of the data set; mean over windows, channels, images.",
        ("ssim",),
        first,
        (-1.0, 1.0),
    ),
    Metric(
        "nmse",
        "NMSE",
        "",
        "lower",
        0.0,
        "‖x̂ − x‖²/‖x‖², Euclidean norms over the event; mean over images.",
        ("nmse",),
        first,
        (0.0, inf),
    ),
    Metric(
        "mse",
        "MSE",
        "signal²",
        "lower",
        0.0,
        "‖x̂ − x‖²/d, mean over the event, then over images.",
        ("mse",),
        first,
        (0.0, inf),
    ),
    Metric(
        "data_chi2",
        "data residual χ²/m",
        "",
        "target",
        1.0,
        "Mean of (y − E[y | x̂])²/Var[y | x̂] over the m elements of y, mean over images; "
        "1 − (effective degrees of freedom)/m is expected of a good estimate.",
        ("data_chi2",),
        first,
        (0.0, inf),
    ),
    *_coverage_metrics("pixel", "pixels", "pixels"),
    *_coverage_metrics("region", "region means", "block means"),
    *_coverage_metrics("principal", "principal directions", "principal scores"),
    Metric(
        "interval_width",
        f"width of the {LEVEL:.0%} interval",
        "signal",
        "lower",
        nan,
        f"Mean width of the {LEVEL:.0%} central interval of a pixel, mean over the event, then "
        "over images; to be read only beside coverage.",
        ("interval_width",),
        first,
        (0.0, inf),
    ),
    Metric(
        "spread_skill",
        "spread-skill ratio",
        "",
        "target",
        1.0,
        "√((M+1)/M · mean variance of the draws / mean squared error of their mean), means "
        "over the event and images; below 1 = too sure.",
        ("spread", "skill"),
        root_ratio,
        (0.0, inf),
    ),
    Metric(
        "z_variance",
        "z-variance",
        "",
        "target",
        1.0,
        "Mean of (x − x̄)²/s² over pixels and images, divided by its expectation "
        "(M²−1)/(M(M−3)) for M Gaussian draws; above 1 = too sure.",
        ("z_variance",),
        first,
        (0.0, inf),
    ),
    Metric(
        "crps",
        "CRPS",
        "signal",
        "lower",
        nan,
        "Fair continuous ranked probability score of each pixel, mean over the event, then "
        "over images.",
        ("crps",),
        first,
    ),
    Metric(
        "mse_draw_ratio",
        "MSE of a draw / MSE of the mean",
        "",
        "target",
        2.0,
        "Mean squared error of a single draw over that of the posterior mean (corrected for M "
        "draws), means over the event and images before the ratio; 2 for an exact posterior.",
        ("mse_draw", "mse_mean"),
        ratio,
        (0.0, inf),
    ),
    Metric(
        "gap_shift",
        "amortisation gap, means",
        "posterior std",
        "target",
        0.0,
        "Root mean square over latents and images of (mean of q(z | y) − mean of the sampled "
        "posterior)/its standard deviation, less the Monte Carlo error.",
        ("square",),
        root,
        (0.0, inf),
    ),
    Metric(
        "gap_w2",
        "amortisation gap, W2",
        "posterior std",
        "target",
        0.0,
        "Root mean square over latents and images of the 2-Wasserstein distance of the Gaussian "
        "marginals of q(z | y) and of the sampled posterior, in its standard deviations.",
        ("square",),
        root,
        (0.0, inf),
    ),
    Metric(
        "gap_spread",
        "amortisation gap, spread",
        "",
        "target",
        1.0,
        "Geometric mean over latents and images of (standard deviation of q(z | y) / that of the "
        "sampled posterior); below 1 = too sure.",
        ("log_ratio",),
        exponential,
        (0.0, inf),
    ),
    Metric(
        "gap_kl",
        "amortisation gap, KL",
        "nats",
        "lower",
        0.0,
        "KL(sampled ‖ q) of Gaussian marginals, summed over latents, mean over images.",
        ("kl",),
        first,
    ),
    Metric(
        "gap_crps",
        "CRPS amortised / sampled",
        "",
        "target",
        1.0,
        "CRPS of the amortised posterior over that of the sampled one on the same images, means "
        "over the event and images before the ratio; above 1 = sampling helps.",
        ("crps_amortised", "crps_sampled"),
        ratio,
        (0.0, inf),
    ),
    Metric(
        "gap_coverage_region",
        "coverage of region means, amortised − sampled",
        "",
        "target",
        0.0,
        f"Difference of the fractions of block means inside the {LEVEL:.0%} interval, amortised "
        "less sampled, on the same images.",
        ("amortised", "sampled"),
        difference,
        (-1.0, 1.0),
    ),
)
"""Every core metric, in the order of the tables."""


def metric(name: str) -> Metric:
    """The metric of this name.

    Raises:
        ConfigError: If there is none.
    """
    for entry in CATALOGUE:
        if entry.name == name:
            return entry
    raise ConfigError(
        "metric", "the name of a core metric", name, f"Use {', '.join(m.name for m in CATALOGUE)}."
    )
