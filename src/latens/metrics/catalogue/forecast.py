"""How good is a forecast of a log volume, and how far can its band be believed?"""

from math import inf, nan

from latens.metrics.metric import LEVEL, Metric, first

_UNIT = "log volume"

FORECAST: tuple[Metric, ...] = (
    Metric(
        "forecast_mae",
        "mean absolute error",
        _UNIT,
        "lower",
        nan,
        "Distance of the median forecast from the reading, log volume, both at least the limit of "
        "detection; mean over patients.",
        ("absolute_error",),
        first,
        (0.0, inf),
    ),
    Metric(
        "forecast_crps",
        "CRPS",
        _UNIT,
        "lower",
        nan,
        "Fair continuous ranked probability score of the log volume, censored at the limit of "
        "detection; mean over patients.",
        ("crps",),
        first,
    ),
    Metric(
        "forecast_interval_score",
        f"interval score at {LEVEL:.0%}",
        _UNIT,
        "lower",
        nan,
        f"Width of the {LEVEL:.0%} band plus {2 / (1 - LEVEL):.0f} times the distance of what "
        "lies outside; mean over patients.",
        ("interval_score",),
        first,
        (0.0, inf),
    ),
    Metric(
        "forecast_coverage",
        f"coverage of the {LEVEL:.0%} band",
        "",
        "target",
        LEVEL,
        f"Share of patients whose reading lies in the closed {LEVEL:.0%} band; a band that ends "
        "at an atom, such as the limit of detection, covers more than its level.",
        ("covered",),
        first,
        (0.0, 1.0),
    ),
    Metric(
        "forecast_width",
        f"width of the {LEVEL:.0%} band",
        _UNIT,
        "lower",
        nan,
        f"Width of the {LEVEL:.0%} band; mean over patients; to be read only beside coverage.",
        ("width",),
        first,
        (0.0, inf),
    ),
    Metric(
        "forecast_rank",
        "mean rank of the reading",
        "",
        "target",
        0.5,
        "Share of draws below the reading, ties broken at random; ½ without bias, above it where "
        "forecasts are too low; mean over patients.",
        ("rank",),
        first,
        (0.0, 1.0),
    ),
)
