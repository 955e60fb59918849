"""Range and null space: errors where the measurement speaks, and where it says nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from latens.reporting.check_data import (
    at_largest,
    check_units,
    component,
    image_rows,
    mean_point,
    read_picture,
    size_of,
    solver_of,
)
from latens.reporting.figures import size_axis
from latens.reporting.gallery import planes
from latens.reporting.palette import ordered
from latens.reporting.panels import (
    Drawing,
    Panel,
    Point,
    draw_pair,
    log_if_wide,
    say,
)
from latens.reporting.pictures import (
    FLAGS,
    Picture,
    PictureRow,
    PictureSet,
    Scale,
    data_range,
    each_image,
    largest_magnitude,
    rms,
)
from latens.reporting.results import Results, Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHECK = "null_space"

PARTS = {"null": 0, "range": 1}
"""Parts of errors and variances, and their component in the tables."""

METRICS = ("null_error", "null_variance", "hallucinated", "unflagged")

WHERE = {"null": "null space", "range": "range"}


@dataclass(frozen=True)
class Split:
    """Errors of one solver at one N, split.

    Args:
        solver: Name of the solver.
        n: Training size.
        error: By part, mean squared error per pixel.
        variance: By part, variance of the draws per pixel; empty for a point estimate.
        hallucinated: Share of pixels whose error in the null space exceeds the threshold.
        unflagged: Share of pixels that do so with their truth outside the interval.
    """

    solver: str
    n: int
    error: Mapping[str, Point]
    variance: Mapping[str, Point]
    hallucinated: Point
    unflagged: Point


def splits(results: Results) -> list[Split]:
    """Of every solver and N that was checked."""
    found = []
    for unit in check_units(results, CHECK):
        rows, n = image_rows(unit, *METRICS), size_of(unit)
        if "null_error" not in rows:
            continue
        error, variance = (
            {part: mean_point(n, component(rows[name], i)) for part, i in PARTS.items()}
            if name in rows
            else {}
            for name in METRICS[:2]
        )
        shares = [
            mean_point(n, component(rows[name], 0)) if name in rows else Point(n, math.nan)
            for name in METRICS[2:]
        ]
        found.append(Split(solver_of(unit), n, error, variance, *shares))
    return found


def split_drawing(results: Results) -> Drawing:
    """Error and stated variance in both parts, and hallucinated pixels, against N."""
    found = splits(results)
    solvers = ordered(split.solver for split in found)
    caption = (
        "The range is what the measurement tells above the noise, the null space the rest. Filled "
        "marks: mean squared error of the reconstruction in each part, both panels on one scale. "
        "Open marks: variance of the posterior draws there; below the error, the solver is too "
        "sure. Last: pixels whose error in the null space exceeds the threshold (filled), and "
        "those among them that the interval does not flag (open). Bars are 95 % intervals over "
        "images."
    )
    if not found:
        return Drawing("null_space", caption, solvers, [])
    words = ", ".join(solvers)
    panels = [
        Panel(
            f"Error in the {where}",
            f"Mean squared error in the {where} and stated variance of {words} against the "
            "number of training samples",
            partial(_draw_part, found=found, solvers=solvers, part=part),
        )
        for part, where in WHERE.items()
    ]
    panels.append(
        Panel(
            "Hallucinated pixels",
            f"Share of hallucinated and of unflagged pixels of {words} against the number of "
            "training samples",
            partial(_draw_hallucinated, found=found, solvers=solvers),
        )
    )
    return Drawing("null_space", caption, solvers, panels)


def _draw_part(ax: "Axes", found: Sequence[Split], solvers: Sequence[str], part: str) -> None:
    for solver in solvers:
        mine = [split for split in found if split.solver == solver]
        variances = [split.variance[part] for split in mine if split.variance]
        draw_pair(ax, solvers, solver, [split.error[part] for split in mine], variances)
    values = [p.value for s in found for p in (*s.error.values(), *s.variance.values())]
    finite = [v for v in values if math.isfinite(v)]
    is_log = log_if_wide(ax, finite)
    if is_log:
        ax.set_ylim(min(finite) / 1.3, max(finite) * 1.3)
    elif finite:
        ax.set_ylim(0.0, 1.08 * max(finite) or 1.0)
    size_axis(ax, sorted({split.n for split in found if split.n > 0}))
    say(ax, "signal², lower is better" + (", log axis" if is_log else ""))


def _draw_hallucinated(ax: "Axes", found: Sequence[Split], solvers: Sequence[str]) -> None:
    for solver in solvers:
        mine = [split for split in found if split.solver == solver]
        unflagged = [s.unflagged for s in mine if math.isfinite(s.unflagged.value)]
        draw_pair(ax, solvers, solver, [split.hallucinated for split in mine], unflagged)
    size_axis(ax, sorted({split.n for split in found if split.n > 0}))
    ax.set_ylim(bottom=0.0)
    say(ax, "share of pixels, lower is better")


def hallucination_pictures(results: Results) -> PictureSet | None:
    """Truth, reconstruction, error in the null space, its stated std, and hallucinated pixels."""
    units = at_largest(check_units(results, CHECK))
    arrays = {unit.name: _arrays(unit) for unit in units}
    units = [unit for unit in units if {"truth", "mean", "null_map"} <= arrays[unit.name].keys()]
    if not units:
        return None
    low, high = data_range(results, [arrays[u.name]["truth"] for u in units])
    error = largest_magnitude(arrays[u.name]["null_map"] for u in units)
    threshold = _threshold(units)
    rows = []
    for unit, image, own in each_image(units, arrays):
        rows.append(PictureRow(solver_of(unit), image, _pictures(own, (low, high), error)))
    scales = [
        Scale("truth, estimate", "gray", low, high),
        Scale("error in the null space", "RdBu_r", -error, error),
        Scale("its stated std", "magma", 0.0, error),
    ]
    size = f", {threshold:.3g} in units of the signal" if math.isfinite(threshold) else ""
    caption = (
        "What the measurement did not tell: the error in the null space, the standard deviation "
        "that the draws have there, on the same scale, and hallucinated pixels, whose error in "
        f"the null space exceeds a threshold{size}: flagged (blue) where the interval contains "
        "the truth, unflagged (orange) where it does not. A point estimate flags nothing."
    )
    return PictureSet("hallucinations", size_of(units[0]), caption, rows, scales)


def _threshold(units: Sequence[Unit]) -> float:
    known = [(unit.identity.get("facts") or {}).get("threshold") for unit in units]
    return next((float(value) for value in known if value is not None), math.nan)


def _arrays(unit: Unit) -> dict[str, np.ndarray]:
    names = ("truth", "mean", "null_map", "null_std", "flags")
    read = {name: read_picture(unit, name) for name in names}
    return {name: planes(array) for name, array in read.items() if array is not None}


def _pictures(
    own: Mapping[str, np.ndarray], grey: tuple[float, float], error: float
) -> tuple[Picture, ...]:
    std, flags, unseen = own.get("null_std"), own.get("flags"), own["null_map"]
    marked = ""
    if flags is not None:
        found, missed = (100 * float(np.mean(flags == code)) for code in (1, 2))
        marked = f"{found:.1f} % flagged, {missed:.1f} % not"
    return (
        Picture("truth", own["truth"], "gray", *grey),
        Picture("estimate", own["mean"], "gray", *grey),
        Picture("null-space error", unseen, "RdBu_r", -error, error, f"error {rms(unseen)}"),
        Picture("stated std", std, "magma", 0.0, error, "" if std is None else f"std {rms(std)}"),
        Picture("hallucinated", flags, FLAGS, 0.0, 2.0, marked),
    )
