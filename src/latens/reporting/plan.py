"""The plan of a run: at which N each bar is met. Made by `latens plan`; other runs have none."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from latens import store
from latens.reporting.palette import ordered
from latens.reporting.results import Definition, Results, records, select
from latens.reporting.tables import Cell

_WORDS = {
    "met throughout": "at the smallest size already",
    "floor misses the bar": "never",
    "cannot say": "cannot say",
}


@dataclass(frozen=True)
class PlanRow:
    """One solver under one bar.

    Args:
        solver: Name of the solver.
        size: The N, its interval, and how sure it is.
        met: Whether the bar is met at the largest size, as a probability.
        law: Law with the smallest AICc, in words.
        note: Reason and advice, may be empty.
        met_at_all: Whether an N is named or the bar is met at once.
    """

    solver: str
    size: Cell
    met: Cell
    law: str
    note: str
    met_at_all: bool


@dataclass(frozen=True)
class PlanBar:
    """One bar with the answers of all solvers.

    Args:
        bar: As it was given, for example `nmse<=1.1*best`.
        metric: Definition of its metric.
        lower, upper: Range in units of the metric; infinite where it has no end.
        purpose: `calibration`, `stability`, `accuracy` or `given`.
        rows: By solver, in the order of every table.
    """

    bar: str
    metric: Definition
    lower: float
    upper: float
    purpose: str
    rows: list[PlanRow]

    @property
    def text(self) -> str:
        """The bar in words."""
        unit = f" {self.metric.unit}" if self.metric.unit else ""
        if math.isfinite(self.lower) and math.isfinite(self.upper):
            return f"between {self.lower:.4g} and {self.upper:.4g}{unit}"
        if math.isfinite(self.upper):
            return f"at most {self.upper:.4g}{unit}"
        return f"at least {self.lower:.4g}{unit}"


@dataclass(frozen=True)
class Verdict:
    """What the back-test says as a whole.

    Args:
        targets: Targets that count.
        all: Targets that were tried.
        contained: Share of the intervals that contain the N later found.
        bounded: Share of the intervals with an upper end.
        ratio: Median |log₂(N foretold / N found)|.
        octaves: Median width, log₂ of the ratio of the ends; infinite if most have no end.
        level: Nominal coverage.
    """

    targets: int
    all: int
    contained: float
    bounded: float
    ratio: float
    octaves: float
    level: float


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Args:
        table, band, tests, ratios: Tables PLAN, PLAN_BAND, BACK_TEST and PLAN_RATIOS, empty where
            there are none.
        outdated: Whether evaluations have changed since it was made.
        bars: The bars with their answers.
        verdict: Of the back-test; None without one, or if no target counts.
    """

    table: pd.DataFrame
    band: pd.DataFrame
    tests: pd.DataFrame
    ratios: pd.DataFrame
    outdated: bool
    bars: list[PlanBar]
    verdict: Verdict | None

    @property
    def level(self) -> float:
        """Nominal coverage of the intervals, NaN without a plan."""
        return float(self.table["level"].iloc[0]) if len(self.table) else math.nan

    @property
    def horizon(self) -> int:
        """Largest N that an answer may name, 0 without a forecast."""
        return round(float(self.band["n"].to_numpy().max())) if len(self.band) else 0


def metrics_mark(metrics: pd.DataFrame) -> str:
    """Mark of the evaluations that a table METRICS is made of, to see whether they changed."""
    return store.content_hash(sorted(set(metrics["evaluation"])))


def read_plan(run: store.RunFolder, results: Results) -> Plan:
    """Reads the plan of a run; empty tables where it was never made.

    Raises:
        DataError: If a table is there and cannot be read.
    """
    table, band, tests, ratios = (
        _table(run, schema)
        for schema in (store.PLAN, store.PLAN_BAND, store.BACK_TEST, store.PLAN_RATIOS)
    )
    file = run.tables / "plan.json"
    said = store.read_json(file) if file.is_file() else {}
    mark = said.get("metrics") if isinstance(said, Mapping) else None
    outdated = bool(len(table)) and mark != metrics_mark(results.metrics)
    return Plan(table, band, tests, ratios, outdated, _bars(table, band, results), _verdict(tests))


