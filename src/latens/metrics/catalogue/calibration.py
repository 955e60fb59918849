"""Calibration of a posterior."""

from math import inf, nan

from latens.metrics.metric import (
    CALIBRATION_LEVELS,
    LEVEL,
    MEAN_MAGNITUDE,
    ROOT_MEAN_SQUARE,
    Metric,
    effective_elements,
    first,
    mean_of_components,
    ratio,
    root_ratio,
)

_BY_LEVEL = tuple(f"coverage_minus_level_{level:.2f}" for level in CALIBRATION_LEVELS)
_GRID = f"{CALIBRATION_LEVELS[0]:g} … {CALIBRATION_LEVELS[-1]:g}"


def _coverage_metrics(functional: str, label: str, elements: str) -> tuple[Metric, ...]:
    """Signed error, absolute error and coverage at `LEVEL` of one kind of functional."""
    return (
        Metric(
            name=f"ce_{functional}",
            label=f"signed coverage error, {label}",
            unit="",
            better="target",
            target=0.0,
            definition=(
                f"Mean over the levels {_GRID} of (fraction of {elements} inside the central "
                "order-statistic interval − level), mean over images; below 0 = too sure."
            ),
            components=_BY_LEVEL,
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
                f"Mean over the levels {_GRID} of |fraction of {elements} inside the central "
                "order-statistic interval, mean over images − level|."
            ),
            components=_BY_LEVEL,
            statistic=MEAN_MAGNITUDE,
            support=(0.0, 1.0),
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


_SIGNED, _ABSOLUTE, _COVERAGE = zip(
    _coverage_metrics("pixel", "pixels", "pixels"),
    _coverage_metrics("region", "region means", "block means"),
    _coverage_metrics("principal", "principal directions", "principal scores"),
    strict=True,
)

CALIBRATION: tuple[Metric, ...] = (
    *_COVERAGE,
    Metric(
        "n_eff_pixel",
        "effective pixels per image",
        "",
        "target",
        nan,
        f"c (1 − c)/Var(c_i), c_i the fraction of pixels of image i inside the {LEVEL:.0%} "
        "central order-statistic interval, c its mean over images: independent pixels whose "
        "coverage would vary as much between images. Without an interval: none was found that "
        "covers 93 to 97 % where it promises 95 %.",
        (f"coverage_{LEVEL:.2f}", "square"),
        effective_elements,
        (0.0, inf),
        has_interval=False,
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
        "mahalanobis_principal",
        "Mahalanobis distance, principal directions",
        "",
        "target",
        1.0,
        "(x − x̄)ᵀ S⁻¹ (x − x̄)/k of the scores along the k principal directions together, S the "
        "covariance of the M draws, divided by its expectation (M+1)(M−1)/(M(M−k−2)) for "
        "Gaussian draws; mean over images; above 1 = too sure.",
        ("mahalanobis",),
        first,
        (0.0, inf),
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
    *_ABSOLUTE,
    Metric(
        "rmsce_pixel",
        "root mean square coverage error, pixels",
        "",
        "lower",
        0.0,
        f"Root mean square over the levels {_GRID} of (fraction of pixels inside the central "
        "order-statistic interval, mean over images − level); at least the coverage error, and "
        "above it where single levels stand out.",
        _BY_LEVEL,
        ROOT_MEAN_SQUARE,
        (0.0, 1.0),
    ),
    *_SIGNED,
)
