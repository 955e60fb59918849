"""Fields of two values, independent from element to element given their logits."""

from typing import ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid

from latens.distributions.draw import draw, require_noise
from latens.errors import UnsupportedError


class TwoValued(Distribution):
    """Every element is `high` with probability sigmoid(logits), else `low`.

    Args:
        logits: `(*batch, *event)`.
        low, high: The two values, low < high, numbers or tensors that broadcast.
        event_dims: Number of trailing axes that make one event.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, logits: Tensor, low: Tensor, high: Tensor, event_dims: int) -> None:
        self.logits, self.low, self.high = logits, low, high
        cut = logits.ndim - event_dims
        super().__init__(logits.shape[:cut], logits.shape[cut:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Real numbers; each counts as the nearer of the two values."""
        return constraints.real

    @property
    def probability(self) -> Tensor:
        """Probability of `high`, `(*batch, *event)`."""
        return torch.sigmoid(self.logits)

    @property
    def mean(self) -> Tensor:
        """low + (high − low) p."""
        return self.low + (self.high - self.low) * self.probability

    @property
    def variance(self) -> Tensor:
        """(high − low)² p (1 − p)."""
        p = self.probability
        return (self.high - self.low) ** 2 * p * (1 - p)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of a field, nats, summed over the event, `(*batch)`."""
        is_high = value > (self.low + self.high) / 2
        elements = logsigmoid(torch.where(is_high, self.logits, -self.logits))
        return elements.flatten(elements.ndim - len(self.event_shape)).sum(-1)

    def expand(self, batch_shape: Size, _instance: Distribution | None = None) -> Distribution:
        """Raises `UnsupportedError`."""
        raise UnsupportedError(
            "expand",
            "a distribution whose parameters can be repeated",
            "a two-valued field",
            "Expand its logits.",
        )


@draw.register
def _(distribution: TwoValued, noise: Tensor) -> Tensor:
    require_noise(noise, (*distribution.batch_shape, *distribution.event_shape))
    uniform = torch.special.ndtr(noise)
    return torch.where(uniform < distribution.probability, distribution.high, distribution.low)
