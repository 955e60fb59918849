"""All numbers of a mixture model on a test set, as rows of the metrics in the catalogue."""

from dataclasses import dataclass
from math import isnan, log, nan
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latens.evaluation.evaluate import Cell, metric_record
from latens.evaluation.intervals import metric_interval
from latens.evaluation.mixture import (
    Reading,
    classify,
    latent_log_densities,
    log_evidence,
    read,
)
from latens.metrics import LEVEL, auroc
from latens.metrics.catalogue.mixture import MIXTURE_SECTIONS
from latens.metrics.classes import brier, class_log_loss, correct, expected_calibration_error
from latens.metrics.components import (
    active_components,
    certainty,
    combined_strangeness,
    component_entropy,
    component_information,
    components_per_label,
    effective_components,
    label_coverage,
    latent_information,
    rank_correlation,
    scale_calibration_error,
    tau_sparsity,
)
from latens.models.mixture import MixtureVAE
from latens.store import METRICS, Outcome, from_rows

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Rows = dict[str, Array]
"""Metric name → components per image, `(n, p)`; one row for a number of the whole set."""

SATURATED = 0.5
"""Nats below log n from which information in z says only that n images are told apart."""


@dataclass(frozen=True)
class Sample:
    """Images that a model is assessed on.

    Attributes:
        x: Test images, `(n, *signal_shape)`.
        y: Their classes, `(n,)`.
        usual: Images of the training kind that were not trained on, `(m, *signal_shape)`: the
            reference of the combined score of strangeness.
        strange: Images of another kind, `(s, *signal_shape)`, or None.
        pictured: Test images, the first of them, that likelihood, reconstruction, σ and
            strangeness are measured on; classes and components are measured on all.
        informative: Test images that the information in z is estimated from.
        sampled: Test images whose likelihood is estimated by importance sampling.
        draws: Draws of z per component of that estimate.
    """

    x: Tensor
    y: NDArray[np.int64]
    usual: Tensor
    strange: Tensor | None = None
    pictured: int = 2000
    informative: int = 500
    sampled: int = 100
    draws: int = 100


@dataclass(frozen=True)
class Assessment:
    """Numbers of a model, and what a new image is compared with.

    Attributes:
        rows: Rows of every metric that applies.
        usual: Scores of strangeness of the usual images, `(m, J)`; see `strangeness`.
        component: q(c | x) of the test images, `(n, K)`.
        probability: p(y | x) of the test images, `(n, Y)`.
    """

    rows: Rows
    usual: Array
    component: Array
    probability: Array


def assess(model: MixtureVAE, sample: Sample, twin: MixtureVAE | None = None) -> Assessment:
    """Every metric that applies.

    Args:
        model: Trained model.
        sample: What it is assessed on.
        twin: The model with one σ for all images that was trained beside it, or None.
    """
    component, probability = classify(model, sample.x)
    found = read(model, sample.x[: sample.pictured])
    tau = model.class_given_component.double().numpy(force=True)
    rows = _class_rows(probability, sample.y) | _component_rows(component, tau)
    rows["kl_latent"] = found.latent_kl[:, None]
    with torch.no_grad():
        table = latent_log_densities(model, sample.x[: sample.informative])
    information, ceiling = latent_information(table), log(len(table))
    rows["information_latent"] = _one(information)
    rows["information_saturated"] = _one(information > ceiling - SATURATED)
    evidence = log_evidence(model, sample.x[: sample.sampled], sample.draws).numpy(force=True)
    rows["nll_sampled"] = -evidence[:, None]
    rows |= _likelihood_rows(model, found)
    if twin is not None:
        rows |= _twin_rows(found, evidence, twin, sample)
    usual = strangeness(read(model, sample.usual), tau)
    if sample.strange is not None:
        strange = strangeness(read(model, sample.strange), tau)
        rows |= _strangeness_rows(strangeness(found, tau), usual, strange)
    return Assessment(rows, table_of(usual), component, probability)


