"""One fit: every stage of a model on one subset, with a verdict at the end."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer

from latens.distributions import NoiseStream
from latens.errors import NumericalError
from latens.models import LatentModel, Model
from latens.problems import InverseProblem
from latens.store import Outcome, Status
from latens.training.batches import Pair
from latens.training.callbacks import AtomicCheckpoint, BestWeights, whole_checkpoint
from latens.training.gate import collapse_diagnosis
from latens.training.hardware import Hardware
from latens.training.module import PairData, StageModule
from latens.training.settings import Training

MakeData = Callable[[Pair, Pair, Training, int], LightningDataModule]
"""Makes the batches of training, validation, settings and seed."""

IMPROVEMENT = 1e-3
"""Nats per element: a gain smaller than this over `patience` looks counts as none."""


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves beside the weights in the model.

    Attributes:
        outcome: Status word, reason and the numbers of the collapse gate.
        history: Rows `(stage, step, quantity, value)`.
    """

    outcome: Outcome
    history: list[tuple[str, int, str, float]] = field(default_factory=list)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, so that a fit gives the same bits whatever runs beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit_model(
    model: Model,
    train: Pair,
    validation: Pair,
    settings: Training,
    seed: int,
    problem: InverseProblem | None = None,
    resume: Path | None = None,
    make_data: MakeData = PairData,
    hardware: Hardware = Hardware(),  # noqa: B008
    watchers: Sequence[Callback] = (),
) -> FitResult:
    """Train every stage of a model and judge the result.

    Args:
        model: Changed in place; ends with the weights of the lowest validation loss.
        train: `(x, y)`, `(n, *signal_shape)` and `(n, *measurement_shape)`.
        validation: The same for early stopping; it counts in N.
        settings: Budget and optimiser.
        seed: Key of batch order and noise. The initial weights come with the model.
        problem: Needed by models that simulate measurements.
        resume: Folder for checkpoints. A fit that finds one there continues, and ends with
            the weights of an uninterrupted fit, bit for bit; a damaged checkpoint is deleted
            with a warning, and its stage starts again. Every fit needs a folder of its own.
        make_data: How batches are made of the pairs.
        hardware: Precision, accumulation, processes, and whether networks are compiled.
        watchers: Callbacks that look on; they see a look before its means are taken.

    Returns:
        Outcome and history.

    Raises:
        NumericalError: If a loss is not finite; it carries the step, the terms and the history.
        DataError: If training data are constant or not finite, or `resume` holds checkpoints
            of another model.
        ConfigError: If networks are to be compiled and the machine has no compiler.
    """
    history: list[tuple[str, int, str, float]] = []
    still_improving = []
    model.fit_units(*train)
    with one_thread():
        for stage in model.stages:
            data = make_data(train, validation, settings, seed)
            module = StageModule(model, stage, problem, settings, seed, hardware.accumulate)
            best = BestWeights(
                settings.patience,
                model.schedule_steps,
                max(settings.warmup_steps, settings.kl_warmup_steps),
            )
            try:
                with hardware.compiling(model):
                    _fit_stage(module, data, resume, hardware, [*watchers, best])
            except NumericalError as error:
                error.history = [*history, *((stage, *row) for row in best.history)]
                raise
            model.load_state_dict(best.weights)
            history += [(stage, *row) for row in best.history]
            if _improving(best, settings.patience):
                still_improving.append(stage)
        model.eval()
        model.fit_closed_form(*train)
        model.fit_scale(*validation, NoiseStream(seed, len(model.stages), 0, 0))
        outcome = _judge(model, validation, still_improving)
    return FitResult(outcome, history)


def _fit_stage(
    module: StageModule,
    data: LightningDataModule,
    resume: Path | None,
    hardware: Hardware,
    watchers: Sequence[Callback],
) -> None:
    settings = module.settings
    callbacks: list = [*watchers]
    found = None
    if resume is not None:
        resume.mkdir(parents=True, exist_ok=True)
        checkpoint = resume / f"{module.stage}.ckpt"
        found = whole_checkpoint(checkpoint, module.state_dict())
        callbacks.append(AtomicCheckpoint(checkpoint))
    with _quiet_lightning():
        trainer = Trainer(
            max_steps=settings.max_steps,
            max_epochs=-1,
            callbacks=callbacks,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            accelerator="auto",
            **hardware.trainer_arguments(),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data, ckpt_path=found, weights_only=True)


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's advice on loaders and devices is not for the reader of a sweep."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*isinstance.treespec, LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _improving(best: BestWeights, patience: int) -> bool:
    """True if the budget ended while the validation loss still fell by `IMPROVEMENT`."""
    losses = [value for _, quantity, value in best.history if quantity == "val/loss"]
    if best.looks_since_best >= patience or len(losses) <= patience:
        return len(losses) <= patience
    return min(losses[:-patience]) - best.best_loss > IMPROVEMENT


def _judge(model: Model, validation: Pair, still_improving: list[str]) -> Outcome:
    statistics: dict[str, float] = {}
    remarks = []
    if isinstance(model, LatentModel):
        gate = collapse_diagnosis(model, *validation)
        names = ("active_units", "units", "kl_raw", "mean_variance", "ablation_ratio")
        statistics = {name: float(getattr(gate, name)) for name in names}
        if gate.verdict == "collapsed":
            return Outcome(Status.COLLAPSED, "; ".join(gate.reasons), statistics=statistics)
        if gate.verdict == "weak":
            remarks.append("weak latents: " + "; ".join(gate.reasons))
    if still_improving:
        remarks.append(f"the budget ended while {' and '.join(still_improving)} still improved")
        return Outcome(Status.STOPPED, "; ".join(remarks), statistics=statistics)
    return Outcome(Status.CONVERGED, "; ".join(remarks), statistics=statistics)
