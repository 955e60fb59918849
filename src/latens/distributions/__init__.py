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
from latens.distributions.truncated import log_below, moments_below, normal_below

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
    "log_below",
    "mixture_moments",
    "moments_below",
    "normal_below",
    "row_noise",
]
