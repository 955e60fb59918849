"""The fits and evaluations of `semisup`."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from latens.store import array_fingerprint
from latens.store.hashing import plain
from latens.studies.semisup.active import rounds
from latens.studies.semisup.study import SPLIT_SEED, TWIN, Semisup
from latens.studies.units import EvaluationUnit, FitUnit, Setting

ALGORITHM = "mixture"

EVALUATION_VERSION = 2
"""Raised when a change of latens changes what evaluations say of equal fits."""

IN_FITS = {"sampled_images": 10}
"""Stands in the identity of every fit, whatever its evaluations sample."""


@dataclass(frozen=True)
class MixtureEvaluation(EvaluationUnit):
    """An evaluation with a version and settings of its own, which no fit depends on.

    Attributes:
        sampled_images: Test images whose likelihood is estimated by importance sampling.
        sampled_draws: Draws of z per component of that estimate.
    """

    sampled_images: int = 50
    sampled_draws: int = 100

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the numbers."""
        return {
            **EvaluationUnit.identity.func(self),
            "evaluation_version": EVALUATION_VERSION,
            "sampled_images": self.sampled_images,
            "sampled_draws": self.sampled_draws,
        }


def units_of(study: Semisup, config: dict[str, Any]) -> tuple[list[FitUnit], list[EvaluationUnit]]:
    """Fits and evaluations, few labels first; n of a unit is the number of labels.

    Args:
        study: The study.
        config: Its resolved configuration, with twins.
    """
    corpus = study.corpus
    strange = None if corpus.strange is None else array_fingerprint(corpus.strange.numpy())
    setting = Setting(
        data=corpus.images.fingerprint(),
        problem={
            "draw": study.draw,
            "propagation": plain(config["propagation"]),
            "labelled_batch": study.labelled_batch,
            "test": corpus.test.fingerprint(),
            "strange": strange,
        },
        split={
            "test_images": len(corpus.test),
            "validation_images": study.validation_images,
            "seed": SPLIT_SEED,
            **IN_FITS,
        },
        training=plain(config["training"]),
    )

    def evaluation(solver: str, members: tuple[FitUnit, ...]) -> EvaluationUnit:
        fit = members[0]
        return MixtureEvaluation(
            setting,
            solver,
            ALGORITHM,
            members,
            fit.n,
            fit.data_seed,
            fit.init_seed,
            sampled_images=study.sampled_images,
            sampled_draws=study.sampled_draws,
        )

    fits: list[FitUnit] = []
    evaluations: list[EvaluationUnit] = []
    for n in study.labels:
        for data_seed in range(study.data_seeds):
            for init_seed in range(study.init_seeds):
                made = {
                    name: FitUnit(setting, name, model, n, data_seed, init_seed)
                    for name, model in config["models"].items()
                    if data_seed < study.twin_draws or not name.endswith(TWIN)
                }
                fits += made.values()
                for name, fit in made.items():
                    twin = made.get(name + TWIN)
                    members = (fit,) if twin is None else (fit, twin)
                    evaluations.append(evaluation(name, members))
    for fit, solver in _active_rounds(study, setting, config):
        fits.append(fit)
        evaluations.append(evaluation(solver, (fit,)))
    known: dict[str, FitUnit] = {fit.hash: fit for fit in fits}
    return list(known.values()), evaluations


def _active_rounds(
    study: Semisup, setting: Setting, config: dict[str, Any]
) -> Iterator[tuple[FitUnit, str]]:
    """Rounds of active learning with the first model, and the name of each in the tables."""
    name, model = next(iter(config["models"].items()))
    first, *later = study.rounds
    for acquisition in study.acquisitions:
        for data_seed in range(study.data_seeds):
            start = FitUnit(setting, name, model, first, data_seed, 0)
            for fit in rounds(start, later, acquisition):
                yield fit, f"{name} {acquisition}"
