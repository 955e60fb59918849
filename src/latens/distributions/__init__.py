"""Drawing, moments and comparison of distributions; the families are `torch.distributions`."""

from latens.distributions.draw import (
    IsotropicNormal,
    diagonal_normal,
    draw,
    draw_foreign,
    isotropic_log_prob,
    mixture_moments,
)
from latens.distributions.flow import RefinedNormal
from latens.distributions.noise import NoiseStream, Purpose, row_noise
from latens.distributions.reading import Reading

__all__ = [
    "IsotropicNormal",
    "NoiseStream",
    "Purpose",
    "Reading",
    "RefinedNormal",
    "diagonal_normal",
    "draw",
    "draw_foreign",
    "isotropic_log_prob",
    "mixture_moments",
    "row_noise",
]