def format_size(n: float) -> str:
    """A sample size with three digits, or ∞."""
    if math.isinf(n):
        return "∞"
    return f"{int(float(f'{n:.3g}'))}" if n >= 100 else f"{n:.2g}"


def _bars(table: pd.DataFrame, band: pd.DataFrame, results: Results) -> list[PlanBar]:
    bars = []
    for bar in dict.fromkeys(str(bar) for bar in table["bar"]):
        rows = {str(row["solver"]): row for row in records(select(table, "bar", bar))}
        first = next(iter(rows.values()))
        metric = str(first["metric"])
        bars.append(
            PlanBar(
                bar,
                results.definitions.get(metric, Definition(metric, metric)),
                float(first["bar_lower"]),
                float(first["bar_upper"]),
                str(first["purpose"]),
                [_row(rows[s], _horizon(band, s, metric)) for s in ordered(rows)],
            )
        )
    return bars


def _horizon(band: pd.DataFrame, solver: str, metric: str) -> float:
    """Largest N of a forecast, NaN without one."""
    mine = select(select(band, "solver", solver), "metric", metric)
    return float(mine["n"].to_numpy().max()) if len(mine) else math.nan


def _row(row: Mapping[str, Any], horizon: float) -> PlanRow:
    verdict, n = str(row["verdict"]), float(row["n"])
    lower, upper = float(row["lower"]), float(row["upper"])
    smallest = int(row["smallest"])
    bottom = f"≤ {smallest}" if lower <= smallest else format_size(lower)
    top = f"> {horizon:.0f}" if math.isinf(upper) else format_size(upper)
    interval = f"[{bottom}, {top}]"
    if verdict in {"reached", "lost"}:
        word = format_size(n) if verdict == "reached" else f"until {format_size(n)}"
        size = Cell(word, interval, sort=n)
    elif verdict == "met throughout":
        size = Cell(f"≤ {smallest}", interval if upper > smallest else "", sort=float(smallest))
    elif verdict == "not within range":
        size = Cell(f"> {horizon:.0f}", kind="missing", sort=horizon)
    else:
        size = Cell(_WORDS.get(verdict, verdict), kind="missing")
    share = float(row["met"])
    met = Cell(f"{share:.0%}", sort=share) if math.isfinite(share) else Cell("–", kind="missing")
    note = ". ".join(part.strip(" .") for part in (row["reason"], row["advice"]) if part)
    return PlanRow(
        str(row["solver"]),
        size,
        met,
        str(row["law"]),
        f"{note[:1].upper()}{note[1:]}." if note else "",
        verdict in {"reached", "met throughout"},
    )


def _verdict(tests: pd.DataFrame) -> Verdict | None:
    counted = select(tests, "counts", 1)
    if counted.empty:
        return None
    ratios = np.abs(counted["log2_ratio"].to_numpy(dtype=float))
    widths = counted["octaves"].to_numpy(dtype=float)
    return Verdict(
        len(counted),
        len(tests),
        float(np.mean(counted["contains"].to_numpy(dtype=float))),
        float(np.isfinite(widths).mean()),
        float(np.quantile(ratios, 0.5, method="inverted_cdf")),
        float(np.quantile(widths, 0.5, method="inverted_cdf")),
        float(counted["level"].iloc[0]),
    )


def _table(run: store.RunFolder, schema: store.Schema) -> pd.DataFrame:
    files = (run.tables / f"{schema.name}.{kind}" for kind in ("parquet", "csv"))
    if any(file.is_file() for file in files):
        return store.read_table(run.tables, schema)
    return store.from_rows([], schema)
