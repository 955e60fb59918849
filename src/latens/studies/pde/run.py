"""Run the study: fit, invert every cell, tables, report."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.numpy import save_file

from latens.errors import SolverError
from latens.evaluation.calibration_outcome import CalibrationTests
from latens.evaluation.evaluate import Cell
from latens.models.igno import IGNO
from latens.reporting.pde import CURVES_FILE, PICTURES, TESTS_FILE, write_pde_report
from latens.store import (
    Outcome,
    RunFolder,
    Schema,
    content_hash,
    from_rows,
    major_versions,
    new_folder,
    read_csv,
    write_csv,
    write_json,
)
from latens.store.hdf5 import write_hdf5
from latens.store.schemas import RANK_CURVES, TESTS
from latens.studies.configure import construct
from latens.studies.pde.cell import evaluate
from latens.studies.pde.fit import fit, operator_errors, trained
from latens.studies.pde.invert import Instrument, instrument
from latens.studies.pde.study import Pde, Population
from latens.studies.pde.systems import in_blocks
from latens.studies.pde.tables import FIELDS, SECONDS, SUMMARY, summary
from latens.training import one_thread
from latens.types import PathLike

RESULT_VERSION, EVALUATION_VERSION = 5, 6
"""Raised where fits, or inversions of the same fit, would be others."""
ARRAYS_FILE = "fields.h5"
"""Mean, standard deviation and interval of every test field and way, `WAY/NAME`."""
FIT_KEYS = ("family", "system", "network", "flow", "pairs", "training", "seed")
"""Settings on which a fit depends."""
CELL_KEYS: dict[Population, tuple[str, ...]] = {
    "family": ("held_out", "test_fields", "inversion"),
    "strange": ("held_out", "strange", "strange_fields", "inversion"),
}
"""Settings on which a cell depends, beside its fit."""


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        run: Its folder.
        report: Path of the HTML report.
        summary: Table `pde`.
    """

    run: RunFolder
    report: Path
    summary: pd.DataFrame


def run_pde(
    config: dict[str, Any], out: PathLike, name: str, say: Callable[[str], None]
) -> Finished:
    """Compute what is missing, then tables and report.

    Args:
        config: Resolved configuration.
        out: Run folder, new or of an earlier start.
        name: Name of the run, for titles.
        say: Told a line about each step.

    Raises:
        LatensError: One line that names the setting at fault, before any training.
        SolverError: If the fit failed.
    """
    study = construct(Pde, config)
    with one_thread():
        study.check()
    run = RunFolder.create(out, identity(config, name, study))
    fit_hash = fit_identity(config)
    with one_thread():
        with run.claim(content_hash(fit_hash)) as mine:
            _require(mine, run)
            say(f"training on {study.pairs} fields")
            status = fit(study, run, content_hash(fit_hash), fit_hash)
        folder = run.fit(content_hash(fit_hash))
        outcome = Outcome.read(folder)
        if not outcome.usable:
            raise SolverError(
                "training",
                "a fit that can be used",
                f"{status}: {outcome.message}",
                "Mend the cause (where numbers are not finite, lower `training.learning_rate`), "
                "delete the fit's folder and run again.",
            )
        hashes, bench = [], Bench(study, folder)
        for place in places(study):
            say(f"inverting {place.words(study)}")
            hashes.append(_cell_unit(study, config, run, bench, place, say))
    table = _gather(study, run, hashes)
    return Finished(run, write_pde_report(run), table)


@dataclass(frozen=True)
class Place:
    """A cell of the study.

    Attributes:
        population: Where its fields come from.
        sensors: How many; 0 for the boundary.
        snr: Signal-to-noise ratio, decibel.
    """

    population: Population
    sensors: int
    snr: float

    def words(self, study: Pde) -> str:
        """For a line of progress."""
        count = study.test_fields if self.population == "family" else study.strange_fields
        kind = "" if self.population == "family" else "strange "
        where = f"{self.sensors} sensors" if self.sensors else "the boundary"
        return f"{count} {kind}fields, {where}, {self.snr:g} dB"


class Bench:
    """The trained model, and what predicts the readings of each set of sensors, made once.

    Args:
        study: Settings.
        folder: Folder of the fit.
    """

    def __init__(self, study: Pde, folder: Path) -> None:
        self.study, self.folder = study, folder
        self._made: dict[int, Instrument] = {}

    @cached_property
    def model(self) -> IGNO:
        """The trained model."""
        return trained(self.study, self.folder)

    def instrument(self, count: int) -> Instrument:
        """Predictors of a number of sensors; 0 for the boundary."""
        if count not in self._made:
            sensors = self.study.system.sensors(count, self.study.seed)
            self._made[count] = instrument(self.study, self.model, sensors)
        return self._made[count]


def places(study: Pde) -> list[Place]:
    """Cells in the order of the tables."""
    populations: list[Population] = ["family"]
    if study.strange_fields:
        populations.append("strange")
    counts = study.sensors if study.system.anywhere else [0]
    return [Place(p, m, snr) for p in populations for m in counts for snr in study.snr]


