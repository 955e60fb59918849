"""Compute one unit of `semisup`."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from latens.errors import DataError, NumericalError, SolverError
from latens.evaluation.assess import Assessment, Sample, assess, metric_rows
from latens.evaluation.mixture import read, reconstruct
from latens.evaluation.views import views_of
from latens.metrics.components import effective_components
from latens.models.mixture import MixtureVAE
from latens.store import (
    HISTORY,
    METRICS,
    Outcome,
    RunFolder,
    Status,
    from_rows,
    new_folder,
    write_array,
    write_csv,
    write_json,
)
from latens.store.atomic import storage_error
from latens.studies.load import WEIGHTS
from latens.studies.semisup.active import RoundUnit, rows_of_round
from latens.studies.semisup.study import Semisup
from latens.studies.units import EvaluationUnit, FitUnit, Unit
from latens.studies.work import failure
from latens.training import fit_model
from latens.training.labelled import LabelledData

USUAL = "usual.npy"
"""Scores of strangeness of usual images, that new ones are compared with."""

VIEWS = "views.safetensors"
"""Arrays behind the pictures of a model in the report."""

EXAMPLES = 8

COLLAPSED = 1.5
"""Effective components below which a mixture counts as collapsed."""


def compute(study: Semisup, run: RunFolder, unit: Unit, target: Path) -> None:
    """Compute a unit and publish its folder; what goes wrong becomes its outcome."""
    if isinstance(unit, FitUnit):
        _fit(study, run, unit, target)
    else:
        _evaluate(study, run, unit, target)


def initialise(study: Semisup, unit: FitUnit) -> MixtureVAE:
    """The model with its initial weights, a function of the seeds alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(unit.init_seed)
        return study.build(unit.name)


def _fit(study: Semisup, run: RunFolder, unit: FitUnit, target: Path) -> None:
    history: list[tuple[str, int, str, float]] = []
    weights = None
    resume = run.resume(unit.hash)
    corpus = study.corpus
    rows = np.empty(0, dtype=np.int64)
    try:
        rows = _labelled_rows(study, run, unit)
        model = initialise(study, unit)
        result = fit_model(
            model,
            study.training_pair(rows, run.path / "resume"),
            corpus.validation_pair(),
            study.training,
            seed=1000 * unit.data_seed + unit.init_seed,
            resume=resume,
            make_data=partial(
                LabelledData, rows=torch.as_tensor(rows), labelled=study.labelled_batch
            ),
        )
        outcome, history = judged(model, study, result.outcome), result.history
        weights = {k: v.contiguous() for k, v in model.state_dict().items()}
    except NumericalError as error:
        outcome = Outcome(Status.NAN, str(error), error.step, error.terms)
    except OSError as error:  # a checkpoint could not be written
        raise storage_error(resume, error) from error
    except SystemExit:  # what Lightning makes of Ctrl-C and of SIGTERM
        raise KeyboardInterrupt from None
    except Exception as error:
        outcome = failure(error)
    with new_folder(target) as temporary:
        write_json(temporary / "fit.json", _description(study, unit, rows))
        outcome.write(temporary)
        records = [dict(zip(HISTORY.columns, row, strict=True)) for row in history]
        write_csv(temporary / "history.csv", HISTORY, from_rows(records, HISTORY))
        if weights is not None:
            save_file(_untied(weights), temporary / WEIGHTS)
    shutil.rmtree(resume, ignore_errors=True)


def _labelled_rows(study: Semisup, run: RunFolder, unit: FitUnit) -> np.ndarray:
    """Positions of the labelled images: drawn, or chosen with the fit of the round before."""
    if not isinstance(unit, RoundUnit):
        return study.rows(unit.n, unit.data_seed)
    before = unit.previous
    model = load_weights(initialise(study, before), run.fit(before.hash))
    return rows_of_round(study, run, unit, model)


