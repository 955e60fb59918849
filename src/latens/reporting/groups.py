"""In which order metrics are shown, and under which heading."""

from collections.abc import Iterable

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Reconstruction quality", ("psnr", "ssim", "nmse", "rre", "mse", "data_chi2", "oracle")),
    (
        "Calibration",
        (
            "coverage_pixel",
            "coverage_region",
            "coverage_principal",
            "coverage",
            "spread_skill",
            "z_variance",
            "mse_draw_ratio",
            "ace",
            "ce",
            "sbc",
            "tarp",
        ),
    ),
    (
        "Sharpness and scores",
        (
            "interval",
            "crps",
            "energy",
            "variogram",
            "nll",
            "ence",
            "uce",
            "ause",
            "aurg",
            "error_",
        ),
    ),
    ("Conformal intervals", ("conformal_",)),
    ("Amortised against sampled posterior", ("gap_",)),
    (
        "Stability",
        (
            "lipschitz",
            "condition",
            "mean_square_gain",
            "noise_amplification",
            "worst",
            "transferred",
            "image_attack",
            "contrast_recovery",
            "more_samples",
            "posterior_lipschitz",
        ),
    ),
    (
        "Range and null space",
        (
            "null",
            "range",
            "spread_skill_null",
            "spread_skill_range",
            "injected",
            "hallucinated",
            "unflagged",
            "ambiguity",
        ),
    ),
    ("Other", ()),
)
"""Headings, and beginnings of the names of the metrics below each."""

HEADLINED = (
    *("coverage_pixel", "coverage_region", "coverage_principal", "spread_skill"),
    *("gap_spread", "gap_coverage_region"),
)
"""Targets that the first page speaks about; the summary and the curves show the rest."""


def rank(metric: str) -> tuple[int, int, str]:
    """Order of a metric: its group, its place there, its name."""
    found = [
        (-len(beginning), group, place)
        for group, (_, beginnings) in enumerate(GROUPS)
        for place, beginning in enumerate(beginnings)
        if metric.startswith(beginning)
    ]
    _, group, place = min(found, default=(0, len(GROUPS) - 1, 0))
    return group, place, metric


def grouped(metrics: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Headings with their metrics, in order; headings without any are left out."""
    inside: dict[int, list[str]] = {}
    for metric in sorted(set(metrics), key=rank):
        inside.setdefault(rank(metric)[0], []).append(metric)
    return [(GROUPS[group][0], inside[group]) for group in sorted(inside)]
