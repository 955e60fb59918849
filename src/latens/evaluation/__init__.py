"""Metrics applied to solvers: intervals, scaling laws, and the tables of a run."""

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
from latens.evaluation.save import save_evaluation
from latens.scaling import ScalingFit, fit_scaling

__all__ = [
    "Cell",
    "Context",
    "Evaluation",
    "Examples",
    "Interval",
    "ScalingFit",
    "SeedInterval",
    "bootstrap_interval",
    "evaluate",
    "evaluate_cell",
    "fit_directions",
    "fit_scaling",
    "metric_interval",
    "save_evaluation",
    "seed_interval",
    "simulate",
]
