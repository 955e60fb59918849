"""Solvers: from a measurement to a `Posterior` or a `PointEstimate`."""

from latens.inference.amortised import Amortised, AmortisedPosterior
from latens.inference.calibrated import (
    Calibrated,
    CalibratedPosterior,
    Calibration,
    Method,
    load_calibration,
    save_calibration,
)
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
    HasLogProb,
    HasMarginals,
    Interval,
    PointEstimate,
    Posterior,
)
from latens.inference.external import as_solver
from latens.inference.latent_chains import LatentChains, SampledPosterior
from latens.inference.latent_importance import LatentImportance, ResampledPosterior
from latens.inference.latent_maximum import LaplacePosterior, LatentLaplace, LatentMAP
from latens.inference.latent_posterior import LatentPosterior
from latens.inference.latent_samplers import SAMPLERS, Sampler
from latens.inference.latent_target import latent_target
from latens.inference.points import Regression
from latens.inference.predictive import GaussianPosterior, Predictive
from latens.inference.recorded import (
    MarginalPosterior,
    Recorded,
    RecordedPosterior,
    Recording,
)
from latens.inference.solver import Solver

__all__ = [
    "CLASSICAL",
    "DEFAULT_DRAWS",
    "SAMPLERS",
    "Amortised",
    "AmortisedPosterior",
    "Calibrated",
    "CalibratedPosterior",
    "Calibration",
    "Classical",
    "DropoutPosterior",
    "Ensemble",
    "EnsemblePosterior",
    "Estimate",
    "GaussianPosterior",
    "HasLogProb",
    "HasMarginals",
    "Interval",
    "LaplacePosterior",
    "LatentChains",
    "LatentImportance",
    "LatentLaplace",
    "LatentMAP",
    "LatentPosterior",
    "MarginalPosterior",
    "Method",
    "MonteCarloDropout",
    "PointEstimate",
    "Posterior",
    "Predictive",
    "Recorded",
    "RecordedPosterior",
    "Recording",
    "Regression",
    "ResampledPosterior",
    "SampledPosterior",
    "Sampler",
    "Solver",
    "TikhonovSolver",
    "TotalVariationSolver",
    "WienerPosterior",
    "WienerSolver",
    "as_solver",
    "latent_target",
    "load_calibration",
    "save_calibration",
]
