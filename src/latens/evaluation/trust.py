"""The trust card: for each solver and N, five questions, each with a verdict and its reason.

| question | metric | bar |
|---|---|---|
| accurate | NMSE | at most 1.1 times the best solver's at its largest N |
| stable | worst-case error over that of Tikhonov, attacked alike | at most 1.5 |
| calibrated | coverage of region means at 95 %; no test of ranks rejects | .92 to .98 |
| consistent | data residual χ²/m | at most 1.2 |
| aware | smallest AUROC of the data residual over the shifts | at least .9 |

A verdict is *yes* where the whole interval lies within the bar, *no* where it lies outside, and
*open* where the data cannot say. The worst case of a solver without derivative is not known; what
the worst disturbance of another solver does to it is a lower bound, which can only say *no*. A
solver whose cells are all excluded is not to be trusted in any respect. One number does not make a
posterior calibrated: coverage within the bar is *open* where ranks on test images were not tested
(the deep check `calibration`, at some N and of no ensemble), and *no* where a test of them rejects
at 5 % after adjustment for all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from latens.store.schemas import REJECTS, TRUST
from latens.store.tables import from_rows

if TYPE_CHECKING:
    import pandas as pd

YES, NO, OPEN, UNKNOWN = "yes", "no", "open", "not measured"


@dataclass(frozen=True)
class Question:
    """What a reader wants to know of a solver.

    Args:
        name: In one word.
        metric: Metric that answers it.
        lower, upper: Bar, unit of the metric.
        relative: Whether the upper end is a factor of the best solver's value.
        bound: Metric that is a lower bound of `metric`, where that is not measured.
    """

    name: str
    metric: str
    lower: float = -inf
    upper: float = inf
    relative: bool = False
    bound: str = ""


QUESTIONS = (
    Question("accurate", "nmse", upper=1.1, relative=True),
    Question("stable", "worst_over_baseline", upper=1.5, bound="transferred_over_baseline"),
    Question("calibrated", "coverage_region", 0.92, 0.98),
    Question("consistent", "data_chi2", upper=1.2),
)
AWARE = Question("aware", "auroc", lower=0.9)
AWARE_SCORE = "residual"
TESTED = "data:"
"""How the tests on test images begin."""


def trust_card(
    curves: "pd.DataFrame", metrics: "pd.DataFrame", shifts: "pd.DataFrame", tests: "pd.DataFrame"
) -> "pd.DataFrame":
    """Verdicts of every solver at every N, in the schema `TRUST`.

    Args:
        curves: Table CURVES.
        metrics: Table METRICS; its interval over images stands in where there is a single cell,
            and hence none over seeds.
        shifts: Table SHIFTS.
        tests: Table TESTS.
    """
    rows: list[dict[str, Any]] = []
    cells: Any = curves[["solver", "n"]].drop_duplicates()
    for solver, n in cells.itertuples(index=False):
        for question in QUESTIONS:
            bar = _absolute(question, curves)
            found = _found(curves, metrics, str(solver), int(n), question.metric)
            row = _row(str(solver), int(n), question, bar, found)
            if row["verdict"] == UNKNOWN and question.bound:
                found = _found(curves, metrics, str(solver), int(n), question.bound)
                row = _at_least(_row(str(solver), int(n), question, bar, found), question.bound)
            if question.name == "calibrated" and row["verdict"] == YES:
                row |= _tested(tests, str(solver), int(n))
            rows.append(row)
        found = _least_noticed(shifts, str(solver), int(n))
        rows.append(_row(str(solver), int(n), AWARE, (AWARE.lower, AWARE.upper), found))
    return from_rows(rows, TRUST)


@dataclass(frozen=True)
class _Found:
    value: float = nan
    lower: float = nan
    upper: float = nan
    status: str = ""
    what: str = ""


def _absolute(question: Question, curves: "pd.DataFrame") -> tuple[float, float]:
    """The bar in units of the metric."""
    if not question.relative:
        return question.lower, question.upper
    mine: Any = curves[(curves["metric"] == question.metric) & np.isfinite(curves["mean"])]
    ends = [float(table.sort_values("n")["mean"].iloc[-1]) for _, table in mine.groupby("solver")]
    return question.lower, question.upper * min(ends, default=nan)


def _found(
    curves: "pd.DataFrame", metrics: "pd.DataFrame", solver: str, n: int, metric: str
) -> _Found:
    at: Any = curves[(curves["solver"] == solver) & (curves["n"] == n)]
    row: Any = at[at["metric"] == metric]
    if row.empty:
        return _Found()
    first = row.iloc[0]
    value, lower, upper = (float(first[k]) for k in ("mean", "lower", "upper"))
    cells: Any = metrics[
        (metrics["solver"] == solver) & (metrics["n"] == n) & (metrics["metric"] == metric)
    ]
    if isfinite(value) and not isfinite(upper - lower) and len(cells) == 1:
        lower, upper = (float(cells.iloc[0][k]) for k in ("lower", "upper"))
        return _Found(value, lower, upper, what="one cell: interval over images alone")
    return _Found(value, lower, upper, status=str(first["status"]))


def _least_noticed(shifts: "pd.DataFrame", solver: str, n: int) -> _Found:
    """Detection of the shift that is noticed least."""
    mine: Any = shifts[
        (shifts["solver"] == solver)
        & (shifts["n"] == n)
        & (shifts["number"] == AWARE.metric)
        & (shifts["score"] == AWARE_SCORE)
    ]
    if mine.empty:
        return _Found()
    row = mine.loc[mine["value"].idxmin()]
    value, lower, upper = (float(row[k]) for k in ("value", "lower", "upper"))
    return _Found(value, lower, upper, what=f"least noticed: {row['shift']}")


def _tested(tests: "pd.DataFrame", solver: str, n: int) -> dict[str, str]:
    """What tests of ranks on test images change in a row whose coverage is within the bar."""
    mine: Any = tests[
        (tests["solver"] == solver) & (tests["n"] == n) & tests["test"].str.startswith(TESTED)
    ]
    if mine.empty:
        return {"verdict": OPEN, "reason": "coverage is within the bar; ranks were not tested"}
    rejected = mine[mine["p_adjusted"] <= REJECTS]
    if rejected.empty:
        return {}
    worst = rejected.loc[rejected["p_adjusted"].idxmin()]
    reason = (
        f"coverage is within the bar, but {len(rejected)} of {len(mine)} tests on test images"
        f" reject: {worst['quantity']}, p = {worst['p_adjusted']:.1g}"
    )
    return {"verdict": NO, "reason": reason}


def _row(
    solver: str, n: int, question: Question, bar: tuple[float, float], found: _Found
) -> dict[str, Any]:
    lower, upper = bar
    verdict, reason = _verdict(found, lower, upper)
    return {
        "solver": solver,
        "n": n,
        "question": question.name,
        "verdict": verdict,
        "metric": question.metric,
        "value": found.value,
        "lower": found.lower,
        "upper": found.upper,
        "bar_lower": lower,
        "bar_upper": upper,
        "reason": "; ".join(part for part in (reason, found.what) if part),
    }


def _at_least(row: dict[str, Any], metric: str) -> dict[str, Any]:
    """The row with a lower bound of its metric in place of the metric."""
    if row["verdict"] == UNKNOWN:
        return row
    row |= {"metric": metric}
    if row["verdict"] == YES:
        row |= {"verdict": OPEN, "reason": "within the bar, but only a lower bound"}
    return row


def _verdict(found: _Found, lower: float, upper: float) -> tuple[str, str]:
    if not isfinite(found.value):
        if found.status not in ("", "ok"):
            return NO, f"no usable cell: {found.status}"
        return UNKNOWN, ""
    low, high = found.lower, found.upper
    if not (isfinite(low) and isfinite(high)):
        inside = lower <= found.value <= upper
        return OPEN, f"{'within' if inside else 'outside'} the bar, without an interval"
    if lower <= low and high <= upper:
        return YES, ""
    if high < lower or low > upper:
        return NO, "below the bar" if high < lower else "above the bar"
    return OPEN, "the interval crosses the bar"


def verdicts(card: "pd.DataFrame", solver: str, n: int) -> Iterator[dict[str, Any]]:
    """Rows of a card for one solver and N, in the order of the questions."""
    mine: Any = card[(card["solver"] == solver) & (card["n"] == n)]
    by_name = {row["question"]: row for row in mine.to_dict("records")}
    for question in (*QUESTIONS, AWARE):
        if question.name in by_name:
            yield by_name[question.name]
