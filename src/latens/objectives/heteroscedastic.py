"""Training a mean and a variance together without losing the mean.

The gradient of a Gaussian log-likelihood with respect to its mean carries 1/σ²: where a network
has learned a large σ it stops correcting the mean. Three objectives, all with the same optimum of
σ for a given mean:

    nll        log N(x; m, σ²)
    beta_nll   Σ_d ⌊σ_d^{2β}⌋ log N(x_d; m_d, σ_d²)
    faithful   log N(x; m, s²) + log N(x; ⌊m⌋, σ²),   σ read from ⌊features⌋

⌊·⌋ stops gradients. β = 1 gives the mean the gradient of a squared error, β = 0 is the
likelihood. `faithful` gives the mean exactly the gradients of its homoscedastic twin with scale
s, and the variance head none but its own.

References:
    Seitzer et al. (2022), On the pitfalls of heteroscedastic uncertainty estimation with
    probabilistic neural networks, https://arxiv.org/abs/2203.09168;
    Stirn et al. (2023), Faithful heteroscedastic regression with neural networks,
    https://arxiv.org/abs/2212.09184.
"""

from math import prod

from torch import Tensor
from torch.distributions import Independent

from latens.distributions import IsotropicNormal, diagonal_normal, isotropic_log_prob
from latens.errors import ConfigError


def beta_nll(x: Tensor, distribution: Independent, beta: float) -> Tensor:
    """Weighted log-likelihood Σ_d ⌊σ_d^{2β}⌋ log N(x_d; m_d, σ_d²), to be maximised.

    Args:
        x: Signal, `(*batch, *event)`.
        distribution: Diagonal normal, event `(*event)`.
        beta: β in [0, 1].

    Returns:
        `(*batch,)`, nats times the unit of x to the power 2β, summed over the event.

    Raises:
        ConfigError: If β lies outside [0, 1].
    """
    if not 0 <= beta <= 1:
        raise ConfigError("beta", "a number from 0 to 1", beta, "0.5 is usual.")
    base = distribution.base_dist
    weight = distribution.stddev.detach() ** (2 * beta)
    terms = weight * base.log_prob(x)
    return terms.flatten(terms.ndim - len(distribution.event_shape)).sum(-1)


def faithful(x: Tensor, distribution: Independent, reference: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of faithful training, to be maximised.

    Args:
        x: Signal, `(*batch, *event)`.
        distribution: Diagonal normal whose σ was read from features without gradient.
        reference: s, scale of the homoscedastic twin, a scalar.

    Returns:
        log N(x; m, s²), which trains the mean (and s), and log N(x; ⌊m⌋, σ²), which trains σ;
        nats, `(*batch,)` each, summed over the event, constants kept.
    """
    mean, events = distribution.mean, len(distribution.event_shape)
    distance = (x - mean).square().flatten(-events).sum(-1)
    size = prod(distribution.event_shape)
    mean_part = isotropic_log_prob(distance, reference, size)
    if isinstance(distribution, IsotropicNormal):
        scale = distribution.scale.flatten(-events)[..., 0]
        return mean_part, isotropic_log_prob(distance.detach(), scale, size)
    fixed = diagonal_normal(mean.detach(), distribution.stddev, events)
    return mean_part, fixed.log_prob(x)
