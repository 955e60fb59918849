"""Inverse problems: operators, noise models, likelihoods and their classical solutions."""

from latens.problems.blur import GaussianBlur, MotionBlur
from latens.problems.composition import Chain, Composition, Stack
from latens.problems.conditioning import ConditionedGaussian, condition
from latens.problems.convolution import Convolution, Identity
from latens.problems.fourier import FourierSampling
from latens.problems.inverse_problem import InverseProblem
from latens.problems.linear_operator import LinearOperator
from latens.problems.linear_solve import conjugate_gradient, largest_eigenvalue
from latens.problems.noise import GaussianNoise, NoiseModel
from latens.problems.noise_level import estimate_scale
from latens.problems.operator import Operator
from latens.problems.physics import from_physics
from latens.problems.poisson_gaussian import PoissonGaussianNoise
from latens.problems.radon import Radon
from latens.problems.rician import RicianNoise
from latens.problems.sampling import Downsampling, Inpainting
from latens.problems.spectrum import Spectrum
from latens.problems.stationary import StationaryPrior, fit_stationary
from latens.problems.tikhonov import choose_weight, tikhonov
from latens.problems.total_variation import TotalVariation, choose_tv_weight, total_variation
from latens.problems.wiener import WienerFilter, wiener_filter

__all__ = [
    "Chain",
    "Composition",
    "ConditionedGaussian",
    "Convolution",
    "Downsampling",
    "FourierSampling",
    "GaussianBlur",
    "GaussianNoise",
    "Identity",
    "Inpainting",
    "InverseProblem",
    "LinearOperator",
    "MotionBlur",
    "NoiseModel",
    "Operator",
    "PoissonGaussianNoise",
    "Radon",
    "RicianNoise",
    "Spectrum",
    "Stack",
    "StationaryPrior",
    "TotalVariation",
    "WienerFilter",
    "choose_tv_weight",
    "choose_weight",
    "condition",
    "conjugate_gradient",
    "estimate_scale",
    "fit_stationary",
    "from_physics",
    "largest_eigenvalue",
    "tikhonov",
    "total_variation",
    "wiener_filter",
]
