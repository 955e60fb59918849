"""Calibration of a posterior."""

from math import inf

from latens.metrics.metric import (
    CALIBRATION_LEVELS,
    LEVEL,
    Metric,
    first,
    mean_magnitude,
    mean_of_components,
    ratio,
    root_ratio,
)


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


_SIGNED, _ABSOLUTE, _COVERAGE = zip(
    _coverage_metrics("pixel", "pixels", "pixels"),
    _coverage_metrics("region", "region means", "block means"),
    _coverage_metrics("principal", "principal directions", "principal scores"),
    strict=True,
)

CALIBRATION: tuple[Metric, ...] = (
    *_COVERAGE,
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
    *_SIGNED,
)
