"""Solvers: from a measurement to a `Posterior` or a `PointEstimate`."""

from latens.inference.amortised import Amortised, AmortisedPosterior
from latens.inference.classical import (
    CLASSICAL,
    Classical,
    TikhonovSolver,
    TotalVariationSolver,
    WienerPosterior,
    WienerSolver,
)
from latens.inference.dropout import DropoutPosterior, MonteCarloDropout
from latens.inference.ensemble import Ensemble, EnsemblePosterior
from latens.inference.estimates import (
    DEFAULT_DRAWS,
    Estimate,
    Interval,
    PointEstimate,
    Posterior,
)
from latens.inference.external import as_solver
from latens.inference.points import Regression
from latens.inference.predictive import GaussianPosterior, Predictive
from latens.inference.solver import Solver

__all__ = [
    "CLASSICAL",
    "DEFAULT_DRAWS",
    "Amortised",
    "AmortisedPosterior",
    "Classical",
    "DropoutPosterior",
    "Ensemble",
    "EnsemblePosterior",
    "Estimate",
    "GaussianPosterior",
    "Interval",
    "MonteCarloDropout",
    "PointEstimate",
    "Posterior",
    "Predictive",
    "Regression",
    "Solver",
    "TikhonovSolver",
    "TotalVariationSolver",
    "WienerPosterior",
    "WienerSolver",
    "as_solver",
]
