"""The run folder: where a study keeps what it made.

    run.json       what was started last: study, configuration, data, provenance
    config.yaml    its resolved configuration
    fits/<hash>/   evaluations/<hash>/   finished units; each appeared by one rename
    resume/<hash>/ checkpoints, read by resuming alone
    locks/         who works on which unit
    tables/        figures/        report.html
    cost.csv       seconds and memory, outside any identity

Units are named by their content, so one folder holds the units of several configurations.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latens.errors import ConfigError, DataError
from latens.store.atomic import append_line, explained, json_text, write_json, write_text
from latens.store.hashing import plain
from latens.store.leftovers import remove_leftovers
from latens.store.provenance import provenance
from latens.store.safe import read_json
from latens.store.schemas import COST
from latens.store.tables import csv_line, from_rows, read_csv
from latens.types import PathLike

if TYPE_CHECKING:
    import pandas as pd

_IDENTITY = ("study", "name", "config", "data", "result_version")
_HASH = re.compile(r"[0-9a-f]{8,64}")
_FOLDERS = ("fits", "evaluations", "resume", "locks", "tables", "figures")
_LOCK = ".lock"


class RunFolder:
    """Paths, locks and records of one run. Use `create` to write, `open` to read.

    Args:
        path: The folder; nothing is checked or created here.

    Attributes:
        path: The folder.
        fits: Folder of the fits.
        evaluations: Folder of the evaluations.
        tables: Folder of the tables of the whole run.
        units_file: `tables/units.json`, the units that the tables are made of: `fits`, and
            `evaluations` with the name of the solver.
        figures: Folder of the figures.
        config_file: `config.yaml`, the resolved configuration.
        cost_file: `cost.csv`, seconds and memory of each unit.
        report_file: `report.html`.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self.fits = self.path / "fits"
        self.evaluations = self.path / "evaluations"
        self.tables = self.path / "tables"
        self.units_file = self.tables / "units.json"
        self.figures = self.path / "figures"
        self.config_file = self.path / "config.yaml"
        self.cost_file = self.path / "cost.csv"
        self.report_file = self.path / "report.html"
        self._file = self.path / "run.json"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def exists(self) -> bool:
        """Whether somebody has created it."""
        return self._file.is_file()

    @classmethod
    def create(cls, path: PathLike, identity: Mapping[str, Any]) -> "RunFolder":
        """Create a run folder, or reopen it for writing.

        An existing run keeps its units and the date of its creation. `run.json` and
        `config.yaml` are rewritten only where the configuration or the software changed: they
        describe the run that was started last. Temporaries of dead processes are removed.

        Args:
            path: New, empty or existing run folder.
            identity: `study`, `name`, `config` (resolved), `data` and `result_version`.

        Raises:
            ConfigError: If the folder holds something else, or the identity lacks a key or holds
                a value that JSON does not have.
            DataError: If the identity holds NaN or infinity, or the folder cannot be written.
        """
        run = cls(path)
        if set(identity) != set(_IDENTITY):
            raise ConfigError(
                "identity",
                f"the keys {', '.join(_IDENTITY)}",
                ", ".join(map(str, identity)) or "none",
                "Give exactly these keys.",
            )
        json_text(run._file, identity)  # fails before anything is created
        with explained(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            run._refuse_foreign_content()
        with _locked(run.path / _LOCK, fcntl.LOCK_EX):
            run._describe({key: identity[key] for key in _IDENTITY})
            with explained(run.path):
                for name in _FOLDERS:
                    (run.path / name).mkdir(exist_ok=True)
            for folder in (run.path, *(run.path / name for name in _FOLDERS)):
                remove_leftovers(folder)
        return run

    @classmethod
    def open(cls, path: PathLike) -> "RunFolder":
        """Open an existing run for reading; writes nothing.

        Raises:
            DataError: If the folder is not a run.
        """
        run = cls(path)
        if not run.exists:
            got = "no run.json" if run.path.is_dir() else "no such folder"
            raise DataError(
                str(run.path),
                "the folder of a run",
                got,
                "Give the folder that `latens run` printed and wrote.",
            )
        _ = run.description
        return run

    @property
    def description(self) -> dict[str, Any]:
        """Content of `run.json`.

        Raises:
            DataError: If the file is missing or damaged.
        """
        tree = read_json(self._file)
        keys = tree if isinstance(tree, dict) else {}
        missing = [key for key in (*_IDENTITY, "created", "provenance") if key not in keys]
        if missing:
            raise DataError(
                str(self._file),
                "the description of a run",
                f"no {', '.join(missing)}",
                "Give the folder of a run, or restore this file from a copy.",
            )
        return tree

    def fit(self, hash: str) -> Path:
        """Folder of a fit, whether it exists or not."""
        return self.fits / _checked(hash)

    def evaluation(self, hash: str) -> Path:
        """Folder of an evaluation, whether it exists or not."""
        return self.evaluations / _checked(hash)

    def resume(self, hash: str) -> Path:
        """Folder for the checkpoints of a fit, whether it exists or not."""
        return self.path / "resume" / _checked(hash)

    def has_fit(self, hash: str) -> bool:
        """Whether a fit is finished, be it usable or failed (see its `Outcome`)."""
        return _is_finished(self.fit(hash))

    def has_evaluation(self, hash: str) -> bool:
        """Whether an evaluation is finished."""
        return _is_finished(self.evaluation(hash))

    def finished_fits(self) -> list[str]:
        """Hashes of the finished fits, sorted."""
        return _finished(self.fits)

    def finished_evaluations(self) -> list[str]:
        """Hashes of the finished evaluations, sorted."""
        return _finished(self.evaluations)

    @contextmanager
    def claim(self, hash: str) -> Iterator[bool]:
        """Claim the work on one unit while the block runs.

        Yields True, or False if another process (or another claim of this one) has it. The
        operating system releases the claim of a killed process; a lock file that is left over
        claims nothing. Ask `has_fit` again inside the block: the other process may have finished
        in between. A child forked inside the block shares the claim until it exits.

        Raises:
            DataError: If the lock file cannot be written.
        """
        path = self.path / "locks" / f"{_checked(hash)}.lock"
        with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as mine:
            yield mine

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process writes what belongs to the whole run, and keep it so.

        For tables, figures and report of runs to which several processes add evaluations.

        Raises:
            DataError: If the lock file cannot be written.
        """
        with _locked(self.path / _LOCK, fcntl.LOCK_EX):
            yield

    def record_cost(
        self,
        unit: str,
        hash: str,
        solver: str,
        n: int,
        data_seed: int,
        init_seed: int | None,
        seconds: float,
        peak_memory_mib: float,
    ) -> None:
        """Append one line to `cost.csv`.

        Args:
            unit: `fit`, `evaluation`, or `check: ` and the name of a deep check.
            hash: Hash of the unit.
            solver: Name of the solver.
            n: Number of training samples.
            data_seed: Seed of the subset.
            init_seed: Seed of the initialisation, None where several are combined.
            seconds: Wall time.
            peak_memory_mib: Largest resident memory, MiB; NaN if unknown.

        Raises:
            DataError: If a value is of another kind, or the file cannot be written.
        """
        if unit not in ("fit", "evaluation") and not unit.startswith("check: "):
            rule = "'fit', 'evaluation' or 'check: NAME'"
            raise DataError("unit", rule, repr(unit), "Correct the word.")
        values = (
            unit,
            _checked(hash),
            solver,
            n,
            data_seed,
            init_seed,
            seconds,
            peak_memory_mib,
        )
        row = from_rows([dict(zip(COST.columns, values, strict=True))], COST)
        line = csv_line(row[name].tolist()[0] for name in COST.columns)
        append_line(self.cost_file, line, csv_line(COST.columns))

    def read_costs(self) -> "pd.DataFrame":
        """Table `cost` of all units, in the order in which they finished; empty if there is none.

        Raises:
            DataError: If the file is damaged.
        """
        if not self.cost_file.exists():
            return from_rows([], COST)
        return read_csv(self.cost_file, COST)

    def _refuse_foreign_content(self) -> None:
        names = sorted(entry.name for entry in self.path.iterdir())
        foreign = [n for n in names if n not in (_LOCK, ".DS_Store") and n[:5] != ".tmp-"]
        # Another process may be creating this run: it writes run.json before anything else.
        if foreign and not self._file.exists():
            raise ConfigError(
                str(self.path),
                "a new folder, an empty one, or a run",
                f"'{foreign[0]}' in it",
                "Choose another folder for the run.",
            )

    def _describe(self, identity: dict[str, Any]) -> None:
        """Write `run.json` and `config.yaml` where they do not describe this start yet."""
        from datetime import UTC, datetime

        import yaml

        from latens.store._yaml import PlainDumper

        created = datetime.now(UTC).isoformat(timespec="seconds")
        before: dict[str, Any] = {}
        if self._file.exists():
            before = self.description
            created = before["created"]
        after = plain(
            {
                "study": identity["study"],
                "name": identity["name"],
                "created": created,
                "config": identity["config"],
                "provenance": provenance(),
                "data": identity["data"],
                "result_version": identity["result_version"],
            },
            "run",
        )
        config = yaml.dump(
            after["config"], Dumper=PlainDumper, sort_keys=False, allow_unicode=True
        )
        if before != after:
            write_json(self._file, after)
        if not self.config_file.exists() or self.config_file.read_text("utf-8") != config:
            write_text(self.config_file, config)


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[bool]:
    with explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with explained(path):
            try:
                fcntl.flock(descriptor, operation)
                mine = True
            except BlockingIOError:
                mine = False
        try:
            yield mine
        finally:
            if mine:  # a forked child may keep the descriptor open for longer
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _checked(hash: str) -> str:
    if not _HASH.fullmatch(hash):
        raise DataError(
            "hash", "8 to 64 hexadecimal digits", repr(hash), "Use `store.content_hash`."
        )
    return hash


def _is_finished(folder: Path) -> bool:
    # A unit appears by a rename with its files inside: an empty folder is none.
    return folder.is_dir() and next(folder.iterdir(), None) is not None


def _finished(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if _HASH.fullmatch(entry.name) and _is_finished(entry)
    )
