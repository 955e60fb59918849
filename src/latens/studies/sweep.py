"""The sweep engine: all units of a study, on several processes, resumable at any moment."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, Protocol

from latens.errors import ConfigError, DataError, NumericalError
from latens.store import RunFolder
from latens.studies.kinds import Study
from latens.studies.units import Unit
from latens.studies.work import BUSY, is_finished, work
from latens.studies.workers import work_in_process, worker_pool

POLL = 0.5
"""Seconds between two looks at units that another sweep works on."""


class Progress(Protocol):
    """What the engine tells while it works."""

    def advance(self, unit: Unit, status: str) -> None:
        """A unit is finished."""


def sweep(
    study: Study,
    config: dict[str, Any],
    run: RunFolder,
    units: Sequence[Unit],
    jobs: int,
    progress: Progress,
) -> None:
    """Compute every unit that is not finished, each on one thread.

    Args:
        study: The study.
        config: Its resolved configuration, from which workers build it again.
        run: Where results go.
        units: All units, in the order in which they should start.
        jobs: Processes; 1 computes in this one.
        progress: Told of every finished unit.

    Raises:
        ConfigError: If `jobs` is below 1.
        NumericalError: If a worker process died.
        DataError: If the run folder cannot be written, or the data cannot be read again.
    """
    check_jobs(jobs)
    pending = [unit for unit in units if not is_finished(run, unit)]
    if not pending:
        return
    if jobs == 1:
        _drain(pending, lambda unit: work(study, run, unit), run, progress)
        return
    with worker_pool(study.name, config, run.path, min(jobs, len(pending))) as pool:
        _schedule(pool, pending, run, jobs, progress)


def check_jobs(jobs: int) -> None:
    """Refuse a number of processes below 1."""
    if jobs < 1:
        raise ConfigError("jobs", "1 or more processes", jobs, "Use the number of cores.")


def _drain(
    pending: list[Unit], compute: Callable[[Unit], str], run: RunFolder, progress: Progress
) -> None:
    """One unit after the other."""
    waiting = list(pending)
    while waiting:
        unit = next(_ready(waiting, run), None)
        if unit is None:
            raise _vanished(run)
        waiting.remove(unit)
        status = compute(unit)
        if status == BUSY:
            waiting.append(unit)
            time.sleep(POLL)
        else:
            progress.advance(unit, status)


def _schedule(
    pool: ProcessPoolExecutor,
    pending: list[Unit],
    run: RunFolder,
    jobs: int,
    progress: Progress,
) -> None:
    """As many units at a time as there are processes, so that they start in their order."""
    waiting, running = list(pending), dict[Future[str], Unit]()
    while waiting or running:
        for unit in list(islice(_ready(waiting, run), jobs - len(running))):
            waiting.remove(unit)
            running[pool.submit(work_in_process, unit)] = unit
        if not running:
            raise _vanished(run)
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            unit, status = running.pop(future), _result(future)
            if status == BUSY:
                waiting.append(unit)
                time.sleep(POLL / 10)
            else:
                progress.advance(unit, status)


def _ready(waiting: Sequence[Unit], run: RunFolder) -> Iterator[Unit]:
    """Units whose fits are finished; a fit that needs none is ready from the start."""
    return (unit for unit in waiting if all(run.has_fit(hash) for hash in unit.needs))


def _vanished(run: RunFolder) -> DataError:
    return DataError(
        str(run.fits),
        "the finished fits that evaluations are made of",
        "some that vanished during the run",
        "Run again; they will be repeated.",
    )


def _result(future: "Future[str]") -> str:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise NumericalError(
            "jobs",
            "worker processes that live",
            "one that was killed, often for want of memory",
            "Run again with fewer --jobs; finished units are kept.",
        ) from error
