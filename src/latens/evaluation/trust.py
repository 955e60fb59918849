"""The trust card: for each solver and N, five questions, each with a verdict and its reason.

| question | metric | bar |
|---|---|---|
| accurate | NMSE over that of the best solver at its largest N, paired by image | at most 1.1 |
| stable | error at the worst disturbance over that of a baseline at its own worst | at most 1.5 |
| calibrated | coverage of region means at 95 %; no test of ranks rejects | .92 to .98 |
| consistent | data residual χ²/m | at most 1.2 |
| aware | smallest AUROC of the gate's rule, by any score, over the shifts | at least .9 |

A verdict is *yes* where the whole interval lies within the bar, *no* where it lies outside, and
*open* where the data cannot say. A solver whose cells are all excluded is not to be trusted in any
respect.

The best solver is accurate by definition, and chosen on the images that it is judged on, as every
reason says. Where no other solver was compared there is no such yes: the verdict is *open*, or
*no* at an N where the solver is worse than at its own largest.

Stability compares whole errors, each at the worst disturbance of the size of the noise: a solver
whose error is small to begin with may lose much of it and stay within the bar. So the reason says
what the worst disturbance adds to the error beyond a random one of the same norm, and what it adds
to the baseline's. The baselines are Tikhonov and, where it was attacked, Wiener: *yes* needs both,
and *no* takes one. Against itself a baseline is 1 by definition, and the other one decides. The
worst case of a solver without derivative is not known; what the worst disturbance of another
solver does to it is a lower bound, which can only say *no*.

One number does not make a posterior calibrated: coverage within the bar is *open* where ranks on
test images were not tested (the deep check `calibration`, at some N). Where a test of them rejects
at 5 % after adjustment for all of them the verdict is *no*, even of a coverage whose interval
crosses the bar. Tests that could not have seen much say
little: *yes* needs a power of .8 against the same posterior with .8 and with 1.25 of its standard
deviation, on these images.

A residual has no lower bar that is the same for all. An estimate that is as sensitive to the noise
as this one leaves `expected_chi2` or more, a number of the deep check `stability`. A residual
below .8 of that, interval by interval, is *open*: it was fitted in another way, such as to these
very measurements, or the noise is overstated. Below .5 the reason says that the noise was fitted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Any

from latens.evaluation.paired import Paired, Place, paired_errors
from latens.evaluation.sight import NARROW, WIDE
from latens.store.schemas import ANY, REJECTS, TRUST
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

BASELINES = {"worst_over_baseline": "tikhonov", "worst_over_wiener": "wiener"}
"""Metrics that say how stable a solver is, and the baseline of each."""

EXCESS = "worst_excess"
"""Metric of what the worst disturbance adds to the error beyond a random one."""

MANY = 3.0
"""Excess over the baseline's from which a *yes* says that it is large."""

GRAVITY = (UNKNOWN, YES, OPEN, NO)
"""Verdicts on the same question, the last of which counts."""

QUESTIONS = (
    Question("accurate", "nmse_over_best", upper=1.1),
    Question("stable", "worst_over_baseline", upper=1.5, bound="transferred_over_baseline"),
    Question("calibrated", "coverage_region", 0.92, 0.98),
    Question("consistent", "data_chi2", upper=1.2),
)
AWARE = Question("aware", "auroc", lower=0.9)
SOURCE = "data"
"""Pairs whose tests count: test images."""

ENOUGH = 0.8
"""Power against a spread that is wrong by a fifth from which on tests that do not reject count."""

FITS_NOISE = 0.5
"""Residual χ²/m below which the reason says so."""

EXPECTED = "expected_chi2"
"""Metric of the least residual that is expected of an estimate with this sensitivity."""

SHORT = 0.8
"""Share of the expected residual below which one is too small; the formula is that of affine
reconstructions, and networks are not."""

DIGITS = 9
"""Significant digits that numbers and bars are compared at."""


