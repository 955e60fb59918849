"""Worker processes of a sweep.

Nothing heavy is imported on top: a worker watches its parent from its first moment, also while
it still imports torch.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import TYPE_CHECKING, Any

from latens.types import PathLike

if TYPE_CHECKING:
    from latens.studies.units import Unit

LOOK = 0.5
"""Seconds between two looks at the parent process."""

_orders: tuple[str, dict[str, Any], str]
"""Study, configuration and run folder of this worker."""

_job: tuple[Any, Any] | None = None
"""Study and run of this worker, built for the first unit and kept."""


@contextmanager
def worker_pool(
    study: str, config: dict[str, Any], path: PathLike, jobs: int
) -> Iterator[ProcessPoolExecutor]:
    """Processes that compute units of a study; an error in the block kills them.

    Args:
        study: Name of the study.
        config: Resolved configuration, from which each worker builds the study.
        path: Run folder.
        jobs: Processes.
    """
    others = set(active_children())
    pool = ProcessPoolExecutor(
        max_workers=jobs,
        mp_context=get_context("spawn"),
        initializer=_start,
        initargs=(study, config, str(path), os.getpid()),
    )
    try:
        yield pool
    except BaseException:
        # A unit in work may take minutes to end; a killed one goes on from its checkpoint.
        for process in set(active_children()) - others:
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def work_in_process(unit: "Unit") -> str:
    """Compute a unit in a worker process; see `latens.studies.work.work`."""
    global _job
    from latens.store import RunFolder
    from latens.studies.configure import construct
    from latens.studies.kinds import kind_of
    from latens.studies.work import work

    if _job is None:
        study, config, path = _orders
        _job = construct(kind_of(study).study, config), RunFolder(path)
    return work(*_job, unit)


def _start(study: str, config: dict[str, Any], path: str, parent: int) -> None:
    global _orders
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    _orders = study, config, path


def _follow(parent: int) -> None:
    """End with the parent: a killed sweep must not go on in its workers."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)
