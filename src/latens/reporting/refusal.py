"""When to refuse: the error that is left when the strangest images are put aside."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from latens import store
from latens.reporting.awareness import SCORES
from latens.reporting.check_data import at_largest, check_units, read_curves
from latens.reporting.palette import MUTED, ordered, solver_style
from latens.reporting.panels import Drawing, Panel, draw_line, say
from latens.reporting.rendering import SERIES_ID
from latens.reporting.results import Results, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORACLE = "oracle"
"""The risk itself as a score."""


@dataclass(frozen=True)
class RiskCurve:
    """Risk of the images that remain, over that of all.

    Args:
        solver: Name of the solver.
        kept: Share of the images kept, ascending to 1.
        risk: Mean error of those kept over the mean error of all; 1 for a blind score.
    """

    solver: str
    kept: np.ndarray
    risk: np.ndarray


def risk_curves(results: Results) -> dict[str, list[RiskCurve]]:
    """By score, the oracle among them: curves of the solvers at the largest N checked."""
    table = read_curves(at_largest(check_units(results, "reliability")), store.RISK_COVERAGE)
    found: dict[str, list[RiskCurve]] = {}
    known = [*SCORES, ORACLE]
    present = {str(score) for score in table["score"]}
    for score in [s for s in known if s in present] + sorted(present - set(known)):
        of_score = select(table, "score", score)
        for solver in ordered(of_score["solver"]):
            rows = select(of_score, "solver", solver).sort_values("kept")
            risk = rows["risk"].to_numpy(float)
            if len(risk) and np.isfinite(risk).all() and risk[-1] > 0:
                curve = RiskCurve(solver, rows["kept"].to_numpy(float), risk / risk[-1])
                found.setdefault(score, []).append(curve)
    return found


def risk_drawing(results: Results) -> Drawing:
    """One panel per score: risk against the share of images kept, with oracle and random."""
    found = risk_curves(results)
    oracle = found.pop(ORACLE, [])
    solvers = ordered(c.solver for curves in found.values() for c in curves)
    caption = (
        "Mean squared error of the images that a score leaves when the strangest are put aside, "
        "over that of all images. Dashed at 1: a score without information, that puts aside at "
        "random. Dotted: the oracle, which knows the errors; nothing lies below it. The nearer "
        "to it, the better the solver knows when to refuse."
    )
    panels = [
        Panel(
            f"Refusing by {SCORES.get(score, score)}",
            f"Relative error of the images kept by {SCORES.get(score, score)}. With half of them "
            "kept: " + "; ".join(f"{c.solver}: {_at_half(c):.2f}" for c in curves),
            partial(_draw_risk, curves=curves, oracle=oracle),
        )
        for score, curves in found.items()
    ]
    return Drawing("risk_coverage", caption, solvers, panels)


def _at_half(curve: RiskCurve) -> float:
    return float(np.interp(0.5, curve.kept, curve.risk))


def _draw_risk(ax: "Axes", curves: Sequence[RiskCurve], oracle: Sequence[RiskCurve]) -> None:
    solvers = {curve.solver for curve in curves}
    ax.axhline(1.0, color=MUTED, linewidth=0.8, dashes=(4, 3), zorder=1)
    for best in oracle:
        if best.solver in solvers:
            colour, name = solver_style(best.solver).colour, SERIES_ID + best.solver
            ax.plot(best.kept, best.risk, color=colour, linestyle=":", lw=0.9, gid=name)
    for curve in curves:
        draw_line(ax, curve.solver, curve.kept, curve.risk)
    ax.set_xlim(0.0, 1.0)
    ax.set_ylim(0.0, min(2.5, 1.1 * max(1.0, *(float(c.risk.max()) for c in curves))))
    ax.set_xticks([0.0, 0.5, 1.0], ["0", "½", "1"])
    ax.set_xlabel("share of the images kept", color=MUTED, fontsize=7.5)
    say(ax, "error of those kept / of all, lower is better")
