"""Density of the latents given readings of sensors.

    log p(v | y) = log p(z) + log N(y − G(w); ē, C + σ² I) − ρ mean R²

| coordinates | v | prior term |
|---|---|---|
| `z` | z, w = T(z) | log N(z; 0, I) |
| `beta` | w = atanh β | log p(w): the density of β with the Jacobian of atanh |

Both describe one posterior. Where σ is unknown, v has one coordinate more, log σ in units of its
prior's standard deviation.

With more sensors than the decoder has functions, readings are compressed without loss: only their
projection on the span of basis and error directions, by QR, and the norm of the rest, matter.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latens.errors import ConfigError, DataError, ShapeError
from latens.inference.fields.equation import POINTS, FixedResidual
from latens.inference.fields.errors import HeldOutErrors
from latens.inference.fields.sensors import Linear, Predictor
from latens.inference.samplers import LogDensity, RowsOfProblems
from latens.models.igno import IGNO

Coordinates = Literal["z", "beta"]

ROWS = 20000
"""Positions whose density is asked for at once; each holds the features of all networks."""


@dataclass(frozen=True)
class NoiseLevel:
    """What is known of σ.

    Args:
        scale: σ of each measurement, `(B,)`, or the centre of its prior.
        spread: Standard deviation of log σ; 0 where σ is known.
    """

    scale: Tensor
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not bool((self.scale > 0).all() & self.scale.isfinite().all()):
            raise ConfigError("scale", "a positive noise level", self.scale, "Give σ > 0.")
        if not 0 <= self.spread < math.inf:
            raise ConfigError("spread", "0 or more", self.spread, "Use 0 for a known σ.")


class Readings:
    """Gaussian log-likelihood of readings with error directions, compressed.

    Args:
        y: Readings less bias, `(B, m)`.
        errors: Errors of the prediction; None for none.
        span: Vectors whose span holds every prediction up to an offset, `(m, K)`; None where
            predictions are not linear in anything smaller.
        offset: That offset, `(m,)`.

    Attributes:
        frame: Orthonormal frame of what is kept, `(m, k)`; None where nothing is compressed.
    """

    def __init__(
        self, y: Tensor, errors: HeldOutErrors | None, span: Tensor | None, offset: Tensor | float
    ) -> None:
        count = y.shape[1]
        directions = y.new_zeros(count, 0) if errors is None else errors.directions
        self.variances = y.new_zeros(0) if errors is None else errors.variances
        self.remainder = 0.0 if errors is None else errors.remainder
        self.frame = None
        self.y, self.rest, self.left = y, y.new_zeros(len(y)), 0
        if span is not None and span.shape[1] + directions.shape[1] < count:
            joint = torch.cat([span, directions], 1).double()
            self.frame = torch.linalg.qr(joint)[0].to(y)
            centred = y - offset
            self.y = centred @ self.frame
            self.rest = (centred.square().sum(1) - self.y.square().sum(1)).clamp(min=0)
            self.left = count - self.frame.shape[1]
            directions = self.frame.mT @ directions
        self.directions = directions

    def log_prob(self, difference: Tensor, rest: Tensor, scale: Tensor) -> Tensor:
        """Log-likelihood of rows, nats, `(C,)`.

        Args:
            difference: Compressed readings less their prediction, `(C, k)`.
            rest: Squared norm of what was compressed away, `(C,)`.
            scale: σ, `(C,)`.
        """
        along = difference @ self.directions  # (C, r)
        across = difference.square().sum(-1) - along.square().sum(-1) + rest
        total = self.variances + scale.square()[:, None]  # (C, r)
        variance = scale.square() + self.remainder
        plain = difference.shape[1] + self.left - along.shape[1]
        square = (along.square() / total).sum(-1) + across / variance
        log_det = total.log().sum(-1) + plain * variance.log()
        constant = (difference.shape[1] + self.left) * math.log(2 * math.pi)
        return -0.5 * (square + log_det + constant)


class FieldTarget:
    """Posterior density of the latents of B measurements by the same sensors.

    Args:
        model: Trained model.
        predict: Readings as a function of w.
        y: Readings, `(B, m)`.
        noise: Noise level of each.
        errors: Errors of the prediction on held-out pairs; None to ignore them.
        coordinates: Where chains move.
        equation_weight: ρ of the equation's mean square residual at `equation_points` of its
            test functions, evenly chosen and fixed; 0 for none. With ρ > 0 the declared prior is
            p(z) exp(−ρ mean R²).
        equation_points: Their number.

    Attributes:
        dim: Dimension of a position.
    """

    def __init__(
        self,
        model: IGNO,
        predict: Predictor,
        y: Tensor,
        noise: NoiseLevel,
        errors: HeldOutErrors | None = None,
        coordinates: Coordinates = "z",
        equation_weight: float = 0.0,
        equation_points: int = POINTS,
    ) -> None:
        if coordinates not in ("z", "beta"):
            raise ConfigError("coordinates", "'z' or 'beta'", repr(coordinates), "Choose one.")
        if not 0 <= equation_weight < math.inf:
            raise ConfigError("equation_weight", "0 or more", equation_weight, "Use 0.")
        if y.ndim != 2 or y.shape[1] != predict.size:
            raise ShapeError(
                "y",
                f"readings (B, {predict.size}), one per sensor",
                tuple(y.shape),
                "Give the value that every sensor read.",
            )
        if not bool(torch.isfinite(y).all()):
            raise DataError("y", "finite readings", "NaN or infinity", "Leave them out.")
        self.model, self.predict, self.y, self.noise = model, predict, y, noise
        self.errors = errors
        self.coordinates: Coordinates = coordinates
        self.scale = noise.scale.to(y).expand(len(y))
        self.dim = model.dim + int(noise.spread > 0)
        self.equation_weight = equation_weight
        if equation_weight > 0:
            self._residual = FixedResidual(model, equation_points)
        linear, span, offset = predict.linear, None, 0.0
        if linear is not None:
            span, offset = linear.basis.mT, linear.offset
        bias = 0.0 if errors is None else errors.bias
        self.readings = Readings(y - bias, errors, span, offset)
        self._compressed = None
        if linear is not None and self.readings.frame is not None:
            basis = linear.basis @ self.readings.frame  # (features, k)
            self._compressed = Linear(linear.features, basis, basis.new_zeros(()))

    def rows(self, chains: int) -> LogDensity:
        """Density of B · `chains` rows; the chains of a measurement stand together."""
        data = [self.readings.y, self.readings.rest, self.scale]
        return RowsOfProblems(self._log_density, data, chains)

    def of_positions(self, v: Tensor) -> Tensor:
        """Log-density at positions `(B, S, dim)`, `(B, S)` nats, a few thousand at a time."""
        several = max(1, ROWS // len(v))
        parts = [
            self.rows(part.shape[1])(part.flatten(0, 1)).unflatten(0, part.shape[:2])
            for part in v.split(several, 1)
        ]
        return torch.cat(parts, 1)

    def _log_density(self, v: Tensor, y: Tensor, rest: Tensor, scale: Tensor) -> Tensor:
        free, level = v[:, : self.model.dim], v[:, self.model.dim :]
        w, prior = self._prior(free)
        if self.noise.spread > 0:
            prior = prior + standard_log_prob(level)
            scale = scale * (self.noise.spread * level[:, 0]).exp()
        return prior + self.log_likelihood(w, y, rest, scale)

    def _prior(self, free: Tensor) -> tuple[Tensor, Tensor]:
        """w and the log-density of the prior in these coordinates."""
        if self.coordinates == "beta":
            return free, self.model.log_density(free)
        return self.model.push(free), standard_log_prob(free)

    def log_likelihood(self, w: Tensor, y: Tensor, rest: Tensor, scale: Tensor) -> Tensor:
        """Log-likelihood of compressed readings, and the equation's term, `(C,)`."""
        found = self.readings.log_prob(y - self._predicted(w), rest, scale)
        if self.equation_weight == 0:
            return found
        return found - self.equation_weight * self._residual(w).square().mean(-1)

    def misfit(self, difference: Tensor, scale: Tensor) -> Tensor:
        """−log N(difference; ē, C + σ² I), nats.

        Args:
            difference: Readings less their prediction, `(..., m)`.
            scale: σ, `(...)`.

        Returns:
            `(...)`.
        """
        bias = 0.0 if self.errors is None else self.errors.bias
        rows = (difference - bias).flatten(0, -2)
        whole = Readings(rows, self.errors, None, 0.0)
        found = -whole.log_prob(whole.y, whole.rest, scale.flatten())
        return found.unflatten(0, difference.shape[:-1])

    def _predicted(self, w: Tensor) -> Tensor:
        """Prediction in the coordinates of the compressed readings."""
        if self._compressed is None:
            return self.predict(w)
        return self._compressed(w)

    def latents(self, v: Tensor) -> Tensor:
        """w of positions `(..., dim)`."""
        free = v[..., : self.model.dim]
        return free if self.coordinates == "beta" else self.model.push(free)

    def position(self, z: Tensor, level: Tensor) -> Tensor:
        """Positions of standard normal z, `(..., dim_z)`, and level of the noise `(..., 1)`."""
        free = self.model.push(z) if self.coordinates == "beta" else z
        return torch.cat([free, level], -1) if self.noise.spread > 0 else free

    def scales(self, v: Tensor) -> Tensor:
        """σ at positions `(..., B, dim)`, `(..., B)`."""
        if self.noise.spread == 0:
            return self.scale.expand(v.shape[:-1])
        return self.scale * (self.noise.spread * v[..., -1]).exp()


def standard_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I), nats, `(...)` of `(..., d)`."""
    return -0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi))
