"""Stability to disturbed measurements: how far, in which direction, and does the solver know?"""

from latens.evaluation.stability.ascent import Summit, ascend
from latens.evaluation.stability.lipschitz import Slope, largest_singular_value, steepest
from latens.evaluation.stability.measure import (
    Stability,
    measure_stability,
    measure_transfer,
    noise_scale,
    worst_disturbance,
)
from latens.evaluation.stability.more_samples import denser
from latens.evaluation.stability.reconstruction import Jacobian, Reconstruction, can_be_attacked
from latens.evaluation.stability.settings import StabilitySettings, stability_cost
from latens.evaluation.stability.worst_case import Target, WorstCase, worst_case

__all__ = [
    "Jacobian",
    "Reconstruction",
    "Slope",
    "Stability",
    "StabilitySettings",
    "Summit",
    "Target",
    "WorstCase",
    "ascend",
    "can_be_attacked",
    "denser",
    "largest_singular_value",
    "measure_stability",
    "measure_transfer",
    "noise_scale",
    "stability_cost",
    "steepest",
    "worst_case",
    "worst_disturbance",
]
