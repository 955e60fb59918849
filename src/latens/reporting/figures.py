"""Figures of a run: learning curves, calibration, training history.

Object-oriented matplotlib throughout; no global state is touched. Every function returns a
`Figure` that `rendering` turns into bytes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latens.reporting.palette import (
    INK,
    MUTED,
    PAPER,
    RULE,
    SolverStyle,
    ordered,
    solver_style,
)
from latens.reporting.rendering import SERIES_ID, drawing_style
from latens.reporting.results import Definition, measured_values, records, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = (3.5, 2.5)
"""Width and height of one panel, inches."""

DODGE = 0.045
"""Distance between neighbouring solvers at one N, in factors of two."""

SAMPLES = "training samples"
"""What N counts, where a study does not say otherwise."""

NO_NOTES: Mapping[str, str] = MappingProxyType({})

TITLE = {"fontsize": 8.5, "fontweight": "bold"}

LOG_RATIO = 6.0
"""A metric that is better when lower gets a log axis once it spans more than this factor."""


def learning_curves(
    curves: pd.DataFrame,
    scaling_band: pd.DataFrame,
    definitions: Mapping[str, Definition],
    metrics: Sequence[str],
    notes: Mapping[str, str] = NO_NOTES,
    counted: str = SAMPLES,
) -> "Figure":
    """Small multiples: one panel per metric against the training size N.

    Points are means over seeds with their interval; lines are fitted laws
    E(N) = E_∞ + a N^(−α) with their band, where a law was fitted, and thin connections
    otherwise. Targets are dashed lines.

    Args:
        curves: Table CURVES.
        scaling_band: Table SCALING_BAND, possibly empty.
        definitions: By metric: label, unit, direction, target.
        metrics: Which metrics to draw, in this order.
        notes: By solver: a remark for the legend, for example "not a posterior".
        counted: What N counts.

    Returns:
        A figure three panels wide, with one legend for all.
    """
    solvers = ordered(curves["solver"])
    columns = min(3, max(1, len(metrics)))
    rows = math.ceil(len(metrics) / columns)
    figure, axes = canvas(max(rows, 1), columns)
    with drawing_style():
        for ax, metric in zip(axes, metrics, strict=False):
            definition = definitions.get(metric, Definition(metric, metric))
            draw_learning_curve(ax, curves, scaling_band, definition, solvers, counted)
            ax.set_title(plain(definition.title), loc="left", pad=15, **TITLE)
        for ax in axes[len(metrics) :]:
            ax.set_axis_off()
        add_legend(figure, solvers, notes)
    return figure


def learning_curve(
    curves: pd.DataFrame,
    scaling_band: pd.DataFrame,
    definition: Definition,
    solvers: Sequence[str],
    counted: str = SAMPLES,
) -> "Figure":
    """One panel of `learning_curves`, without title and legend: the web page sets its own."""
    figure, axes = canvas(1, 1)
    with drawing_style():
        draw_learning_curve(axes[0], curves, scaling_band, definition, solvers, counted)
    return figure


def draw_learning_curve(
    ax: "Axes",
    curves: pd.DataFrame,
    scaling_band: pd.DataFrame,
    definition: Definition,
    solvers: Sequence[str],
    counted: str = SAMPLES,
) -> None:
    """Draws one metric of all solvers into an axis.

    A solver measured at N = 0, which used no training data, is a horizontal line. Intervals
    that leave the panel are cut, so that one wide interval does not flatten the rest.

    Args:
        ax: Where to draw.
        curves: Table CURVES.
        scaling_band: Table SCALING_BAND, possibly empty.
        definition: Of the metric to draw.
        solvers: All solvers of the run; their order fixes the small horizontal offsets.
        counted: What N counts.
    """
    rows = select(curves, "metric", definition.metric)
    band = select(scaling_band, "metric", definition.metric)
    tidy(ax)
    limits = _vertical_limits(rows, band, definition)
    for i, solver in enumerate(solvers):
        mine = measured_values(select(rows, "solver", solver), "mean")
        fitted = measured_values(select(band, "solver", solver), "value")
        offset = 2.0 ** (DODGE * (i - (len(solvers) - 1) / 2))
        _draw_solver(ax, solver, mine, fitted, offset)
    if math.isfinite(definition.aim):
        ax.axhline(definition.aim, color=MUTED, linewidth=0.8, dashes=(4, 3), zorder=1)
        beside = {"xy": (1.01, definition.aim), "xycoords": ax.get_yaxis_transform()}
        ax.annotate(f"{definition.aim:g}", **beside, va="center", color=MUTED, fontsize=7)
    size_axis(ax, sorted({int(n) for n in curves["n"] if n > 0}), counted)
    _value_axis(ax, limits, definition)


def training_history(
    histories: Mapping[str, pd.DataFrame], notes: Mapping[str, str] = NO_NOTES
) -> "Figure":
    """Training history of one fit per solver, one panel per quantity.

    Args:
        histories: By solver: table HISTORY (stage, step, quantity, value).
        notes: By solver: a remark for the legend.

    Returns:
        Panels of every quantity that some history holds; steps on the horizontal axis.
        Stages of one fit follow each other on the same axis.
    """
    solvers = ordered(histories)
    quantities = list(dict.fromkeys(q for s in solvers for q in histories[s]["quantity"]))
    columns = min(3, max(1, len(quantities)))
    figure, axes = canvas(max(1, math.ceil(len(quantities) / columns)), columns)
    with drawing_style():
        for ax, quantity in zip(axes, quantities, strict=False):
            tidy(ax)
            for solver in solvers:
                style, rows = solver_style(solver), histories[solver]
                for _, stage in rows[rows["quantity"] == quantity].groupby("stage", sort=False):
                    (line,) = ax.plot(stage["step"], stage["value"], color=style.colour, lw=1.0)
                    line.set_linestyle(style.line)
                    line.set_gid(SERIES_ID + solver)
            ax.set_title(plain(quantity), loc="left", **TITLE)
            ax.set_xlabel("optimiser step", color=MUTED)
        for ax in axes[len(quantities) :]:
            ax.set_axis_off()
        add_legend(figure, solvers, notes)
    return figure


def plain(text: str) -> str:
    """Text that matplotlib draws as it stands: dollar signs start no formula."""
    return str(text).replace("$", r"\$")


def canvas(rows: int, columns: int) -> "tuple[Figure, list[Axes]]":
    """A figure of equal panels, and its axes row by row."""
    from matplotlib.figure import Figure

    with drawing_style():
        figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def tidy(ax: "Axes") -> None:
    """Two thin spines, a quiet horizontal grid, nothing else."""
    ax.patch.set_alpha(0.0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(RULE)
    ax.spines[["left", "bottom"]].set_linewidth(0.8)
    ax.grid(axis="y", color=RULE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=7.5, labelcolor=INK, pad=3)


def _draw_solver(
    ax: "Axes", solver: str, rows: pd.DataFrame, band: pd.DataFrame, offset: float
) -> None:
    """Points with intervals, and the fitted law or a thin connection."""
    style, name = solver_style(solver), SERIES_ID + solver
    for row in records(select(rows, "n", 0)):
        ax.axhspan(row["lower"], row["upper"], color=style.colour, alpha=0.12, lw=0, gid=name)
        ax.axhline(row["mean"], color=style.colour, linestyle=style.line, lw=1.3, gid=name)
    rows = rows.query("n > 0")
    if rows.empty:
        return
    x = rows["n"].to_numpy(float) * offset
    mean = rows["mean"].to_numpy(float)
    if len(band):
        n = band["n"].to_numpy(float)
        area = ax.fill_between(n, band["lower"], band["upper"], color=style.colour, alpha=0.14)
        area.set(linewidth=0, gid=name)
        ax.plot(n, band["value"], color=style.colour, linestyle=style.line, lw=1.4, gid=name)
    else:
        ax.plot(x, mean, color=style.colour, linestyle=style.line, lw=0.9, alpha=0.75, gid=name)
    lower = rows["lower"].fillna(rows["mean"]).to_numpy(float)
    upper = rows["upper"].fillna(rows["mean"]).to_numpy(float)
    ax.vlines(x, lower, upper, color=style.colour, linewidth=1.1, zorder=3, gid=name)
    ax.plot(x, mean, linestyle="none", gid=name, **marker(style))


def marker(style: SolverStyle) -> dict[str, Any]:
    """Marker settings of a solver."""
    face = PAPER if style.hollow else style.colour
    return {
        "marker": style.marker,
        "markersize": 4.2,
        "markerfacecolor": face,
        "markeredgecolor": style.colour,
        "markeredgewidth": 1.1 if style.hollow else 0.0,
        "zorder": 4,
    }


def size_axis(ax: "Axes", sizes: Sequence[int], counted: str = SAMPLES) -> None:
    """Log axis whose ticks are the sizes that were measured."""
    ax.set_xscale("log", base=2)
    ax.set_xlabel(f"{counted} N", color=MUTED, fontsize=7.5)
    ax.minorticks_off()
    if not sizes:
        ax.set_xticks([])
        return
    room = math.log2(sizes[-1] / sizes[0]) / 7 if len(sizes) > 7 else 0.0
    kept = [sizes[-1]]
    for n in reversed(sizes[:-1]):
        if math.log2(kept[0] / n) >= room:
            kept.insert(0, n)
    ax.set_xticks(kept, [f"{n}" if n < 10_000 else f"{n / 1000:g}k" for n in kept])
    margin = 2.0 ** max(0.35, 0.05 * math.log2(sizes[-1] / sizes[0]))
    ax.set_xlim(sizes[0] / margin, sizes[-1] * margin)


@dataclass(frozen=True)
class _Limits:
    """Range of the vertical axis and its kind."""

    bottom: float
    top: float
    log: bool


def _vertical_limits(
    rows: pd.DataFrame, band: pd.DataFrame, definition: Definition
) -> "_Limits | None":
    """Range of the means, the laws and the target, widened for intervals up to its own size."""
    centre = [rows["mean"].to_numpy(float), [definition.aim]]
    if len(band):
        sizes = rows.loc[rows["n"] > 0, "n"]
        inside = band["n"].between(sizes.min(), sizes.max())
        centre.append(band.loc[inside, "value"].to_numpy(float))
    core = np.concatenate(centre)
    core = core[np.isfinite(core)]
    if not len(core):
        return None
    ends = rows[["lower", "upper"]].to_numpy(float)
    ends = ends[np.isfinite(ends)]
    low, high = float(core.min()), float(core.max())
    if definition.better == "lower" and low > 0 and high / low > LOG_RATIO:
        reach = max((high / low) ** 0.35, 1.15)
        bottom = max(low / reach, ends[ends > 0].min(initial=low))
        top = min(high * reach, ends.max(initial=high))
        return _Limits(bottom / 1.06, top * 1.12, log=True)
    reach = max(0.35 * (high - low), 1e-3 * max(abs(high), abs(low)), 1e-12)
    bottom = max(low - reach, ends.min(initial=low))
    top = min(high + reach, ends.max(initial=high))
    room = 0.06 * (top - bottom) or 0.05 * max(abs(top), 1e-9)
    return _Limits(bottom - room, top + room, log=False)


def _value_axis(ax: "Axes", limits: "_Limits | None", definition: Definition) -> None:
    """Vertical axis with unit and direction; log where the metric spans decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    words = [definition.unit] if definition.unit else []
    if definition.better in {"lower", "higher"}:
        words.append(f"{definition.better} is better")
    if math.isfinite(definition.aim):
        words.append(f"target {definition.aim:g}, dashed")
    if limits and limits.log:
        ax.set_yscale("log")
        decades = math.log10(limits.top / limits.bottom)
        subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.6 else (1.0, 2.0, 5.0)
        ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        words.append("log axis")
    else:
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if limits:
        ax.set_ylim(limits.bottom, limits.top)
    said = {"xy": (0.0, 1.03), "xycoords": "axes fraction", "va": "bottom"}
    ax.annotate(plain(", ".join(words)), **said, color=MUTED, fontsize=7.5)


def add_legend(figure: "Figure", solvers: Sequence[str], notes: Mapping[str, str]) -> None:
    """One legend above all panels."""
    from matplotlib.lines import Line2D

    if not solvers:
        return
    handles = [
        Line2D([], [], color=s.colour, linestyle=s.line, lw=1.3, **marker(s))
        for s in map(solver_style, solvers)
    ]
    figure.legend(
        handles,
        [plain(f"{s} ({notes[s]})" if s in notes else s) for s in solvers],
        loc="outside upper left",
        ncols=min(len(solvers), 6 if figure.get_figwidth() > 8 else 3),
        frameon=False,
        fontsize=8,
        handlelength=2.6,
    )
