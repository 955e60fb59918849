"""The trust card: for each solver and N, five questions, each with a verdict and its reason.

| question | metric | bar |
|---|---|---|
| accurate | NMSE over that of the best solver at its largest N, paired by image | at most 1.1 |
| stable | worst-case error over that of Tikhonov, attacked alike | at most 1.5 |
| calibrated | coverage of region means at 95 %; no test of ranks rejects | .92 to .98 |
| consistent | data residual χ²/m | at most 1.2 |
| aware | smallest AUROC of the gate's rule, by any score, over the shifts | at least .9 |

A verdict is *yes* where the whole interval lies within the bar, *no* where it lies outside, and
*open* where the data cannot say. The best solver is accurate, and Tikhonov against itself stable,
by definition. The worst case of a solver without derivative is not known; what the worst
disturbance of another solver does to it is a lower bound, which can only say *no*. A solver whose
cells are all excluded is not to be trusted in any respect. One number does not make a posterior
calibrated: coverage within the bar is *open* where ranks on test images were not tested (the deep
check `calibration`, at some N), and *no* where a test of them rejects at 5 % after adjustment for
all of them. A residual has no lower bar: what it should be is 1 − (degrees of freedom)/m, which is
not known in general; below .5 the reason says that the noise was fitted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Any

from latens.evaluation.flags import ANY
from latens.evaluation.paired import Paired, Place, paired_errors
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
        bound: Metric that is a lower bound of `metric`, where that is not measured.
    """

    name: str
    metric: str
    lower: float = -inf
    upper: float = inf
    bound: str = ""


ERROR = "nmse"
"""Metric that solvers are compared by."""

AGAINST_BASELINE = "worst_over_baseline"

QUESTIONS = (
    Question("accurate", "nmse_over_best", upper=1.1),
    Question("stable", AGAINST_BASELINE, upper=1.5, bound="transferred_over_baseline"),
    Question("calibrated", "coverage_region", 0.92, 0.98),
    Question("consistent", "data_chi2", upper=1.2),
)
AWARE = Question("aware", "auroc", lower=0.9)
TESTED = "data:"
"""How the tests on test images begin."""

FITS_NOISE = 0.5
"""Residual χ²/m below which the reason says so."""

DIGITS = 9
"""Significant digits that numbers and bars are compared at."""


def trust_card(
    curves: "pd.DataFrame",
    metrics: "pd.DataFrame",
    shifts: "pd.DataFrame",
    tests: "pd.DataFrame",
    errors: "pd.DataFrame",
) -> "pd.DataFrame":
    """Verdicts of every solver at every N, in the schema `TRUST`.

    Args:
        curves: Table CURVES.
        metrics: Table METRICS; its interval over images stands in where there is a single cell,
            and hence none over seeds.
        shifts: Table SHIFTS.
        tests: Table TESTS.
        errors: Rows of `ERROR` of the usable cells, in the schema PER_IMAGE.
    """
    rows: list[dict[str, Any]] = []
    paired = paired_errors(errors)
    cells: Any = curves[["solver", "n"]].drop_duplicates()
    for solver, n in cells.itertuples(index=False):
        place = str(solver), int(n)
        for question in QUESTIONS:
            if question.name == "accurate":
                rows.append(
                    _accurate(place, question, paired, _found(curves, metrics, place, ERROR))
                )
                continue
            row = _row(place, question, _found(curves, metrics, place, question.metric))
            if row["verdict"] == UNKNOWN and question.bound:
                found = _found(curves, metrics, place, question.bound)
                row = _at_least(_row(place, question, found), question.bound)
            if question.name == "calibrated" and row["verdict"] == YES:
                row |= _tested(tests, place)
            if question.name == "consistent" and row["verdict"] == YES:
                row |= _fitted(row)
            rows.append(row)
        rows.append(_row(place, AWARE, _least_noticed(shifts, place)))
    return from_rows(rows, TRUST)


@dataclass(frozen=True)
class _Found:
    value: float = nan
    lower: float = nan
    upper: float = nan
    status: str = ""
    what: str = ""


