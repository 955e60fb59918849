"""Everything that a study has to compute: its fits, evaluations and deep checks."""

from dataclasses import replace
from typing import Any

from latens.data import ImageSet
from latens.errors import ConfigError
from latens.evaluation import Check
from latens.inference import SAMPLERS
from latens.models import Latent, LatentModel, Model, UNet
from latens.store import canonical_json
from latens.store.hashing import plain
from latens.studies.scarcity import NOISE_SEED, SPLIT_SEED, Scarcity
from latens.studies.units import EvaluationUnit, FitUnit, Setting

TRAINED_POSTERIORS = ("amortised", "dropout", "ensemble")
"""Algorithms that turn fits into posteriors, whose intervals can be calibrated."""

TESTED = (*TRAINED_POSTERIORS, "wiener")
"""Algorithms that return posteriors, on which calibration tests are made."""

FOLLOWED = ("stability", "null_space", "ambiguity")
"""Checks whose numbers have learning curves, and hence an interval over data seeds."""

UNATTACKED = ("tv",)
"""Classical algorithms whose reconstruction cannot be differentiated. Nor can that of samplers."""

NOT_A_POSTERIOR = "not a posterior: its optimum is not p(x | y) at any N"


def units_of(
    study: Scarcity, config: dict[str, Any]
) -> tuple[list[FitUnit], list[EvaluationUnit]]:
    """Fits and evaluations of a study, small N first.

    Args:
        study: The study.
        config: Its resolved configuration.

    Raises:
        ConfigError: If two names stand for the same model.
    """
    _check_names(config["models"])
    setting = Setting(
        data=study.corpus.images.fingerprint(),
        problem={"operator": config["operator"], "noise": config["noise"]},
        split={"test_images": study.test_images, "seed": SPLIT_SEED, "noise": NOISE_SEED},
        training=plain(config["training"]),
    )
    fits: list[FitUnit] = []
    evaluations: list[EvaluationUnit] = []
    for n in study.sizes:
        for data_seed in range(study.data_seeds):
            for name, model in config["models"].items():
                members = tuple(
                    FitUnit(setting, name, model, n, data_seed, init_seed)
                    for init_seed in range(study.init_seeds)
                )
                fits += members
                evaluations += _evaluations(study, name, members)
            evaluations += [
                EvaluationUnit(setting, baseline, baseline, (), n, data_seed, 0)
                for baseline in study.baselines
            ]
    return fits, evaluations + _checks(study, evaluations)


def _check_names(models: dict[str, Any]) -> None:
    named: dict[bytes, str] = {}
    for name, model in models.items():
        twin = named.setdefault(canonical_json(model), name)
        if twin != name:
            raise ConfigError(
                f"models.{name}",
                "a model that no other name stands for",
                f"the settings of `{twin}`",
                "Remove one of the two, or change it.",
            )


def _evaluations(study: Scarcity, name: str, members: tuple[FitUnit, ...]) -> list[EvaluationUnit]:
    """Each fit alone, their ensemble, and samplers on the first of them."""
    model = study.examples[name]
    first = members[0]
    algorithm = _algorithm(model)
    note = NOT_A_POSTERIOR if isinstance(model, LatentModel) and not model.is_posterior else ""

    def unit(solver: str, algorithm: str, fits: tuple[FitUnit, ...], init_seed: int | None):
        calibrated = study.conformal is not None and algorithm in TRAINED_POSTERIORS
        return EvaluationUnit(
            first.setting,
            solver,
            algorithm,
            fits,
            first.n,
            first.data_seed,
            init_seed,
            note=note,
            images=study.sampled_images if algorithm in SAMPLERS else None,
            conformal=str(study.conformal) if calibrated else "",
        )

    units = [unit(name, algorithm, (fit,), fit.init_seed) for fit in members]
    if name in study.ensembles:
        units.append(unit(f"{name}_ensemble", "ensemble", members, None))
    if isinstance(model, Latent):
        units += [
            unit(f"{name}_{sampler}", sampler, members[:1], first.init_seed)
            for sampler in study.samplers
        ]
    return units


def _algorithm(model: Model) -> str:
    """What a single fit of a model is evaluated as."""
    if isinstance(model, LatentModel):
        return "amortised"
    return "dropout" if isinstance(model, UNet) and model.dropout > 0 else "regression"


def _checks(study: Scarcity, evaluations: list[EvaluationUnit]) -> list[EvaluationUnit]:
    """Deep checks of models, ensembles, baselines and samplers, for the first seeds at three N."""
    sizes = study.sizes
    ends = {sizes[0], sizes[(len(sizes) - 1) // 2], sizes[-1]}
    first = [
        u
        for u in evaluations
        if u.n in ends and u.data_seed < study.checked_data_seeds and u.init_seed in (0, None)
    ]
    strange = _mark(study.others)
    return [
        replace(
            unit,
            check=check,
            images=min(study.checked_images, unit.images or study.checked_images),
            conformal="",
            donor=_donor(unit, first) if check == "stability" else None,
            others=strange if check == "reliability" else "",
        )
        for unit in first
        for check in study.checks
        if _is_checked(study, unit, check)
    ]


def _mark(images: ImageSet | None) -> str:
    """Name and content of images, both of which show in results; empty for none."""
    return "" if images is None else f"{images.name} {images.fingerprint()}"


def _is_checked(study: Scarcity, unit: EvaluationUnit, check: Check) -> bool:
    """Whether a check is made of a solver: it makes sense, and has this data seed."""
    if unit.data_seed > 0 and check not in FOLLOWED:
        return False
    if check == "calibration":
        return unit.algorithm in TESTED
    if check == "ambiguity":
        single = unit.algorithm == "amortised"
        return single and isinstance(study.examples[unit.fits[0].name], Latent)
    return unit.algorithm not in SAMPLERS or check == "stability"


def _donor(unit: EvaluationUnit, others: list[EvaluationUnit]) -> FitUnit | None:
    """Of a solver that cannot be attacked: the fit whose worst cases are tried on it.

    Of a sampler its own fit, whose amortised posterior approximates the same thing; else the
    first model of the study at the same N and seeds.
    """
    if unit.algorithm not in (*SAMPLERS, *UNATTACKED):
        return None
    if unit.fits:
        return unit.fits[0]
    place = unit.n, unit.data_seed
    same = (other for other in others if (other.n, other.data_seed) == place)
    return next((other.fits[0] for other in same if other.fits), None)
