"""A diagonal normal refined by an invertible map: the face that a normalising flow shows."""

import math
from typing import ClassVar

from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Transform, constraints

from latens.distributions.draw import draw, require_noise
from latens.errors import UnsupportedError


class RefinedNormal(Distribution):
    """z = μ + σ · T(u), u ~ N(0, I), with an invertible T.

        log q(z) = log N(T⁻¹(w); 0, I) + log |det ∂T⁻¹/∂w| − Σ log σ,   w = (z − μ)/σ

    Args:
        base: N(μ, diag σ²), event `(dim,)`, that T refines.
        whitening: T⁻¹, from w to standard normal noise; a transformation of vectors with
            `call_and_ladj`, as those of zuko have.

    Attributes:
        base: N(μ, diag σ²); the distribution itself while T is the identity.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, base: Independent, whitening: Transform) -> None:
        self.base = base
        self.whitening = whitening
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All vectors."""
        return constraints.real_vector

    @property
    def loc(self) -> Tensor:
        """μ, `(*batch, dim)`; the mean only while T is the identity."""
        return self.base.mean

    @property
    def scale(self) -> Tensor:
        """σ, `(*batch, dim)`."""
        return self.base.stddev

    @property
    def mean(self) -> Tensor:
        """Raises `UnsupportedError`."""
        raise UnsupportedError(
            "mean",
            "a distribution with moments in closed form",
            "a normal refined by a flow",
            "Average draws of it.",
        )

    @property
    def variance(self) -> Tensor:
        """Raises `UnsupportedError`."""
        raise UnsupportedError(
            "variance",
            "a distribution with moments in closed form",
            "a normal refined by a flow",
            "Take the variance of draws of it.",
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, nats.

        Args:
            value: `(*sample_shape, *batch_shape, dim)`.

        Returns:
            `(*sample_shape, *batch_shape)`, summed over the event, constants kept.
        """
        w = (value - self.loc) / self.scale
        noise, log_det = self.whitening.call_and_ladj(w)  # pyright: ignore[reportAttributeAccessIssue]
        log_normal = -0.5 * (noise.square() + math.log(2 * math.pi)).sum(-1)
        return log_normal + log_det - self.scale.log().sum(-1)

    def expand(self, batch_shape: Size, _instance: Distribution | None = None) -> Distribution:
        """Raises `UnsupportedError`: the map belongs to its batch."""
        raise UnsupportedError(
            "expand",
            "a distribution whose parameters can be repeated",
            "a normal refined by a flow",
            "Draw with noise of shape (*sample_shape, *batch_shape, dim).",
        )


@draw.register
def _(distribution: RefinedNormal, noise: Tensor) -> Tensor:
    require_noise(noise, (*distribution.batch_shape, *distribution.event_shape))
    whitened = distribution.whitening.inv(noise)
    return distribution.loc + distribution.scale * whitened  # pyright: ignore[reportOperatorIssue]
