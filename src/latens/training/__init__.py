"""Training: batches as a function of (seed, step), one module, best weights, exact resume."""

from latens.training.fit import FitResult, fit_model, one_thread
from latens.training.settings import Training

__all__ = ["FitResult", "Training", "fit_model", "one_thread"]
