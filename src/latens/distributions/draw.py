"""The one function that turns noise into draws, and the moments of an equal mixture."""

from functools import singledispatch
from math import log, pi, prod

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from latens.errors import ShapeError, UnsupportedError
from latens.types import Shape

LOG_2PI = log(2 * pi)


@singledispatch
def draw(distribution: Distribution, noise: Tensor) -> Tensor:
    """Draw as a deterministic map of standard noise, differentiable where the family is.

    This is the only place in latens where a distribution is sampled. The noise is an argument,
    so a draw can be repeated, shared between two solvers, and mapped by `torch.func`. Families
    defined elsewhere register their rule here.

    Args:
        distribution: A family with a rule, possibly wrapped in `Independent`.
        noise: Standard normal tensor, `(*sample_shape, *batch_shape, *event_shape)`, with one
            more axis at the end for a family that needs several numbers per element.

    Returns:
        Draws, `(*sample_shape, *batch_shape, *event_shape)`.

    Raises:
        ShapeError: If the trailing axes of `noise` are not those of the distribution.
        UnsupportedError: If the family has no rule yet.
    """
    raise UnsupportedError(
        "distribution",
        "a family with a drawing rule, such as Normal",
        type(distribution).__name__,
        "Register a rule with `latens.distributions.draw.register`.",
    )


@draw.register
def _(distribution: Independent, noise: Tensor) -> Tensor:
    return draw(distribution.base_dist, noise)


@draw.register
def _(distribution: Normal, noise: Tensor) -> Tensor:
    require_noise(noise, tuple(distribution.batch_shape))
    return distribution.loc + distribution.scale * noise


def require_noise(noise: Tensor, shape: Shape) -> None:
    """Check that noise ends with the axes that one draw needs.

    Raises:
        ShapeError: If it does not.
    """
    if noise.ndim < len(shape) or tuple(noise.shape[noise.ndim - len(shape) :]) != shape:
        raise ShapeError(
            "noise",
            f"trailing axes {shape}, which one draw needs",
            tuple(noise.shape),
            "Make the noise with shape (*sample_shape, *batch_shape, *event_shape), and as many "
            "numbers per element as the family needs.",
        )


def diagonal_normal(loc: Tensor, scale: Tensor, event_dims: int) -> Independent:
    """Normal with diagonal covariance over the last `event_dims` axes.

    Args:
        loc: Mean, `(*batch, *event)`.
        scale: Standard deviation, broadcastable to `loc`, positive.
        event_dims: Number of trailing axes that make one event.

    Returns:
        A distribution whose `log_prob` is summed over the event, in nats, constants kept.
    """
    return Independent(Normal(loc, scale, validate_args=False), event_dims, validate_args=False)


class IsotropicNormal(Independent):
    """Normal whose σ is the same for all elements of an event.

        log p(x) = −‖x − m‖² / 2σ² − D log σ − (D/2) log 2π

    The same as `diagonal_normal`; squares are summed before anything else is done to them, so
    that a density of many images costs a few passes over their elements.

    Args:
        loc: Mean, `(*batch, *event)`.
        scale: σ, `(*batch, 1, …)` with an axis of length 1 for each of the event.
        event_dims: Number of trailing axes that make one event.
    """

    def __init__(self, loc: Tensor, scale: Tensor, event_dims: int) -> None:
        base = Normal(loc, scale, validate_args=False)
        super().__init__(base, event_dims, validate_args=False)
        self.loc, self.scale = loc, scale

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, summed over the event, constants kept."""
        scale = self.scale.flatten(-len(self.event_shape))[..., 0]
        distance = (value - self.loc).square().flatten(-len(self.event_shape)).sum(-1)
        return isotropic_log_prob(distance, scale, prod(self.event_shape))


def isotropic_log_prob(squared_distance: Tensor, scale: Tensor, size: int) -> Tensor:
    """−‖x − m‖² / 2σ² − D log σ − (D/2) log 2π.

    Args:
        squared_distance: ‖x − m‖², `(*batch,)`.
        scale: σ, broadcastable to it.
        size: D, number of elements of an event.

    Returns:
        Nats, `(*batch,)`.
    """
    return -squared_distance / (2 * scale**2) - size * (scale.log() + LOG_2PI / 2)


def mixture_moments(loc: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of an equally weighted mixture along the first axis.

        mean = E[loc],   variance = E[variance] + Var[loc]

    `Var[loc]` is the population variance (divisor K): the mixture *is* its K components. Use
    it for ensembles. For components that are themselves draws, divide by K − 1 instead.

    Args:
        loc: Component means, `(K, *shape)`.
        variance: Component variances, `(K, *shape)`.

    Returns:
        Mean and variance, each `(*shape)`.
    """
    spread = torch.var(loc, dim=0, correction=0)
    return loc.mean(0), variance.mean(0) + spread


def draw_foreign(distribution: Distribution, count: int, seed: int) -> Tensor:
    """Draws of a family that has no rule in `draw`, by its own `sample`.

    torch's global generator is seeded for the call and restored afterwards.

    Args:
        distribution: Any distribution.
        count: Number of draws.
        seed: Seed of the generator.

    Returns:
        `(count, *batch_shape, *event_shape)`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return distribution.sample((count,))
