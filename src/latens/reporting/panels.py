"""Figures made of panels: each panel stands alone on the page, and all together in a paper."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from latens.reporting.figures import (
    DODGE,
    NO_NOTES,
    TITLE,
    add_legend,
    canvas,
    marker,
    plain,
    tidy,
)
from latens.reporting.palette import MUTED, solver_style
from latens.reporting.rendering import SERIES_ID, drawing_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """One axis of a figure.

    Args:
        title: Heading.
        description: What a reader who cannot see it is told.
        draw: Draws into an empty axis.
    """

    title: str
    description: str
    draw: "Callable[[Axes], None]"


@dataclass(frozen=True)
class Drawing:
    """A figure of a report.

    Args:
        name: Stem of its files, letters and underscores.
        caption: What is drawn, and how to read it.
        solvers: Solvers that are drawn, for the legend of the paper.
        panels: Its panels; none where the run has nothing to draw.
    """

    name: str
    caption: str
    solvers: Sequence[str]
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Point:
    """A number with its interval at a place of the horizontal axis.

    Args:
        x: Place.
        value: The number.
        lower, upper: Ends of its interval, NaN where there is none.
    """

    x: float
    value: float
    lower: float = math.nan
    upper: float = math.nan

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the interval, the number itself where one is missing."""
        low, high = (e if math.isfinite(e) else self.value for e in (self.lower, self.upper))
        return low, high


def panel_figure(panel: Panel) -> "Figure":
    """One panel without title and legend: the page sets its own."""
    figure, axes = canvas(1, 1)
    with drawing_style():
        tidy(axes[0])
        panel.draw(axes[0])
    return figure


def paper_figure(drawing: Drawing, notes: Mapping[str, str] = NO_NOTES) -> "Figure":
    """All panels of a drawing, three in a row, with titles and one legend."""
    columns = min(3, max(1, len(drawing.panels)))
    rows = math.ceil(len(drawing.panels) / columns)
    figure, axes = canvas(max(rows, 1), columns)
    with drawing_style():
        for ax, panel in zip(axes, drawing.panels, strict=False):
            tidy(ax)
            panel.draw(ax)
            ax.set_title(plain(panel.title), loc="left", pad=15, **TITLE)
        for ax in axes[len(drawing.panels) :]:
            ax.set_axis_off()
        add_legend(figure, drawing.solvers, notes)
    return figure


def draw_points(ax: "Axes", solver: str, points: Sequence[Point]) -> None:
    """Points of a solver with their intervals, joined by its line."""
    shown = sorted((p for p in points if math.isfinite(p.value)), key=lambda p: p.x)
    if not shown:
        return
    style, name = solver_style(solver), SERIES_ID + solver
    x, y = [p.x for p in shown], [p.value for p in shown]
    lower, upper = zip(*(p.ends for p in shown), strict=True)
    ax.plot(x, y, color=style.colour, linestyle=style.line, lw=1.1, gid=name)
    ax.vlines(x, lower, upper, color=style.colour, linewidth=1.1, zorder=3, gid=name)
    ax.plot(x, y, linestyle="none", gid=name, **marker(style))


def draw_aside(ax: "Axes", solver: str, points: Sequence[Point]) -> None:
    """Numbers that stand beside the points of a solver: small, open, on a dotted line."""
    shown = sorted((p for p in points if math.isfinite(p.value)), key=lambda p: p.x)
    style, name = solver_style(solver), SERIES_ID + solver
    open_marker = {**marker(style), "markersize": 3.4, "markerfacecolor": "#ffffff"}
    open_marker["markeredgewidth"] = 0.9
    x, y = [p.x for p in shown], [p.value for p in shown]
    ax.plot(x, y, color=style.colour, linestyle=":", lw=1.0, gid=name, **open_marker)


def draw_pair(
    ax: "Axes",
    solvers: Sequence[str],
    solver: str,
    points: Sequence[Point],
    beside: Sequence[Point],
) -> None:
    """Filled and open marks of a solver, a little apart from those of the others at each N."""
    factor = 2.0 ** apart(solvers, solver, DODGE)
    draw_aside(ax, solver, [replace(p, x=p.x * factor) for p in beside])
    draw_points(ax, solver, [replace(p, x=p.x * factor) for p in points])


def draw_line(ax: "Axes", solver: str, x: np.ndarray, y: np.ndarray) -> None:
    """A curve of a solver, with its mark at about five places that differ between solvers."""
    style, name = solver_style(solver), SERIES_ID + solver
    step = max(1, len(x) // 5)
    start = sum(solver.encode()) % step
    places = (start, step)
    ax.plot(
        x,
        y,
        color=style.colour,
        linestyle=style.line,
        lw=1.1,
        markevery=places,
        gid=name,
        **{**marker(style), "zorder": 3},
    )


def say(ax: "Axes", text: str) -> None:
    """Words above the left end of an axis: unit, direction, kind of axis."""
    place = {"xy": (0.0, 1.03), "xycoords": "axes fraction", "va": "bottom"}
    ax.annotate(plain(text), **place, color=MUTED, fontsize=7.5)


def draw_target(ax: "Axes", value: float) -> None:
    """A dashed line across the axis, its value beside it."""
    ax.axhline(value, color=MUTED, linewidth=0.8, dashes=(4, 3), zorder=1)
    beside = {"xy": (1.01, value), "xycoords": ax.get_yaxis_transform()}
    ax.annotate(f"{value:g}", **beside, va="center", color=MUTED, fontsize=7)


def apart(solvers: Sequence[str], solver: str, step: float) -> float:
    """Offset of a solver from its neighbours, symmetric about 0."""
    place = solvers.index(solver) if solver in solvers else 0
    return step * (place - (len(solvers) - 1) / 2)


def log_if_wide(ax: "Axes", values: Sequence[float], factor: float = 6.0) -> bool:
    """Logarithmic vertical axis where positive values span more than a factor."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    finite = np.asarray([v for v in values if math.isfinite(v)])
    if len(finite) < 2 or finite.min() <= 0 or finite.max() / finite.min() <= factor:
        return False
    ax.set_yscale("log")
    decades = math.log10(finite.max() / finite.min())
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 3 else (1.0, 3.0)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    return True
