"""Forecasts from scans against forecasts from volumes, on growing phantoms, patients kept whole.

    python benchmarks/growth_scans.py RUN [--seed 1] [--count 120] [--only NAME ...]

RUN is a folder of `latens run growth --stage exp3`. Its encoder (of training `--training`) sees
seven visits each of phantom subjects that it was not trained on, as `latens encode` has them; the
last visit is forecast from the earlier ones, ten folds (below sixty subjects each is its own).
The last value and the latent ODE of volumes are given the true volumes of the earlier visits,
which scans of patients do not show; the latent ODE of scans is given what the encoder said of the
scans, and learns from the volumes of training subjects how large its errors are. `volume_r2` is
that of the encoder's reading of the volume over all visits.

Rows go to `benchmarks/data/growth_scans.json`; one that is there, of the same encoder and
settings, is not measured again.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from growth_forecast import REFERENCE, row_of
from latens.data import default_folds
from latens.data.latent_series import LatentSeries
from latens.evaluation.forecast_conformal import require_patients
from latens.evaluation.forecasts import ForecastScores, cross_validate
from latens.inference.forecasting import LastValue, LatentODEForecaster, ScanODEForecaster
from latens.inference.forecasting.members import DEFAULT_TRAINING
from latens.studies.volumes.encode import encode_subjects, growing_phantoms, trained
from latens.training import Training

ROWS = Path(__file__).resolve().parent / "data" / "growth_scans.json"
MIN_VISITS = 6
FORECASTERS = (REFERENCE, "latent ODE of volumes", "latent ODE of scans")


def volume_r2(scans: LatentSeries) -> float:
    """Share of the variance of the log volume that the encoder's reading explains."""
    truth = scans.log_volumes
    read = replace(scans, log_volumes=torch.full_like(truth, torch.nan)).read_log_volumes
    known = torch.isfinite(truth)
    missed = (read - truth)[known].square().mean()
    return float(1 - missed / truth[known].var(correction=0))


def budget(steps: int) -> Training:
    """The default training of a latent ODE with that many steps."""
    usual = DEFAULT_TRAINING
    return replace(
        usual,
        max_steps=steps,
        warmup_steps=min(usual.warmup_steps, steps // 2),
        kl_warmup_steps=min(usual.kl_warmup_steps, steps // 2),
        validate_every=min(usual.validate_every, steps),
    )


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", help="folder of a run of growth, stage exp3")
    parser.add_argument("--training", type=int, default=0, help="which of its seeds encodes")
    parser.add_argument("--count", type=int, default=120, help="phantom subjects")
    parser.add_argument("--folds", type=int, help="default: ten, or one subject each below 60")
    parser.add_argument("--members", type=int, default=3, help="networks of a latent ODE")
    steps = DEFAULT_TRAINING.max_steps
    parser.add_argument("--steps", type=int, default=steps, help="optimiser steps of each")
    parser.add_argument("--seed", type=int, default=0, help="of folds, fits and draws")
    parser.add_argument("--only", nargs="*", choices=FORECASTERS, default=list(FORECASTERS))
    parser.add_argument("--rows", type=Path, default=ROWS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    _, model, fit = trained(options.run, options.training)
    begin = time.perf_counter()
    scans = encode_subjects(model, growing_phantoms(model.signal_shape, options.count).load(), fit)
    encoding = time.perf_counter() - begin
    series = scans.volumes().limited_by_history(MIN_VISITS)
    folds = default_folds(len(series)) if options.folds is None else options.folds
    require_patients(len(series), folds)
    told = {
        "encoder": fit[:12],
        "subjects": len(series),
        "folds": folds,
        "members": options.members,
        "steps": options.steps,
        "seed": options.seed,
    }
    settings = {"members": options.members, "training": budget(options.steps)}
    makers = {
        REFERENCE: lambda: LastValue("last", MIN_VISITS),
        "latent ODE of volumes": lambda: LatentODEForecaster("last", **settings),
        "latent ODE of scans": lambda: ScanODEForecaster(scans, "last", **settings),
    }

    def scores_of(name: str) -> ForecastScores:
        return cross_validate(
            makers[name], series, folds=folds, min_visits=MIN_VISITS, seed=options.seed
        )

    kept = json.loads(options.rows.read_text()) if options.rows.is_file() else []
    done = {row["forecaster"] for row in kept if told.items() <= row.items()}
    described = {
        **told,
        "volume_r2": round(volume_r2(scans), 4),
        "vanished": int((series.mask & (series.volumes < series.limit)).sum()),
        "visits": len(scans.patients),
        "encoding_seconds": round(encoding, 1),
    }
    reference = None
    for name in options.only:
        if name in done:
            continue
        reference = reference or scores_of(REFERENCE)
        begin, same = time.perf_counter(), name == REFERENCE
        scores = reference if same else scores_of(name)
        row = {**described, **row_of(name, scores, None if same else reference, series.log_limit)}
        kept.append(row)
        options.rows.parent.mkdir(exist_ok=True)
        options.rows.write_text("[\n" + ",\n".join(json.dumps(r) for r in kept) + "\n]\n")
        print(json.dumps(row), f"{time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
