"""Metrics applied to solvers: intervals, scaling laws, and the tables of a run."""

from latens.evaluation.calibration import (
    calibration_tests,
    data_calibration,
    model_calibration,
)
from latens.evaluation.calibration_outcome import CalibrationTests
from latens.evaluation.declared import declares_model, simulate_declared
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
from latens.evaluation.local_calibration import local_calibration
from latens.evaluation.measure import Context, Examples
from latens.evaluation.save import save_evaluation
from latens.evaluation.scaling import ScalingFit, fit_scaling

__all__ = [
    "CalibrationTests",
    "Cell",
    "Context",
    "Evaluation",
    "Examples",
    "Interval",
    "ScalingFit",
    "SeedInterval",
    "bootstrap_interval",
    "calibration_tests",
    "data_calibration",
    "declares_model",
    "evaluate",
    "evaluate_cell",
    "fit_directions",
    "fit_scaling",
    "local_calibration",
    "metric_interval",
    "model_calibration",
    "save_evaluation",
    "seed_interval",
    "simulate",
    "simulate_declared",
]