def _class_rows(probability: Array, y: NDArray[np.int64]) -> Rows:
    right = correct(probability, y)
    rows = {
        "accuracy": right[:, None],
        "class_log_loss": class_log_loss(probability, y)[:, None],
        "class_brier": brier(probability, y)[:, None],
        "class_ece": _one(expected_calibration_error(probability, y)),
    }
    if 0 < right.sum() < len(right):
        doubt = 1 - probability.max(1)
        rows["error_auroc"] = _one(float(auroc(doubt, right == 0)[0]))
    return rows


def _component_rows(q: Array, tau: Array) -> Rows:
    return {
        "k_eff": _one(effective_components(q)),
        "active_components": _one(active_components(q)),
        "component_entropy": component_entropy(q)[:, None],
        "label_coverage": _one(label_coverage(tau, q)),
        "tau_sparsity": _one(tau_sparsity(tau)),
        "components_per_label": _one(float(components_per_label(tau).mean())),
        "information_component": _one(component_information(q)),
    }


def _likelihood_rows(model: MixtureVAE, found: Reading) -> Rows:
    rows = {"neg_elbo": -found.elbo[:, None], "rmse": found.squared_error[:, None]}
    if model.decoder.scale is None:
        return rows
    return rows | {
        "sigma": found.scale[:, None],
        "sigma_at_bounds": found.at_bound[:, None],
        "sigma_coverage": found.covered[:, None],
        "sigma_ece": _one(scale_calibration_error(found.scale, found.squared_error)),
        "sigma_error": _one(rank_correlation(found.scale, found.squared_error)),
    }


def _twin_rows(found: Reading, evidence: Array, twin: MixtureVAE, sample: Sample) -> Rows:
    """A model beside its twin, image by image.

    Args:
        found: What the model says of the pictured images.
        evidence: Its log p(x) of the sampled images by importance sampling.
        twin: The twin.
        sample: What both are assessed on.
    """
    other = read(twin, sample.x[: sample.pictured])
    sampled = log_evidence(twin, sample.x[: sample.sampled], sample.draws).numpy(force=True)
    return {
        "rmse_over_twin": np.stack([found.squared_error, other.squared_error], axis=1),
        "nll_gain": (found.elbo - other.elbo)[:, None],
        "nll_gain_sampled": (evidence - sampled)[:, None],
    }


Scores = dict[str, Array]
"""Scores of strangeness of each image by name, `(n,)`, higher = stranger."""


def strangeness(found: Reading, tau: Array) -> Scores:
    """Scores `class`, `likelihood` and, where the decoder has one, `sigma`."""
    scores = {"class": 1 - certainty(found.component, tau), "likelihood": -found.elbo}
    if not np.isnan(found.scale).any():
        scores["sigma"] = found.scale
    return scores


def table_of(scores: Scores) -> Array:
    """Scores as one table, `(n, J)`, for `metrics.components.combined_strangeness`."""
    return np.stack(list(scores.values()), axis=1)


def _strangeness_rows(inside: Scores, usual: Scores, outside: Scores) -> Rows:
    kind = np.repeat([False, True], [len(table_of(s)) for s in (inside, outside)])
    scores = {name: np.concatenate([inside[name], outside[name]]) for name in inside}
    reference = table_of(usual)
    scores["combined"] = combined_strangeness(table_of(scores), reference)
    return {f"ood_{name}": _one(float(auroc(s, kind)[0])) for name, s in scores.items()}


def _one(value: float) -> Array:
    return np.array([[float(value)]])


def metric_rows(rows: Rows, cell: Cell, outcome: Outcome) -> "pd.DataFrame":
    """Table METRICS of an assessment: values, with intervals over images where they are means.

    Args:
        rows: From `assess`.
        cell: Its place in the sweep.
        outcome: Status of the fit.
    """
    records = []
    for metric in (m for section in MIXTURE_SECTIONS.values() for m in section):
        table = rows.get(metric.name)
        if table is None:
            continue
        whole = len(table) == 1
        lower = upper = nan
        if not whole:
            interval = metric_interval(metric, table, np.arange(len(table)), LEVEL, 500)
            lower, upper = interval.lower, interval.upper
        value = metric.value(table)
        number = value, lower, upper, nan if isnan(lower) else LEVEL
        records.append(
            metric_record(cell, outcome, metric.name, number, images=len(table), groups=len(table))
        )
    return from_rows(records, METRICS)
