"""What a run folder holds, read once. What is missing stays empty and is said so later."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from latens import store
from latens.errors import DataError
from latens.reporting.palette import ordered


@dataclass(frozen=True)
class Definition:
    """What a metric means.

    Args:
        metric: Name in the tables.
        label: Short name for people.
        unit: Unit of the value, empty where it has none.
        better: `higher`, `lower` or `target`.
        target: Value of an ideal solver, NaN where there is none.
        definition: Formula and reduction in words.
        section: Heading under which it is shown.
    """

    metric: str
    label: str
    unit: str = ""
    better: str = ""
    target: float = float("nan")
    definition: str = ""
    section: str = "Other"

    @property
    def title(self) -> str:
        """Label with a capital first letter."""
        first = self.label[:1]
        return (first.upper() if first.isascii() else first) + self.label[1:]  # σ stays σ

    @property
    def aim(self) -> float:
        """The value to hit; NaN for metrics that are better the higher or the lower, whose
        ideal value no finite sample attains."""
        return self.target if self.better == "target" else float("nan")


@dataclass(frozen=True)
class Unit:
    """A fit or an evaluation that has finished, well or not.

    Args:
        folder: Its folder; the name is the content hash.
        identity: Content of `fit.json` or `evaluation.json`.
        outcome: How it ended.
    """

    folder: Path
    identity: Mapping[str, Any]
    outcome: store.Outcome

    @property
    def name(self) -> str:
        """Content hash."""
        return self.folder.name

    @property
    def status(self) -> str:
        """Status word."""
        return self.outcome.status.value

    @property
    def usable(self) -> bool:
        """Whether means may include it."""
        return self.outcome.usable


@dataclass(frozen=True)
class Results:
    """Everything a report is made of.

    Args:
        path: The run folder.
        run: Content of `run.json`.
        config: Text of `config.yaml`.
        curves, scaling, scaling_band, metrics, tests, power, shifts, trust, cost: Tables
            of `latens.store`, empty where the run has none.
        definitions: Metrics in the order in which they are shown; one that only the curves
            know is there with its name alone.
        fits, evaluations: Finished units, by hash.
    """

    path: Path
    run: Mapping[str, Any]
    config: str
    curves: pd.DataFrame
    scaling: pd.DataFrame
    scaling_band: pd.DataFrame
    metrics: pd.DataFrame
    tests: pd.DataFrame
    power: pd.DataFrame
    shifts: pd.DataFrame
    trust: pd.DataFrame
    cost: pd.DataFrame
    definitions: Mapping[str, Definition]
    fits: Mapping[str, Unit]
    evaluations: Mapping[str, Unit]

    @property
    def config_tree(self) -> Any:
        """The configuration as nested mappings; empty where it cannot be read as YAML."""
        try:
            return store.read_yaml(self.path / "config.yaml") if self.config.strip() else {}
        except DataError:
            return {}

    @property
    def solvers(self) -> list[str]:
        """Names of all solvers, in the order of every table and legend."""
        named = [str(u.identity.get("solver", "")) for u in self.evaluations.values()]
        return ordered([*self.curves["solver"], *(name for name in named if name)])

    @property
    def sizes(self) -> list[int]:
        """Training sizes N that were measured, ascending."""
        return sorted({int(n) for n in self.curves["n"]})

    @property
    def measured(self) -> list[str]:
        """Metrics that the curves hold, in the order of their definitions."""
        present = set(self.curves["metric"])
        return [metric for metric in self.definitions if metric in present]

    @property
    def groups(self) -> list[tuple[str, list[str]]]:
        """Measured metrics under their headings."""
        found: dict[str, list[str]] = {}
        for metric in self.measured:
            found.setdefault(self.definitions[metric].section, []).append(metric)
        return list(found.items())

    @property
    def level(self) -> float:
        """Level of the intervals of the curves, NaN where they have none or several."""
        levels = set(self.curves["level"].dropna())
        return float(levels.pop()) if len(levels) == 1 else float("nan")

    def kind(self, solver: str) -> str:
        """`posterior`, `point`, or `unknown` where no evaluation says."""
        known = {str(u.identity.get("kind", "")) for u in self._evaluations_of(solver)}
        kinds = known & {"posterior", "point"}
        return kinds.pop() if len(kinds) == 1 else "unknown"

    def note(self, solver: str) -> str:
        """Remark that the solver's evaluations carry, for example "not a posterior"."""
        notes = {str(u.identity.get("note") or "") for u in self._evaluations_of(solver)} - {""}
        return "; ".join(sorted(notes))

    @property
    def notes(self) -> dict[str, str]:
        """Remarks by solver, of those that carry any."""
        return {s: self.note(s) for s in self.solvers if self.note(s)}

    def cell(self, solver: str, n: int, metric: str) -> dict[str, Any] | None:
        """Row of the curves for one solver, size and metric; None where there is none."""
        of_solver = select(select(self.curves, "solver", solver), "metric", metric)
        rows = records(select(of_solver, "n", n))
        return rows[0] if rows else None

    def _evaluations_of(self, solver: str) -> list[Unit]:
        return [u for u in self.evaluations.values() if u.identity.get("solver") == solver]


