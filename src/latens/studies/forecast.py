"""`latens forecast`: volumes to come of new patients, with bands and what is doubtful."""

import math
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latens.data import SeriesFile, VolumeSeries, read_series
from latens.data.latent_series import LatentSeries, is_latent_series
from latens.errors import ConfigError, DataError, SolverError
from latens.evaluation.forecast_conformal import ForecastCalibration
from latens.inference.forecasting import Forecaster
from latens.inference.forecasting.support import Support
from latens.store import Outcome, RunFolder, from_rows, new_folder, read_json, write_csv
from latens.store.schemas import FORECAST
from latens.studies.configure import construct
from latens.studies.growth import SCANS, STORED, Growth
from latens.studies.growth_run import DESCRIPTION, WEIGHTS
from latens.studies.volumes.decode import Decoder
from latens.types import PathLike

LEVEL = 0.95


@dataclass(frozen=True)
class Stored:
    """A fitted forecaster of a run.

    Attributes:
        name: Its name.
        study: Settings of the run.
        support: Ranges that it was fitted on.
        calibration: By how much its bands are moved, where the run says so.
        tensors: What it learned.
    """

    name: str
    study: Growth
    support: Support
    calibration: ForecastCalibration | None
    tensors: dict[str, Tensor]

    def forecaster(self, scans: LatentSeries | None = None) -> Forecaster:
        """The forecaster; one of scans is for the scans that are given."""
        if self.name == SCANS:
            made: Forecaster = self.study.scan_forecaster(scans, "next")
        else:
            made = self.study.maker(self.name, "next")()
        made.restore(self.tensors)
        return made

    def series(self, scans: LatentSeries | None, file: Path) -> VolumeSeries:
        """Visits so far of new patients, from latents or from a table like that of the run."""
        limit = self.support.limit
        if scans is not None:
            return scans.volumes(min_visits=1, limit=limit)
        columns = SeriesFile("") if self.study.data is None else self.study.data
        return read_series(
            file,
            columns=columns.columns,
            limit=limit,
            min_visits=1,
            time_unit=self.support.time_unit,
            volume_unit=self.support.volume_unit,
        )


def forecast_command(options: Namespace) -> int:
    """Forecast a table or latents of new patients; returns the exit code."""
    file = Path(options.file)
    out = Path(options.out) if options.out else file.with_name(f"{file.stem}-forecast.csv")
    if out.exists():
        raise DataError(
            "out", "a file that does not exist yet", str(out), "Choose another with --out."
        )
    horizons = parse_horizons(options.horizon)
    scans = LatentSeries.load(file) if is_latent_series(file) else None
    stored = load_stored(options.run, options.forecaster, scans is not None)
    if options.conformal and stored.calibration is None:
        raise ConfigError(
            "conformal",
            "a run whose bands were calibrated",
            "one without",
            "Run the study with --conformal true.",
        )
    forecaster, series = stored.forecaster(scans), stored.series(scans, file)
    if options.decode is not None:
        decoder = Decoder.of(options.decode, options.seed, stored.name, scans)
        decoder.check_folder(out.with_suffix(""))
    calibration = stored.calibration if options.conformal else None
    rows = forecast_rows(forecaster, stored.support, series, horizons, calibration)
    if options.decode is None:
        write_csv(out, FORECAST, from_rows(rows, FORECAST))
    else:
        with _with_table(out, out.with_suffix("")) as place:
            count = decoder.write(forecaster, series, horizons, place)
            write_csv(out, FORECAST, from_rows(rows, FORECAST))
        print(f"wrote {count} NIfTI files to {out.with_suffix('')}")
    _tell(stored, series, horizons, rows)
    print(f"wrote {out}")
    return 0


@contextmanager
def _with_table(table: Path, folder: Path) -> Iterator[Path]:
    """A new folder, filled by a block that writes a new table last: both appear, or none.

    The table stands for a moment without the folder, and goes if the folder does not appear.
    """
    try:
        with new_folder(folder) as place:
            yield place
    except BaseException:
        table.unlink(missing_ok=True)
        raise


def _tell(
    stored: Stored, series: VolumeSeries, horizons: list[float], rows: list[dict[str, Any]]
) -> None:
    support = stored.support
    print(
        f"{stored.name}: {len(series)} patients, {len(horizons)} horizons in {support.time_unit}, "
        f"volumes in {support.volume_unit}, bands at {LEVEL:.0%}"
    )
    doubtful = [row for row in rows if row["doubts"]]
    for row in doubtful[:8]:
        print(f"warning: {row['patient']} at {row['time']:g}: {row['doubts']}")
    if len(doubtful) > 8:
        print(f"… and {len(doubtful) - 8} more; the column `doubts` has them all")


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


def load_stored(run: PathLike, name: str | None = None, scans: bool = False) -> Stored:
    """A fitted forecaster of a run.

    Args:
        run: Run folder of `growth`, stage ode.
        name: Forecaster; default: the last of `STORED` that the run has and the file serves.
        scans: Whether latents of scans are at hand.

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
    known = [word for word in STORED if word in study.forecasters and (scans or word != SCANS)]
    if not known or name not in (None, *known):
        raise ConfigError(
            "forecaster",
            f"one of {', '.join(known) or 'none, since this run fitted none for such a file'}",
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
    try:
        description = read_json(place / DESCRIPTION)
        found = description["conformal"]
        calibration = None if found is None else ForecastCalibration(**found)
        support = Support(**description["support"])
        return Stored(name, study, support, calibration, load_file(place / WEIGHTS))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise DataError(
            str(place), "a fit as latens wrote it", error, "Delete the folder and run again."
        ) from error


def forecast_rows(
    forecaster: Forecaster,
    support: Support,
    series: VolumeSeries,
    horizons: list[float],
    calibration: ForecastCalibration | None = None,
) -> list[dict[str, Any]]:
    """Rows of the table `forecast`.

    Args:
        forecaster: A fitted one.
        support: Ranges that it was fitted on.
        series: Visits so far of new patients.
        horizons: Times after the last visit.
        calibration: By how much bands are moved for the columns `conformal_…`.
    """
    times: Tensor = series.last_times[:, None] + torch.tensor(horizons, dtype=torch.float64)
    forecast = forecaster.forecast(series, times)
    band = forecast.interval(LEVEL)
    outside = support.doubts(series, times)
    own = forecast.doubts or ("",) * len(series)
    floor = forecast.log_limit
    moved = torch.full((2, *times.shape), torch.nan)
    if calibration is not None:
        bounds = calibration.band(band.lower.numpy(), band.upper.numpy(), floor)
        moved = torch.stack([torch.from_numpy(bound) for bound in bounds])

    def volume(log_volume: Tensor) -> float:
        value = float(log_volume)
        return 0.0 if value <= floor else math.exp(value)

    return [
        {
            "patient": patient,
            "time": float(times[b, h]),
            "horizon": horizon,
            "median": volume(forecast.median[b, h]),
            "lower": volume(band.lower[b, h]),
            "upper": volume(band.upper[b, h]),
            "level": band.level,
            "conformal_lower": volume(moved[0, b, h]),
            "conformal_upper": volume(moved[1, b, h]),
            "unseen": float(forecast.unseen[b, h]),
            "doubts": "; ".join(filter(None, (outside[b][h], own[b], forecaster.doubts))),
        }
        for b, patient in enumerate(series.patients)
        for h, horizon in enumerate(horizons)
    ]
