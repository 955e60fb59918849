"""Calibration: p-values by quantity, and coverage against level."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from latens.reporting.check_data import (
    at_largest,
    check_units,
    component,
    image_rows,
    mean_point,
    solver_of,
)
from latens.reporting.palette import MUTED, ordered, solver_style
from latens.reporting.panels import Drawing, Panel, Point, draw_line, say
from latens.reporting.rendering import SERIES_ID
from latens.reporting.results import Results, records, select
from latens.store.schemas import REJECTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


SOURCES = {"data": "held-out pairs", "model": "pairs of the solver's own model"}

ORDER = (
    *("pixels", "regions", "principal", "principal together", "norm", "data fit"),
    *("null space", "null space given y"),
    *("TARP near A⁺y", "TARP independent", "log q(x | y)", "latents", "log q(z | y)", "local"),
)
"""Quantities in the order in which they are shown; others follow by name."""

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Levels of the components of the coverage errors, in their order."""

FUNCTIONALS = {"pixel": "pixels", "region": "region means", "principal": "principal directions"}


@dataclass(frozen=True)
class Tested:
    """Tests of one quantity of one solver.

    Args:
        text: Smallest adjusted p-value.
        p: The same as a number.
        rejects: Whether it rejects at 5 %.
        tests: Every test with its p-values, in words.
    """

    text: str
    p: float
    rejects: bool
    tests: str


@dataclass(frozen=True)
class PValueTable:
    """p-values of all quantities and solvers at the largest N that was tested.

    Args:
        source: What the pairs are, in words.
        n: Training size.
        solvers: Columns.
        rows: By quantity: by solver, where it was tested.
    """

    source: str
    n: int
    solvers: list[str]
    rows: dict[str, dict[str, Tested]]


def p_value_tables(results: Results) -> list[PValueTable]:
    """One table for held-out pairs and one for simulated pairs, where there are any."""
    tests = results.tests
    if tests.empty:
        return []
    largest = max(int(row["n"]) for row in records(tests))
    tests = select(tests, "n", largest)
    tables = []
    for source, words in SOURCES.items():
        mine = cast(pd.DataFrame, tests[tests["test"].str.startswith(f"{source}: ")])
        rows: dict[str, dict[str, Tested]] = {}
        for quantity in in_order(mine["quantity"]):
            of_quantity = select(mine, "quantity", quantity)
            rows[quantity] = {
                solver: _tested(select(of_quantity, "solver", solver), source)
                for solver in ordered(of_quantity["solver"])
            }
        if rows:
            tables.append(PValueTable(words, largest, ordered(mine["solver"]), rows))
    return tables


def in_order(names: Iterable[object]) -> list[str]:
    """Quantities such as `norm` or `pixels (8)`, in the order of their families."""
    rank = {name: i for i, name in enumerate(ORDER)}

    def key(name: str) -> tuple[int, str]:
        family = name if name in rank else name.rpartition(" (")[0]
        return rank.get(family, len(rank)), name

    return sorted({str(name) for name in names}, key=key)


def _tested(rows: pd.DataFrame, source: str) -> Tested:
    found = records(rows.sort_values("p_adjusted"))
    p = float(found[0]["p_adjusted"])
    each = "; ".join(
        f"{str(row['test']).removeprefix(f'{source}: ')}: p {float(row['p_value']):.2g}, "
        f"adjusted {float(row['p_adjusted']):.2g}"
        for row in found
    )
    return Tested(f"{p:.2g}" if p < 1 else "1", p, p <= REJECTS, each)


def coverage_curves(results: Results) -> dict[str, dict[str, list[Point]]]:
    """Coverage of central intervals against their level, at the largest N of all.

    Returns:
        By functional (`pixel`, `region`, `principal`), by solver: one point per level, of the
        evaluation with the lowest seeds.
    """
    found: dict[str, dict[str, list[Point]]] = {name: {} for name in FUNCTIONALS}
    for unit in at_largest(check_units(results, "")):
        if unit.identity.get("kind") == "point":
            continue
        rows = image_rows(unit, *(f"ce_{name}" for name in FUNCTIONALS))
        for name, by_solver in found.items():
            error = rows.get(f"ce_{name}")
            if error is None or error.shape[1] != len(LEVELS):
                continue
            by_solver[solver_of(unit)] = [
                mean_point(level, component(error, i) + level) for i, level in enumerate(LEVELS)
            ]
    return {name: by_solver for name, by_solver in found.items() if by_solver}


def coverage_drawing(results: Results) -> Drawing:
    """Reliability curves: coverage against level, one panel for each functional."""
    found = coverage_curves(results)
    solvers = ordered(solver for by_solver in found.values() for solver in by_solver)
    caption = (
        "Share of the truth inside central intervals against the level that they claim, at the "
        "largest N, for the evaluation with the lowest seeds; the dashed line is a calibrated "
        "posterior, below it the solver is too sure. Shades are 95 % intervals over images."
    )
    panels = [
        Panel(
            f"Coverage of {FUNCTIONALS[name]}",
            f"Coverage of {FUNCTIONALS[name]} against the level of the interval, of "
            + "; ".join(f"{s}: {_at_half(points)}" for s, points in by_solver.items()),
            partial(_draw_coverage, by_solver=by_solver),
        )
        for name, by_solver in found.items()
    ]
    return Drawing("coverage_by_level", caption, solvers, panels)


def _at_half(points: Sequence[Point]) -> str:
    middle = points[len(points) // 2]
    return f"{middle.value:.2f} at level {middle.x:g}" if math.isfinite(middle.value) else "n/a"


def _draw_coverage(ax: "Axes", by_solver: dict[str, list[Point]]) -> None:
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, dashes=(4, 3), zorder=1)
    for solver in ordered(by_solver):
        points = [p for p in by_solver[solver] if math.isfinite(p.value)]
        if not points:
            continue
        x, y = np.array([p.x for p in points]), np.array([p.value for p in points])
        lower, upper = zip(*(p.ends for p in points), strict=True)
        area = ax.fill_between(x, lower, upper, color=solver_style(solver).colour, alpha=0.14)
        area.set(linewidth=0, gid=SERIES_ID + solver)
        draw_line(ax, solver, x, y)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ticks = ([0.0, 0.25, 0.5, 0.75, 1.0], ["0", ".25", ".5", ".75", "1"])
    ax.set_xticks(*ticks)
    ax.set_yticks(*ticks)
    ax.set_xlabel("level of the interval", color=MUTED, fontsize=7.5)
    say(ax, "share of the truth inside")
