"""Best weights, early stopping and history in one place; checkpoints that cannot be torn."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from latens.errors import DataError
from latens.training.module import StageModule

SECTIONS = {"state_dict", "callbacks", "loops", "optimizer_states", "lr_schedulers"}
"""Parts of a checkpoint without which no run can continue."""


class BestWeights(Callback):
    """Keeps the weights with the lowest validation loss and ends a stage that stopped improving.

    Args:
        patience: Looks without improvement before the stage ends.
        schedules: Last step of the model's own schedules; looks up to it do not count, since a
            loss that does not fall while its weights still change is no reason to end.
        warmups: Steps of the warm-ups, within which no stage ends.

    Attributes:
        history: Rows `(step, quantity, value)`.
        best_loss: Lowest validation loss, nats per element.
        best_step: Step of the best weights.
        looks_since_best: Looks since then that count.
    """

    def __init__(self, patience: int, schedules: int = 0, warmups: int = 0) -> None:
        self.patience, self.schedules, self.warmups = patience, schedules, warmups
        self.history: list[tuple[int, str, float]] = []
        self.best_loss = float("inf")
        self.best_step = -1
        self.looks_since_best = 0
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A stage that had stopped when it was checkpointed stays stopped when resumed."""
        trainer.should_stop = self._over(trainer.global_step)

    def _over(self, step: int) -> bool:
        return self.looks_since_best >= self.patience and step >= self.warmups

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record, compare, stop."""
        assert isinstance(pl_module, StageModule)
        step = trainer.global_step
        means = pl_module.take_means()
        self.history += [(step, quantity, value) for quantity, value in means.items()]
        if means["val/loss"] < self.best_loss:
            self.best_loss, self.best_step, self.looks_since_best = means["val/loss"], step, 0
            state = pl_module.model.state_dict()
            self.weights = {k: v.detach().clone() for k, v in state.items()}
        elif step > self.schedules:
            self.looks_since_best += 1
            trainer.should_stop = self._over(step)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to choose as the uninterrupted one."""
        names = ("history", "best_loss", "best_step", "looks_since_best", "weights")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore."""
        self.__dict__.update(state_dict)


class AtomicCheckpoint(Callback):
    """Writes a checkpoint after every look, by rename: a killed run leaves the old one whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save next to the target, then rename."""
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        trainer.save_checkpoint(temporary)  # all processes meet here, the first one writes
        if trainer.is_global_zero:
            os.replace(temporary, self.path)


def whole_checkpoint(path: Path, weights: Mapping[str, Tensor]) -> Path | None:
    """`path`, if a checkpoint lies there that a stage can continue from.

    A damaged file costs time and nothing else, since a stage that starts again ends with the
    same weights: it is deleted with a warning.

    Args:
        path: Place of the checkpoint.
        weights: Weights of the module that will be trained.

    Raises:
        DataError: If the checkpoint belongs to another model.
    """
    if not path.is_file():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        missing = SECTIONS - checkpoint.keys()
        shapes = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    except Exception as error:  # damaged bytes can raise almost anything
        missing, shapes = {f"every part ({type(error).__name__})"}, {}
    if missing:
        warnings.warn(
            f"{path} is damaged and lacks {', '.join(sorted(missing))}; it is deleted, and its "
            "stage starts again.",
            RuntimeWarning,
            stacklevel=2,
        )
        path.unlink()
        return None
    if shapes != {name: tuple(value.shape) for name, value in weights.items()}:
        raise DataError(
            "resume",
            "a folder with checkpoints of this model",
            f"{path}, whose weights have other names or shapes",
            "Delete the folder, or give every fit a folder of its own.",
        )
    return path
