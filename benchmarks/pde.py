"""`pde` against its bars, on the study's own fields and on the public ones.

    python benchmarks/pde.py RUN [--public FILE] [--sensors 100] [--snr 50] [--fields 200]

RUN is a finished `latens run pde`; nothing is trained. With a public file the published
coefficients and pressures stand in the place of the family's: `smh_inverse_coe.mat` with its own
sensors, `pwc_test_in.mat` with the study's. Numbers are means, medians and worst over fields.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from latens.data import read_darcy_case, read_darcy_fields
from latens.inference import DEFAULT_DRAWS
from latens.metrics.uniformity import ecdf_test
from latens.problems.pde import Grid
from latens.store import RunFolder, content_hash
from latens.studies.configure import construct
from latens.studies.pde.fit import operator_errors, trained
from latens.studies.pde.invert import evaluate
from latens.studies.pde.run import fit_identity
from latens.studies.pde.study import Pde
from latens.studies.pde.systems import in_blocks
from latens.training import one_thread


def public(file: Path, study: Pde, count: int) -> tuple[torch.Tensor, ...]:
    """Truth, sensors and clean readings of a public file."""
    case = file.name.startswith("smh")
    data = read_darcy_case(file) if case else read_darcy_fields(file)
    sensors = data.sensors if case else study.system.sensors(study.sensors[0], study.seed)
    matrix = torch.from_numpy(Grid(*study.system.grid).interpolation(sensors).toarray())
    clean = data.solution[:count].flatten(1).double() @ matrix.mT
    return data.coefficient[:count].double(), sensors, clean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--public", type=Path)
    parser.add_argument("--sensors", type=int, default=100)
    parser.add_argument("--snr", type=float, default=50.0)
    parser.add_argument("--fields", type=int, default=200)
    options = parser.parse_args()
    run = RunFolder.open(options.run)
    config = run.description["config"]
    config["test_fields"] = options.fields
    study = construct(Pde, config)
    model = trained(study, run.fit(content_hash(fit_identity(config))))
    with one_thread():
        if options.public:
            truth, sensors, clean = public(options.public, study, options.fields)
        else:
            fields = study.tested_fields
            truth, sensors = (
                fields.coarse.double(),
                study.system.sensors(options.sensors, study.seed),
            )
            clean = in_blocks(study.system.operator(sensors), fields.fine).flatten(1)
            for name, values in operator_errors(model, fields.fine, truth, study).items():
                print(f"{name}: mean {values.mean():.5f}, median {values.median():.5f}")
        keys = list(range(len(truth)))
        rows, _, seconds = evaluate(study, model, sensors, options.snr, truth, clean, keys)
    table = pd.DataFrame(rows).pivot_table(
        index="metric", columns="solver", values="value", sort=False, aggfunc=["mean", "median"]
    )
    with pd.option_context("display.width", 200, "display.float_format", "{:.5f}".format):
        print(table)
    times = pd.DataFrame(seconds).groupby("solver", sort=False).sum()
    print((times["seconds"] / times["fields"]).rename("seconds per field").round(4))
    ranks = pd.DataFrame(rows).query("metric == 'rank_mean'")
    for solver, part in ranks.groupby("solver", sort=False):
        p = ecdf_test(part["value"].to_numpy().astype(int)[:, None], DEFAULT_DRAWS)[1]
        print(f"{solver}: ranks of the field's mean uniform, p = {float(np.ravel(p)[0]):.3f}")
    worst = pd.DataFrame(rows).query("metric == 'relative_l2'").groupby("solver")["value"].max()
    print(worst.rename("largest relative_l2"))
    print(f"fields {len(truth)}, {np.unique([r['field'] for r in rows]).size} distinct")


if __name__ == "__main__":
    main()
