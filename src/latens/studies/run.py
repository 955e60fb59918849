"""Run a study from its resolved configuration to tables, figures and report."""

import math
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from latens.distributions import NoiseStream
from latens.evaluation import Cell
from latens.models import LatentModel
from latens.objectives import reduce_terms
from latens.reporting import write_figures, write_report
from latens.store import Outcome, RunFolder
from latens.store.atomic import explained
from latens.store.leftovers import temporary_beside
from latens.studies.configure import construct
from latens.studies.gather import gather
from latens.studies.scarcity import Scarcity
from latens.studies.sweep import check_jobs, sweep
from latens.studies.units import RESULT_VERSION, EvaluationUnit, FitUnit, Unit
from latens.studies.work import is_finished
from latens.training import one_thread
from latens.types import PathLike

PROBE_STEPS = 3
OVERHEAD, STEP_OVERHEAD = 0.1, 0.002
"""Seconds of a fit, and of a step, beside the model itself."""

EVALUATION, EVALUATION_PIXEL = 0.3, 3e-5
"""Seconds of an evaluation, and of one pixel of it."""

WORKER_START = 5.0
"""Seconds until worker processes have imported what they need."""


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
    check_jobs(jobs)
    study = construct(Scarcity, config)
    study.check_applicable()
    fits, evaluations = study.units(config)
    run = RunFolder.create(out, identity(study, config, name))
    _tidy(run, fits, evaluations)
    units: list[Unit] = [*fits, *evaluations]
    missing = [unit for unit in units if not is_finished(run, unit)]
    seconds = expected_seconds(study, missing, jobs)
    done = len(units) - len(missing)
    listener.start(Estimate(len(fits), len(evaluations), done, seconds), len(missing))
    sweep(study, config, run, units, jobs, listener)
    gather(run, evaluations)
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
    run: RunFolder, fits: list[FitUnit], evaluations: list[EvaluationUnit]
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


def _tidy(run: RunFolder, fits: list[FitUnit], evaluations: list[EvaluationUnit]) -> None:
    """Remove checkpoints of finished fits, and evaluations of fits that were deleted since.

    A killed process leaves the first; somebody who wants a fit repeated leaves the second.
    """
    for fit in fits:
        if run.has_fit(fit.hash):
            shutil.rmtree(run.resume(fit.hash), ignore_errors=True)
    for unit in evaluations:
        folder = run.evaluation(unit.hash)
        if folder.is_dir() and not all(run.has_fit(hash) for hash in unit.needs):
            with explained(folder):
                doomed = temporary_beside(folder)  # a kill while it is removed leaves no half
                folder.rename(doomed)
                shutil.rmtree(doomed)


def expected_seconds(study: Scarcity, missing: list[Unit], jobs: int) -> float:
    """Wall time of the missing units, from timing a few steps of each model.

    Args:
        study: The study.
        missing: Units to compute.
        jobs: Processes; more than there are cores do not help.
    """
    fits = [unit for unit in missing if isinstance(unit, FitUnit)]
    per_model = {name: seconds_per_fit(study, name) for name in {fit.name for fit in fits}}
    seconds = sum(per_model[fit.name] for fit in fits)
    pixels = study.test_images * math.prod(study.shapes[0])
    seconds += (len(missing) - len(fits)) * (EVALUATION + EVALUATION_PIXEL * pixels)
    if not missing or jobs == 1:
        return seconds
    return WORKER_START + seconds / min(jobs, len(missing), available_cores())


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def seconds_per_fit(study: Scarcity, name: str) -> float:
    """Time of a fit that uses its whole budget, validation included; 0 for one that fails."""
    corpus, settings = study.corpus, study.training
    x, y = corpus.pairs(corpus.pool[: settings.batch_size])
    total = OVERHEAD
    try:
        with one_thread(), torch.random.fork_rng(devices=[]):
            model = study.build(name)
            model.fit_units(x, y)
            for stage in model.stages:
                times = []
                for step in range(PROBE_STEPS + 1):
                    start = time.perf_counter()
                    terms = model.terms(stage, x, y, NoiseStream(step), corpus.problem)
                    reduce_terms(terms, model.stage_event_size(stage)).backward()
                    times.append(time.perf_counter() - start)
                total += (statistics.median(times) + STEP_OVERHEAD) * settings.max_steps
    except Exception:  # the fit itself will say what is wrong, and be marked
        return 0.0
    return total * (1.2 if isinstance(model, LatentModel) else 1.1)
