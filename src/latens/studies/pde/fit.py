"""Train the model of the study, or read it back."""

import shutil
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.errors import DataError, NumericalError
from latens.models.igno import IGNO
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
from latens.studies.load import WEIGHTS
from latens.studies.pde.study import Pde
from latens.studies.pde.systems import BLOCK
from latens.training import fit_model

VALIDATION = 0.15


def fit(study: Pde, run: RunFolder, hash: str, identity: dict[str, Any]) -> str:
    """Train the model unless it is trained; returns its status word."""
    target = run.fit(hash)
    if run.has_fit(hash):
        return str(Outcome.read(target).status)
    start = time.perf_counter()
    fields = study.training_fields
    solutions = study.system.solutions(fields.fine).float()
    kept = round((1 - VALIDATION) * study.pairs)
    train = fields.coarse[:kept], solutions[:kept]
    validation = fields.coarse[kept:], solutions[kept:]
    model, resume = study.build(), run.resume(hash)
    history: list[tuple[str, int, str, float]] = []
    try:
        result = fit_model(model, train, validation, study.training, study.seed, resume=resume)
        model.solve_last_layers(train, validation, NoiseStream(study.seed, Purpose.LATENT))
        outcome, history = result.outcome, result.history
    except NumericalError as error:
        outcome = Outcome(Status.NAN, str(error), error.step, error.terms)
    except SystemExit:  # what Lightning makes of Ctrl-C and of SIGTERM
        raise KeyboardInterrupt from None
    with new_folder(target) as folder:
        write_json(folder / "fit.json", identity)
        outcome.write(folder)
        rows = [dict(zip(HISTORY.columns, row, strict=True)) for row in history]
        write_csv(folder / "history.csv", HISTORY, from_rows(rows, HISTORY))
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    shutil.rmtree(resume, ignore_errors=True)
    seconds = round(time.perf_counter() - start, 3)
    run.record_cost("fit", hash, "igno", study.pairs, 0, study.seed, seconds, float("nan"))
    return str(outcome.status)


def trained(study: Pde, folder: Path) -> IGNO:
    """The trained model of a fit's folder, in float64.

    At 50 dB log-densities far from a maximum are so large that float32 loses the differences that
    a line search lives on.

    Raises:
        DataError: If the weights are missing, damaged or of another model.
    """
    model = study.build()
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise DataError(
            str(folder / WEIGHTS),
            "weights of this configuration",
            " ".join(str(error).split())[:200],
            "Delete the folder around it, and the next run trains it again.",
        ) from error
    return model.double().eval().requires_grad_(False)


@torch.no_grad()
def operator_errors(model: IGNO, fine: Tensor, coarse: Tensor, study: Pde) -> dict[str, Tensor]:
    """Relative L2 errors of the decoders on fields, each from the mean of q(w | a), `(n,)`."""
    solutions, coarse = study.system.solutions(fine), coarse.double()
    found: dict[str, list[Tensor]] = {"operator_error": [], "representation_error": []}
    for a, u in zip(coarse.split(BLOCK), solutions.split(BLOCK), strict=True):
        w = model.encoder(a).mean
        decoded = model.solution(w).value(model.outputs).reshape(u.shape)
        found["operator_error"].append(relative_l2(decoded, u))
        found["representation_error"].append(relative_l2(model.decode(w).mean, a))
    return {name: torch.cat(parts) for name, parts in found.items()}


def relative_l2(found: Tensor, truth: Tensor) -> Tensor:
    """‖x̂ − x‖/‖x‖ over everything but the first axis, `(B,)`."""
    return (found - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
