"""Rician noise: the magnitude of a complex signal with Gaussian noise, as in MRI."""

import math
from functools import cache

import numpy as np
import torch
from scipy import special
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.distributions import Distribution, constraints

from latens.distributions.draw import draw, require_noise
from latens.errors import DataError
from latens.problems.noise import NoiseModel, check_level, check_pairs, known_level
from latens.problems.smooth_table import SmoothTable

_SERIES_FROM = 30.0
"""Argument from which log I0 is its asymptotic series, to 1e-14."""

_BESSEL = tuple(math.prod((2 * j - 1) ** 2 / (8 * j) for j in range(1, k + 1)) for k in range(13))
"""√(2πx) e⁻ˣ I₀(x) in powers of 1/x, asymptotically."""

_LARGE_RATIO = 8.0
"""Signal-to-noise ratio from which the moments are asymptotic series, to 1e-15."""

_TABLE_END = 32.0


class Rician(Distribution):
    """y = |clean + scale (n₁ + i n₂)| with standard normal n₁, n₂.

        log p(y) = log y − 2 log σ − (y² + c²)/(2σ²) + log I₀(y c/σ²),   y > 0

    It is even in c. Outside y > 0 the log-density is −∞ and its derivatives are 0.

    Args:
        clean: c, `(*batch)`.
        scale: σ, a scalar tensor.

    References:
        Gudbjartsson, Patz (1995), The Rician distribution of noisy MRI data.
    """

    def __init__(self, clean: Tensor, scale: Tensor) -> None:
        self.clean = clean
        self.scale = scale
        super().__init__(clean.shape, validate_args=False)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {}  # checked by the noise model

    @property
    def support(self) -> constraints.Constraint:
        return constraints.positive

    @property
    def mean(self) -> Tensor:
        """σ √(π/2) L_{1/2}(−c²/(2σ²))."""
        ratio = self.clean / self.scale
        small, large = _split_ratio(ratio)
        near = small.square() / 4
        bessel = (1 + 2 * near) * torch.special.i0(near) + 2 * near * torch.special.i1(near)
        low = math.sqrt(math.pi / 2) * torch.exp(-near) * bessel
        high = large * (1 + _excess(large))
        return self.scale * torch.where(ratio.abs() < _LARGE_RATIO, low, high)

    @property
    def variance(self) -> Tensor:
        """c² + 2σ² − E[y]², without cancellation where c ≫ σ."""
        ratio = self.clean / self.scale
        small, large = _split_ratio(ratio)
        low = 2 + small.square() - (self.mean / self.scale).square()
        excess = _excess(large)
        high = 2 - large.square() * excess * (2 + excess)
        return self.scale.square() * torch.where(ratio.abs() < _LARGE_RATIO, low, high)

    def log_prob(self, value: Tensor) -> Tensor:
        positive = value > 0
        y = torch.where(positive, value, 1.0) / self.scale
        ratio = self.clean / self.scale
        log_p = y.log() - self.scale.log() + _log_overlap(y, ratio)
        return torch.where(positive, log_p, -math.inf)

    def score(self, value: Tensor) -> Tensor:
        """∂ log p/∂c = (y A(y c/σ²) − c)/σ² with A = I₁/I₀; 0 outside y > 0."""
        y = torch.where(value > 0, value, 1.0) / self.scale
        slope = _overlap_slope(y, self.clean / self.scale)
        return torch.where(value > 0, slope / self.scale, 0.0)


@draw.register
def _(distribution: Rician, noise: Tensor) -> Tensor:
    require_noise(noise, (*distribution.batch_shape, RicianNoise.components))
    real = distribution.clean + distribution.scale * noise[..., 0]
    return torch.hypot(real, distribution.scale * noise[..., 1])


