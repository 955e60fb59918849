"""Stability: error against the size of the disturbance, and what the solver then believes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from latens.reporting.check_data import (
    check_units,
    component,
    image_rows,
    mean_point,
    size_of,
    solver_of,
    table_point,
)
from latens.reporting.figures import size_axis
from latens.reporting.palette import MUTED, ordered
from latens.reporting.panels import (
    Drawing,
    Panel,
    Point,
    draw_aside,
    draw_pair,
    draw_points,
    draw_target,
    log_if_wide,
    say,
)
from latens.reporting.results import Results, Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHECK = "stability"
RELATIVE, KEPT = "relative_worst_error", "contrast_recovery"
WORST, BELIEVED = "worst_error", "worst_coverage_region"

LEVEL = 0.95
"""Level of the intervals whose coverage is shown."""


@dataclass(frozen=True)
class NoiseCurve:
    """Error of one solver against the radius of the ball of disturbances.

    Args:
        solver: Name of the solver.
        n: Training size.
        worst: Largest error found, by radius in norms of the noise; the first point, at radius 0,
            is the error of the measurement as it is.
        random: Error at random disturbances: at radius 0 the same, at 1 the mean over them.
        shares: Largest error found, by radius in percent of the norm of the measurement, with the
            same first point.
    """

    solver: str
    n: int
    worst: list[Point]
    random: list[Point]
    shares: list[Point]


def noise_curves(results: Results) -> list[NoiseCurve]:
    """Of every solver that was attacked, at every N that was checked."""
    whole = _whole(results)
    found = []
    for unit in check_units(results, CHECK):
        metrics = set(results.metrics.loc[results.metrics["evaluation"] == unit.name, "metric"])
        levels = {_level(name): name for name in metrics if _level(name) > 0}
        if not levels:  # its worst cases are those of another solver
            continue
        given = _undisturbed(unit, whole.get((size_of(unit), solver_of(unit))))
        worst = [table_point(results, unit, levels[r], r) for r in sorted(levels)]
        percent = {_number(name, RELATIVE): name for name in metrics if _number(name, RELATIVE)}
        shares = [table_point(results, unit, percent[r], r) for r in sorted(percent)]
        random = _random(unit)
        solver, n = solver_of(unit), size_of(unit)
        found.append(NoiseCurve(solver, n, [given, *worst], [given, random], [given, *shares]))
    return found


@dataclass(frozen=True)
class Belief:
    """Coverage of region means of one solver at one N.

    Args:
        solver: Name of the solver.
        worst: At the worst-case measurements of the norm of the noise.
        given: At the measurements as they are, on the same images.
    """

    solver: str
    worst: Point
    given: Point


def beliefs(results: Results) -> list[Belief]:
    """Of every posterior that was attacked."""
    whole, found = _whole(results), []
    for unit in check_units(results, CHECK):
        solver, n = solver_of(unit), size_of(unit)
        worst = table_point(results, unit, BELIEVED, n)
        if math.isfinite(worst.value):
            twin = whole.get((n, solver))
            covered = _same_images(unit, BELIEVED, twin, "coverage_region")
            given = Point(n, math.nan) if covered is None else mean_point(n, covered)
            found.append(Belief(solver, worst, given))
    return found


@dataclass(frozen=True)
class DetailCurve:
    """Share of inserted details that one solver keeps.

    Args:
        solver: Name of the solver.
        n: Training size.
        kept: By visibility, the length of the measured detail in noise standard deviations.
    """

    solver: str
    n: int
    kept: list[Point]


def detail_curves(results: Results) -> list[DetailCurve]:
    """Of every solver that was attacked, at every N that was checked."""
    found = []
    for unit in check_units(results, CHECK):
        metrics = set(results.metrics.loc[results.metrics["evaluation"] == unit.name, "metric"])
        visible = {_number(name, KEPT): name for name in metrics if _number(name, KEPT)}
        kept = [table_point(results, unit, visible[v], v) for v in sorted(visible)]
        if any(math.isfinite(point.value) for point in kept):
            found.append(DetailCurve(solver_of(unit), size_of(unit), kept))
    return found


def _whole(results: Results) -> dict[tuple[int, str], Unit]:
    """Evaluations on the whole test set by N and solver."""
    return {(size_of(u), solver_of(u)): u for u in check_units(results, "")}


def _level(metric: str) -> float:
    """Radius that the name of a worst-case error tells, in norms of the noise; 0 for others."""
    if metric == WORST:
        return 1.0
    return _number(metric, WORST) / 100


def _number(metric: str, stem: str) -> float:
    """Number that follows a stem in the name of a metric; 0 for others."""
    tail = metric.removeprefix(f"{stem}_")
    return float(tail) if tail != metric and tail.isdigit() else 0.0


def _undisturbed(unit: Unit, whole: Unit | None) -> Point:
    """Mean of √NMSE of the images of a check."""
    nmse = _same_images(unit, WORST, whole, "nmse")
    return Point(0.0, math.nan) if nmse is None else mean_point(0.0, nmse.pow(0.5))


def _same_images(unit: Unit, checked: str, whole: Unit | None, metric: str) -> pd.Series | None:
    """A metric on the images of a check, from the evaluation on the whole test set.

    Args:
        unit: The check.
        checked: Metric of the check whose images are meant.
        whole: The evaluation; None where there is none.
        metric: Its metric.

    Returns:
        One number per image; None where not all of them were evaluated.
    """
    rows = image_rows(unit, checked).get(checked)
    known = image_rows(whole, metric).get(metric) if whole else None
    if rows is None or known is None or not rows.index.isin(known.index).all():
        return None
    return component(known.loc[rows.index], 0)


def _random(unit: Unit) -> Point:
    rows = image_rows(unit, "worst_excess").get("worst_excess")
    return Point(1.0, math.nan) if rows is None else mean_point(1.0, component(rows, 1))


def stability_drawing(results: Results) -> Drawing:
    """Error against the radius at the largest N, and against N at the radius of the noise."""
    found = noise_curves(results)
    solvers = ordered(curve.solver for curve in found)
    caption = (
        "Relative error ‖R(y + e) − x‖/‖x‖, mean over the checked images. Filled marks: the worst "
        "disturbance that a search found in the ball of each radius, a lower bound of the worst. "
        "Open marks: random disturbances of the norm of the noise, and none at radius 0. Balls "
        "are of the noise, or of the norm of the measurement where a panel says so. Coverage: "
        "share of region means inside 95 % intervals at the worst case (filled) and at the "
        "measurement as it is (open). Details: share that the reconstruction shows of small "
        "Gaussians inserted at random places that the measurement sees; 1 keeps, 0 loses, more "
        "exaggerates them. Bars are 95 % intervals over images."
    )
    panels = []
    if found:
        largest = max(curve.n for curve in found)
        last = [curve for curve in found if curve.n == largest]
        panels = [
            Panel(
                f"Error against the disturbance, N = {largest}",
                f"Worst-case and random relative error of {_names(last)} against the radius of "
                f"the ball of disturbances, at N = {largest}",
                partial(_draw_radius, curves=last),
            ),
            Panel(
                "Error at the radius of the noise",
                f"Worst-case and random relative error of {_names(found)} at the norm of the "
                "noise, against the number of training samples",
                partial(_draw_sizes, curves=found, solvers=solvers),
            ),
        ]
    if believed := beliefs(results):
        words = "; ".join(f"{b.solver}, N = {b.worst.x:g}: {b.worst.value:.2f}" for b in believed)
        panels.append(
            Panel(
                "Coverage at the worst case",
                f"Coverage of region means at worst-case measurements: {words}",
                partial(_draw_beliefs, found=believed),
            )
        )
    panels += _share_panels(found)
    panels += _detail_panels(detail_curves(results))
    return Drawing("noise_to_error", caption, solvers, panels)


def _share_panels(found: Sequence[NoiseCurve]) -> list[Panel]:
    """Error against the size of the disturbance relative to that of the measurement."""
    searched = [curve for curve in found if len(curve.shares) > 1]
    if not searched:
        return []
    largest = max(curve.n for curve in searched)
    last = [curve for curve in searched if curve.n == largest]
    return [
        Panel(
            f"Error against the share of ‖y‖, N = {largest}",
            f"Worst-case relative error of {_names(last)} against the radius of the ball of "
            f"disturbances in percent of the norm of the measurement, at N = {largest}",
            partial(_draw_shares, curves=last),
        )
    ]


def _detail_panels(found: Sequence[DetailCurve]) -> list[Panel]:
    """Contrast recovery against visibility."""
    if not found:
        return []
    largest = max(curve.n for curve in found)
    last = [curve for curve in found if curve.n == largest]
    words = "; ".join(
        f"{curve.solver}: " + ", ".join(f"{p.value:.2f} at {p.x:g}" for p in curve.kept)
        for curve in last
    )
    return [
        Panel(
            f"Details kept against their visibility, N = {largest}",
            f"Share of inserted details kept, by their visibility in noise standard deviations, "
            f"at N = {largest}: {words}",
            partial(_draw_details, curves=last),
        )
    ]


def _names(curves: Sequence[NoiseCurve]) -> str:
    return ", ".join(ordered(curve.solver for curve in curves))


def _draw_radius(ax: "Axes", curves: Sequence[NoiseCurve]) -> None:
    for curve in curves:
        draw_aside(ax, curve.solver, curve.random)
        draw_points(ax, curve.solver, curve.worst)
    ax.set_xlabel("radius, norms of the noise", color=MUTED, fontsize=7.5)
    radii = sorted({p.x for curve in curves for p in curve.worst})
    ax.set_xticks(radii, [f"{r:g}" for r in radii])
    _error_axis(ax, [p for c in curves for p in (*c.worst, *c.random)])


def _draw_shares(ax: "Axes", curves: Sequence[NoiseCurve]) -> None:
    for curve in curves:
        draw_points(ax, curve.solver, curve.shares)
    ax.set_xlabel("radius, % of the norm of the measurement", color=MUTED, fontsize=7.5)
    radii = sorted({p.x for curve in curves for p in curve.shares})
    ax.set_xticks(radii, [f"{r:g}" for r in radii])
    _error_axis(ax, [p for curve in curves for p in curve.shares])


def _draw_details(ax: "Axes", curves: Sequence[DetailCurve]) -> None:
    for curve in curves:
        draw_points(ax, curve.solver, curve.kept)
    draw_target(ax, 1.0)
    ax.set_xlabel("visibility ‖Aδ‖, standard deviations of the noise", color=MUTED, fontsize=7.5)
    visible = sorted({p.x for curve in curves for p in curve.kept})
    ax.set_xticks(visible, [f"{v:g}" for v in visible])
    say(ax, "share of details kept, target 1")


def _draw_sizes(ax: "Axes", curves: Sequence[NoiseCurve], solvers: Sequence[str]) -> None:
    every = []
    for solver in solvers:
        mine = [curve for curve in curves if curve.solver == solver]
        worst = [replace(p, x=c.n) for c in mine for p in c.worst if p.x == 1]
        random = [replace(p, x=c.n) for c in mine for p in c.random if p.x == 1]
        draw_pair(ax, solvers, solver, worst, random)
        every += worst + random
    size_axis(ax, sorted({curve.n for curve in curves if curve.n > 0}))
    _error_axis(ax, every)


def _draw_beliefs(ax: "Axes", found: Sequence[Belief]) -> None:
    solvers = ordered(belief.solver for belief in found)
    for solver in solvers:
        mine = [belief for belief in found if belief.solver == solver]
        draw_pair(ax, solvers, solver, [b.worst for b in mine], [b.given for b in mine])
    draw_target(ax, LEVEL)
    size_axis(ax, sorted({int(b.worst.x) for b in found if b.worst.x > 0}))
    say(ax, f"region means inside the interval, target {LEVEL:g}")


def _error_axis(ax: "Axes", points: Sequence[Point]) -> None:
    is_log = log_if_wide(ax, [p.value for p in points])
    say(ax, "relative error, lower is better" + (", log axis" if is_log else ""))
    if not is_log:
        ax.set_ylim(bottom=0.0)
