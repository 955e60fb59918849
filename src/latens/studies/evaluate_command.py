"""`latens evaluate`: the numbers of latens for reconstructions that lie on disk.

Everything is read, checked and computed before anything is written. Several calls with one run
folder, each with its N and seeds, make learning curves that `latens report` and `latens plan` read
as they read those of a study.
"""

import resource
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from latens.errors import ConfigError
from latens.evaluation import (
    Cell,
    Check,
    Checked,
    Evaluation,
    Examples,
    Subject,
    evaluate_cell,
    run_check,
    save_check,
    save_evaluation,
)
from latens.evaluation.measure import spread_evenly
from latens.reporting import write_report
from latens.store import Outcome, RunFolder, content_hash, new_folder, read_json, read_yaml
from latens.store.atomic import remove_folder
from latens.studies.configure import construct, resolve
from latens.studies.gather import gather
from latens.studies.given import Given, read_given
from latens.studies.recorded import STUDY, RecordedUnit, Stated, finished_units
from latens.studies.units import EVALUATION_VERSION
from latens.training import one_thread

Timed = tuple[Checked, Outcome, float]
"""A check, how it ended, and its seconds."""


def evaluate_command(options: Namespace, overrides: Sequence[str]) -> int:
    """Evaluate reconstructions, add them to a run, and write its tables and report.

    Returns:
        Exit code 0, however good or bad the reconstructions are.

    Raises:
        ConfigError, DataError, ShapeError: One line that names the option or file at fault;
            nothing was written.
    """
    before = _earlier(Path(options.run))
    config = _configuration(options, overrides, before)
    stated = construct(Stated, config)
    place = _place(options)
    start = time.perf_counter()
    given = read_given(options, stated, before)
    problem = {name: config[name] for name in ("operator", "noise")}
    unit = RecordedUnit(place, given.content, problem)
    checks = {
        check: RecordedUnit(place, given.content, problem, check, stated.checked_images)
        for check in stated.checks
    }
    if before is not None:
        _former(before, unit, options.replace)
    with one_thread():
        evaluation = _evaluated(given, unit)
        seconds = time.perf_counter() - start
        checked = {check: _checked(given, check, checks[check]) for check in stated.checks}
    run = RunFolder.create(options.run, _identity(options, config, given))
    with run.alone():
        doomed = _former(run, unit, options.replace)
        _publish(run, unit, evaluation, seconds)
        for check, result in checked.items():
            _publish_check(run, checks[check], result)
        for hash in doomed:
            remove_folder(run.evaluation(hash))
        card = gather(run, list(finished_units(run)))["trust"]
        report = write_report(run)
    checks_made = {check: result[0] for check, result in checked.items()}
    print(replace(evaluation, checks=checks_made, card=card))
    print(_contents(run))
    print(f"report: {report}")
    return 0


def _place(options: Namespace) -> Cell:
    for name in ("n", "data_seed", "init_seed"):
        if getattr(options, name) < 0:
            value = getattr(options, name)
            raise ConfigError(f"--{name}", "0 or more", value, "Correct it.")
    if not options.name.strip() or not options.name.isprintable():
        raise ConfigError("--name", "a name on one line", repr(options.name), "Correct it.")
    return Cell(options.name.strip(), options.n, options.data_seed, options.init_seed)


def _earlier(path: Path) -> RunFolder | None:
    """The run that a folder holds, if any."""
    if not (path / "run.json").is_file():
        return None
    run = RunFolder.open(path)
    study, version = run.description["study"], run.description["result_version"]
    if study != STUDY:
        raise ConfigError(
            str(path),
            "a new folder, or a run of `latens evaluate`",
            f"a run of `latens run {study}`",
            "Choose another folder.",
        )
    if version != EVALUATION_VERSION:
        raise ConfigError(
            str(path),
            f"results of version {EVALUATION_VERSION}, which can be compared with new ones",
            version,
            "Begin in a new folder.",
        )
    return run


