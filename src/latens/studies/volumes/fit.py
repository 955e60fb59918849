"""Fits of exp1, exp2 and exp3: training, the verdict on the latents, and trained models."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.errors import NumericalError, SolverError
from latens.models.volume_vae import VolumeVAE
from latens.store import Outcome, RunFolder, Status
from latens.studies.fitting import publish_fit, settled
from latens.studies.load import load_weights
from latens.studies.volumes.progress import Progress
from latens.studies.volumes.study import VolumeStudy
from latens.studies.volumes.together import Together
from latens.training import FitResult, fit_model
from latens.training.diagnostics import BLOCK, FEWEST, LatentDiary, LatentUse, latent_use, too_few
from latens.training.volumes import VolumeData
from latens.types import Shape

WEAK = "weak latents"
NOT_JUDGED = "active units not judged"
ON_TRAINING = "weights and verdict are of training scans, for want of others"
WATCHED = 48
"""Validation scans that are diagnosed at every look."""


def fit_volumes(
    study: VolumeStudy,
    run: RunFolder,
    hash: str,
    identity: dict[str, Any],
    seed: int,
    say: Callable[[str], None],
    together: Together,
) -> None:
    """Train a seed's model, judge its latents and publish the fit, unless that was done before.

    Args:
        study: Settings of the run.
        run: Its folder.
        hash: Name of the fit, of its identity.
        identity: What the fit is made of.
        seed: Of the initialisation, the order of scans and the noise.
        say: Told of every look, and of the end.
        together: Processes that train with this one; they are told of the seed.

    Raises:
        SolverError: If the fit failed while others take part in it.
    """
    if settled(run, hash):
        return
    start = time.perf_counter()
    model = study.build(seed)  # a setting at fault ends the run, and is no failure of a fit
    facts = {**identity, "scans": study.fingerprints}
    together.tell(seed)

    def train(resume: Path) -> tuple[VolumeVAE, FitResult]:
        result, diary, watched = train_volumes(study, model, resume, seed, together, say)
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


def train_volumes(
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