class RicianNoise(NoiseModel):
    """Magnitude of a real signal with complex Gaussian noise, y = |clean + scale (n₁ + i n₂)|.

    Clean values may have either sign: the measurement does not tell it.

    Args:
        scale: Standard deviation of the real and of the imaginary part, in units of the
            measurement; None if it is unknown.

    Raises:
        ConfigError: If the scale is not positive.
    """

    components = 2

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self._scale = check_level("scale", scale)

    @property
    def scale(self) -> float:
        """Standard deviation of each part; raises `ConfigError` where it is unknown."""
        return known_level("scale", self._scale)

    @property
    def is_known(self) -> bool:
        return self._scale is not None

    def elementwise(self, clean: Tensor) -> Rician:
        return Rician(clean, torch.tensor(self.scale, dtype=clean.dtype, device=clean.device))

    def score(self, y: Tensor, clean: Tensor) -> Tensor:
        return self.elementwise(clean).score(y)

    def fisher(self, clean: Tensor) -> Tensor:
        """Fisher information, to 1e-6 relative; about c²/σ⁴ near 0 and 1/σ² far from it."""
        ratio = clean / self.scale
        square = ratio.square()
        table = _information_table()
        tail = _TABLE_END**2 / square.clamp_min(_TABLE_END**2)
        shape = 1 + (table(ratio.abs()) - 1) * tail
        return shape * square / (1 + square) / self.scale**2

    def estimate(self, y: Tensor, clean: Tensor) -> "RicianNoise":
        """Maximum likelihood; the relative bias in the scale is of order 1/n, as is Gaussian's."""
        if self.is_known:
            return self
        y, clean = check_pairs(y, clean)
        if bool((y <= 0).any()):
            raise DataError(
                "y",
                "magnitudes above 0, as Rician noise makes them",
                f"{int((y <= 0).sum())} elements of 0 or below",
                "Leave masked elements out, give the level, or use GaussianNoise.",
            )
        # E(y − |c|)² lies between σ² and 2σ².
        guess = (y - clean.abs()).square().mean().sqrt().log().item()

        def loss(log_scale: float) -> float:
            scale = torch.tensor(math.exp(log_scale), dtype=torch.float64)
            return -Rician(clean, scale).log_prob(y).mean().item()

        found = minimize_scalar(loss, bounds=(guess - 3, guess + 3), options={"xatol": 1e-6})
        return RicianNoise(math.exp(found.x))  # pyright: ignore[reportAttributeAccessIssue]

    def extra_repr(self) -> str:
        return f"scale={self._scale}" if self._scale is None else f"scale={self._scale:g}"


def _split_ratio(ratio: Tensor) -> tuple[Tensor, Tensor]:
    """c/σ where the closed form holds, and |c|/σ where the series does."""
    return ratio.clamp(-_LARGE_RATIO, _LARGE_RATIO), ratio.abs().clamp_min(_LARGE_RATIO)


def _excess(ratio: Tensor) -> Tensor:
    """E[y]/c − 1 for large c/σ, Σ_k ((−½)_k)²/k! (2σ²/c²)^k from k = 1."""
    variable = 2 / ratio.square()
    term = torch.ones_like(variable)
    total = torch.zeros_like(variable)
    for k in range(15):
        term = term * variable * ((k - 0.5) ** 2 / (k + 1))
        total = total + term
    return total


def _log_overlap(y: Tensor, ratio: Tensor) -> Tensor:
    """−(y² + ν²)/2 + log I₀(yν), smooth in ν at 0 and without cancellation at large yν."""
    near, far = _split_product(y * ratio)
    low = torch.special.i0(near).log() - 0.5 * (y.square() + ratio.square())
    series, _ = _bessel_series(1 / far)
    high = series.log() - 0.5 * ((2 * math.pi * far).log() + (y - ratio.abs()).square())
    return torch.where((y * ratio).abs() < _SERIES_FROM, low, high)


def _overlap_slope(y: Tensor, ratio: Tensor) -> Tensor:
    """Derivative of `_log_overlap` in ν, in closed form."""
    near, far = _split_product(y * ratio)
    low = y * torch.special.i1(near) / torch.special.i0(near) - ratio
    inverse = 1 / far
    series, derivative = _bessel_series(inverse)
    loss = inverse / 2 + inverse.square() * derivative / series  # 1 − I₁/I₀
    high = ratio.sign() * (y * (1 - loss) - ratio.abs())
    return torch.where((y * ratio).abs() < _SERIES_FROM, low, high)


def _split_product(product: Tensor) -> tuple[Tensor, Tensor]:
    return product.clamp(-_SERIES_FROM, _SERIES_FROM), product.abs().clamp_min(_SERIES_FROM)


def _bessel_series(inverse: Tensor) -> tuple[Tensor, Tensor]:
    """√(2πx) e⁻ˣ I₀(x) and its derivative, as a series in 1/x."""
    value = torch.zeros_like(inverse)
    derivative = torch.zeros_like(inverse)
    for coefficient in reversed(_BESSEL):
        derivative = derivative * inverse + value
        value = value * inverse + coefficient
    return value, derivative


@cache
def _information_table() -> SmoothTable:
    """I(ν) (1 + ν²)/ν² for σ = 1, by Gauss–Legendre quadrature; one table for every scale."""
    nodes, weights = np.polynomial.legendre.leggauss(256)

    def relative_information(ratio: np.ndarray) -> np.ndarray:
        ratio = np.maximum(np.abs(ratio), 1e-4)[:, None]
        lower, upper = np.maximum(ratio - 10, 0), ratio + 10
        y = lower + (upper - lower) * (nodes + 1) / 2
        product = y * ratio
        density = y * np.exp(-0.5 * (y - ratio) ** 2) * special.i0e(product)
        score = y * special.i1e(product) / special.i0e(product) - ratio
        information = (weights * density * score**2).sum(1) * (upper - lower)[:, 0] / 2
        return information * (1 + 1 / ratio[:, 0] ** 2)

    # The function is even: points below 0 make the spline so, too.
    return SmoothTable(relative_information, -1.0, _TABLE_END, 331)
