"""A fit that is killed and resumed, also run as a program so that it can be killed for good."""

import sys
from pathlib import Path

from latens.models import Model
from latens.training import FitResult, Training, fit_model
from models.model_cases import make_model, make_pairs, make_problem

SETTINGS = Training(
    max_steps=18,
    batch_size=8,
    learning_rate=5e-3,
    warmup_steps=2,
    kl_warmup_steps=4,
    validate_every=4,
    patience=9,
)


def run(name: str, resume: Path | None = None, settings: Training = SETTINGS):
    """One fit from its seeds: the trained model and the result."""
    model: Model = make_model(name)
    result: FitResult = fit_model(
        model, make_pairs(20), make_pairs(8, seed=1), settings, 5, make_problem(), resume
    )
    return model, result


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
