"""Run `growth`: cross-validated scores, tables, and fitted models for new patients.

Every forecaster is one evaluation, and each of those that are stored one fit; what is finished is
not computed again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from latens.errors import NumericalError
from latens.evaluation.forecast_conformal import (
    calibrate_forecaster,
    require_patients,
)
from latens.evaluation.forecasts import COMPONENTS, ForecastScores, cross_validate
from latens.inference.forecasting.support import Support
from latens.reporting.growth import (
    write_growth_figures,
    write_growth_report,
)
from latens.store import (
    Outcome,
    RunFolder,
    Status,
    array_fingerprint,
    content_hash,
    major_versions,
    new_folder,
    read_json,
    write_array,
    write_json,
)
from latens.studies.configure import construct
from latens.studies.growth import SCANS, STORED, Growth
from latens.studies.growth_tables import SHOWN, compared, write_tables
from latens.training import one_thread
from latens.types import PathLike

GROWTH_VERSION = 6
"""Raised when numbers of the same configuration change."""
WEIGHTS = "forecaster.safetensors"
DESCRIPTION = "forecaster.json"
_COLUMNS = (*SHOWN, *COMPONENTS)
_SHARED = ("target", "min_visits", "folds", "seed")
_OWN = {
    "hierarchical_gompertz": ("sampler",),
    "latent_ode": ("members", "training", "ode"),
    SCANS: ("members", "training", "ode"),
}
"""Settings that a forecaster alone depends on, besides those of the comparison."""


def run_growth(
    config: dict[str, Any], out: PathLike, name: str, say: Callable[[str], None]
) -> RunFolder:
    """Compute what is missing, then the tables.

    Args:
        config: Resolved configuration of `Growth`.
        out: Run folder, new or of an earlier start.
        name: Name of the run.
        say: Told of every finished part.

    Raises:
        LatensError: One line that names the setting or file at fault.
    """
    study = construct(Growth, config)
    series = study.series
    tested, _, _ = series.split_last(study.min_visits)  # somebody, before anything is written
    if study.conformal:
        require_patients(len(tested), study.fold_count)
    arrays = (series.times.numpy(), series.volumes.numpy(), series.mask.numpy())
    told = [series.limit, series.time_unit, series.volume_unit, list(series.patients)]
    fingerprint = content_hash([array_fingerprint(*arrays), *told])
    shown = study.latents if study.data is None else study.data.path
    data = {
        "name": "simulated lesions" if shown is None else Path(shown).name,
        "fingerprint": fingerprint,
        "patients": len(series),
        "visits": int(series.visits.sum()),
        "tested": len(tested),
        "limit": series.limit,
        "limit_stated": study.limit_stated,
        "time_unit": series.time_unit,
        "volume_unit": series.volume_unit,
    }
    run = RunFolder.create(
        out,
        {
            "study": study.name,
            "name": name,
            "config": config,
            "data": data,
            "result_version": GROWTH_VERSION,
        },
    )
    seen = dict.fromkeys(study.forecasters, fingerprint)
    if study.scans is not None:
        latents = (study.scans.loc.numpy(), study.scans.variance.numpy())
        seen[SCANS] = array_fingerprint(*latents, np.frombuffer(fingerprint.encode(), np.uint8))
    units = {
        kind: {
            forecaster: _unit_hash(kind, config, forecaster, seen[forecaster])
            for forecaster in study.forecasters
            if kind == "evaluation" or forecaster in STORED
        }
        for kind in ("evaluation", "fit")
    }
    found: dict[str, ForecastScores] = {}
    with one_thread():
        for forecaster, unit in units["evaluation"].items():
            scores = _scores(run, study, forecaster, unit, say)
            if scores is not None:
                found[forecaster] = scores
        for forecaster, unit in units["fit"].items():
            _fit(run, study, forecaster, unit, say)
    write_json(
        run.units_file,
        {
            "fits": units["fit"],
            "evaluations": {unit: name for name, unit in units["evaluation"].items()},
        },
    )
    failed = [name for name in units["evaluation"] if name not in found]
    write_tables(run, compared(found, study), failed)
    write_growth_figures(run)
    write_growth_report(run)
    return run


def _unit_hash(kind: str, config: Mapping[str, Any], forecaster: str, fingerprint: str) -> str:
    """Identity of one evaluation or fit."""
    keys = (*_SHARED, *_OWN.get(forecaster, ()), *(("conformal",) if kind == "fit" else ()))
    own = {key: config[key] for key in keys}
    identity = {"kind": kind, "forecaster": forecaster, "data": fingerprint, **own}
    return content_hash(
        {**identity, "result_version": GROWTH_VERSION, "packages": major_versions()}
    )


def _scores(
    run: RunFolder, study: Growth, name: str, unit: str, say: Callable[[str], None]
) -> ForecastScores | None:
    """Scores of a forecaster, computed or read; None where a number was not finite."""
    folder = run.evaluation(unit)
    if not run.has_evaluation(unit):
        begin = time.perf_counter()
        try:
            scores = cross_validate(
                study.maker(name, study.target),
                study.series,
                folds=study.fold_count,
                min_visits=study.min_visits,
                seed=study.seed,
            )
        except NumericalError as error:
            with new_folder(folder) as place:
                Outcome(Status.NAN, str(error)).write(place)
            say(f"{name}: {error}")
            return None
        with new_folder(folder) as place:
            for column in _COLUMNS:
                values = scores.components.get(column)
                write_array(
                    place / f"{column}.npy",
                    getattr(scores, column) if values is None else values,
                )
            write_json(
                place / "evaluation.json",
                {
                    "kind": "forecast",
                    "forecaster": name,
                    "label": scores.label,
                    "patients": list(scores.patients),
                    "diagnostics": {k: list(v) for k, v in scores.diagnostics.items()},
                },
            )
            Outcome(Status.CONVERGED).write(place)
        seconds = time.perf_counter() - begin
        run.record_cost(
            "evaluation", unit, name, len(study.series), study.seed, None, seconds, nan
        )
        say(f"{name}: {study.fold_count} folds in {seconds:.0f} s")
    outcome = Outcome.read(folder)
    if not outcome.usable:
        say(f"{name}: {outcome.status}, without numbers in the tables: {outcome.message}")
        return None
    entry = read_json(folder / "evaluation.json")
    arrays = {column: np.load(folder / f"{column}.npy", allow_pickle=False) for column in _COLUMNS}
    return ForecastScores(
        entry["label"],
        tuple(entry["patients"]),
        fold=arrays["fold"],
        truth=arrays["truth"],
        median=arrays["median"],
        lower=arrays["lower"],
        upper=arrays["upper"],
        components={column: arrays[column] for column in COMPONENTS},
        seconds=(0.0, 0.0),
        diagnostics=entry["diagnostics"],
    )


def _fit(run: RunFolder, study: Growth, name: str, unit: str, say: Callable[[str], None]) -> None:
    """A forecaster of any next visit, fitted to all patients."""
    if run.has_fit(unit):
        return
    begin = time.perf_counter()
    forecaster = study.maker(name, "next")()
    outcome, calibration = Outcome(Status.CONVERGED), None
    try:
        forecaster.fit(study.series, study.seed)
        if study.conformal:
            make = study.maker(name, "next")
            calibration = calibrate_forecaster(make, study.series, study.fold_count, study.seed)
    except NumericalError as error:
        outcome = Outcome(Status.NAN, str(error))
    with new_folder(run.fit(unit)) as place:
        if outcome.usable:
            save_file(
                {k: v.contiguous() for k, v in forecaster.tensors().items()}, place / WEIGHTS
            )
        write_json(
            place / DESCRIPTION,
            {
                "forecaster": name,
                "members": study.members,
                "support": Support.of(study.series).as_dict(),
                "conformal": None if calibration is None else asdict(calibration),
            },
        )
        outcome.write(place)
    seconds = time.perf_counter() - begin
    run.record_cost("fit", unit, name, len(study.series), study.seed, 0, seconds, nan)
    say(f"{name}: fitted to all {len(study.series)} patients in {seconds:.0f} s")
