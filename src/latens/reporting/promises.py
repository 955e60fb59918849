"""Promises against what was kept: conformal coverage, and amortised against sampled posteriors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from latens import store
from latens.reporting.check_data import solver_of
from latens.reporting.figures import draw_learning_curve, size_axis
from latens.reporting.palette import ordered
from latens.reporting.panels import (
    Drawing,
    Panel,
    Point,
    draw_pair,
    draw_target,
    say,
)
from latens.reporting.results import Results, records, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAPS = ("gap_w2", "gap_spread", "gap_crps")
"""Metrics of the gap that are drawn beside the coverages."""

PROMISES = {
    "crc": "pixels inside, on average over images",
    "rcps": "pixels inside, but for few calibrations",
    "split": "images whose promised share of pixels lies inside",
    "cqr": "images whose promised share of pixels lies inside",
    "simultaneous": "images that lie inside as a whole",
}
"""What the share of each method is of."""

PIXELS = ("crc", "rcps")
"""Methods that promise a share of pixels, which the solver's own coverage compares with."""

OWN_LEVEL = 0.95
"""Level of the solver's own coverage in the tables."""


@dataclass(frozen=True)
class Promise:
    """What calibrated intervals of one method promised, and what they kept.

    Args:
        method: Conformal method.
        level: Share that it promises.
        kept: By solver: share kept, against N.
        own: By solver: coverage of the solver's own 95 % interval, empty where it does not
            compare.
    """

    method: str
    level: float
    kept: dict[str, list[Point]]
    own: dict[str, list[Point]]


def promises(results: Results) -> list[Promise]:
    """One for each method and level in the run."""
    stated: dict[tuple[str, float], set[str]] = {}
    for unit in results.evaluations.values():
        file = unit.folder / "calibration.json"
        if unit.usable and file.is_file():
            said = store.read_json(file)
            key = str(said["method"]), float(said["level"])
            stated.setdefault(key, set()).add(solver_of(unit))
    found = []
    for (method, level), solvers in sorted(stated.items()):
        margins = {s: _points(results, s, "conformal_margin") for s in ordered(solvers)}
        kept = {s: [_shifted(p, level) for p in points] for s, points in margins.items() if points}
        comparable = method in PIXELS and math.isclose(level, OWN_LEVEL)
        own = {s: _points(results, s, "coverage_pixel") for s in kept} if comparable else {}
        if kept:
            found.append(Promise(method, level, kept, own))
    return found


def _points(results: Results, solver: str, metric: str) -> list[Point]:
    """Means over cells with their intervals, from the learning curves."""
    rows = records(select(select(results.curves, "solver", solver), "metric", metric))
    return [
        Point(int(r["n"]), *(float(r[k]) for k in ("mean", "lower", "upper")))
        for r in rows
        if int(r["n"]) > 0 and math.isfinite(float(r["mean"]))
    ]


def _shifted(point: Point, by: float) -> Point:
    return Point(point.x, point.value + by, point.lower + by, point.upper + by)


def promise_drawing(results: Results) -> Drawing:
    """Share kept against N, beside the promise and the solver's own coverage."""
    found = promises(results)
    solvers = ordered(solver for promise in found for solver in promise.kept)
    caption = (
        "What calibrated intervals kept on the test set (filled) against what they promised "
        "(dashed). Open marks: the solver's own 95 % intervals, where they promise the same "
        "thing. A promise of an average over calibrations may be missed by a single one. "
        "Intervals are over seeds."
    )
    panels = [
        Panel(
            f"Promise of {promise.method}, {promise.level:g}",
            f"Share kept by {promise.method}, promised {promise.level:g}: "
            + "; ".join(f"{s} {pp[-1].value:.3f} at N = {pp[-1].x:g}" for s, pp in last.items()),
            partial(_draw_promise, promise=promise, solvers=solvers),
        )
        for promise in found
        for last in [{s: sorted(pp, key=lambda p: p.x) for s, pp in promise.kept.items()}]
    ]
    return Drawing("conformal_promise", caption, solvers, panels)


def _draw_promise(ax: "Axes", promise: Promise, solvers: Sequence[str]) -> None:
    sizes = set()
    for solver, points in promise.kept.items():
        own = promise.own.get(solver, [])
        draw_pair(ax, solvers, solver, points, own)
        sizes |= {int(p.x) for p in (*points, *own)}
    draw_target(ax, promise.level)
    size_axis(ax, sorted(sizes))
    say(ax, PROMISES.get(promise.method, "share kept"))


@dataclass(frozen=True)
class Gap:
    """Coverage of region means of a sampled posterior and of its amortised twin, against N.

    Args:
        solver: Name of the solver that samples.
        sampled: Its coverage.
        amortised: That of the network on the same images.
    """

    solver: str
    sampled: list[Point]
    amortised: list[Point]


def gaps(results: Results) -> list[Gap]:
    """One for each solver that samples what another one amortises."""
    found = []
    for solver in results.solvers:
        differences = {p.x: p for p in _points(results, solver, "gap_coverage_region")}
        sampled = [p for p in _points(results, solver, "coverage_region") if p.x in differences]
        if sampled:
            amortised = [Point(p.x, p.value + differences[p.x].value) for p in sampled]
            found.append(Gap(solver, sampled, amortised))
    return found


def gap_drawing(results: Results) -> Drawing:
    """Coverage of both posteriors, their distance, ratio of spreads and of scores, against N."""
    found = gaps(results)
    solvers = ordered(gap.solver for gap in found)
    caption = (
        "The posterior that the network states against the one that chains sample from the same "
        "model. First panel: coverage of region means at 95 % of the chains (filled) and of the "
        "network on the same images (open). Where the chains cover and the network does not, the "
        "network is at fault; where neither does, the model is."
    )
    if not found:
        return Drawing("amortisation_gap", caption, solvers, [])
    panels = [
        Panel(
            "Coverage of region means",
            "Coverage of region means of sampled and amortised posteriors against the number of "
            "training samples: " + "; ".join(_words(gap) for gap in found),
            partial(_draw_gaps, found=found, solvers=solvers),
        )
    ]
    for metric in GAPS:
        if metric in results.measured:
            definition = results.definitions[metric]
            settings: dict[str, Any] = {
                "curves": results.curves,
                "scaling_band": results.scaling_band,
                "definition": definition,
                "solvers": solvers,
            }
            words = f"{definition.label} against the number of training samples"
            panels.append(Panel(definition.title, words, partial(draw_learning_curve, **settings)))
    return Drawing("amortisation_gap", caption, solvers, panels)


def _words(gap: Gap) -> str:
    last, twin = gap.sampled[-1], gap.amortised[-1]
    return f"{gap.solver} {last.value:.2f}, its network {twin.value:.2f} at N = {last.x:g}"


def _draw_gaps(ax: "Axes", found: Sequence[Gap], solvers: Sequence[str]) -> None:
    for gap in found:
        draw_pair(ax, solvers, gap.solver, gap.sampled, gap.amortised)
    draw_target(ax, OWN_LEVEL)
    size_axis(ax, sorted({int(p.x) for gap in found for p in gap.sampled}))
    say(ax, "share of the truth inside, target 0.95")
