"""Samplers that know no model: a log-density of rows in, draws and their diagnosis out."""

from latens.inference.samplers.chains import Chains, Diagnosis
from latens.inference.samplers.density import LogDensity, RowsOfProblems
from latens.inference.samplers.hmc import HMC
from latens.inference.samplers.integrator import LEAPFROG, TWO_STAGE, Integrator
from latens.inference.samplers.kernels import Kernel
from latens.inference.samplers.metric import Metric, estimate_metric
from latens.inference.samplers.nuts import NUTS
from latens.inference.samplers.sampling import Sampling

__all__ = [
    "HMC",
    "LEAPFROG",
    "NUTS",
    "TWO_STAGE",
    "Chains",
    "Diagnosis",
    "Integrator",
    "Kernel",
    "LogDensity",
    "Metric",
    "RowsOfProblems",
    "Sampling",
    "estimate_metric",
]
