"""One fit of a study: train, and publish the folder whatever became of it."""

import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from latens.errors import LatensError, NumericalError
from latens.models import Model
from latens.store import (
    HISTORY,
    Outcome,
    RunFolder,
    Status,
    from_rows,
    new_folder,
    write_csv,
    write_json,
)
from latens.store.atomic import remove_folder, storage_error
from latens.studies.load import WEIGHTS
from latens.studies.units import FitUnit
from latens.training import FitResult, one_thread

AnyModel_co = TypeVar("AnyModel_co", bound=Model, covariant=True)

Train = Callable[[Path], tuple[nn.Module, FitResult]]
"""Builds and trains a model; given the folder of its checkpoints."""


class Builder(Protocol[AnyModel_co]):
    """A study that builds its models by name."""

    def build(self, name: str) -> AnyModel_co:
        """An untrained model; its weights come from torch's generator."""
        ...


def initialise(study: Builder[AnyModel_co], unit: FitUnit) -> AnyModel_co:
    """The model with its initial weights, a function of the seeds alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(unit.init_seed)
        return study.build(unit.name)


def publish_fit(
    run: RunFolder, hash: str, train: Train, describe: Callable[[], dict[str, Any]]
) -> Outcome:
    """Train on one thread and publish the folder of the fit.

    Everything that goes wrong in `train` becomes the outcome. Checkpoints are removed where the
    training came to its end. Those of a fit that failed stay, to go on from: what ended it may be
    gone when it is tried again. So does the last good one of a loss that is not finite, with its
    history, to find out why.

    Args:
        run: The run; who calls has claimed the fit.
        hash: Name of the fit.
        train: Makes the trained model.
        describe: Content of `fit.json`, asked for after the training.

    Raises:
        DataError: If the run folder cannot be written.
        KeyboardInterrupt: If the process was told to stop.
    """
    resume = run.resume(hash)
    history: list[tuple[str, int, str, float]] = []
    weights = None
    try:
        with one_thread():
            model, result = train(resume)
        outcome, history = result.outcome, result.history
        weights = _weights(model)
    except NumericalError as error:
        outcome = Outcome(Status.NAN, str(error), error.step, error.terms)
        history = error.history
    except OSError as error:  # a checkpoint could not be written
        raise storage_error(resume, error) from error
    except SystemExit:  # what Lightning makes of Ctrl-C and of SIGTERM
        raise KeyboardInterrupt from None
    except Exception as error:
        outcome = failure(error)
    with new_folder(run.fit(hash)) as folder:
        write_json(folder / "fit.json", describe())
        outcome.write(folder)
        rows = [dict(zip(HISTORY.columns, row, strict=True)) for row in history]
        write_csv(folder / "history.csv", HISTORY, from_rows(rows, HISTORY))
        if weights is not None:
            save_file(weights, folder / WEIGHTS)
    if outcome.status not in (Status.FAILED, Status.NAN):
        shutil.rmtree(resume, ignore_errors=True)
    return outcome


def settled(run: RunFolder, hash: str) -> bool:
    """Whether a fit is finished for good; who calls has claimed it.

    A loss that left the finite numbers would do so again. Another error, such as a lack of
    memory, may not: the folder of a fit that failed is removed, and it can be trained again.

    Raises:
        DataError: If the folder is damaged, or cannot be removed.
    """
    if not run.has_fit(hash):
        return False
    if Outcome.read(run.fit(hash)).status is not Status.FAILED:
        return True
    remove_folder(run.fit(hash))
    return False


def failure(error: Exception) -> Outcome:
    """The outcome of a unit that ended with an error, with the place where it arose."""
    if isinstance(error, LatensError):
        return Outcome(Status.FAILED, str(error))
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}:{where.lineno}"
    text = " ".join(str(error).split())[:300]
    return Outcome(Status.FAILED, f"{type(error).__name__}: {text} ({place})")


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Weights without shared memory, which safetensors refuses: a shared encoder has two names."""
    seen: set[int] = set()
    made = {}
    for name, value in model.state_dict().items():
        value = value.contiguous()
        made[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return made