def judged(model: MixtureVAE, study: Semisup, outcome: Outcome) -> Outcome:
    """The outcome of training, or collapse where one component carries the validation images."""
    found = read(model, study.corpus.validation_pair()[0])
    used = effective_components(found.component)
    statistics = {
        **outcome.statistics,
        "k_eff": used,
        "kl_latent": float(found.latent_kl.mean()),
        "elbo": float(found.elbo.mean()),
    }
    if used < COLLAPSED:
        reason = f"one component carries everything: {used:.2f} effective components"
        return Outcome(Status.COLLAPSED, reason, statistics=statistics)
    return Outcome(outcome.status, outcome.message, outcome.step, statistics)


def _untied(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights without shared memory, which safetensors refuses: a shared encoder has two names."""
    seen: set[int] = set()
    made = {}
    for name, value in weights.items():
        made[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return made


def _description(study: Semisup, unit: FitUnit, rows: np.ndarray) -> dict[str, Any]:
    return {
        **unit.identity,
        "name": unit.name,
        "signal_shape": list(study.corpus.images.signal_shape),
        "classes": study.corpus.classes,
        "labelled": rows.tolist(),
        "roles": {
            "labelled": len(rows),
            "train": len(study.corpus.train),
            "validation": len(study.corpus.validation),
        },
    }


def load_weights(model: MixtureVAE, folder: Path) -> MixtureVAE:
    """The model with the weights of a finished fit, ready for use.

    Raises:
        SolverError: If the fit has none.
        DataError: If they cannot be read.
    """
    if not (folder / WEIGHTS).is_file():
        outcome = Outcome.read(folder)
        raise SolverError(
            "run", "a fit with weights", f"one that ended {outcome.status}", outcome.message
        )
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:  # damaged bytes raise whatever they like
        got = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise DataError(
            str(folder / WEIGHTS),
            "the weights of this model",
            got,
            "Delete the fit and run again.",
        ) from error
    return model.eval()


def _evaluate(study: Semisup, run: RunFolder, unit: EvaluationUnit, target: Path) -> None:
    own, *others = unit.fits
    outcome = Outcome.read(run.fit(own.hash))
    found: Assessment | None = None
    model = None
    try:
        model, *twins = (load_weights(initialise(study, f), run.fit(f.hash)) for f in unit.fits)
        usable = others and Outcome.read(run.fit(others[0].hash)).usable
        found = assess(model, sample_of(study), twins[0] if usable else None)
    except Exception as error:
        found = None
        if outcome.usable:  # otherwise the fit says what went wrong
            outcome = failure(error)
    with new_folder(target) as temporary:
        kind = "none" if found is None else "mixture"
        write_json(temporary / "evaluation.json", {**unit.description(), "kind": kind})
        outcome.write(temporary)
        if found is None or model is None:
            return
        write_csv(temporary / "metrics.csv", METRICS, metric_rows(found.rows, unit.cell, outcome))
        tau = model.class_given_component.numpy(force=True)
        write_array(temporary / "tau.npy", tau)
        write_array(temporary / USUAL, found.usual)
        _write_examples(model, study, temporary / "examples")
        save_arrays(views_of(model, sample_of(study), found).arrays(), temporary / VIEWS)


def _write_examples(model: MixtureVAE, study: Semisup, folder: Path) -> None:
    """A few test images, spread evenly, with their reconstruction and σ."""
    folder.mkdir()
    test = study.corpus.test.x
    places = np.linspace(0, len(test) - 1, min(EXAMPLES, len(test))).astype(int)
    x = test[torch.as_tensor(places)]
    mean, std = reconstruct(model, x)
    for name, array in (("truth", x), ("mean", mean), ("std", std)):
        write_array(folder / f"{name}.npy", array.numpy(force=True))
    facts = {"images": places.tolist(), "data_range": [0.0, 1.0], "level": None}
    write_json(folder / "examples.json", facts)


def sample_of(study: Semisup) -> Sample:
    """What every model of the study is assessed on."""
    corpus = study.corpus
    return Sample(
        corpus.test.x,
        np.asarray(corpus.test.labels, dtype=np.int64),
        corpus.validation_pair()[0],
        corpus.strange,
        sampled=study.sampled_images,
    )
