"""Train the model of the study, or read it back."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latens.distributions import NoiseStream, Purpose
from latens.models.igno import IGNO
from latens.store import Outcome, RunFolder
from latens.studies.fitting import publish_fit
from latens.studies.load import load_weights
from latens.studies.pde.study import Pde
from latens.studies.pde.systems import BLOCK
from latens.training import FitResult, fit_model

VALIDATION = 0.15
SOLVED_FOR_UNIT = 32
"""Fields that are solved for a model that learns from the equation alone."""


def fit(study: Pde, run: RunFolder, hash: str, identity: dict[str, Any]) -> str:
    """Train the model unless it is trained; returns its status word."""
    if run.has_fit(hash):
        return str(Outcome.read(run.fit(hash)).status)
    start = time.perf_counter()
    model = study.build()  # settings that make no sense end here, before the fields are solved
    fields = study.training_fields
    solutions = _solutions(study, fields.fine)
    kept = round((1 - VALIDATION) * study.pairs)
    train_pair = fields.coarse[:kept], solutions[:kept]
    validation = fields.coarse[kept:], solutions[kept:]

    def train(resume: Path) -> tuple[IGNO, FitResult]:
        result = fit_model(
            model, train_pair, validation, study.training, study.seed, resume=resume
        )
        model.solve_last_layers(train_pair, validation, NoiseStream(study.seed, Purpose.LATENT))
        return model, result

    outcome = publish_fit(run, hash, train, lambda: identity)
    seconds = round(time.perf_counter() - start, 3)
    run.record_cost("fit", hash, "igno", study.pairs, 0, study.seed, seconds, float("nan"))
    return str(outcome.status)


def _solutions(study: Pde, fine: Tensor) -> Tensor:
    """Solutions of all fields; of the first few, over and over, where only their unit is read."""
    if study.network.evidence != "residual":
        return study.system.solutions(fine).float()
    some = study.system.solutions(fine[:SOLVED_FOR_UNIT]).float()
    return some[torch.arange(len(fine)) % len(some)]


def trained(study: Pde, folder: Path) -> IGNO:
    """The trained model of a fit's folder, in float64.

    At 50 dB log-densities far from a maximum are so large that float32 loses the differences that
    a line search lives on.

    Raises:
        SolverError: If the fit failed and left no weights.
        DataError: If the weights are missing, damaged or of another model.
    """
    return load_weights(study.build(), folder).double().requires_grad_(False)


@torch.no_grad()
def operator_errors(model: IGNO, fine: Tensor, coarse: Tensor, study: Pde) -> dict[str, Tensor]:
    """Relative L2 errors of the decoders on fields, each from the mean of q(w | a), `(n,)`."""
    solutions, coarse = study.system.solutions(fine), coarse.double()
    found: dict[str, list[Tensor]] = {"operator_error": [], "representation_error": []}
    for a, u in zip(coarse.split(BLOCK), solutions.split(BLOCK), strict=True):
        w = model.encoder(a).mean
        found["operator_error"].append(relative_l2(model.solved(w), u))
        found["representation_error"].append(relative_l2(model.decode(w).mean, a))
    return {name: torch.cat(parts) for name, parts in found.items()}


def relative_l2(found: Tensor, truth: Tensor) -> Tensor:
    """‖x̂ − x‖/‖x‖ over everything but the first axis, `(B,)`."""
    return (found - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
