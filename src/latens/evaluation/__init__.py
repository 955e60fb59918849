"""Metrics applied to solvers: intervals, scaling laws, and the tables of a run."""

from latens.evaluation.conformal import fit_calibration
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
from latens.evaluation.reliability import Condition, Reliability, reliability
from latens.evaluation.save import save_evaluation
from latens.evaluation.scaling import ScalingFit, fit_scaling
from latens.evaluation.shifts import (
    KernelWidth,
    LostSamples,
    MagnitudeNoise,
    NoiseLevel,
    OtherImages,
    PhotonNoise,
    Shift,
)
from latens.evaluation.strangeness import strangeness

__all__ = [
    "Cell",
    "Condition",
    "Context",
    "Evaluation",
    "Examples",
    "Interval",
    "KernelWidth",
    "LostSamples",
    "MagnitudeNoise",
    "NoiseLevel",
    "OtherImages",
    "PhotonNoise",
    "Reliability",
    "ScalingFit",
    "SeedInterval",
    "Shift",
    "bootstrap_interval",
    "evaluate",
    "evaluate_cell",
    "fit_calibration",
    "fit_directions",
    "fit_scaling",
    "metric_interval",
    "reliability",
    "save_evaluation",
    "seed_interval",
    "simulate",
    "strangeness",
]
