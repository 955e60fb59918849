"""Tables of a `semisup` run, from the folders of its evaluations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latens.evaluation import seed_interval
from latens.metrics import LEVEL
from latens.metrics.catalogue.mixture import MIXTURE_SECTIONS
from latens.store import (
    CURVES,
    METRIC_DEFINITIONS,
    METRICS,
    Outcome,
    RunFolder,
    from_rows,
    read_csv,
    write_csv,
    write_json,
    write_table,
)
from latens.studies.gather import definitions_of, status_text
from latens.studies.units import EvaluationUnit

if TYPE_CHECKING:
    import pandas as pd


def gather(run: RunFolder, units: Sequence[EvaluationUnit]) -> None:
    """Write `tables/` of a run from its finished evaluations, and `units.json`, their list.

    Args:
        run: The run.
        units: Evaluations of the present configuration; others in the folder are left out.
    """
    import pandas as pd

    finished = [unit for unit in units if run.has_evaluation(unit.hash)]
    frames = [
        read_csv(run.evaluation(u.hash) / "metrics.csv", METRICS).assign(solver=u.solver)
        for u in finished
        if (run.evaluation(u.hash) / "metrics.csv").is_file()
    ]
    metrics = pd.concat(frames, ignore_index=True) if frames else from_rows([], METRICS)
    write_table(run.tables, "metrics", metrics)
    write_table(run.tables, "curves", from_rows(_curves(run, finished, metrics), CURVES))
    definitions = definitions_of(metrics["metric"], MIXTURE_SECTIONS)
    write_csv(run.tables / "metric_definitions.csv", METRIC_DEFINITIONS, definitions)
    members = {
        "fits": sorted({hash for unit in finished for hash in unit.needs}),
        "evaluations": {unit.hash: unit.solver for unit in finished},
    }
    write_json(run.units_file, members)


def _curves(
    run: RunFolder, units: Sequence[EvaluationUnit], metrics: "pd.DataFrame"
) -> list[dict[str, Any]]:
    """Mean over usable cells with a t interval over draws of the labels.

    The test images are the same in every cell; their share of the uncertainty stands in
    `metrics`, cell by cell, and is not added here.
    """
    cells: dict[tuple[str, int], list[EvaluationUnit]] = {}
    for unit in units:
        cells.setdefault((unit.solver, unit.n), []).append(unit)
    rows = []
    for (solver, n), members in sorted(cells.items()):
        outcomes = {u.hash: Outcome.read(run.evaluation(u.hash)) for u in members}
        usable = [hash for hash, outcome in outcomes.items() if outcome.usable]
        own = metrics.loc[metrics["solver"] == solver]
        for name in sorted(set(own["metric"] if len(own) else metrics["metric"])):
            found = own.loc[(own["metric"] == name) & own["evaluation"].isin(usable)]
            if usable and found.empty:  # not measured at this number of labels
                continue
            table = found.loc[np.isfinite(found["value"])]
            rows.append(
                {
                    "solver": solver,
                    "n": n,
                    "metric": name,
                    **_summary(table),
                    "level": LEVEL,
                    "data_seeds": table["data_seed"].nunique(),
                    "fits": len(table),
                    "excluded": len(members) - len(usable) + len(found) - len(table),
                    "status": status_text([str(o.status) for o in outcomes.values()]),
                }
            )
    return rows


def _summary(table: "pd.DataFrame") -> dict[str, float]:
    if table.empty:
        return dict.fromkeys(("mean", "lower", "upper"), float("nan"))
    interval = seed_interval(
        table["value"], table["data_seed"].to_numpy(), table["init_seed"].to_numpy(dtype=int)
    )
    low, high = SUPPORT[str(table["metric"].iloc[0])]
    lower, upper = np.clip([interval.lower, interval.upper], low, high)
    return {"mean": interval.value, "lower": float(lower), "upper": float(upper)}


SUPPORT = {m.name: m.support for section in MIXTURE_SECTIONS.values() for m in section}
"""Range of each metric, to which intervals are cut."""
