"""The trust card of one evaluation alone, as a table and as lines of text.

Its only cell is all that is known of the solver: intervals are those over images, and there is no
other solver to be as accurate as.
"""

from math import isfinite
from typing import TYPE_CHECKING, Any

from latens.evaluation.trust import ERROR, UNKNOWN, trust_card, verdicts
from latens.store import CURVES, METRICS, PER_IMAGE, POWER, SHIFTS, TESTS, USABLE
from latens.store.tables import from_rows

if TYPE_CHECKING:
    import pandas as pd

    from latens.evaluation.evaluate import Evaluation


def own_card(evaluation: "Evaluation") -> "pd.DataFrame":
    """Verdicts of the solver of one evaluation and its checks, in the schema `TRUST`.

    Args:
        evaluation: Core metrics, with the deep checks that were made.
    """
    checks = list(evaluation.checks.values())
    measured = [evaluation, *(c.evaluation for c in checks if c.evaluation is not None)]
    curves = [row for part in measured for row in _curve(part)]
    errors = evaluation.per_image
    of_error: Any = errors[errors["metric"] == ERROR]
    return trust_card(
        from_rows(curves, CURVES),
        _joined([part.metrics for part in measured], METRICS),
        _joined([c.tables[SHIFTS.name] for c in checks if SHIFTS.name in c.tables], SHIFTS),
        _joined([c.tables[TESTS.name] for c in checks if TESTS.name in c.tables], TESTS),
        _joined([c.tables[POWER.name] for c in checks if POWER.name in c.tables], POWER),
        of_error if evaluation.outcome.status in USABLE else from_rows([], PER_IMAGE),
    )


def card_lines(card: "pd.DataFrame", solver: str, n: int) -> list[str]:
    """Verdict, number with interval and bar, and reason for each question that has an answer."""
    rows = list(verdicts(card, solver, n))
    lines = []
    for row in rows:
        if row["verdict"] == UNKNOWN:
            continue
        lines.append(f"  {row['question']:<12} {row['verdict']:<6} {_number(row)}".rstrip())
        if row["reason"]:
            lines.append(f"               {row['reason']}")
    unknown = [row["question"] for row in rows if row["verdict"] == UNKNOWN]
    if unknown:
        lines.append(f"  nothing measured says: {', '.join(unknown)}")
    return lines


def _number(row: dict[str, Any]) -> str:
    value, lower, upper = (float(row[name]) for name in ("value", "lower", "upper"))
    if not isfinite(value):
        return ""
    low, high = float(row["bar_lower"]), float(row["bar_upper"])
    if isfinite(low) and isfinite(high):
        bar = f"bar {low:g} to {high:g}"
    else:
        bar = f"bar ≤ {high:g}" if isfinite(high) else f"bar ≥ {low:g}"
    interval = f" [{lower:.3g}, {upper:.3g}]" if isfinite(upper - lower) else ""
    return f"{row['metric']} {value:.3g}{interval}, {bar}"


def _curve(evaluation: "Evaluation") -> list[dict[str, Any]]:
    """Rows of CURVES of one cell; without training data its interval is that over images."""
    cell, usable = evaluation.cell, evaluation.outcome.status in USABLE
    status = "ok" if usable else f"1 of 1 {evaluation.outcome.status}"
    rows = []
    for row in evaluation.metrics.to_dict("records"):
        used = usable and isfinite(row["value"])
        known = used and cell.n == 0
        rows.append(
            {
                "solver": cell.solver,
                "n": cell.n,
                "metric": row["metric"],
                "mean": row["value"] if used else float("nan"),
                "lower": row["lower"] if known else float("nan"),
                "upper": row["upper"] if known else float("nan"),
                "level": row["level"],
                "data_seeds": int(used),
                "fits": int(used),
                "excluded": int(not used),
                "status": status,
            }
        )
    return rows


def _joined(tables: "list[pd.DataFrame]", schema: Any) -> "pd.DataFrame":
    import pandas as pd

    return pd.concat(tables, ignore_index=True) if tables else from_rows([], schema)
