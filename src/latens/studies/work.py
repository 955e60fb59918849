"""Compute one unit of a study and publish its folder."""

import resource
import time
from inspect import signature
from pathlib import Path
from typing import Any, cast

from latens.data import Subset
from latens.errors import SolverError
from latens.evaluation import (
    Check,
    Checked,
    Context,
    Donor,
    Subject,
    evaluate_cell,
    fit_calibration,
    run_check,
    save_check,
    save_evaluation,
)
from latens.evaluation.conformal import DELTA
from latens.evaluation.measure import spread_evenly
from latens.inference import (
    CLASSICAL,
    Calibrated,
    Calibration,
    Classical,
    Ensemble,
    Method,
    Solver,
)
from latens.metrics import LEVEL, units_needed
from latens.models import Model
from latens.problems import InverseProblem
from latens.store import (
    Outcome,
    RunFolder,
    Status,
    new_folder,
    write_json,
)
from latens.studies.fitting import failure, initialise, publish_fit
from latens.studies.kinds import Study, kind_of
from latens.studies.load import save_classical, trained_solver
from latens.studies.scarcity import Scarcity
from latens.studies.units import EvaluationUnit, FitUnit, Unit
from latens.training import FitResult, fit_model, one_thread

BUSY = "busy"
"""Another process works on the unit."""


def work(study: Study, run: RunFolder, unit: Unit) -> str:
    """Compute a unit unless it is finished or somebody else is at it.

    Everything that goes wrong inside a unit becomes its outcome: a sweep goes on. Only errors
    of the storage and of reading the data are raised, because they are not the unit's own.

    Returns:
        The status word, or `BUSY`.

    Raises:
        DataError: If the run folder cannot be written, or the data cannot be read.
        KeyboardInterrupt: If the process was told to stop.
    """
    target = run.fit(unit.hash) if isinstance(unit, FitUnit) else run.evaluation(unit.hash)
    with run.claim(unit.hash) as mine:
        if not mine:
            return BUSY
        if not is_finished(run, unit):
            start = time.perf_counter()
            with one_thread():
                kind_of(study.name).compute(study, run, unit, target)
            _record(run, unit, time.perf_counter() - start)
    return str(Outcome.read(target).status)


def compute(study: Scarcity, run: RunFolder, unit: Unit, target: Path) -> None:
    """Compute a unit of `scarcity` and publish its folder."""
    if isinstance(unit, FitUnit):
        _fit(study, run, unit)
    else:
        _evaluate(study, run, unit, target)


def is_finished(run: RunFolder, unit: Unit) -> bool:
    """True if the unit's folder is complete, be its outcome good or bad."""
    has = run.has_fit if isinstance(unit, FitUnit) else run.has_evaluation
    return has(unit.hash)


