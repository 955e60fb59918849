"""A reading of a log volume: new, the last one repeated, or too small to be seen.

    p(y) = p_repeat δ(y − y_last) + p_vanish δ(y − L) + p_new C_L[ Σ_j w_j N(m, s_j²) ]

C_L moves all mass below the limit of detection L to L (left-censoring). A third of the readings
of real lesions repeat the one before to the last digit, so a density alone cannot describe them.
The two normals have one centre and different widths: changes have heavy tails.
"""

import math
from typing import ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional as F

from latens.distributions.draw import draw, require_noise
from latens.errors import UnsupportedError

NEW, REPEAT, VANISH = 0, 1, 2
"""Kinds of reading, in the order of the logits."""

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Reading(Distribution):
    """Distribution of one reading given the reading before; all arguments are broadcast.

    Args:
        loc: m, log volume that a new reading is centred on, `(*batch)`.
        scale: s₁ > 0, width of the narrow normal.
        ratio: s₂/s₁ > 1.
        wide_logit: Log-odds of the wide normal.
        kind_logits: Unnormalised log-probabilities of new, repeat and vanish, `(*batch, 3)`.
        last: Reading before, `(*batch)`, at least `log_limit`.
        log_limit: L, log of the limit of detection.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        ratio: Tensor,
        wide_logit: Tensor,
        kind_logits: Tensor,
        last: Tensor,
        log_limit: float,
    ) -> None:
        self.loc, self.scale, self.ratio, self.wide_logit, self.last = torch.broadcast_tensors(
            loc, scale, ratio, wide_logit, last
        )
        self.log_limit = log_limit
        self.log_kinds = F.log_softmax(kind_logits, -1).expand(*self.loc.shape, 3)
        super().__init__(self.loc.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Log volumes from the limit upward."""
        return constraints.greater_than_eq(self.log_limit)

    @property
    def mean(self) -> Tensor:
        """Raises `UnsupportedError`."""
        raise UnsupportedError(
            "mean", "a distribution without atoms", "a reading", "Take the median of draws."
        )

    @property
    def variance(self) -> Tensor:
        """Raises `UnsupportedError`."""
        raise UnsupportedError(
            "variance", "a distribution without atoms", "a reading", "Take an interval of draws."
        )

    def _log_weights(self) -> tuple[Tensor, Tensor]:
        return F.logsigmoid(-self.wide_logit), F.logsigmoid(self.wide_logit)

    def _log_below(self, value: Tensor | float) -> Tensor:
        """Log-probability that a new log volume, before censoring, lies below a value."""
        w = (value - self.loc) / self.scale
        narrow, wide = self._log_weights()
        return torch.logaddexp(
            narrow + torch.special.log_ndtr(w), wide + torch.special.log_ndtr(w / self.ratio)
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density with unit masses at the limit and at the last reading added to lengths.

        Args:
            value: Log volume, `(*sample_shape, *batch)`; below the limit means at the limit.

        Returns:
            Nats, `(*sample_shape, *batch)`.
        """
        new, repeat, vanish = self.log_kinds.unbind(-1)
        was_seen = self.last > self.log_limit
        at_limit = torch.logaddexp(vanish, new + self._log_below(self.log_limit))
        at_limit = torch.where(was_seen, at_limit, torch.logaddexp(at_limit, repeat))
        w = (value - self.loc) / self.scale
        narrow, wide = self._log_weights()
        density = torch.logaddexp(
            narrow - 0.5 * w.square(), wide - 0.5 * (w / self.ratio).square() - self.ratio.log()
        )
        density = density - self.scale.log() - _HALF_LOG_TWO_PI
        seen = torch.where((value == self.last) & was_seen, repeat, new + density)
        return torch.where(value <= self.log_limit, at_limit, seen)

    def cdf(self, value: Tensor) -> Tensor:
        """Probability of a reading at or below a value, `(*sample_shape, *batch)`."""
        new, repeat, vanish = self.log_kinds.exp().unbind(-1)
        below = new * self._log_below(value).exp() + vanish + repeat * (self.last <= value)
        return torch.where(value < self.log_limit, 0.0, below)

    def expand(self, batch_shape: Size, _instance: Distribution | None = None) -> "Reading":
        """The same distribution with a larger batch."""
        shape = tuple(batch_shape)
        return Reading(
            self.loc.expand(shape),
            self.scale.expand(shape),
            self.ratio.expand(shape),
            self.wide_logit.expand(shape),
            self.log_kinds.expand(*shape, 3),
            self.last.expand(shape),
            self.log_limit,
        )


@draw.register
def _(distribution: Reading, noise: Tensor) -> Tensor:
    """Noise has three numbers per reading: its kind, which normal, and its place."""
    require_noise(noise, (*distribution.batch_shape, 3))
    kind, width, place = noise.unbind(-1)
    uniform = torch.special.ndtr(kind)
    new, repeat, _ = distribution.log_kinds.exp().unbind(-1)
    is_wide = torch.special.ndtr(width) < torch.sigmoid(distribution.wide_logit)
    scale = distribution.scale * torch.where(is_wide, distribution.ratio, 1.0)
    value = (distribution.loc + scale * place).clamp(min=distribution.log_limit)
    floor = torch.full_like(value, distribution.log_limit)
    old = distribution.last.expand_as(value)
    return torch.where(uniform < new, value, torch.where(uniform < new + repeat, old, floor))
