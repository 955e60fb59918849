"""Compute one unit of `semisup`."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file as save_arrays

from latens.evaluation.assess import Assessment, Sample, assess, metric_rows
from latens.evaluation.mixture import read, reconstruct
from latens.evaluation.views import views_of
from latens.metrics.components import effective_components
from latens.models.mixture import MixtureVAE
from latens.store import (
    METRICS,
    Outcome,
    RunFolder,
    Status,
    new_folder,
    write_array,
    write_csv,
    write_json,
)
from latens.studies.fitting import failure, initialise, publish_fit
from latens.studies.load import load_weights
from latens.studies.semisup.active import RoundUnit, rows_of_round
from latens.studies.semisup.study import Semisup
from latens.studies.semisup.tables import ROWS
from latens.studies.units import EvaluationUnit, FitUnit, Unit
from latens.training import FitResult, fit_model
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
        _fit(study, run, unit)
    else:
        _evaluate(study, run, unit, target)


def _fit(study: Semisup, run: RunFolder, unit: FitUnit) -> None:
    rows = np.empty(0, dtype=np.int64)

    def train(resume: Path) -> tuple[MixtureVAE, FitResult]:
        nonlocal rows
        rows = _labelled_rows(study, run, unit)
        model = initialise(study, unit)
        result = fit_model(
            model,
            study.training_pair(rows, run.path / "resume"),
            study.corpus.validation_pair(),
            study.training,
            seed=1000 * unit.data_seed + unit.init_seed,
            resume=resume,
            make_data=partial(
                LabelledData, rows=torch.as_tensor(rows), labelled=study.labelled_batch
            ),
        )
        return model, replace(result, outcome=judged(model, study, result.outcome))

    publish_fit(run, unit.hash, train, lambda: _description(study, unit, rows))


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
    if model.components > 1 and used < COLLAPSED:
        reason = f"one component carries everything: {used:.2f} effective components"
        return Outcome(Status.COLLAPSED, reason, statistics=statistics)
    return Outcome(outcome.status, outcome.message, outcome.step, statistics)


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
        save_arrays(found.rows, temporary / ROWS)
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
        draws=study.sampled_draws,
    )
