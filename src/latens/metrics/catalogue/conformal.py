"""Intervals that were widened until a promise held: is it kept, and at what cost."""

from math import inf, nan

from latens.metrics.metric import LARGEST, Metric, first, ratio

BLOCKS = 16
"""Blocks of an image whose miss rates are compared."""


CONFORMAL: tuple[Metric, ...] = (
    Metric(
        "conformal_margin",
        "promise kept, less its level",
        "",
        "higher",
        0.0,
        "Share of images that are covered (`split`, `cqr`, `simultaneous`), or mean fraction of "
        "pixels inside (`crc`, `rcps`), less the level promised; 0 or more is a promise kept.",
        ("kept_minus_level",),
        first,
        (-1.0, 1.0),
    ),
    Metric(
        "conformal_coverage",
        "pixels inside the calibrated interval",
        "",
        "higher",
        nan,
        "Fraction of pixels inside the calibrated interval, mean over the event, then over "
        "images.",
        ("inside",),
        first,
        (0.0, 1.0),
    ),
    Metric(
        "conformal_width",
        "width of the calibrated interval",
        "signal",
        "lower",
        nan,
        "Mean width of the calibrated interval, mean over the event, then over images; to be "
        "read only beside what it promises.",
        ("width",),
        first,
        (0.0, inf),
    ),
    Metric(
        "conformal_gain",
        "width, calibrated / own",
        "",
        "lower",
        nan,
        "Mean width of the calibrated interval over that of the solver's own, at its level or "
        "the next attainable one below, means over the event and images before the ratio; "
        "above 1 = the solver was too sure.",
        ("width", "own_width"),
        ratio,
        (0.0, inf),
    ),
    Metric(
        "conformal_miss_narrow",
        "misses where the interval is narrow",
        "",
        "lower",
        nan,
        "Fraction missed of the quarter of the pixels of each image with the narrowest "
        "calibrated intervals, missed and all averaged over images before the ratio.",
        ("missed", "all"),
        ratio,
        (0.0, 1.0),
    ),
    Metric(
        "conformal_miss_wide",
        "misses where the interval is wide",
        "",
        "lower",
        nan,
        "Fraction missed of the quarter of the pixels of each image with the widest calibrated "
        "intervals, missed and all averaged over images before the ratio.",
        ("missed", "all"),
        ratio,
        (0.0, 1.0),
    ),
    Metric(
        "conformal_miss_block",
        "misses in the worst block",
        "",
        "lower",
        nan,
        "Largest over the blocks of a regular grid (16 along one axis, 4 × 4, 2 × 2 × 2) of the "
        "fraction of pixels missed, mean over images before the maximum, which is biased "
        "upwards where images are few.",
        tuple(f"missed_{block}" for block in range(BLOCKS)),
        LARGEST,
        (0.0, 1.0),
    ),
    Metric(
        "conformal_bad_images",
        "images with twice the misses",
        "",
        "lower",
        0.0,
        "Fraction of images in which more than twice the share of pixels that the level leaves "
        "is missed.",
        ("bad",),
        first,
        (0.0, 1.0),
    ),
)
