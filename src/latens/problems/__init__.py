"""Inverse problems: operators, noise models, likelihoods and their classical solutions."""

from latens.problems.conditioning import ConditionedGaussian, condition
from latens.problems.convolution import Convolution, GaussianBlur, Identity
from latens.problems.inverse_problem import InverseProblem
from latens.problems.linear_operator import LinearOperator
from latens.problems.linear_solve import conjugate_gradient, largest_eigenvalue
from latens.problems.noise import GaussianNoise, NoiseModel
from latens.problems.operator import Operator
from latens.problems.tikhonov import choose_weight, tikhonov

__all__ = [
    "ConditionedGaussian",
    "Convolution",
    "GaussianBlur",
    "GaussianNoise",
    "Identity",
    "InverseProblem",
    "LinearOperator",
    "NoiseModel",
    "Operator",
    "choose_weight",
    "condition",
    "conjugate_gradient",
    "largest_eigenvalue",
    "tikhonov",
]
