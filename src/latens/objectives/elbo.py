"""Evidence lower bound in nats per sample."""

from torch import Tensor
from torch.distributions import Distribution
from torch.distributions import kl_divergence as torch_kl_divergence

from latens.objectives.terms import LossTerms


def kl_divergence(q: Distribution, p: Distribution) -> Tensor:
    """KL(q ‖ p) in closed form, `(B,)` nats, summed over latents."""
    return torch_kl_divergence(q, p)


def elbo_terms(
    x: Tensor, decoded: Distribution, posterior: Distribution, prior: Distribution
) -> LossTerms:
    """Terms of log p(x) ≥ E_q[log p(x | z)] − KL(q(z | ·) ‖ p(z)), with one draw of z.

    Args:
        x: Signal, `(B, *signal_shape)`.
        decoded: p(x | z) at a draw z of `posterior`.
        posterior: q(z | ·), batch `(B,)`.
        prior: p(z), broadcastable to the posterior.
    """
    return LossTerms(decoded.log_prob(x), kl_divergence(posterior, prior))


def likelihood_terms(target: Tensor, distribution: Distribution) -> LossTerms:
    """Terms of maximum likelihood: the objective of regressors and of forward KL.

    Forward KL, E_{p(z, y)}[KL(p(z | y) ‖ q(z | y))] = const − E[log q(z | y)], is maximum
    likelihood of q at simulated latents.
    """
    return LossTerms(distribution.log_prob(target))