def select(table: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    """Rows of a table whose column equals a value."""
    return cast(pd.DataFrame, table[table[column] == value])


def measured_values(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows of a table whose column is finite, by N."""
    return cast(pd.DataFrame, table[np.isfinite(table[column])]).sort_values("n")


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as dictionaries."""
    return cast(list[dict[str, Any]], table.to_dict("records"))


def read_results(run: store.RunFolder) -> Results:
    """Reads what a report needs from a run folder.

    Args:
        run: The run folder; anything in it may be missing.

    Returns:
        Tables, identities and outcomes. Arrays and histories are read when they are drawn.

    Raises:
        DataError: If a file is there and cannot be read as what it should be.
    """
    curves = _table(run, store.CURVES)
    fits, evaluations = _finished_units(run)
    return Results(
        path=run.path,
        run=_json(run.path / "run.json"),
        config=run.config_file.read_text("utf-8") if run.config_file.is_file() else "",
        curves=curves,
        scaling=_table(run, store.SCALING),
        scaling_band=_table(run, store.SCALING_BAND),
        metrics=_table(run, store.METRICS),
        tests=_table(run, store.TESTS),
        power=_table(run, store.POWER),
        shifts=_table(run, store.SHIFTS),
        trust=_table(run, store.TRUST),
        cost=run.read_costs(),
        definitions=_definitions(run, curves),
        fits=fits,
        evaluations=evaluations,
    )


def _finished_units(run: store.RunFolder) -> tuple[dict[str, Unit], dict[str, Unit]]:
    """Fits and evaluations that the tables are made of; all of them where no list says which.

    Other units in the folder belong to other configurations.
    """
    listed = _json(run.units_file)
    fits = _units([run.fit(name) for name in run.finished_fits()], "fit.json")
    folders = [run.evaluation(name) for name in run.finished_evaluations()]
    evaluations = _units(folders, "evaluation.json")
    if not listed:
        return fits, evaluations
    renamed = {
        name: replace(unit, identity={**unit.identity, "solver": listed["evaluations"][name]})
        for name, unit in evaluations.items()
        if name in listed["evaluations"]
    }
    return {name: unit for name, unit in fits.items() if name in listed["fits"]}, renamed


def fit_cells(results: Results) -> dict[str, dict[str, Any]]:
    """Solver, N and seeds of every fit, from whichever file says.

    Returns:
        By hash: `solver` (the model, without its ensembles), `n`, `data_seed`, `init_seed`.
        A key is missing where nothing in the run tells it.
    """
    keys = ("solver", "n", "data_seed", "init_seed")
    cells: dict[str, dict[str, Any]] = {}
    for unit in results.evaluations.values():
        fits = unit.identity.get("fits") or []
        if len(fits) == 1:
            cells.setdefault(str(fits[0]), {k: unit.identity.get(k) for k in keys})
    for row in records(select(results.cost, "unit", "fit")):
        cell = cells.setdefault(str(row["hash"]), {})
        cell.update({k: row[k] for k in keys if not pd.isna(row[k])})
    for name, unit in results.fits.items():
        cell = cells.setdefault(name, {})
        for key in keys:
            if cell.get(key) is None and not isinstance(unit.identity.get(key), dict | list):
                cell[key] = unit.identity.get(key)
    return {name: {k: v for k, v in c.items() if v is not None} for name, c in cells.items()}


def read_histories(results: Results) -> dict[str, pd.DataFrame]:
    """Training history of one usable fit per model: the largest N, then the lowest seeds.

    Returns:
        By model: stage, step, quantity, value; models without history are left out.
    """

    def order(item: tuple[str, dict[str, Any]]) -> tuple[int, int, int, str]:
        name, cell = item
        n, data_seed, init_seed = (int(cell.get(k) or 0) for k in ("n", "data_seed", "init_seed"))
        return -n, data_seed, init_seed, name

    histories: dict[str, pd.DataFrame] = {}
    for name, cell in sorted(fit_cells(results).items(), key=order):
        unit, solver = results.fits.get(name), str(cell.get("solver", ""))
        if unit is None or not unit.usable or not solver or solver in histories:
            continue
        file = unit.folder / "history.csv"
        if file.is_file() and len(history := store.read_csv(file, store.HISTORY)):
            histories[solver] = history
    return histories


def read_example_facts(evaluation: Unit) -> dict[str, Any]:
    """Content of `examples/examples.json`: `images`, `data_range`, `level`."""
    return _json(evaluation.folder / "examples" / "examples.json")


def read_example_array(evaluation: Unit, name: str) -> np.ndarray | None:
    """An array of the examples, `(images, C, *spatial)`; None where it was not kept."""
    file = evaluation.folder / "examples" / f"{name}.npy"
    return store.read_array(file) if file.is_file() else None


def _table(run: store.RunFolder, schema: store.Schema) -> pd.DataFrame:
    """A table of the run, empty where there is none."""
    files = (run.tables / f"{schema.name}.{kind}" for kind in ("parquet", "csv"))
    if any(file.is_file() for file in files):
        return store.read_table(run.tables, schema)
    return store.from_rows([], schema)


def _definitions(run: store.RunFolder, curves: pd.DataFrame) -> dict[str, Definition]:
    """Definitions by metric, in the order in which they are shown."""
    rows = records(_table(run, store.METRIC_DEFINITIONS))
    found = {row["metric"]: Definition(**row) for row in rows}
    for metric in sorted(set(curves["metric"]) - found.keys()):
        found[metric] = Definition(metric, metric)
    return found


def _units(folders: list[Path], identity: str) -> dict[str, Unit]:
    """Finished units by hash; one without an outcome did not finish."""
    units = {}
    for folder in folders:
        if (folder / "outcome.json").is_file():
            outcome = store.Outcome.read(folder)
            units[folder.name] = Unit(folder, _json(folder / identity), outcome)
    return units


def _json(file: Path) -> dict[str, Any]:
    """Content of a JSON file that must hold a mapping; empty where there is no file."""
    content = store.read_json(file) if file.is_file() else {}
    if not isinstance(content, dict):
        remedy = "Restore the file, or run the study again in a new folder."
        raise DataError(str(file), "a mapping", type(content).__name__, remedy)
    return content
