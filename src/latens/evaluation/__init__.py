"""Metrics applied to solvers: intervals, scaling laws, and the tables of a run."""

from latens.evaluation.ambiguity import Ambiguity, measure_ambiguity
from latens.evaluation.evaluate import (
    Cell,
    Evaluation,
    evaluate,
    evaluate_cell,
    fit_directions,
    simulate,
)
from latens.evaluation.intervals import (
    Interval,
    SeedInterval,
    bootstrap_interval,
    metric_interval,
    seed_interval,
)
from latens.evaluation.measure import Context, Examples
from latens.evaluation.null_space import NullSpace, measure_null_space
from latens.evaluation.save import save_evaluation
from latens.evaluation.scaling import ScalingFit, fit_scaling
from latens.evaluation.stability import (
    Stability,
    StabilitySettings,
    measure_stability,
    measure_transfer,
    stability_cost,
)

__all__ = [
    "Ambiguity",
    "Cell",
    "Context",
    "Evaluation",
    "Examples",
    "Interval",
    "NullSpace",
    "ScalingFit",
    "SeedInterval",
    "Stability",
    "StabilitySettings",
    "bootstrap_interval",
    "evaluate",
    "evaluate_cell",
    "fit_directions",
    "fit_scaling",
    "measure_ambiguity",
    "measure_null_space",
    "measure_stability",
    "measure_transfer",
    "metric_interval",
    "save_evaluation",
    "seed_interval",
    "simulate",
    "stability_cost",
]
