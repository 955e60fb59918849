"""Inversion of neural operators: from readings of sensors to posteriors of coefficient fields."""

from latens.inference.fields.errors import HeldOutErrors, held_out_errors
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
    "DecodedSensors",
    "FieldChains",
    "FieldImportance",
    "FieldLaplace",
    "FieldMAP",
    "FieldPosterior",
    "FieldTarget",
    "HeldOutErrors",
    "NoiseLevel",
    "Predictor",
    "SolvedSensors",
    "WeightedPosterior",
    "held_out_errors",
]