def _require(mine: bool, run: RunFolder) -> None:
    if not mine:
        raise SolverError(
            str(run.path), "a run that nobody else works on", "another process", "Wait for it."
        )


def identity(config: dict[str, Any], name: str, study: Pde) -> dict[str, Any]:
    """Description of the run for `run.json`."""
    return {
        "study": study.name,
        "name": name,
        "config": config,
        "data": {
            "family": type(study.family).__name__,
            "equation": type(study.system).__name__,
            "grid": list(study.system.grid),
            "solver_grid": list(study.system.fine),
        },
        "result_version": RESULT_VERSION,
    }


def fit_identity(config: dict[str, Any]) -> dict[str, Any]:
    """What a fit is made of."""
    kept = {key: config[key] for key in FIT_KEYS}
    return {
        "kind": "fit",
        "config": kept,
        "result_version": RESULT_VERSION,
        "packages": major_versions(),
    }


def _cell_unit(
    study: Pde,
    config: dict[str, Any],
    run: RunFolder,
    bench: "Bench",
    place: Place,
    say: Callable[[str], None],
) -> str:
    """Compute one cell unless it is there; returns its hash."""
    kept = {key: config[key] for key in CELL_KEYS[place.population]}
    description = {
        "kind": "inversion",
        "fit": bench.folder.name,
        **asdict(place),
        "config": kept,
        "evaluation_version": EVALUATION_VERSION,
    }
    hash = content_hash(description)
    if run.has_evaluation(hash):
        return hash
    start = time.perf_counter()
    model, fields = bench.model, study.populations[place.population]
    made = bench.instrument(place.sensors)
    sensors = made.sensors
    clean = in_blocks(study.system.operator(sensors), fields.fine).flatten(1)
    truth = fields.coarse.double()
    found = evaluate(study, model, sensors, place.snr, truth, clean, fields.keys, say, made)
    rows = found.rows
    for metric, values in operator_errors(model, fields.fine, fields.coarse, study).items():
        rows += [
            {"solver": "igno", "field": key, "metric": metric, "value": float(value)}
            for key, value in zip(fields.keys, values, strict=True)
        ]
    named = asdict(place) | {"sensors": len(sensors)}
    with new_folder(run.evaluation(hash)) as folder:
        write_json(folder / "evaluation.json", description)
        Outcome.read(bench.folder).write(folder)
        write_csv(folder / "pde_fields.csv", FIELDS, from_rows([r | named for r in rows], FIELDS))
        timed = from_rows([r | named for r in found.seconds], SECONDS)
        write_csv(folder / "pde_seconds.csv", SECONDS, timed)
        write_csv(
            folder / "sensors.csv",
            sensor_schema(study.system.axes),
            pd.DataFrame(sensors.numpy(), columns=list("xy")[: study.system.axes]),
        )
        _write_calibration(folder, study, hash, found.tests)
        save_file(found.pictures | {"sensors": sensors.numpy()}, folder / PICTURES)
        arrays = {"truth": fields.coarse.numpy(), "sensors": sensors.numpy()}
        write_hdf5(folder / ARRAYS_FILE, arrays | found.fields)
    took = round(time.perf_counter() - start, 3)
    run.record_cost("evaluation", hash, "igno", study.pairs, 0, study.seed, took, float("nan"))
    return hash


def _write_calibration(
    folder: Path, study: Pde, hash: str, found: list[tuple[str, CalibrationTests]]
) -> None:
    """Tests of every way, and the curves of their ranks."""
    places = [(tests, Cell(way, study.pairs, 0, study.seed, hash)) for way, tests in found]
    tables = [tests.table(cell) for tests, cell in places]
    curves = [tests.curves(cell) for tests, cell in places]
    for name, schema, parts in (
        (TESTS_FILE, TESTS, tables),
        (CURVES_FILE, RANK_CURVES, curves),
    ):
        write_csv(folder / name, schema, pd.concat(parts) if parts else from_rows([], schema))


def sensor_schema(axes: int) -> Schema:
    """Columns of a table of positions."""
    return Schema("sensors", dict.fromkeys("xy"[:axes], "float64"))


def _gather(study: Pde, run: RunFolder, hashes: list[str]) -> pd.DataFrame:
    """Tables of the whole run from its cells."""
    folders = [run.evaluation(hash) for hash in hashes]
    fields = pd.concat([read_csv(f / "pde_fields.csv", FIELDS) for f in folders])
    seconds = pd.concat([read_csv(f / "pde_seconds.csv", SECONDS) for f in folders])
    write_csv(run.tables / "pde_fields.csv", FIELDS, fields)
    write_csv(run.tables / "pde_seconds.csv", SECONDS, seconds)
    table = summary(fields, ["igno", *study.inversion.solvers])
    write_csv(run.tables / "pde.csv", SUMMARY, table)
    fit = {"fits": {}, "evaluations": dict.fromkeys(hashes, "igno")}
    write_json(run.units_file, fit)
    return table
