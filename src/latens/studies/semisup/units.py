"""The fits and evaluations of `semisup`."""

from collections.abc import Iterator
from typing import Any

from latens.store import array_fingerprint
from latens.store.hashing import plain
from latens.studies.semisup.active import rounds
from latens.studies.semisup.study import SPLIT_SEED, TWIN, Semisup
from latens.studies.units import EvaluationUnit, FitUnit, Setting

ALGORITHM = "mixture"


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
            "sampled_images": study.sampled_images,
            "seed": SPLIT_SEED,
        },
        training=plain(config["training"]),
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
                    evaluations.append(
                        EvaluationUnit(setting, name, ALGORITHM, members, n, data_seed, init_seed)
                    )
    for fit, solver in _active_rounds(study, setting, config):
        fits.append(fit)
        evaluations.append(
            EvaluationUnit(setting, solver, ALGORITHM, (fit,), fit.n, fit.data_seed, fit.init_seed)
        )
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
