"""Run exp1, exp2 or exp3: a fit and an evaluation for every seed, then tables and report."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.errors import NumericalError, SolverError
from latens.evaluation.intervals import Interval
from latens.evaluation.volumes import assess_volumes
from latens.metrics import active_units
from latens.models.partitioned import REST, PartitionedVAE
from latens.models.volume_vae import VolumeVAE
from latens.reporting.volumes import PICTURES, write_volume_report
from latens.store import (
    HISTORY,
    Outcome,
    RunFolder,
    Status,
    content_hash,
    from_rows,
    major_versions,
    new_folder,
    read_csv,
    write_csv,
    write_json,
)
from latens.studies.configure import construct
from latens.studies.fitting import publish_fit, settled
from latens.studies.load import load_weights
from latens.studies.volumes.pictures import pictures
from latens.studies.volumes.progress import Progress
from latens.studies.volumes.study import VolumeStudy
from latens.studies.volumes.tables import VOLUME_HISTORY, VOLUME_METRICS
from latens.studies.volumes.together import Together, processes
from latens.studies.volumes.tracking import write_offline_run
from latens.training import FitResult, fit_model, one_thread
from latens.training.diagnostics import BLOCK, FEWEST, LatentDiary, LatentUse, latent_use, too_few
from latens.training.volumes import VolumeData
from latens.types import PathLike, Shape

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
WEAK = "weak latents"
NOT_JUDGED = "active units not judged"
ON_TRAINING = "weights and verdict are of training scans, for want of others"
WATCHED = 48
"""Validation scans that are diagnosed at every look."""


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
                _fit(study, run, fit_hash, fit_identity, seed, say, together)
                outcome = Outcome.read(run.fit(fit_hash))
                if not outcome.usable or outcome.message.startswith((WEAK, NOT_JUDGED)):
                    gates.append(f"seed {seed}: {outcome.status}: {outcome.message}")
                    say(gates[-1])
                collapsed = collapsed or not outcome.usable
                if study.wandb:
                    write_offline_run(run, fit_hash, f"{name} seed {seed}", config)
                if outcome.status not in (Status.NAN, Status.FAILED):
                    _evaluate(study, run, fit_hash, evaluation_identity, seed, say)
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


def _train(
    study: VolumeStudy,
    model: VolumeVAE,
    resume: Path,
    seed: int,
    together: Together,
    say: Callable[[str], None] | None = None,
) -> tuple[FitResult, LatentDiary, Tensor]:
    """Train a model: result, diary, and the validation scans it looked at."""
    tell = None if say is None else lambda look: say(f"seed {seed}, {look}")
    train, validation = study.pair("train"), study.pair("validation")
    watched = validation[0][slice(0, WATCHED)]
    groups = study.groups("validation")[:WATCHED]
    keep = None if say is None else Progress(resume, study.stage, seed)
    diary = LatentDiary(
        watched, seed, study.subjects.channels, study.data_range, groups, tell, keep
    )
    together.meet()  # with the scans at hand: from here on processes wait for a limited time
    parts = study.hardware.accumulate
    make_data = partial(
        VolumeData,
        parts=parts,
        block=max(BLOCK, min(2 * BLOCK, study.training.batch_size // parts)),
        change=study.changed(seed),
    )
    try:
        result = fit_model(
            model,
            train,
            validation,
            study.training,
            seed,
            resume=resume,
            make_data=make_data,
            hardware=study.hardware,
            watchers=[diary],
        )
    except NumericalError as error:
        error.history = [(study.stage, *look) for look in diary.rows]
        raise
    return result, diary, watched


def _follow(
    study: VolumeStudy, config: dict[str, Any], run: RunFolder, together: Together
) -> None:
    """Take part in every training that the first process begins, and write nothing."""
    with one_thread():
        while (seed := together.heard()) is not None:
            hash = content_hash(_identities(study, config, seed)[0])
            # The first process writes down what went wrong.
            with contextlib.suppress(NumericalError):
                _train(study, study.build(seed), run.resume(hash), seed, together)


def _fit(
    study: VolumeStudy,
    run: RunFolder,
    hash: str,
    identity: dict[str, Any],
    seed: int,
    say: Callable[[str], None],
    together: Together,
) -> None:
    if settled(run, hash):
        return
    start = time.perf_counter()
    model = study.build(seed)  # a setting at fault ends the run, and is no failure of a fit
    facts = {**identity, "scans": study.fingerprints}
    together.tell(seed)

    def train(resume: Path) -> tuple[VolumeVAE, FitResult]:
        result, diary, watched = _train(study, model, resume, seed, together, say)
        noise = NoiseStream(seed, Purpose.LATENT)
        groups = study.groups("validation")[:WATCHED]
        use = latent_use(model, watched, noise, study.subjects.channels, study.data_range, groups)
        looks = [(study.stage, *look) for look in diary.rows]
        outcome = judged(use, result.outcome)
        if not study.chosen_on:
            message = "; ".join(part for part in (outcome.message, ON_TRAINING) if part)
            outcome = replace(outcome, message=message)
        return model, FitResult(outcome, looks)

    outcome = publish_fit(run, hash, train, lambda: facts)
    if outcome.status is Status.FAILED and study.hardware.processes * study.hardware.nodes > 1:
        # The others are still in this training, and would take the next one for it.
        raise SolverError(
            f"seed {seed}",
            "a training that all processes end",
            outcome.message,
            "Start the run again: it goes on from the last checkpoint.",
        )
    seconds, count = round(time.perf_counter() - start, 3), len(study.roles["train"])
    run.record_cost("fit", hash, study.stage, count, 0, seed, seconds, float("nan"))
    say(f"seed {seed}: trained in {seconds:.0f} s")


def judged(use: LatentUse, outcome: Outcome) -> Outcome:
    """The outcome of training with the verdict of the collapse gate on validation scans."""
    found = use.diagnosis
    names = ("active_units", "units", "kl_raw", "mean_variance", "ablation_ratio")
    known = {name: getattr(found, name) for name in names}
    numbers = {name: float(value) for name, value in known.items() if value is not None}
    statistics = {**outcome.statistics, **numbers}
    reasons = "; ".join(found.reasons)
    few = "" if use.subjects >= FEWEST else f"{NOT_JUDGED} ({too_few(use.subjects)})"
    if found.verdict == "collapsed":
        message = "; ".join(part for part in (reasons, few) if part)
        return Outcome(Status.COLLAPSED, message, outcome.step, statistics)
    weak = f"{WEAK}: {reasons}" if found.verdict == "weak" else ""
    message = "; ".join(part for part in (weak, few, outcome.message) if part)
    return Outcome(outcome.status, message, outcome.step, statistics)


def load_model(study: VolumeStudy, folder: Path, shape: Shape | None = None) -> VolumeVAE:
    """The trained model of a fit's folder.

    Args:
        study: Settings of the run.
        folder: Folder of the fit.
        shape: `(C, D, H, W)` of the scans, where they are not at hand.

    Raises:
        SolverError: If the fit left no weights.
        DataError: If they are damaged or of another model.
    """
    model = load_weights(study.build(0, shape), folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.requires_grad_(False).to(device)


def _evaluate(
    study: VolumeStudy,
    run: RunFolder,
    fit_hash: str,
    identity: dict[str, Any],
    seed: int,
    say: Callable[[str], None],
) -> None:
    hash = content_hash(identity)
    if run.has_evaluation(hash):
        return
    start = time.perf_counter()
    outcome = Outcome.read(run.fit(fit_hash))
    model, sample = load_model(study, run.fit(fit_hash)), study.sample()
    found = assess_volumes(model, sample, seed)
    values = {**found.values, **_without_interval(model, found.use)}
    common = {"stage": study.stage, "seed": seed, "status": str(outcome.status)}
    rows = [{**common, **_cells(metric, value)} for metric, value in values.items()]
    unknown = Interval(nan, nan, nan, nan, len(found.use.loc), found.use.subjects)
    for metric, reason in found.missing.items():
        rows.append({**common, **_cells(metric, unknown), "missing": reason})
    with new_folder(run.evaluation(hash)) as folder:
        write_json(folder / "evaluation.json", identity)
        outcome.write(folder)
        write_csv(folder / "volume_metrics.csv", VOLUME_METRICS, from_rows(rows, VOLUME_METRICS))
        save_file(shown(study, model, sample.test, found.use), folder / PICTURES)
    seconds = round(time.perf_counter() - start, 3)
    train = len(study.roles["train"])
    run.record_cost("evaluation", hash, study.stage, train, 0, seed, seconds, float("nan"))
    say(f"seed {seed}: assessed in {seconds:.0f} s")


def _without_interval(model: VolumeVAE, use: LatentUse) -> dict[str, Interval]:
    """Diagnostics on the held-out scans, which have no interval."""
    plain = {name.split("/")[1]: value for name, value in use.numbers.items()}
    del plain["kl_raw"]  # `kl` has one
    if isinstance(model, PartitionedVAE) and use.subjects >= FEWEST:
        plain["rest_units"] = float(active_units(model.part(REST, use.loc)))
    scans, subjects = len(use.loc), use.subjects
    return {name: Interval(value, nan, nan, nan, scans, subjects) for name, value in plain.items()}


def _cells(metric: str, found: Interval) -> dict[str, Any]:
    """Columns of a metric, of which nothing is missing."""
    return {
        "metric": metric,
        "value": found.value,
        "lower": found.lower,
        "upper": found.upper,
        "level": found.level,
        "scans": found.images,
        "subjects": found.groups,
        "missing": "",
    }


@torch.no_grad()
def shown(study: VolumeStudy, model: VolumeVAE, test: Any, use: LatentUse) -> dict[str, Tensor]:
    """Pictures of the first held-out scans and of the latents that carry most."""
    return pictures(model, test[slice(0, study.shown)], use, study.shown_lesions())


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
            row |= _cells("au_count", Interval(nan, nan, nan, nan, 0, 0))
            metrics.append(from_rows([row], VOLUME_METRICS))
    write_json(run.units_file, members)
    table = pd.concat(metrics)
    write_csv(run.tables / "volume_metrics.csv", VOLUME_METRICS, table)
    write_csv(run.tables / "volume_history.csv", VOLUME_HISTORY, pd.concat(history))
    return table