def _configuration(
    options: Namespace, overrides: Sequence[str], before: RunFolder | None
) -> dict[str, Any]:
    """Operator, noise and checks; a run keeps the operator and noise that it began with."""
    named = [
        f"--{name}={getattr(options, name)}"
        for name in ("operator", "noise", "checks", "checked_images")
        if getattr(options, name) is not None
    ]
    layers = [read_yaml(file) for file in options.config]
    kept = {}
    if before is not None:
        kept = {name: before.description["config"][name] for name in ("operator", "noise")}
    config = resolve(Stated, [kept, *layers], [*named, *overrides], options.trust)
    for name, value in kept.items():
        if config[name] != value:
            raise ConfigError(
                name,
                f"that of the run, {value}",
                config[name],
                "Leave it out, or begin in a new folder.",
            )
    return config


def _former(run: RunFolder, unit: RecordedUnit, replaced: bool) -> list[str]:
    """Units at the same place that come from other arrays, which give way if they may."""
    place, content = unit.place, content_hash(unit.content)
    doomed = []
    for other in finished_units(run):
        cell = other.cell
        there = (cell.solver, cell.n, cell.data_seed, cell.init_seed)
        if there != (place.solver, place.n, place.data_seed, place.init_seed):
            continue
        entry = read_json(run.evaluation(other.hash) / "evaluation.json")
        if content_hash(entry["identity"]["content"]) != content:
            doomed.append(other.hash)
    if doomed and not replaced:
        raise ConfigError(
            "--name, --n, --data_seed, --init_seed",
            "a place that is free",
            f"{place.solver}, N = {place.n}, data seed {place.data_seed}, init seed "
            f"{place.init_seed}, where other reconstructions were evaluated before",
            "State N and seeds of these, or add --replace.",
        )
    return doomed


def _evaluated(given: Given, unit: RecordedUnit) -> Evaluation:
    found = evaluate_cell(unit.cell, given.solver, given.images, given.context)
    evaluation = replace(found, seconds_per_draw=float("nan"))  # looked up, not solved
    _ = evaluation.metrics  # computed here, before anything is written
    if given.measured:
        return evaluation
    pictures = evaluation.examples
    arrays = {name: array for name, array in pictures.arrays.items() if name != "measurement"}
    return replace(evaluation, examples=Examples(arrays, pictures.images))


def _checked(given: Given, check: Check, unit: RecordedUnit) -> Timed:
    start = time.perf_counter()
    places = spread_evenly(len(given.images), unit.images)
    images = given.images.select(places)
    subject = Subject(
        unit.cell, given.pointwise, given.problem, images, given.context, tuple(places)
    )
    found, outcome = run_check(check, subject)
    return found, outcome, time.perf_counter() - start


def _identity(options: Namespace, config: dict[str, Any], given: Given) -> dict[str, Any]:
    return {
        "study": STUDY,
        "name": Path(options.run).resolve().name,
        "config": config,
        "data": given.data,
        "result_version": EVALUATION_VERSION,
    }


def _publish(run: RunFolder, unit: RecordedUnit, evaluation: Evaluation, seconds: float) -> None:
    if not run.has_evaluation(unit.hash):
        with new_folder(run.evaluation(unit.hash)) as folder:
            save_evaluation(evaluation, folder, unit.description())
        _record(run, unit, seconds)


def _publish_check(run: RunFolder, unit: RecordedUnit, result: Timed) -> None:
    checked, outcome, seconds = result
    if not run.has_evaluation(unit.hash):
        with new_folder(run.evaluation(unit.hash)) as folder:
            save_check(checked, outcome, folder, unit.description())
        _record(run, unit, seconds)


def _record(run: RunFolder, unit: RecordedUnit, seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    place = unit.place
    run.record_cost(
        unit.kind,
        unit.hash,
        place.solver,
        place.n,
        place.data_seed,
        place.init_seed,
        round(seconds, 3),
        round(peak, 1),
    )


def _contents(run: RunFolder) -> str:
    """What the run holds by now, in one line."""
    cells = [unit.cell for unit in finished_units(run) if not unit.check]
    solvers = sorted({cell.solver for cell in cells})
    sizes = sorted({cell.n for cell in cells})
    number = f"{len(cells)} evaluation{'s' if len(cells) > 1 else ''}"
    return f"{run.path}: {number} of {', '.join(solvers)} at N = {', '.join(map(str, sizes))}"
