"""Run exp1, exp2 or exp3: a fit and an evaluation for every seed, then tables and report."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Any

import pandas as pd

from latens.errors import NumericalError, SolverError
from latens.evaluation.intervals import Interval
from latens.reporting.volumes import write_volume_report
from latens.store import (
    HISTORY,
    Outcome,
    RunFolder,
    Status,
    content_hash,
    from_rows,
    major_versions,
    read_csv,
    write_csv,
    write_json,
)
from latens.studies.configure import construct
from latens.studies.volumes.assess import assess, metric_cells
from latens.studies.volumes.fit import NOT_JUDGED, WEAK, fit_volumes, train_volumes
from latens.studies.volumes.study import VolumeStudy
from latens.studies.volumes.tables import VOLUME_HISTORY, VOLUME_METRICS
from latens.studies.volumes.together import Together, processes
from latens.studies.volumes.tracking import write_offline_run
from latens.training import one_thread
from latens.types import PathLike

RESULT_VERSION = 8
FIT_KEYS = (
    "stage",
    "data",
    "model",
    "control",
    "test_scans",
    "validation_scans",
    "augmentation",
    "training",
    "hardware",
)
STAGE_KEYS = {"exp1": (), "exp2": ("dip",), "exp3": ("partition", "parts")}


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        run: Its folder.
        metrics: Table `volume_metrics`.
        gates: Verdict of every seed that is not healthy, in words.
        collapsed: Whether a seed failed its gate.
    """

    run: RunFolder
    metrics: pd.DataFrame
    gates: list[str]
    collapsed: bool


def run_volumes(
    config: dict[str, Any], out: PathLike, name: str, say: Callable[[str], None]
) -> Finished | None:
    """Compute what is missing, then tables and report.

    Args:
        config: Resolved configuration of `VolumeStudy`.
        out: Run folder, new or of an earlier start.
        name: Name of the run.
        say: Told of every finished part and of every look of a training.

    Returns:
        What was found; None in a process that only takes part in the training.

    Raises:
        LatensError: One line that names the setting or file at fault.
    """
    study = construct(VolumeStudy, config)
    with processes(study.hardware) as together:
        if together.leads:
            return _lead(study, config, out, name, say, together)
        _follow(study, config, RunFolder(out), together)
    return None


def _lead(
    study: VolumeStudy,
    config: dict[str, Any],
    out: PathLike,
    name: str,
    say: Callable[[str], None],
    together: Together,
) -> Finished:
    """The work of the first process, or of the only one."""
    roles = {role: len(rows) for role, rows in study.roles.items()}
    roles["validation"] = study.chosen_on
    run = RunFolder.create(
        out,
        {
            "study": study.name,
            "name": name,
            "config": config,
            "data": {
                "name": study.subjects.name,
                "fingerprint": study.subjects.identity,
                "shape": list(study.subjects.shape),
                "channels": list(study.subjects.channels),
                "aligned": study.aligned,
                **roles,
            },
            "result_version": RESULT_VERSION,
        },
    )
    units = {seed: _identities(study, config, seed) for seed in range(study.seeds)}
    gates, collapsed = [], False
    with one_thread():
        for seed, (fit_identity, evaluation_identity) in units.items():
            fit_hash = content_hash(fit_identity)
            with run.claim(fit_hash) as mine:
                if not mine:
                    raise SolverError(
                        str(run.path), "a run that nobody else works on", "another", "Wait."
                    )
                fit_volumes(study, run, fit_hash, fit_identity, seed, say, together)
                outcome = Outcome.read(run.fit(fit_hash))
                if not outcome.usable or outcome.message.startswith((WEAK, NOT_JUDGED)):
                    gates.append(f"seed {seed}: {outcome.status}: {outcome.message}")
                    say(gates[-1])
                collapsed = collapsed or not outcome.usable
                if study.wandb:
                    write_offline_run(run, fit_hash, f"{name} seed {seed}", config)
                if outcome.status not in (Status.NAN, Status.FAILED):
                    assess(study, run, fit_hash, evaluation_identity, seed, say)
    metrics = _gather(study, run, units)
    write_volume_report(run)
    together.tell(None)
    return Finished(run, metrics, gates, collapsed)


def _identities(study: VolumeStudy, config: dict[str, Any], seed: int) -> tuple[dict, dict]:
    """What the fit and the evaluation of a seed are made of."""
    kept = {key: config[key] for key in (*FIT_KEYS, *STAGE_KEYS[study.stage])}
    fit = {
        "kind": "fit",
        "config": kept,
        "seed": seed,
        "data": study.subjects.identity,
        "result_version": RESULT_VERSION,
        "packages": major_versions(),
    }
    evaluation = {
        "kind": "volumes",
        "fit": content_hash(fit),
        "config": {key: config[key] for key in ("data_range", "shown")},
        "result_version": RESULT_VERSION,
    }
    return fit, evaluation


def _follow(
    study: VolumeStudy, config: dict[str, Any], run: RunFolder, together: Together
) -> None:
    """Take part in every training that the first process begins, and write nothing."""
    with one_thread():
        while (seed := together.heard()) is not None:
            hash = content_hash(_identities(study, config, seed)[0])
            # The first process writes down what went wrong.
            with contextlib.suppress(NumericalError):
                train_volumes(study, study.build(seed), run.resume(hash), seed, together)


def _gather(
    study: VolumeStudy, run: RunFolder, units: dict[int, tuple[dict, dict]]
) -> pd.DataFrame:
    """Tables of the whole run; a seed that left no weights has one row, without a number."""
    metrics, history, members = [], [], {"fits": {}, "evaluations": {}}
    for seed, (fit_identity, evaluation_identity) in units.items():
        fit, evaluation = content_hash(fit_identity), content_hash(evaluation_identity)
        history.append(read_csv(run.fit(fit) / "history.csv", HISTORY).assign(seed=seed))
        members["fits"][f"seed {seed}"] = fit
        if run.has_evaluation(evaluation):
            file = run.evaluation(evaluation) / "volume_metrics.csv"
            metrics.append(read_csv(file, VOLUME_METRICS))
            members["evaluations"][evaluation] = study.stage
        else:
            status = str(Outcome.read(run.fit(fit)).status)
            row = {"stage": study.stage, "seed": seed, "status": status}
            row |= metric_cells("au_count", Interval(nan, nan, nan, nan, 0, 0))
            metrics.append(from_rows([row], VOLUME_METRICS))
    write_json(run.units_file, members)
    table = pd.concat(metrics)
    write_csv(run.tables / "volume_metrics.csv", VOLUME_METRICS, table)
    write_csv(run.tables / "volume_history.csv", VOLUME_HISTORY, pd.concat(history))
    return table
