"""Run `semisup` from its resolved configuration to tables, figures and report."""

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from latens.distributions import NoiseStream
from latens.objectives import reduce_terms
from latens.studies.configure import construct
from latens.studies.expected import wall_seconds
from latens.studies.run import Finished, Listener, Parts, run_units
from latens.studies.semisup.study import Semisup, with_twins
from latens.studies.semisup.tables import gather
from latens.studies.semisup.units import units_of
from latens.studies.units import RESULT_VERSION, FitUnit, Unit
from latens.training import one_thread
from latens.types import PathLike

PROBE_STEPS = 3

EVALUATION, PIXEL, SAMPLED = 5.0, 2e-6, 2.5e-7
"""Seconds of an evaluation, of one decoded pixel of it, and of one pixel of one draw of the
importance sampling, in ten components."""


def run_semisup(
    config: dict[str, Any], out: PathLike, name: str, jobs: int, listener: Listener
) -> Finished:
    """Compute what is missing, then tables, figures and report.

    Args:
        config: Resolved configuration; twins are added.
        out: Run folder, new or of an earlier start.
        name: Name of the run, for titles.
        jobs: Processes.
        listener: Told of the progress.

    Raises:
        LatensError: One line that names the setting or file at fault, before any training.
    """
    config = with_twins(config)
    parts = Parts(units_of, identity, expected_seconds, gather)
    return run_units(construct(Semisup, config), config, out, name, jobs, listener, parts)


def identity(study: Semisup, config: dict[str, Any], name: str) -> dict[str, Any]:
    """Description of the run for `run.json`."""
    corpus = study.corpus
    return {
        "study": study.name,
        "name": name,
        "config": config,
        "data": {
            "name": corpus.images.name,
            "citation": corpus.images.citation,
            "fingerprint": corpus.images.fingerprint(),
            "training images": len(corpus.train),
            "validation images": len(corpus.validation),
            "test images": len(corpus.test),
            "images of another kind": 0 if corpus.strange is None else len(corpus.strange),
            "classes": corpus.classes,
            "signal_shape": list(corpus.images.signal_shape),
        },
        "result_version": RESULT_VERSION,
    }


def expected_seconds(study: Semisup, missing: Sequence[Unit], jobs: int) -> float:
    """Wall time of the missing units, from timing a few steps of each model."""
    fits = [unit for unit in missing if isinstance(unit, FitUnit)]
    per_model = {name: seconds_per_fit(study, name) for name in {fit.name for fit in fits}}
    seconds = sum(per_model[fit.name] for fit in fits)
    pixels = math.prod(study.corpus.images.signal_shape)
    decoded, drawn = len(study.corpus.test), study.sampled_images * study.sampled_draws
    evaluations = [unit for unit in missing if not isinstance(unit, FitUnit)]
    models = sum(len(unit.fits) for unit in evaluations)  # a twin is sampled beside its model
    seconds += len(evaluations) * (EVALUATION + PIXEL * pixels * decoded)
    seconds += models * SAMPLED * pixels * drawn
    return wall_seconds(seconds, len(missing), jobs)


def seconds_per_fit(study: Semisup, name: str) -> float:
    """Time of a fit that uses its whole budget; 0 for one that fails."""
    settings = study.training
    count = settings.batch_size + study.labelled_batch
    rows = torch.arange(count) % len(study.corpus.train)
    x, y = study.corpus.x[rows], torch.as_tensor(study.corpus.labels)[rows]
    times = []
    try:
        with one_thread(), torch.random.fork_rng(devices=[]):
            model = study.build(name)
            for step in range(PROBE_STEPS + 1):
                start = time.perf_counter()
                model.before_step(step, x, y)
                terms = model.training_terms("elbo", x, y, NoiseStream(step), None, step)
                reduce_terms(terms, model.event_size).backward()
                times.append(time.perf_counter() - start)
    except Exception:  # the fit itself will say what is wrong, and be marked
        return 0.0
    return 1.1 * statistics.median(times) * settings.max_steps
