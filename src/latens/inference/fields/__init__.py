"""Inversion of neural operators: from readings of sensors to posteriors of coefficient fields."""

from latens.inference.fields.amortised import (
    FieldAmortised,
    ReadingsPosterior,
    train_amortised,
)
from latens.inference.fields.declared import DeclaredReadings
from latens.inference.fields.equation import FixedResidual, held_out_weight
from latens.inference.fields.errors import HeldOutErrors, held_out_errors
from latens.inference.fields.fitted import FittedSensors, fit_sensors
from latens.inference.fields.posterior import FieldPosterior
from latens.inference.fields.sensors import DecodedSensors, Predictor, SolvedSensors
from latens.inference.fields.solvers import (
    ChainPosterior,
    FieldChains,
    FieldImportance,
    FieldLaplace,
    FieldMAP,
    WeightedPosterior,
)
from latens.inference.fields.target import FieldTarget, NoiseLevel

__all__ = [
    "ChainPosterior",
    "DeclaredReadings",
    "DecodedSensors",
    "FieldAmortised",
    "FieldChains",
    "FieldImportance",
    "FieldLaplace",
    "FieldMAP",
    "FieldPosterior",
    "FieldTarget",
    "FittedSensors",
    "FixedResidual",
    "HeldOutErrors",
    "NoiseLevel",
    "Predictor",
    "ReadingsPosterior",
    "SolvedSensors",
    "WeightedPosterior",
    "fit_sensors",
    "held_out_errors",
    "held_out_weight",
    "train_amortised",
]
