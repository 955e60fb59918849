"""Rows of the table `curves`: the mean over the usable cells of every solver, size and metric."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latens.metrics import LEVEL
from latens.store import USABLE, Outcome, RunFolder, Status
from latens.studies.recorded import Finished
from latens.studies.units import EvaluationUnit

if TYPE_CHECKING:
    import pandas as pd

Unit = EvaluationUnit | Finished

Summary = Callable[[str, int, "pd.DataFrame"], dict[str, float]]
"""Mean of `(metric, n, finite cells)` with its interval; NaN without cells."""


def curve_rows(
    run: RunFolder,
    units: Sequence[Unit],
    metrics: "pd.DataFrame",
    summary_of: Callable[[Sequence[Unit]], Summary],
    kept: Collection[Status] = USABLE,
) -> list[dict[str, Any]]:
    """Rows of CURVES.

    A cell of another status than `kept` is left out and counted: the curve is that of models
    which pass their gate. A size without any kept cell has a row, with NaN.

    Args:
        run: The run.
        units: Finished evaluations.
        metrics: Their table METRICS.
        summary_of: How the cells of some kept units are summarised.
        kept: Statuses of the cells that enter the means.
    """
    rows: list[dict[str, Any]] = []
    cells: dict[tuple[str, int, str], list[Unit]] = {}
    for unit in units:
        cells.setdefault((unit.solver, unit.n, unit.check), []).append(unit)
    for (solver, n, check), members in sorted(cells.items()):
        same = [u.hash for u in units if u.solver == solver and u.check == check]
        own = metrics.loc[(metrics["solver"] == solver) & metrics["evaluation"].isin(same)]
        names = set(own["metric"])
        if not (names or check):  # a solver without any number is marked under every metric
            names = set(metrics["metric"])
        if not names:  # a check with tables of its own
            continue
        outcomes = {u.hash: Outcome.read(run.evaluation(u.hash)) for u in members}
        usable = [u for u in members if outcomes[u.hash].status in kept]
        summary = summary_of(usable)
        for name in sorted(names):
            found = own.loc[own["metric"] == name]
            found = found.loc[found["evaluation"].isin([u.hash for u in usable])]
            if usable and found.empty:  # not measured at this size
                continue
            table = found.loc[np.isfinite(found["value"])]
            rows.append(
                {
                    "solver": solver,
                    "n": n,
                    "metric": name,
                    **summary(name, n, table),
                    "level": LEVEL,
                    "data_seeds": table["data_seed"].nunique(),
                    "fits": len(table),
                    "excluded": len(members) - len(usable) + len(found) - len(table),
                    "status": status_text([str(o.status) for o in outcomes.values()]),
                }
            )
    return rows


def status_text(statuses: list[str]) -> str:
    """ "ok", or what went wrong how often."""
    words = [word for word in statuses if word not in USABLE]
    if not words:
        return "ok"
    counts = {word: words.count(word) for word in sorted(set(words))}
    return ", ".join(f"{count} of {len(statuses)} {word}" for word, count in counts.items())
