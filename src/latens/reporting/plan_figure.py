"""Figure of a plan: learning curves carried on beyond the data, the bar, and where it is met."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from latens.reporting.figures import learning_curve
from latens.reporting.palette import MUTED, RULE, solver_style
from latens.reporting.plan import PlanBar
from latens.reporting.rendering import SERIES_ID, drawing_style
from latens.reporting.results import select

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plan_panel(
    curves: pd.DataFrame, band: pd.DataFrame, bar: PlanBar, solvers: Sequence[str]
) -> "Figure":
    """One bar: curves with their bands up to the horizon, the bar dashed, each N dotted.

    Args:
        curves: Table CURVES.
        band: Table PLAN_BAND.
        bar: The bar and its answers.
        solvers: All solvers of the run, which fix the small horizontal offsets.

    Returns:
        A panel without title and legend; what lies beyond the largest size is shaded.
    """
    figure = learning_curve(curves, band, bar.metric, solvers)
    ax = figure.axes[0]
    ends = [end for end in (bar.lower, bar.upper) if math.isfinite(end)]
    sizes = curves.loc[curves["n"] > 0, "n"]
    mine = select(band, "metric", bar.metric.metric)
    with drawing_style():
        low, high = ax.get_ylim()
        room = 0.04 * (high - low)
        if ax.get_yscale() == "log":
            ends_in_view = [end for end in ends if end > 0]
            ax.set_ylim(min([low, *(e / 1.1 for e in ends_in_view)]), max([high, *ends_in_view]))
        else:
            ax.set_ylim(
                min([low, *(e - room for e in ends)]), max([high, *(e + room for e in ends)])
            )
        for end in ends:
            ax.axhline(end, color=MUTED, linewidth=1.0, dashes=(4, 3), zorder=2)
        if len(mine) and len(sizes):
            left, right = ax.get_xlim()
            horizon = float(mine["n"].to_numpy().max())
            ax.set_xlim(left, max(right, horizon))
            ax.axvspan(float(sizes.max()), max(right, horizon), color=RULE, alpha=0.35, lw=0)
        for row in bar.rows:
            n = row.size.sort
            if not row.met_at_all or not isinstance(n, float):
                continue
            style, name = solver_style(row.solver), SERIES_ID + row.solver
            height = _crossing(mine, row.solver, n, ends)
            bottom = ax.get_ylim()[0]
            ax.vlines([n], bottom, [height], color=style.colour, lw=0.9, linestyle=":", gid=name)
    return figure


def _crossing(band: pd.DataFrame, solver: str, n: float, ends: Sequence[float]) -> float:
    """The end of the bar that the curve of a solver crosses at N."""
    mine = select(band, "solver", solver)
    if mine.empty:
        return ends[0]
    nearest = mine.iloc[(mine["n"] - n).abs().argmin()]
    return min(ends, key=lambda end: abs(end - float(nearest["value"])))
