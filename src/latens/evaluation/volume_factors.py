"""Are latents independent of each other, and does each stand for one factor behind the volumes?

Judged on the posterior means of held-out volumes, the first one of every subject, and of latents
that vary. Factors are known of made-up subjects alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import torch

from latens.evaluation.intervals import Interval
from latens.metrics.disentanglement import (
    adjusted_information,
    completeness,
    correlations,
    disentanglement,
    importances,
    modularity,
    mutual_information_gap,
    separated_predictability,
)
from latens.metrics.probes import Array, explained, explained_rows, probe
from latens.objectives.dependence import pairwise_distance_correlations

LEAST_SUBJECTS = 40
"""Held-out subjects that the scores need: the tables of information have 2 × 2 cells then."""
MOST_COMPARED = 400
"""Subjects, the first ones, whose distances are compared: memory grows with their square."""
LEAST_VARIANCE = 1e-12
PAIR_METRICS = ("corr_mean", "corr_max", "dcor_mean", "dcor_max")
FACTOR_METRICS = (
    "mig",
    "modularity",
    "sap",
    "dci_disentanglement",
    "dci_completeness",
    "dci_informativeness",
)


@dataclass(frozen=True)
class Coded:
    """Latents and factors.

    Attributes:
        fitting: Posterior means of training volumes, `(n, k)`.
        fitting_factors: Their factors, `(n, F)`.
        test: Posterior means of held-out volumes, `(m, k)`.
        test_factors: Their factors, `(m, F)`; F is 0 where none are known.
        groups: Subject of each held-out volume.
    """

    fitting: Array
    fitting_factors: Array
    test: Array
    test_factors: Array
    groups: Sequence[str]

    @property
    def firsts(self) -> list[int]:
        """The first held-out volume of every subject."""
        return sorted({group: row for row, group in reversed([*enumerate(self.groups)])}.values())


def known_factors(coded: Coded) -> dict[str, Interval]:
    """Scores of `PAIR_METRICS`, and of `FACTOR_METRICS` where factors are known.

    `corr` is |correlation|, `dcor` the bias-corrected squared distance correlation of two latents;
    the others are those of `latens.metrics.disentanglement`. `dci_informativeness` is the mean R²
    over factors of a ridge probe of all latents, fitted on training subjects.

    Returns:
        Values without bounds; nothing that `unknown_factors` calls missing.
    """
    rows, absent = coded.firsts, unknown_factors(coded)
    codes = _varying(coded.test[rows])
    found: dict[str, float] = {}
    if "corr_mean" not in absent:
        linear = correlations(codes)
        compared = torch.from_numpy(codes[:MOST_COMPARED])
        any_shape = pairwise_distance_correlations(compared).numpy()
        found["corr_mean"], found["corr_max"] = float(linear.mean()), float(linear.max())
        found["dcor_mean"], found["dcor_max"] = float(any_shape.mean()), float(any_shape.max())
    if "mig" not in absent and coded.test_factors.shape[1]:
        factors = _varying(coded.test_factors[rows])
        information, importance = adjusted_information(codes, factors), importances(codes, factors)
        found |= {
            "mig": mutual_information_gap(information),
            "modularity": modularity(information),
            "sap": separated_predictability(codes, factors),
            "dci_disentanglement": disentanglement(importance),
            "dci_completeness": completeness(importance),
            "dci_informativeness": _informativeness(coded, rows),
        }
    return {name: Interval(v, nan, nan, nan, len(rows), len(rows)) for name, v in found.items()}


def unknown_factors(coded: Coded) -> dict[str, str]:
    """Why a score is missing, by metric that there would be."""
    count = len(coded.firsts)
    factors = FACTOR_METRICS if coded.test_factors.shape[1] else ()
    if count < LEAST_SUBJECTS:
        reason = f"{count} subject{'s' * (count != 1)}, {LEAST_SUBJECTS} are needed"
        return dict.fromkeys((*PAIR_METRICS, *factors), reason)
    codes = _varying(coded.test[coded.firsts])
    if codes.shape[1] < 2:
        reason = f"{codes.shape[1]} of {coded.test.shape[1]} latents varies, 2 are needed"
        return dict.fromkeys((*PAIR_METRICS, *factors), reason)
    return {}


def _informativeness(coded: Coded, rows: list[int]) -> float:
    """Mean R² over factors that vary of a ridge probe of training volumes."""
    truth = coded.test_factors[rows]
    varies = truth.var(0) > LEAST_VARIANCE
    found = probe("ridge", coded.fitting, coded.fitting_factors[:, varies], coded.test[rows])
    return float(explained(explained_rows(found, truth[:, varies]).mean(0)[None])[0])


def _varying(values: Array) -> Array:
    return np.ascontiguousarray(values[:, values.var(0) > LEAST_VARIANCE])
