"""Solvers: from a measurement to a `Posterior` or a `PointEstimate`."""

from latens.inference.amortised import Amortised, AmortisedPosterior
from latens.inference.ensemble import Ensemble, EnsemblePosterior
from latens.inference.estimates import (
    DEFAULT_DRAWS,
    Estimate,
    Interval,
    PointEstimate,
    Posterior,
)
from latens.inference.external import as_solver
from latens.inference.points import Regression, TikhonovSolver
from latens.inference.solver import Solver

__all__ = [
    "DEFAULT_DRAWS",
    "Amortised",
    "AmortisedPosterior",
    "Ensemble",
    "EnsemblePosterior",
    "Estimate",
    "Interval",
    "PointEstimate",
    "Posterior",
    "Regression",
    "Solver",
    "TikhonovSolver",
    "as_solver",
]
