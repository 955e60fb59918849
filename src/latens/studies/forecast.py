"""`latens forecast`: volumes to come of new patients, with bands and what is doubtful."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latens.data import SeriesFile, VolumeSeries, read_series
from latens.errors import ConfigError, DataError, SolverError
from latens.inference.forecasting import Forecaster
from latens.inference.forecasting.support import Support
from latens.store import Outcome, RunFolder, from_rows, read_json, write_csv
from latens.store.schemas import FORECAST
from latens.studies.configure import construct
from latens.studies.growth import STORED, Growth
from latens.studies.growth_run import DESCRIPTION, WEIGHTS
from latens.types import PathLike

LEVEL = 0.95


def forecast_command(options: Namespace) -> int:
    """Forecast a table of series; returns the exit code."""
    file = Path(options.file)
    out = Path(options.out) if options.out else file.with_name(f"{file.stem}-forecast.csv")
    if out.exists():
        raise DataError(
            "out", "a file that does not exist yet", str(out), "Choose another with --out."
        )
    horizons = parse_horizons(options.horizon)
    name, forecaster, support, columns = load_forecaster(options.run, options.forecaster)
    series = read_series(
        file,
        columns=columns.columns,
        limit=support.limit,
        min_visits=1,
        time_unit=support.time_unit,
        volume_unit=support.volume_unit,
    )
    rows = forecast_rows(forecaster, support, series, horizons)
    write_csv(out, FORECAST, from_rows(rows, FORECAST))
    print(
        f"{name}: {len(series)} patients, {len(horizons)} horizons in {support.time_unit}, "
        f"volumes in {support.volume_unit}, bands at {LEVEL:.0%}"
    )
    doubtful = [row for row in rows if row["doubts"]]
    for row in doubtful[:8]:
        print(f"warning: {row['patient']} at {row['time']:g}: {row['doubts']}")
    if len(doubtful) > 8:
        print(f"… and {len(doubtful) - 8} more; the column `doubts` has them all")
    print(f"wrote {out}")
    return 0


def parse_horizons(text: str) -> list[float]:
    """Times after the last visit, `30,60,90`.

    Raises:
        ConfigError: Unless they are positive and increase.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    increasing = all(a < b for a, b in zip([0.0, *found], found, strict=False))
    if not found or not increasing or not found[-1] < float("inf"):
        raise ConfigError(
            "horizon",
            "positive times after the last visit, in ascending order",
            text,
            "Write for example --horizon 30,60,90.",
        )
    return found


def load_forecaster(
    run: PathLike, name: str | None = None
) -> tuple[str, Forecaster, Support, SeriesFile]:
    """A fitted forecaster of a run, its support, and how its table was read.

    Args:
        run: Run folder of `growth`.
        name: Forecaster; default: the last of `STORED` that the run has.

    Raises:
        ConfigError: If the run has no such forecaster.
        DataError: If the folder is no such run, or is damaged.
        SolverError: If the fit failed.
    """
    folder = RunFolder.open(run)
    description = folder.description
    stage = description["config"].get("stage", "ode")
    if description["study"] != Growth.name or stage != "ode":
        raise DataError(
            str(folder.path),
            "a run of growth, stage ode",
            f"{description['study']}, stage {stage}",
            "Give another folder.",
        )
    study = construct(Growth, description["config"])
    known = [word for word in STORED if word in study.forecasters]
    if not known or name not in (None, *known):
        raise ConfigError(
            "forecaster",
            f"one of {', '.join(known) or 'none, since this run fitted none'}",
            name,
            f"Choose one, or run the study with {' or '.join(STORED)}.",
        )
    name = name or known[-1]
    fits = read_json(folder.units_file)["fits"] if folder.units_file.is_file() else {}
    if name not in fits or not folder.has_fit(fits[name]):
        raise DataError(
            str(folder.path),
            f"a finished fit of {name}",
            "none",
            "Finish the run with the command it began with.",
        )
    place = folder.fit(fits[name])
    outcome = Outcome.read(place)
    if not outcome.usable:
        raise SolverError(
            name, "a usable fit", outcome.message, "Choose another.", str(outcome.status)
        )
    forecaster = study.maker(name, "next")()
    try:
        forecaster.restore(load_file(place / WEIGHTS))
        support = Support(**read_json(place / DESCRIPTION)["support"])
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise DataError(
            str(place), "a fit as latens wrote it", error, "Delete the folder and run again."
        ) from error
    columns = SeriesFile("") if study.data is None else study.data
    return name, forecaster, support, columns


def forecast_rows(
    forecaster: Forecaster, support: Support, series: VolumeSeries, horizons: list[float]
) -> list[dict[str, Any]]:
    """Rows of the table `forecast`.

    Args:
        forecaster: A fitted one.
        support: Ranges that it was fitted on.
        series: Visits so far of new patients.
        horizons: Times after the last visit.
    """
    times: Tensor = series.last_times[:, None] + torch.tensor(horizons, dtype=torch.float64)
    forecast = forecaster.forecast(series, times)
    band = forecast.interval(LEVEL)
    doubts = support.doubts(series, times)
    floor = forecast.log_limit

    def volume(log_volume: Tensor) -> float:
        return 0.0 if float(log_volume) <= floor else float(log_volume.exp())

    return [
        {
            "patient": patient,
            "time": float(times[b, h]),
            "horizon": horizon,
            "median": volume(forecast.median[b, h]),
            "lower": volume(band.lower[b, h]),
            "upper": volume(band.upper[b, h]),
            "level": band.level,
            "unseen": float(forecast.unseen[b, h]),
            "doubts": doubts[b][h],
        }
        for b, patient in enumerate(series.patients)
        for h, horizon in enumerate(horizons)
    ]