def trust_card(
    curves: "pd.DataFrame",
    metrics: "pd.DataFrame",
    shifts: "pd.DataFrame",
    tests: "pd.DataFrame",
    power: "pd.DataFrame",
    errors: "pd.DataFrame",
) -> "pd.DataFrame":
    """Verdicts of every solver at every N, in the schema `TRUST`.

    Args:
        curves: Table CURVES.
        metrics: Table METRICS; its interval over images stands in where there is a single cell,
            and hence none over seeds.
        shifts: Table SHIFTS.
        tests: Table TESTS.
        power: Table POWER.
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
            if question.name == "stable":
                rows.append(_stable(place, question, curves, metrics))
                continue
            row = _row(place, question, _found(curves, metrics, place, question.metric))
            if question.name == "calibrated" and row["verdict"] in (YES, OPEN):
                row |= _tested(row, tests, power, place)
            if question.name == "consistent" and row["verdict"] == YES:
                row |= _fitted(row, _found(curves, metrics, place, EXPECTED))
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
    compared = {solver for (solver, _), one in paired.items() if isfinite(one.value)}
    if place == found.best:
        reason = (
            f"the best of {len(compared)} solvers, chosen on these images: 1 by definition, "
            f"NMSE {own.value:.3g}"
        )
        row = _row(place, question, _Found(1.0, 1.0, 1.0, what=reason))
        return row if len(compared) > 1 else row | _alone(own)
    if not isfinite(found.value):
        return _row(place, question, _Found(what=f"no image and data seed in common with {best}"))
    chosen = ", chosen on these images" if len(compared) > 1 else ""
    parts = [f"against {best}{chosen}, on {found.images} images"]
    if found.data_seeds == 1:
        parts.append("one data seed: interval over images alone")
    one = _Found(found.value, found.lower, found.upper, what="; ".join(parts))
    row = _row(place, question, one)
    return row | _alone(own) if len(compared) == 1 and row["verdict"] == YES else row


def _alone(own: _Found) -> dict[str, str]:
    """What is said of a solver within the bar where there is no other one."""
    return {"verdict": OPEN, "reason": f"no other solver was compared; NMSE {own.value:.3g}"}


def _stable(
    place: Place, question: Question, curves: "pd.DataFrame", metrics: "pd.DataFrame"
) -> dict[str, Any]:
    """Row of the error at the worst disturbance over that of the stricter baseline."""
    found = {name: _found(curves, metrics, place, name) for name in BASELINES}
    rows = [_row(place, replace(question, metric=name), one) for name, one in found.items()]
    rows = [row for row in rows if row["verdict"] != UNKNOWN]
    if not rows:
        bound = _row(place, question, _found(curves, metrics, place, question.bound))
        return _at_least(bound, question.bound)
    others = [row for row in rows if not _of_itself(found[row["metric"]])] or rows
    row = max(others, key=lambda row: (GRAVITY.index(row["verdict"]), row["value"]))
    baseline = BASELINES[row["metric"]]
    own = _found(curves, metrics, place, EXCESS).value
    its = _found(curves, metrics, (baseline, place[1]), EXCESS).value
    said = _excess_words(own, its, baseline, row["verdict"]) if place[0] != baseline else ""
    return row | {"reason": "; ".join(part for part in (row["reason"], said) if part)}


def _excess_words(own: float, its: float, baseline: str, verdict: str) -> str:
    """What the worst disturbance adds to the error of a solver and to that of a baseline."""
    said = f"against {baseline.capitalize()}"
    if not isfinite(own):
        return said
    said += f"; beyond a random one the worst disturbance adds {own:.3g} to the error"
    if not isfinite(its):
        return said
    said += f", {its:.3g} to that of {baseline.capitalize()}"
    if own < MANY * its or own <= 0:
        return said
    times = f", {own / its:.2g} times as much" if its > 0 else ""
    why = ": within the bar for its small error, not for insensitivity" if verdict == YES else ""
    return said + times + why


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


def _tested(
    row: dict[str, Any], tests: "pd.DataFrame", power: "pd.DataFrame", place: Place
) -> dict[str, str]:
    """What tests of ranks on test images change in a row whose coverage is not outside the bar."""
    solver, n = place
    mine: Any = tests[
        (tests["solver"] == solver)
        & (tests["n"] == n)
        & tests["test"].str.startswith(f"{SOURCE}:")
    ]
    rejected = mine[mine["p_adjusted"] <= REJECTS]
    if rejected.empty and row["verdict"] == OPEN:
        return {}
    if mine.empty:
        return {"verdict": OPEN, "reason": "coverage is within the bar; ranks were not tested"}
    if rejected.empty:
        return _seen(power, place)
    coverage = row["reason"] if row["verdict"] == OPEN else "coverage is within the bar"
    worst = rejected.loc[rejected["p_adjusted"].idxmin()]
    reason = (
        f"{coverage}, but {len(rejected)} of {len(mine)} tests on test images"
        f" reject: {worst['quantity']}, p = {worst['p_adjusted']:.1g}"
    )
    return {"verdict": NO, "reason": reason}


def _seen(power: "pd.DataFrame", place: Place) -> dict[str, str]:
    """What a lack of power changes in a row whose tests do not reject."""
    solver, n = place
    mine: Any = power[
        (power["solver"] == solver)
        & (power["n"] == n)
        & (power["source"] == SOURCE)
        & power["posterior"].isin([NARROW, WIDE])
    ]
    if mine["posterior"].nunique() < 2 or not mine["power"].notna().all():
        said = "no test rejects, but what the tests could have seen is not known"
        return {"verdict": OPEN, "reason": said}
    least = mine.loc[mine["power"].idxmin()]
    if least["power"] >= ENOUGH:
        return {}
    reason = (
        f"no test rejects, but tests on {least['images']} images would have seen "
        f"{least['posterior']} with probability {least['power']:.2f}"
    )
    return {"verdict": OPEN, "reason": reason}


def _fitted(row: dict[str, Any], expected: _Found) -> dict[str, str]:
    """What is said of a residual within the bar that is smaller than it should be."""
    known = isfinite(expected.value)
    least = expected.lower if isfinite(expected.lower) else expected.value
    if known and row["upper"] < SHORT * least:
        reason = (
            f"too small: an estimate as sensitive to the noise leaves {expected.value:.3g} or "
            "more; was it fitted to these measurements, or is the noise overstated?"
        )
        return {"verdict": OPEN, "reason": reason}
    if row["value"] >= FITS_NOISE:
        return {}
    said = f"fits the noise: below {FITS_NOISE:g}, "
    if known:
        said += f"of {expected.value:.3g} or more expected of an estimate as sensitive to it"
    else:
        said += "and how far below 1 is right is not known without the check `stability`"
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
    if question.metric in BASELINES and _of_itself(found):
        return YES, "the baseline against itself: 1 by definition"
    value, low, high = (_rounded(number) for number in (found.value, found.lower, found.upper))
    lower, upper = _rounded(question.lower), _rounded(question.upper)
    if not (isfinite(low) and isfinite(high)):
        return (
            OPEN,
            f"{'within' if lower <= value <= upper else 'outside'} the bar, without an interval",
        )
    if lower <= low and high <= upper:
        return YES, ""
    if high < lower or low > upper:
        return NO, "below the bar" if high < lower else "above the bar"
    return OPEN, "the interval crosses the bar"


def _of_itself(found: _Found) -> bool:
    """Whether a ratio is that of a baseline to itself: 1 whatever the images."""
    ends = {_rounded(end) for end in (found.lower, found.upper) if isfinite(end)}
    return _rounded(found.value) == 1 and ends <= {1.0}


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
