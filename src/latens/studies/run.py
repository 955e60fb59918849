"""Run a study from its resolved configuration to tables, figures and report."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from latens.evaluation import Cell
from latens.reporting import write_figures, write_report
from latens.store import Outcome, RunFolder
from latens.store.atomic import remove_folder
from latens.studies.configure import construct
from latens.studies.enumeration import units_of
from latens.studies.expected import expected_seconds
from latens.studies.gather import gather
from latens.studies.kinds import Study
from latens.studies.scarcity import Scarcity
from latens.studies.sweep import check_jobs, sweep
from latens.studies.units import RESULT_VERSION, EvaluationUnit, FitUnit, Unit
from latens.studies.work import is_finished
from latens.types import PathLike


class Swept(Study, Protocol):
    """A study that is made of fits and evaluations."""

    def check_applicable(self) -> None:
        """Find settings that cannot work before anything is trained."""


AnyStudy = TypeVar("AnyStudy", bound=Swept)


@dataclass(frozen=True)
class Estimate:
    """What a run is about to cost.

    Attributes:
        fits, evaluations: Units in all.
        finished: Units that are finished already.
        seconds: Expected wall time of the rest, from timing a few steps of every model.
    """

    fits: int
    evaluations: int
    finished: int
    seconds: float


class Listener(Protocol):
    """Who is told what a run is doing."""

    def start(self, estimate: Estimate, units: int) -> None:
        """Before the first unit."""

    def advance(self, unit: Unit, status: str) -> None:
        """A unit is finished."""


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        run: Its folder.
        report: Path of the HTML report.
        failures: Name of each fit or evaluation that is not usable, with its reason.
    """

    run: RunFolder
    report: Path
    failures: list[tuple[str, Outcome]]


def run_scarcity(
    config: dict[str, Any], out: PathLike, name: str, jobs: int, listener: Listener
) -> Finished:
    """Compute what is missing, then tables, figures and report.

    Args:
        config: Resolved configuration.
        out: Run folder, new or of an earlier start.
        name: Name of the run, for titles.
        jobs: Processes.
        listener: Told of the progress.

    Raises:
        LatensError: One line that names the setting or file at fault, before any training.
    """
    parts = Parts(units_of, identity, expected_seconds, gather)
    return run_units(construct(Scarcity, config), config, out, name, jobs, listener, parts)


@dataclass(frozen=True)
class Parts(Generic[AnyStudy]):
    """What differs between studies that are swept as fits and evaluations.

    Attributes:
        units_of: All units of `(study, config)`.
        identity: Description of the run `(study, config, name)` for `run.json`.
        expected_seconds: Wall time of `(study, missing units, jobs)`.
        gather: Writes the tables of `(run, evaluations)`.
    """

    units_of: Callable[[AnyStudy, dict[str, Any]], tuple[list[FitUnit], list[EvaluationUnit]]]
    identity: Callable[[AnyStudy, dict[str, Any], str], dict[str, Any]]
    expected_seconds: Callable[[AnyStudy, list[Unit], int], float]
    gather: Callable[[RunFolder, Sequence[EvaluationUnit]], object]


def run_units(
    study: AnyStudy,
    config: dict[str, Any],
    out: PathLike,
    name: str,
    jobs: int,
    listener: Listener,
    parts: Parts[AnyStudy],
) -> Finished:
    """Compute what is missing of a study, then tables, figures and report.

    Args:
        study: The study.
        config, out, name, jobs, listener: See `run_scarcity`.
        parts: What is its own.
    """
    check_jobs(jobs)
    study.check_applicable()
    fits, evaluations = parts.units_of(study, config)
    run = RunFolder.create(out, parts.identity(study, config, name))
    tidy(run, fits, evaluations)
    units: list[Unit] = [*fits, *evaluations]
    missing = [unit for unit in units if not is_finished(run, unit)]
    seconds = parts.expected_seconds(study, missing, jobs)
    done = len(units) - len(missing)
    listener.start(Estimate(len(fits), len(evaluations), done, seconds), len(missing))
    sweep(study, config, run, units, jobs, listener)
    parts.gather(run, evaluations)
    write_figures(run)
    return Finished(run, write_report(run), failures(run, fits, evaluations))


def identity(study: Scarcity, config: dict[str, Any], name: str) -> dict[str, Any]:
    """Description of the run for `run.json`."""
    images = study.corpus.images
    signal, measurement = study.shapes
    return {
        "study": study.name,
        "name": name,
        "config": config,
        "data": {
            "name": images.name,
            "citation": images.citation,
            "fingerprint": images.fingerprint(),
            "images": len(images),
            "groups": len(set(images.groups)),
            "data_range": list(images.data_range),
            "signal_shape": list(signal),
            "measurement_shape": list(measurement),
        },
        "result_version": RESULT_VERSION,
    }


def failures(
    run: RunFolder, fits: Sequence[FitUnit], evaluations: Sequence[EvaluationUnit]
) -> list[tuple[str, Outcome]]:
    """Every unit whose outcome is not usable, with its place.

    An evaluation of fits that are not usable themselves is left out: they are named already.
    """
    found = []
    usable = {}
    for fit in fits:
        outcome = Outcome.read(run.fit(fit.hash))
        usable[fit.hash] = outcome.usable
        if not outcome.usable:
            found.append((f"{place(fit.cell)} (fits/{fit.hash})", outcome))
    for unit in evaluations:
        outcome = Outcome.read(run.evaluation(unit.hash))
        if not outcome.usable and all(usable[hash] for hash in unit.needs):
            found.append((f"{place(unit.cell)} (evaluations/{unit.hash})", outcome))
    return found


def place(cell: Cell) -> str:
    """A cell in words."""
    text = f"{cell.solver}, N = {cell.n}, data seed {cell.data_seed}"
    return text if cell.init_seed is None else f"{text}, init seed {cell.init_seed}"


def tidy(run: RunFolder, fits: Sequence[FitUnit], evaluations: Sequence[EvaluationUnit]) -> None:
    """Remove checkpoints of finished fits, and evaluations of fits that were deleted since.

    A killed process leaves the first; somebody who wants a fit repeated leaves the second.
    """
    for fit in fits:
        if run.has_fit(fit.hash):
            shutil.rmtree(run.resume(fit.hash), ignore_errors=True)
    for unit in evaluations:
        if not all(run.has_fit(hash) for hash in unit.needs):
            remove_folder(run.evaluation(unit.hash))
