"""The fits and evaluations of `semisup`."""

from typing import Any

from latens.store.hashing import plain
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
    strange = config["strange"] if study.strange is not None else None
    setting = Setting(
        data=corpus.images.fingerprint(),
        problem={
            "draw": study.draw,
            "labelled_batch": study.labelled_batch,
            "test": corpus.test.fingerprint(),
            "strange": plain(strange),
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
    return fits, evaluations
