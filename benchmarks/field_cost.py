"""What the posterior of one field costs beside a point inversion of it.

    python benchmarks/field_cost.py RUN [--fields 5]

RUN is a finished `latens run pde`. Of each test field, alone, with 100 sensors at 50 dB:

- `point`: the most probable latents from 64 starts of the prior, to the tolerance of `FieldMAP`;
- `posterior`: eight chains around Laplace's Gaussian (its own eight climbs included), with the
  fewest draws per chain (doubled from 50) at which R̂ < 1.01 and every bulk size is 100 or more.

Times are seconds of one core. Rows go to `benchmarks/data/field_cost.json`.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from latens.inference.fields import (
    FieldChains,
    FieldLaplace,
    FieldMAP,
    FieldTarget,
    NoiseLevel,
)
from latens.inference.samplers import HMC
from latens.store import RunFolder, content_hash
from latens.studies.configure import construct
from latens.studies.pde.fit import trained
from latens.studies.pde.invert import MAX_STEPS, instrument
from latens.studies.pde.run import fit_identity
from latens.studies.pde.study import Pde
from latens.studies.pde.systems import in_blocks

ROWS = Path(__file__).resolve().parent / "data" / "field_cost.json"
STARTS, CLIMBS, CHAINS, WARMUP = 64, 8, 8, 60
FIRST, MOST = 50, 1600
SENSORS, SNR = 100, 50.0
Row = dict[str, float | int]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--fields", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = RunFolder.open(arguments.run)
    study = construct(Pde, run.description["config"])
    model = trained(study, run.fit(content_hash(fit_identity(run.description["config"]))))
    sensors = study.system.sensors(SENSORS, study.seed)
    made = instrument(study, model, sensors)
    predict, errors = made.predictor(False)
    fine = study.populations["family"].fine[: arguments.fields]
    clean = in_blocks(study.system.operator(sensors), fine).flatten(1)
    y, scale = study.noise(clean, SNR, list(range(len(fine))))
    rows = []
    for i in range(len(fine)):
        level = NoiseLevel(scale[i : i + 1], 0.0)

        def target(readings: torch.Tensor, level: NoiseLevel = level) -> FieldTarget:
            return FieldTarget(model, predict, readings, level, errors)

        rows.append(compared(target, y[i : i + 1], i, study.seed))
        print(rows[-1], flush=True)
    table = {
        "latents": model.dim,
        "median ratio": statistics.median(float(row["ratio"]) for row in rows),
        "fields": rows,
    }
    ROWS.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(table, ensure_ascii=False))


def compared(target, y: torch.Tensor, key: int, seed: int) -> Row:
    """A posterior against a point inversion of one field."""
    begin = time.process_time()
    _, highest = FieldMAP(target, climbs=STARTS).maximum(y, [key], seed)
    point_s = time.process_time() - begin
    draws = FIRST
    while True:
        chains = FieldChains(
            target,
            kernel=HMC(max_steps=MAX_STEPS),
            chains=CHAINS,
            warmup=WARMUP,
            draws=draws,
            start=FieldLaplace(target, climbs=CLIMBS),
        )
        begin = time.process_time()
        posterior = chains.solve(y, [key], seed)
        seconds = time.process_time() - begin
        found = posterior.chains.diagnoses[0]
        passed = found.rhat < 1.01 and found.bulk_ess >= 100
        if passed or 2 * draws > MOST:
            break
        draws *= 2
    return {
        "point_s": round(point_s, 2),
        "gradients of point": highest.gradients,
        "posterior_s": round(seconds, 2),
        "gradients of posterior": int(posterior.diagnostics["gradients"]),
        "draws": draws,
        "rhat": round(found.rhat, 4),
        "bulk_ess": round(found.bulk_ess),
        "passed": int(passed),
        "ratio": round(seconds / point_s, 2),
    }


if __name__ == "__main__":
    main()
