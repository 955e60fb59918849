"""What a study is about to cost, from timing a few steps of everything it needs."""

import math
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from latens.distributions import NoiseStream
from latens.evaluation import StabilitySettings, applicable_shifts, stability_cost
from latens.evaluation.ambiguity import RESTARTS
from latens.evaluation.stability.baselines import UnrolledVariationSolver, variation_cost
from latens.inference import (
    CLASSICAL,
    SAMPLERS,
    Ensemble,
    LatentChains,
    LatentMAP,
    Solver,
    TikhonovSolver,
)
from latens.inference.latent_target import latent_target
from latens.inference.samplers.density import value_and_gradient
from latens.models import Latent, LatentModel
from latens.objectives import reduce_terms
from latens.store import Status
from latens.studies.load import solver_of
from latens.studies.scarcity import Scarcity
from latens.studies.units import EvaluationUnit, FitUnit, Unit
from latens.training import one_thread

PROBE_STEPS = 3
OVERHEAD, STEP_OVERHEAD = 0.1, 0.002
"""Seconds of a fit, and of a step, beside the model itself."""

EVALUATION, EVALUATION_PIXEL = 0.3, 3e-5
"""Seconds of an evaluation, and of one pixel of it."""

WORKER_START = 5.0
"""Seconds until worker processes have imported what they need."""

CHECK_EVALUATIONS = {"calibration": 5, "null_space": 1, "reliability": 1.5}
"""Evaluations of equal size that a check takes as long as; `reliability` for every set of images
that it shows, the usual ones and those of each shift."""

MEMBER = 0.4
"""What each further member of an ensemble adds to the time of one; measured, .36 where most goes
into the numbers."""

SEARCH_GRADIENTS = 400
"""Gradients until the farthest images that look alike are found; 376 and 388 were measured."""

TRANSITION_GRADIENTS = {"refined": 16, "hmc": 16, "nuts": 32}
"""Gradients of a transition, warm-up included; measured on the latents of small images."""

CLIMB_GRADIENTS = 200
"""Gradients until a maximum is found."""


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
    evaluations = [unit for unit in missing if isinstance(unit, EvaluationUnit)]
    seconds += len(evaluations) * (EVALUATION + EVALUATION_PIXEL * pixels)
    timed: dict[tuple[str, str, str], float] = {}  # equal for every N and seed
    for unit in evaluations:
        name = unit.fits[0].name if unit.fits else ""
        key = unit.algorithm, name, unit.check
        if unit.check and key not in timed:
            timed[key] = seconds_per_check(study, unit)
        elif unit.algorithm in SAMPLERS and key not in timed:
            timed[key] = seconds_per_sampling(study, name, unit.algorithm)
        seconds += timed.get(key, 0.0)
    return wall_seconds(seconds, len(missing), jobs)


