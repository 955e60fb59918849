"""The trust card as it is shown: one row per solver and N, one verdict per question."""

import math
from dataclasses import dataclass
from typing import Any

from latens.reporting.results import Results, records, select
from latens.reporting.tables import format_interval, format_value

LABELS = {"nmse_over_best": "NMSE / that of the best", "auroc": "AUROC"}
"""Words for what is in no table but the card."""

MARKS = {"yes": "✓", "no": "✗", "open": "?", "not measured": "–"}


@dataclass(frozen=True)
class Verdict:
    """Answer to one question.

    Args:
        word: `yes`, `no`, `open` or `not measured`.
        text: The number with its interval, and the bar.
        reason: Why it is not a yes, or what the yes means; may be empty.
    """

    word: str
    text: str
    reason: str

    @property
    def mark(self) -> str:
        """Sign of the verdict."""
        return MARKS[self.word]


@dataclass(frozen=True)
class TrustRow:
    """All verdicts of a solver at one N, by question."""

    solver: str
    n: int
    verdicts: dict[str, Verdict]


@dataclass(frozen=True)
class TrustCard:
    """Verdicts of a run, the largest N apart from the others."""

    questions: list[str]
    largest: list[TrustRow]
    others: list[TrustRow]


def read_trust(results: Results) -> TrustCard | None:
    """The trust card of a run; None where it has none."""
    table = records(results.trust)
    if not table:
        return None
    questions = list(dict.fromkeys(str(row["question"]) for row in table))
    rows = []
    for n in sorted({int(row["n"]) for row in table}, reverse=True):
        at_n = select(results.trust, "n", n)
        for solver in results.solvers:
            mine = records(select(at_n, "solver", solver))
            if mine:
                found = {str(row["question"]): _verdict(row, results) for row in mine}
                rows.append(TrustRow(solver, n, found))
    largest = max(row.n for row in rows)
    return TrustCard(
        questions,
        [row for row in rows if row.n == largest],
        [row for row in rows if row.n != largest],
    )


def _verdict(row: dict[str, Any], results: Results) -> Verdict:
    value, lower, upper = (float(row[k]) for k in ("value", "lower", "upper"))
    word, metric = str(row["verdict"]), str(row["metric"])
    if not math.isfinite(value):
        return Verdict(word, "", str(row["reason"]))
    known = results.definitions.get(metric)
    label = known.label if known else LABELS.get(metric, metric)
    interval = format_interval(value, lower, upper)
    number = " ".join(part for part in (format_value(value, lower, upper), interval) if part)
    return Verdict(word, f"{label} {number}, {_bar(row)}", str(row["reason"]))


def _bar(row: dict[str, Any]) -> str:
    low, high = float(row["bar_lower"]), float(row["bar_upper"])
    if math.isfinite(low) and math.isfinite(high):
        return f"bar {low:.3g} to {high:.3g}"
    return f"bar ≤ {high:.3g}" if math.isfinite(high) else f"bar ≥ {low:.3g}"
