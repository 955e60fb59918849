"""Two tables of a `semisup` run: models beside each other, and chosen labels beside drawn ones.

`overview.csv` lies beside `cost.csv`, and not in `tables/`: minutes differ from run to run.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latens.evaluation import seed_interval
from latens.metrics import LEVEL
from latens.store import ACTIVE, OVERVIEW, OVERVIEW_METRICS, RunFolder, from_rows, write_csv
from latens.studies.units import EvaluationUnit

if TYPE_CHECKING:
    import pandas as pd

MINUTE = 60.0


def write_overview(
    run: RunFolder, units: Sequence[EvaluationUnit], curves: "pd.DataFrame"
) -> None:
    """Write `overview.csv`: settings, numbers and minutes of each model at each number of labels.

    Args:
        run: The run.
        units: Its finished evaluations.
        curves: Its table CURVES.
    """
    models = run.description["config"].get("models", {})
    seconds = dict(run.read_costs()[["hash", "seconds"]].itertuples(index=False))
    rows = []
    cells: Any = curves.groupby(["solver", "n"], sort=True)
    for (solver, n), own in cells:
        model = models.get(solver.partition(" ")[0], {})  # a chain of rounds has that of its start
        means: Any = own.set_index("metric")["mean"]
        fits = [unit.fits[0].hash for unit in units if (unit.solver, unit.n) == (solver, n)]
        known = [seconds[hash] / MINUTE for hash in fits if hash in seconds]
        rows.append(
            {
                "solver": solver,
                **settings_of(model),
                "labels": n,
                **{name: means.get(name, np.nan) for name in OVERVIEW_METRICS},
                "minutes": np.mean(known) if known else np.nan,
                "fits": own["fits"].max(),
                "status": own["status"].iloc[0],
            }
        )
    write_csv(run.path / "overview.csv", OVERVIEW, from_rows(rows, OVERVIEW))


def settings_of(model: Mapping[str, Any]) -> dict[str, str]:
    """Trunk, use of the component, σ and objective of a model's resolved configuration."""
    settings = model.get("init_args", {})
    decoder, terms = settings.get("decoder", {}), settings.get("terms", {})
    return {
        "trunk": decoder.get("trunk", ""),
        "component": decoder.get("component", ""),
        "scale": decoder.get("likelihood", ""),
        "objective": terms.get("likelihood", ""),
    }


def active_rows(metrics: "pd.DataFrame") -> "pd.DataFrame":
    """Table ACTIVE: accuracy after each round minus that with drawn labels, draw by draw.

    Chosen and drawn labels of one draw come from the same order of the images, so that their
    difference is paired; the interval is a t interval over draws. The test images are the same.

    Args:
        metrics: Table METRICS of a run.
    """
    accuracy = metrics.loc[(metrics["metric"] == "accuracy") & np.isfinite(metrics["value"])]
    accuracy = accuracy.loc[accuracy["init_seed"] == 0]
    by_cell: Any = {
        key: own.set_index("data_seed")["value"] for key, own in accuracy.groupby(["solver", "n"])
    }
    rows = []
    for (chain, n), chosen in by_cell.items():
        model, _, acquisition = chain.partition(" ")
        for (solver, labels), drawn in by_cell.items():
            difference = (chosen - drawn).dropna()
            if not acquisition or solver != model or difference.empty:
                continue
            seeds = difference.index.to_numpy()
            found = seed_interval(difference.to_numpy(), seeds, np.zeros(len(seeds), dtype=int))
            numbers = {"value": found.value, "lower": found.lower, "upper": found.upper}
            place = {"solver": model, "acquisition": acquisition, "n": n, "drawn": labels}
            rows.append({**place, **numbers, "level": LEVEL, "data_seeds": len(seeds)})
    return from_rows(rows, ACTIVE)