def wall_seconds(seconds: float, units: int, jobs: int) -> float:
    """Wall time of so many units that take so many seconds one after another."""
    if units == 0 or jobs == 1:
        return seconds
    return WORKER_START + seconds / min(jobs, units, available_cores())


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _median_seconds(run: Callable[[], object]) -> float:
    """Time of a call, the median of a few."""
    times = []
    for _ in range(PROBE_STEPS + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


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
                event = model.stage_event_size(stage)

                def step(stage: str = stage, event: int = event) -> None:
                    terms = model.terms(stage, x, y, NoiseStream(0), corpus.problem)
                    reduce_terms(terms, event).backward()

                total += (_median_seconds(step) + STEP_OVERHEAD) * settings.max_steps
    except Exception:  # the fit itself will say what is wrong, and be marked
        return 0.0
    return total * (1.2 if isinstance(model, LatentModel) else 1.1)


def seconds_per_sampling(study: Scarcity, name: str, algorithm: str) -> float:
    """Time of a sampler on all its images, from the time of a gradient; 0 where that fails."""
    corpus = study.corpus
    x, y = corpus.pairs(corpus.pool[: study.sampled_images])
    try:
        with one_thread(), torch.random.fork_rng(devices=[]):
            model = study.build(name)
            model.fit_units(x, y)
            assert isinstance(model, Latent)
            solver = SAMPLERS[algorithm](model, corpus.problem, Status.CONVERGED)
            target = latent_target(model, corpus.problem, y)
            if isinstance(solver, LatentChains):
                rows, gradients = solver.chains, solver.warmup + solver.draws
                gradients *= TRANSITION_GRADIENTS[algorithm]
            else:
                assert isinstance(solver, LatentMAP)
                rows, gradients = solver.climbs, CLIMB_GRADIENTS
            density, position = target.rows(rows), x.new_zeros(len(y) * rows, target.dim)
            seconds = _median_seconds(lambda: value_and_gradient(density, position))
    except Exception:  # the evaluation itself will say what is wrong, and be marked
        return 0.0
    return gradients * seconds * study.sampled_images / len(y)


def seconds_per_check(study: Scarcity, unit: EvaluationUnit) -> float:
    """Time of a deep check, at most; 0 where its solver cannot be built."""
    images = min(unit.images or study.checked_images, study.test_images)
    if unit.check == "ambiguity":
        return _seconds_per_search(study, unit.fits[0].name, images)
    if unit.check != "stability":
        one = EVALUATION + EVALUATION_PIXEL * images * math.prod(study.shapes[0])
        sets = _sets_shown(study, images) if unit.check == "reliability" else 1
        members = 1 + MEMBER * max(len(unit.fits) - 1, 0)
        return CHECK_EVALUATIONS[unit.check] * sets * one * members
    costs = stability_cost(StabilitySettings())
    if unit.donor is None:
        one = _seconds_per_reconstruction(study, unit.algorithm, unit.fits, images)
        return sum(costs.values()) * one * images + _seconds_of_variation(study, images)
    one = _seconds_per_reconstruction(study, "amortised", (unit.donor,), images)
    return costs["worst case"] * one * images + 2 * _seconds_per_solution(study, unit, images)


def _sets_shown(study: Scarcity, images: int) -> int:
    """Sets of images that the check `reliability` shows to a solver."""
    corpus = study.corpus
    if corpus.problem is None:
        return 0
    problem = corpus.problem
    if not problem.noise.is_known:
        problem = study.problem(study.sizes[0], 0)
    assert problem is not None
    shown = corpus.images.select(corpus.test[:images])
    others = () if study.others is None else (study.others,)
    return 1 + len(applicable_shifts(shown, problem, others))


def _seconds_per_search(study: Scarcity, name: str, images: int) -> float:
    """Time in which the farthest images that look alike are found; 0 where that fails."""
    corpus = study.corpus
    x, y = corpus.pairs(corpus.pool[:images])
    try:
        with one_thread(), torch.random.fork_rng(devices=[]):
            model = study.build(name)
            model.fit_units(x, y)
            assert isinstance(model, Latent)
            assert corpus.problem is not None
            operator = corpus.problem.operator
            z = torch.zeros(RESTARTS * len(x), model.dim, requires_grad=True)

            def gradient() -> None:
                image = model.decode(z, x).mean
                (image.sum() + operator(image).sum()).backward()

            seconds = _median_seconds(gradient)
    except Exception:  # the check itself will say what is wrong
        return 0.0
    return SEARCH_GRADIENTS * seconds * images / len(x)


def _seconds_of_variation(study: Scarcity, images: int) -> float:
    """Time of the attack on total variation, for comparison; 0 where there is none."""
    corpus = study.corpus
    x, y = corpus.pairs(corpus.pool[:images])
    try:
        with one_thread():
            assert corpus.problem is not None
            start = TikhonovSolver(corpus.problem, x.mean(0), 1.0)
            solver = UnrolledVariationSolver(corpus.problem, 1.0, start, y)
            measured = y.clone().requires_grad_()

            def gradient() -> None:
                solver.mean_of(measured, range(len(y)), seed=0, draws=1).sum().backward()

            seconds = _median_seconds(gradient)
    except Exception:  # the check itself will say what is wrong
        return 0.0
    return variation_cost(StabilitySettings()) * seconds * images / len(y)


def _seconds_per_solution(study: Scarcity, unit: EvaluationUnit, images: int) -> float:
    """Time in which a solver that cannot be differentiated solves some images."""
    if unit.algorithm in SAMPLERS:
        found = seconds_per_sampling(study, unit.fits[0].name, unit.algorithm)
        return found * images / study.sampled_images
    corpus = study.corpus
    x, y = corpus.pairs(corpus.pool[:PROBE_STEPS])
    try:
        with one_thread():
            assert corpus.problem is not None
            solver = CLASSICAL[unit.algorithm].fit(corpus.problem, x, y)
            start = time.perf_counter()
            solver(y)
            return (time.perf_counter() - start) * images / len(y)
    except Exception:  # the evaluation itself will say what is wrong
        return 0.0


def _seconds_per_reconstruction(
    study: Scarcity, algorithm: str, fits: tuple[FitUnit, ...], images: int
) -> float:
    """Time of one reconstruction of one image from one draw; 0 where that fails.

    Timed with as many draws as searches use: one alone is mostly overhead.
    """
    draws = StabilitySettings().search_draws
    corpus = study.corpus
    x, y = corpus.pairs(corpus.pool[:images])
    try:
        with one_thread(), torch.random.fork_rng(devices=[]):
            solver = untrained_solver(study, algorithm, fits, x, y)
            seconds = _median_seconds(
                lambda: solver.mean_of(y, range(len(y)), seed=0, draws=draws)
            )
    except Exception:  # not differentiable, or the check itself will say what is wrong
        return 0.0
    return seconds / (len(y) * draws)


def untrained_solver(
    study: Scarcity, algorithm: str, fits: tuple[FitUnit, ...], x: Tensor, y: Tensor
) -> Solver:
    """A solver as large as the trained one, whose time is taken instead."""
    problem = study.corpus.problem
    if algorithm in CLASSICAL:
        assert problem is not None
        return CLASSICAL[algorithm].fit(problem, x, y)
    members = []
    for fit in fits:
        model = study.build(fit.name)
        model.fit_units(x, y)
        members.append(solver_of(model, problem, Status.CONVERGED, algorithm))
    return Ensemble(members) if algorithm == "ensemble" else members[0]