def _record(run: RunFolder, unit: Unit, seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cell = unit.cell
    run.record_cost(
        unit.kind,
        unit.hash,
        cell.solver,
        cell.n,
        cell.data_seed,
        cell.init_seed,
        round(seconds, 3),
        round(peak, 1),
    )


def _fit(study: Scarcity, run: RunFolder, unit: FitUnit) -> None:
    subset = study.subset(unit.n, unit.data_seed)

    def train(resume: Path) -> tuple[Model, FitResult]:
        model = initialise(study, unit)
        result = fit_model(
            model,
            study.corpus.pairs(subset.train),
            study.corpus.pairs(subset.validation),
            study.training,
            seed=1000 * unit.data_seed + unit.init_seed,
            problem=study.problem(unit.n, unit.data_seed),
            resume=resume,
        )
        return model, result

    publish_fit(run, unit.hash, train, lambda: _fit_description(study, unit, subset))


def _fit_description(study: Scarcity, unit: FitUnit, subset: Subset) -> dict[str, Any]:
    roles = {name: len(getattr(subset, name)) for name in ("train", "validation", "calibration")}
    signal, measurement = study.shapes
    return {
        **unit.identity,
        "name": unit.name,
        "actual_n": subset.n,
        "roles": roles,
        "signal_shape": list(signal),
        "measurement_shape": list(measurement),
    }


def _evaluate(study: Scarcity, run: RunFolder, unit: EvaluationUnit, target: Path) -> None:
    corpus = study.corpus
    solver = evaluation = outcome = description = checked = calibration = None
    try:
        outcome = combined_outcome(run, unit)
        problem = study.problem(unit.n, unit.data_seed)
        solver = make_solver(study, run, unit, problem)
        low, high = corpus.images.data_range
        context = Context(high - low, corpus.directions, problem)
        places = spread_evenly(len(corpus.test), unit.images)
        test = corpus.images.select(corpus.test[places])
        if unit.check:
            pairs = corpus.pairs(study.subset(unit.n, unit.data_seed).indices)
            donor = _donor(study, run, unit, problem)
            others = (study.others,) if unit.others and study.others is not None else ()
            subject = Subject(
                unit.cell, solver, problem, test, context, tuple(places), pairs, donor, others
            )
            checked, outcome = _check(run, unit, subject, outcome)
        else:
            calibration = _calibration(study, unit, solver)
            used = solver if calibration is None else Calibrated(solver, calibration)
            evaluation = evaluate_cell(unit.cell, used, test, context, outcome, keys=places)
            _ = evaluation.metrics  # computed here, where its errors belong to the unit
        description = _description(unit, corpus.problem, problem)
    except Exception as error:
        evaluation = checked = None
        if outcome is None or outcome.usable:  # otherwise the fits behind it say what went wrong
            outcome = failure(error)
    with new_folder(target) as temporary:
        if checked is not None and description is not None:
            assert outcome is not None
            save_check(checked, outcome, temporary, description)
            return
        if evaluation is None or description is None:
            assert outcome is not None
            write_json(temporary / "evaluation.json", {**unit.description(), "kind": "none"})
            outcome.write(temporary)
            return
        save_evaluation(evaluation, temporary, description)
        if isinstance(solver, Classical):
            save_classical(solver, temporary)


def _check(
    run: RunFolder, unit: EvaluationUnit, subject: Subject, outcome: Outcome | None
) -> tuple[Checked, Outcome]:
    """A deep check; nothing is checked of fits that are not usable, nor with their help."""
    if outcome is not None and not outcome.usable:
        return Checked(), outcome
    if unit.donor is not None and subject.donor is None:
        status = Outcome.read(run.fit(unit.donor.hash)).status
        reason = f"the model whose worst cases are tried, {unit.donor.name}, is {status}"
        found = Checked(facts={"not_applicable": reason})
        return found, Outcome(Status.CONVERGED, f"not applicable: {reason}")
    return run_check(cast(Check, unit.check), subject)


def _donor(
    study: Scarcity, run: RunFolder, unit: EvaluationUnit, problem: InverseProblem | None
) -> Donor | None:
    """The solver whose worst cases are tried; none where its fit is not usable."""
    fit = unit.donor
    if fit is None or not Outcome.read(run.fit(fit.hash)).usable:
        return None
    model = initialise(study, fit)
    return Donor(fit.name, trained_solver(run.fit(fit.hash), model, problem, "amortised"))


def _calibration(study: Scarcity, unit: EvaluationUnit, solver: Solver) -> Calibration | None:
    """Conformal calibration of a trained posterior, where its pairs are enough for one."""
    if not unit.conformal:
        return None
    method = cast(Method, unit.conformal)
    rows = study.subset(unit.n, unit.data_seed).calibration
    images = study.corpus.images.select(rows)
    delta = DELTA if method == "rcps" else None
    if len(set(images.groups)) < units_needed(LEVEL, delta):
        return None
    assert images.y is not None
    try:
        return fit_calibration(
            solver, images.x, images.y, method=method, groups=images.groups, keys=rows.tolist()
        )
    except SolverError:  # no factor can mend it
        return None


def _description(
    unit: EvaluationUnit, stated: InverseProblem | None, problem: InverseProblem | None
) -> dict[str, Any]:
    """Description of a unit, with the noise level that was used where one was estimated."""
    description = unit.description()
    if stated is None or problem is None or stated.noise.is_known:
        return description
    noise = description["problem"]["noise"]
    levels = {
        name: getattr(problem.noise, name) for name in signature(type(problem.noise)).parameters
    }
    found = {**noise, "init_args": {**noise.get("init_args", {}), **levels}}
    return {**description, "problem": {**description["problem"], "noise": found}}


def combined_outcome(run: RunFolder, unit: EvaluationUnit) -> Outcome | None:
    """The worst outcome of the fits behind an evaluation; None if there are none."""
    outcomes = [Outcome.read(run.fit(fit.hash)) for fit in unit.fits]
    if not outcomes:
        return None
    order = list(Status)
    worst = max(outcomes, key=lambda o: order.index(o.status))
    bad = sum(o.status is worst.status for o in outcomes)
    if len(outcomes) > 1 and not worst.usable:
        message = f"{bad} of {len(outcomes)} members: {worst.message}"
        return Outcome(worst.status, message, worst.step, worst.statistics)
    return worst


def make_solver(
    study: Scarcity, run: RunFolder, unit: EvaluationUnit, problem: InverseProblem | None
) -> Solver:
    """The solver of an evaluation, from the weights in the run folder.

    Raises:
        DataError: If weights are missing or damaged.
        SolverError: If a fit behind it has no weights, because it failed.
    """
    if unit.algorithm in CLASSICAL:
        assert problem is not None
        pairs = study.corpus.pairs(study.subset(unit.n, unit.data_seed).indices)
        return CLASSICAL[unit.algorithm].fit(problem, *pairs)
    members = [
        trained_solver(run.fit(fit.hash), initialise(study, fit), problem, unit.algorithm)
        for fit in unit.fits
    ]
    return members[0] if unit.algorithm != "ensemble" else Ensemble(members)
