"""`pde` against its bars, from a finished run, and on the public fields.

    python benchmarks/pde.py RUN [--name NAME]
    python benchmarks/pde.py RUN --public FILE [--snr 50] [--fields 200] [--name NAME]

RUN is a finished `latens run pde`; nothing is trained but what belongs to a set of sensors. The
first form reads the tables of the run. In the second the published coefficients stand in the
place of the family's: `smh_inverse_coe.mat` with its own sensors, `pwc_test_in.mat` with
100 inner nodes of its grid, both with the published pressures at nodes, where nothing is to be
interpolated; `inverse_EIT_in.mat` and `problem_EIT.mat` with fluxes of our own solver, since the
files hold none, on the mesh of the study or one twice as fine as the nodes, whichever is finer.
Rows go to `benchmarks/data/pde_NAME.json`.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
import torch

from latens.data import read_darcy_case, read_darcy_fields
from latens.data.pde_fields import read_eit_fields
from latens.distributions import NoiseStream, Purpose
from latens.problems.pde import EIT, Grid
from latens.store import RunFolder, content_hash, read_json
from latens.studies.configure import construct
from latens.studies.pde.cell import evaluate
from latens.studies.pde.fit import trained
from latens.studies.pde.run import fit_identity
from latens.studies.pde.study import Pde
from latens.training import one_thread

DATA = Path(__file__).resolve().parent / "data"
METRICS = (
    *("relative_l2", "coverage_95", "i_corr", "dice", "ece", "ece_unsure", "interval_score"),
    *("trusted", "consistent"),
)


def public(file: Path, study: Pde, count: int) -> tuple[torch.Tensor, ...]:
    """Truth, sensors and clean readings of a public file."""
    if "EIT" in file.name:
        truth = read_eit_fields(file).coefficient[None].double()
        solver = EIT((1, *study.system.grid), refine=max(2, study.system.refine))
        return truth, study.system.sensors(0, 0), solver(truth).flatten(1)
    case = file.name.startswith("smh")
    data = read_darcy_case(file) if case else read_darcy_fields(file)
    grid = Grid(*study.system.grid)
    sensors = data.sensors if case else inner_nodes(grid, study.sensors[0], study.seed)
    assert sensors is not None
    matrix = torch.from_numpy(grid.interpolation(sensors).toarray())
    clean = data.solution[:count].flatten(1).double() @ matrix.mT
    return data.coefficient[:count].double(), sensors, clean


def inner_nodes(grid: Grid, count: int, seed: int) -> torch.Tensor:
    """Positions of random nodes that are not on the boundary, `(count, 2)`."""
    points = grid.points()
    inner = points[((points > 0) & (points < 1)).all(1)]
    return inner[NoiseStream(seed, Purpose.MASK).permutation(len(inner))[:count]]


def on_public_fields(run: RunFolder, options: argparse.Namespace) -> dict:
    """Numbers of the ways on published coefficients."""
    config = run.description["config"]
    config["inversion"]["simulated"] = 0
    study = construct(Pde, config)
    model = trained(study, run.fit(content_hash(fit_identity(config))))
    with one_thread():
        truth, sensors, clean = public(options.public, study, options.fields)
        keys = list(range(len(truth)))
        found = evaluate(study, model, sensors, options.snr, truth, clean, keys, print)
    return {
        "file": options.public.name,
        "ways": ways(pd.DataFrame(found.rows)),
        "seconds": seconds(pd.DataFrame(found.seconds)),
    }


def on_own_fields(run: RunFolder) -> dict:
    """Numbers of a finished run."""
    fields = pd.read_csv(run.tables / "pde_fields.csv")
    times = pd.read_csv(run.tables / "pde_seconds.csv")
    places = []
    names = ["population", "sensors", "snr"]
    for (population, sensors, snr), part in fields.groupby(names, sort=False):
        same = (times["sensors"] == sensors) & (times["snr"] == snr)
        mine = times[same & (times["population"] == population)]
        operator = part[part["solver"] == "igno"].groupby("metric")["value"]
        places.append(
            {
                "population": str(population),
                "sensors": int(sensors),
                "snr": float(snr),
                "operator": {
                    name: {"mean": rounded(v.mean()), "median": rounded(v.median())}
                    for name, v in operator
                },
                "ways": ways(part[part["solver"] != "igno"]),
                "seconds": seconds(mine),
            }
        )
    folders = {}
    for unit in read_json(run.units_file)["evaluations"]:
        cell = pd.read_csv(run.evaluation(unit) / "pde_fields.csv", nrows=1).iloc[0]
        folders[tuple(cell[name] for name in names)] = run.evaluation(unit)
    for place in places:
        place["calibration"] = calibration(folders[tuple(place[name] for name in names)])
    costs = pd.read_csv(run.path / "cost.csv") if (run.path / "cost.csv").exists() else None
    spent = None if costs is None else rounded(float(costs["seconds"].sum()) / 60)
    return {"cells": places, "clock_minutes": spent}


def calibration(folder: Path) -> dict:
    """Smallest p-value of every way in the tests of a cell."""
    found: dict[str, dict] = {}
    tests = pd.read_csv(folder / "tests.csv")
    if tests.empty:
        return found
    tests["source"] = tests["test"].str.partition(": ")[0]
    for (source, way), part in tests.groupby(["source", "solver"], sort=False):
        worst = part.loc[part["p_adjusted"].idxmin()]
        found.setdefault(str(source), {})[str(way)] = {
            "fields": int(worst["images"]),
            "smallest_p": float(f"{worst['p_adjusted']:.2g}"),
            "in": str(worst["quantity"]),
        }
    return found


def ways(rows: pd.DataFrame) -> dict:
    """Mean, median and largest value of every metric; the ratio to the twin on common fields."""
    table = {}
    errors = rows[rows["metric"] == "relative_l2"].pivot(
        index="field", columns="solver", values="value"
    )
    for way, part in rows.groupby("solver", sort=False):
        mine = {"fields": int(part["field"][part["field"] >= 0].nunique())}
        for metric in METRICS:
            v = part[part["metric"] == metric]["value"]
            if len(v):
                mine[metric] = {
                    "mean": rounded(v.mean()),
                    "median": rounded(v.median()),
                    "largest": rounded(v.max()),
                }
        if "solver" in errors and way != "solver":
            both = errors[[way, "solver"]].dropna()
            mine["ratio_to_twin"] = {
                "fields": len(both),
                "ratio": rounded(both[way].mean() / both["solver"].mean()),
            }
        table[str(way)] = mine
    return table


def seconds(rows: pd.DataFrame) -> dict[str, float]:
    """Seconds of the clock per field, also of what is done once for all fields."""
    total = rows.groupby("solver", sort=False)[["seconds", "fields"]].sum()
    return {str(way): rounded(row["seconds"] / row["fields"]) for way, row in total.iterrows()}


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--public", type=Path)
    parser.add_argument("--snr", type=float, default=50.0)
    parser.add_argument("--fields", type=int, default=200)
    parser.add_argument("--name")
    options = parser.parse_args()
    run = RunFolder.open(options.run)
    found = on_public_fields(run, options) if options.public else on_own_fields(run)
    name = options.name or (options.public.stem if options.public else options.run.name)
    text = json.dumps(found, indent=1) + "\n"
    (DATA / f"pde_{name}.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