def _accurate(
    place: Place, question: Question, paired: dict[Place, Paired], own: _Found
) -> dict[str, Any]:
    """Row of the error over the best solver's; without one, what is known of the solver's own."""
    if place not in paired:
        return _row(place, question, _Found(status=own.status))
    found = paired[place]
    best = f"{found.best[0]} at N = {found.best[1]}"
    if place == found.best:
        reason = f"the best solver: 1 by definition, NMSE {own.value:.3g}"
        return _row(place, question, _Found(1.0, 1.0, 1.0, what=reason))
    if not isfinite(found.value):
        return _row(place, question, _Found(what=f"no image and data seed in common with {best}"))
    parts = [f"against {best}, on {found.images} images"]
    if found.data_seeds == 1:
        parts.append("one data seed: interval over images alone")
    return _row(
        place, question, _Found(found.value, found.lower, found.upper, what="; ".join(parts))
    )


def _found(curves: "pd.DataFrame", metrics: "pd.DataFrame", place: Place, metric: str) -> _Found:
    solver, n = place
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


def _least_noticed(shifts: "pd.DataFrame", place: Place) -> _Found:
    """Detection of the shift that is noticed least."""
    solver, n = place
    mine: Any = shifts[
        (shifts["solver"] == solver)
        & (shifts["n"] == n)
        & (shifts["number"] == AWARE.metric)
        & (shifts["score"] == ANY)
    ]
    if mine.empty:
        return _Found()
    row = mine.loc[mine["value"].idxmin()]
    value, lower, upper = (float(row[k]) for k in ("value", "lower", "upper"))
    return _Found(value, lower, upper, what=f"least noticed: {row['shift']}")


def _tested(tests: "pd.DataFrame", place: Place) -> dict[str, str]:
    """What tests of ranks on test images change in a row whose coverage is within the bar."""
    solver, n = place
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


def _fitted(row: dict[str, Any]) -> dict[str, str]:
    """What is said of a residual within the bar that is far below that of the noise."""
    if row["value"] >= FITS_NOISE:
        return {}
    said = f"fits the noise: below {FITS_NOISE:g}, and how far below 1 is right is not known"
    return {"reason": "; ".join(part for part in (said, row["reason"]) if part)}


def _row(place: Place, question: Question, found: _Found) -> dict[str, Any]:
    verdict, reason = _verdict(found, question)
    return {
        "solver": place[0],
        "n": place[1],
        "question": question.name,
        "verdict": verdict,
        "metric": question.metric,
        "value": found.value,
        "lower": found.lower,
        "upper": found.upper,
        "bar_lower": question.lower,
        "bar_upper": question.upper,
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


def _verdict(found: _Found, question: Question) -> tuple[str, str]:
    if not isfinite(found.value):
        if found.status not in ("", "ok"):
            return NO, f"no usable cell: {found.status}"
        return UNKNOWN, ""
    value, low, high = (_rounded(number) for number in (found.value, found.lower, found.upper))
    lower, upper = _rounded(question.lower), _rounded(question.upper)
    if not (isfinite(low) and isfinite(high)):
        if question.metric == AGAINST_BASELINE and value == 1:
            return YES, "the baseline against itself: 1 by definition"
        return (
            OPEN,
            f"{'within' if lower <= value <= upper else 'outside'} the bar, without an interval",
        )
    if lower <= low and high <= upper:
        return YES, ""
    if high < lower or low > upper:
        return NO, "below the bar" if high < lower else "above the bar"
    return OPEN, "the interval crosses the bar"


def _rounded(number: float) -> float:
    """Without the last digits, which depend on the order of sums."""
    return float(f"{number:.{DIGITS}g}")


def verdicts(card: "pd.DataFrame", solver: str, n: int) -> Iterator[dict[str, Any]]:
    """Rows of a card for one solver and N, in the order of the questions."""
    mine: Any = card[(card["solver"] == solver) & (card["n"] == n)]
    by_name = {row["question"]: row for row in mine.to_dict("records")}
    for question in (*QUESTIONS, AWARE):
        if question.name in by_name:
            yield by_name[question.name]
